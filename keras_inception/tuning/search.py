"""The search for branch widths: proposals of an oracle, scored in other processes, and written down one by one."""

import contextlib
import dataclasses
import io
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner import errors as kt_errors
from keras_tuner.engine import base_tuner, trial as kt

from keras_inception.architecture import Architecture
from keras_inception.data.sources import load_dataset
from keras_inception.errors import ArchitectureError, RunError, TrainingError
from keras_inception.files import folder_written_beside, write_json, write_text
from keras_inception.run_folder import RunFolder
from keras_inception.tuning.budget import cost
from keras_inception.tuning.config import SearchConfig
from keras_inception.tuning.folder import SearchFolder
from keras_inception.tuning.front import Trial, as_csv, best, front_of, interval
from keras_inception.tuning.oracles import OBJECTIVE, oracle
from keras_inception.tuning.page import write_search

_LOG = logging.getLogger(__name__)

# Costs that differ by less than a hundredth of the budget are equal to evolution.
_EQUAL = 2

#: What a search says while it runs: a kind, "images", "epoch", "begun" or "ended", and what belongs to it.
OnEvent = Callable[[str, dict[str, Any]], None]


def tune(
    config: SearchConfig,
    search_dir: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    on_event: OnEvent = lambda kind, values: None,
) -> dict[str, Any]:
    """Search for branch widths that fit the data better than the given ones at the cost of the budget.

    Every trial is scored in another process: one that takes its weights from a network trained once, or one for each
    trial that trains it from scratch. A trial that fails is recorded, and the search goes on. Killed at any moment, it
    goes on with `resume`, and no trial that was scored is scored again.

    Args:
        config: What is searched.
        search_dir: The folder of the search; it is made.
        resume: Go on with the search that is there; with more trials than before too.
        overwrite: Delete the search that is there.
        on_event: Called with what happens.

    Returns:
        `best`, `given` (trial 0: the given widths at the budget's cost), `front` and `trials`, as `Trial` describes
        them, and the paths `architecture`, of the best network's table, and `report`, of a page.

    Raises:
        ConfigError, DataError, ArchitectureError, RunError: As their messages say; before anything is written.
        TrainingError: Too many trials failed one after the other.
    """
    folder = SearchFolder(Path(search_dir))
    side = config.run.data.image_size or config.run.model.table().image_size
    shape = (side, side, config.run.data.channels)
    classes = len(load_dataset(config.run.data).classes)
    _check(config, side)
    fit, space = config.fitting(shape, classes), config.space()

    def table_of(values: Mapping[str, float]) -> Architecture:
        return space.point(values, fit).architecture

    def trial_of(number: int, values: Mapping[str, float]) -> Trial:
        table = table_of(values)
        return Trial(
            number,
            dict(values),
            multiply_adds=cost(table, "multiply_adds", shape, classes),
            parameters=cost(table, "parameters", shape, classes),
            widths=space.shares(table),
        )

    folder.begin(config, resume=resume, overwrite=overwrite)
    proposing = oracle(config, space, lambda values: round(fit.cost(table_of(values)) / fit.limit, _EQUAL))
    with RunFolder(folder.path).claimed(), Scorer(folder, config, on_event) as scorer:
        tuner = _quietly(lambda: _Tuner(proposing, folder, scorer, trial_of, on_event))
        try:
            tuner.search(verbose=0)
        except RuntimeError as error:
            if "consecutive failures" not in str(error):
                raise
            failed = next(trial for trial in reversed(folder.trials()) if trial.state == "failed")
            raise TrainingError(
                f"too many trials failed one after the other, the last with: {failed.message}; {str(folder.log)!r} "
                f"has what they printed"
            ) from None
        return _finish(folder, config, scorer, table_of)


class _Tuner(base_tuner.BaseTuner):
    """keras-tuner's loop over trials: what a trial is, is here."""

    def __init__(
        self,
        proposing: keras_tuner.Oracle,
        folder: SearchFolder,
        scorer: "Scorer",
        trial_of: Callable[[int, Mapping[str, float]], Trial],
        on_event: OnEvent,
    ):
        self._folder, self._scorer, self._trial_of, self._on_event = folder, scorer, trial_of, on_event
        self._trials = {trial.number: trial for trial in folder.trials()}
        super().__init__(proposing, directory=str(folder.path), project_name=folder.oracle.name)

    def run_trial(self, trial: kt.Trial, **kwargs: Any) -> dict[str, float]:
        """Score a trial, unless it was before the search was killed."""
        number, values = int(trial.trial_id), trial.hyperparameters.values
        known = self._trials.get(number)
        if known is None or known.state != "scored":
            self._note(self._trial_of(number, values))
            known = self._scored(self._trials[number])
            self._note(known)
        if known.top1 is None:
            raise kt_errors.FailedTrialError(known.message)
        return {OBJECTIVE.name: known.top1}

    def _try_run_and_update_trial(self, trial: kt.Trial, *args: Any, **kwargs: Any) -> None:
        """Run a trial and tell the oracle; one that failed is no traceback on the screen, and a bug is not hidden."""
        try:
            self.oracle.update_trial(trial.trial_id, self.run_trial(trial))
            trial.status = kt.TrialStatus.COMPLETED
        except kt_errors.FailedTrialError as error:
            trial.status, trial.message = kt.TrialStatus.FAILED, str(error)

    def _scored(self, trial: Trial) -> Trial:
        begun = time.monotonic()
        try:
            found = self._scorer.score(trial)
        except TrialFailedError as error:
            return replace(trial, state="failed", message=str(error), seconds=time.monotonic() - begun)
        return replace(
            trial,
            state="scored",
            top1=found["right"] / found["of"],
            interval=interval(found["right"], found["of"]),
            seconds=found["seconds"],
        )

    def _note(self, trial: Trial) -> None:
        self._trials[trial.number] = trial
        trials = [self._trials[number] for number in sorted(self._trials)]
        self._folder.write_trials(trials)
        self._on_event("begun" if trial.state == "running" else "ended", {"trial": trial, "trials": trials})


