"""What a search shows while it runs: a table of its trials that is redrawn on a terminal, else a line for each."""

import math
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from keras_inception.tuning.front import Trial, best

# Rows of the table: the last trials.
_ROWS = 12


class SearchTable:
    """A display of a search, from `with` to its end.

    Args:
        screen: Where.
        wanted: How many trials there will be.
        minutes: After which no further one begins; None is no limit.
    """

    def __init__(self, screen: Console, wanted: int, minutes: float | None = None):
        self._screen, self._wanted = screen, wanted
        self._deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self._trials: Sequence[Trial] = ()
        self._doing = "reading the data"
        self._begun: float | None = None
        self._done_before = 0
        self._live = Live(console=screen, get_renderable=self._drawn, auto_refresh=screen.is_terminal, transient=True)

    def __enter__(self) -> "SearchTable":
        if self._screen.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._screen.is_terminal:
            self._live.stop()
        if self._screen.is_terminal and self._trials:
            self._screen.print(_table(self._trials[-_ROWS:], best(self._trials)))

    def on_event(self, kind: str, values: dict[str, Any]) -> None:
        """Take in what a search says, as `tune` describes it."""
        match kind:
            case "images":
                self._doing = f"reading images: {values['images']:,} of {values['of']:,}"
            case "epoch":
                loss = f"loss {values['loss']:.4f}"
                if "epochs" in values:
                    self._doing = f"the shared network: epoch {values['epoch']} of {values['epochs']}, {loss}"
                    self._line(self._doing)
                else:
                    self._doing = f"epoch {values['epoch']}, {loss}"
            case "doing":
                self._doing = values["what"]
                self._line(self._doing)
            case "begun":
                self._trials = values["trials"]
                self._doing = f"trial {values['trial'].number}"
                if self._begun is None:
                    self._done_before = _ended(self._trials)
            case "ended":
                self._trials = values["trials"]
                self._begun = self._begun or time.monotonic() - values["trial"].seconds
                self._line(f"{_said(values['trial'])}; {self._summary()}")

    def _line(self, line: str) -> None:
        if not self._screen.is_terminal:
            self._screen.print(line, highlight=False, markup=False, soft_wrap=True)

    def _summary(self) -> str:
        winner, done = best(self._trials), _ended(self._trials)
        said = f"{done} of {self._wanted} trials"
        if winner is not None:
            said += f", best {winner.top1:.1%} (trial {winner.number})"
        if self._begun is not None and done > self._done_before:
            now = time.monotonic()
            each = (now - self._begun) / (done - self._done_before)
            left = min(each * (self._wanted - done), self._deadline - now)
            minutes, seconds = divmod(round(max(0, left)), 60)
            said += f", {minutes} min {seconds} s left"
        return said

    def _drawn(self) -> RenderableType:
        parts: list[RenderableType] = [Text(self._doing)]
        if self._trials:
            parts = [_table(self._trials[-_ROWS:], best(self._trials)), Text(f"{self._summary()}; {self._doing}")]
        return Group(*parts)


def _table(trials: Sequence[Trial], winner: Trial | None) -> Table:
    stages = list(trials[-1].widths)
    names = ("trial", *(f"stage\n{stage}" for stage in stages), "multiply\nadds", "top-1\n%", "95%", "s", "state")
    table = Table(*names, box=SIMPLE_HEAD, padding=(0, 0), pad_edge=False)
    for column in table.columns[:-1]:
        column.justify = "right"
    state = table.columns[-1]
    state.no_wrap, state.max_width = True, 14  # trials.csv has the whole message
    for trial in trials:
        table.add_row(
            str(trial.number),
            *(f"{trial.widths[stage]:.2f}x" for stage in stages),
            f"{trial.multiply_adds / 1e6:,.1f}M",
            "" if trial.top1 is None else f"{100 * trial.top1:.1f}",
            "" if trial.interval is None else "–".join(f"{100 * bound:.1f}" for bound in trial.interval),
            f"{trial.seconds:.1f}",
            trial.state if not trial.message else f"{trial.state}: {trial.message}",
            style="bold" if winner is not None and trial.number == winner.number else "",
        )
    return table


def _ended(trials: Sequence[Trial]) -> int:
    return sum(trial.state != "running" for trial in trials)


def _said(trial: Trial) -> str:
    if trial.top1 is None:
        return f"trial {trial.number} failed: {trial.message}"
    widths = ", ".join(f"{stage} {share:.2f}x" for stage, share in trial.widths.items())
    return f"trial {trial.number}: top-1 {trial.top1:.1%}, widths {widths}, {trial.seconds:.1f} s"