class TrialFailedError(Exception):
    """A network could not be scored; the search goes on."""


class Scorer:
    """The process that scores networks; started when it is needed, and anew after it has died.

    Args:
        folder: Of the search.
        config: Whether every trial has a process of its own.
        on_event: Told what the process says before it has scored.
    """

    def __init__(self, folder: SearchFolder, config: SearchConfig, on_event: OnEvent):
        self._folder, self._on_event, self._once = folder, on_event, config.from_scratch
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *raised: object) -> None:
        self._end()

    def score(self, trial: Trial) -> dict[str, Any]:
        """Return how many images of how many a network answers right, and the seconds it took.

        Raises:
            TrialFailedError: It could not be scored.
        """
        return self._ask({"number": trial.number, "values": dict(trial.values)}, "right")

    def keep(self, trial: Trial, path: Path) -> None:
        """Write the weights that a network was scored with as a .keras file."""
        self._ask({"number": trial.number, "values": dict(trial.values), "keep": str(path)}, "kept")

    def _ask(self, task: Mapping[str, Any], answer: str) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has died; what it said of it is read below
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            said = json.loads(line)
            if answer in said:
                if self._once:
                    self._end()
                return said
            if "error" in said:
                self._end()
                raise TrialFailedError(said["error"])
            self._on_event("images" if "images" in said else "epoch", said)
        status = process.wait()
        self._process = None
        raise TrialFailedError(_explained(status, self._folder.log))

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is None:
            words = [sys.executable, "-m", "keras_inception.tuning.scoring", str(self._folder.path)]
            with open(self._folder.log, "a") as log:
                self._process = subprocess.Popen(
                    words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
                )
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _explained(status: int, log: Path) -> str:
    if status == -9:
        return "its process was killed, as Linux does where memory is too small"
    if status < 0:
        return f"its process ended by signal {-status}"
    lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"its process ended with status {status}"


def _check(config: SearchConfig, side: int) -> None:
    """Refuse what every trial would fail of."""
    table = config.run.model.table()
    smallest = table.smallest_image(auxiliary=config.from_scratch and config.run.model.auxiliary)
    if side < smallest:
        raise ArchitectureError(
            f"an image of {side}×{side} px is too small for {table.name!r}; the smallest is {smallest}"
        )


def _finish(
    folder: SearchFolder, config: SearchConfig, scorer: Scorer, table_of: Callable[[Mapping[str, float]], Architecture]
) -> dict[str, Any]:
    """Write the best network and the front."""
    trials = folder.trials()
    winner = best(trials)
    if winner is None:
        raise RunError(f"no trial of {str(folder.path)!r} was scored; {str(folder.log)!r} has what they printed")
    table = table_of(winner.values)
    with folder_written_beside(folder.best) as new:
        write_text(new / "architecture.json", table.to_json())
        run = config.run.override(
            {
                "name": "tuned",
                "model.architecture": str(folder.best / "architecture.json"),
                "model.width": 1.0,
                "model.normalization": None,
                "model.dropout": None,
            }
        )
        write_text(new / "config.json", run.to_json())
        scorer.keep(winner, new / "weights.keras")
        write_json(new / "trial.json", dataclasses.asdict(winner))
    front = front_of(trials)
    write_text(folder.front_csv, as_csv(front))
    write_search(
        folder.path,
        title=f"Widths for {config.budget}",
        lead=_lead(config, trials),
        trials=trials,
        given=config.run.model.table(),
        tuned=table,
    )
    return {
        "best": winner,
        "given": next((trial for trial in trials if trial.number == 0), None),
        "front": front,
        "trials": trials,
        "architecture": folder.best / "architecture.json",
        "report": folder.path / "report.html",
    }


def _lead(config: SearchConfig, trials: Sequence[Trial]) -> str:
    """Return what a reader of the page should know first."""
    table = config.run.model.table()
    how = (
        f"trained from scratch for {config.run.training.epochs} epochs"
        if config.from_scratch
        else f"scored with weights of one network trained for {config.supernet_epochs} epochs"
    )
    return (
        f"{sum(trial.state == 'scored' for trial in trials)} networks, proposed by {config.oracle} search and {how}, "
        f"on the data of {config.run.data.source}. Each is {table.name} with other widths, for {config.budget}.\n\n"
        f"Trial 0 has the given widths, scaled alike to the budget. The best of many is chosen on validation, so that "
        f"its top-1 there is too good: train it, and measure it on the test split."
    )


def _quietly(make: Callable[[], Any]) -> Any:
    """Make a tuner without the line that keras-tuner prints when it goes on with a search."""
    with contextlib.redirect_stdout(io.StringIO()):
        return make()
