"""How things are compared here: each is measured in a process of its own, one process at a time, in rounds.

Idle threads of one library slow another's several times over, so that two never live at once; and a busy moment of the
machine meets all that are compared alike. What is said is the median over rounds, and of ratios the median of the pairs
of one round. Every comparison holds one contender twice, as `AGAIN`: how far its ratio is from 1 is what chance makes.
"""

import dataclasses
import functools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

#: The name of the first contender when it is measured a second time.
AGAIN = "the first again"

#: Contender, then figure, to the values of all rounds.
Figures = dict[str, dict[str, list[float]]]


@dataclasses.dataclass(frozen=True)
class Contender:
    """What is measured, in a process of its own.

    Args:
        measure: Called there with the words of the comparison, which are text; returns figures by name.
        environment: Variables of that process, on top of this one's.
    """

    measure: Callable[..., dict[str, float]]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


def with_onednn(on: bool) -> dict[str, str]:
    """Return the environment of a contender on TensorFlow with or without oneDNN's kernels."""
    return {"TF_ENABLE_ONEDNN_OPTS": str(int(on))}


@dataclasses.dataclass(frozen=True)
class Options:
    """What every part takes.

    Args:
        rounds: How often everything is measured, in turn.
        json: Also write all figures to this file.
        png: Also draw them there.
        measure: This contender alone, once, in this process.
        words: What it is called with.
    """

    rounds: int = 3
    json: Path | None = None
    png: Path | None = None
    measure: str | None = None
    words: Annotated[tuple[str, ...], tyro.conf.Positional] = ()


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of tools/benchmark.

    Args:
        script: Its file.
        contenders: All that can be measured in a process of its own.
    """

    script: str
    contenders: Mapping[str, Contender]

    def run(self, compare: Callable[[Any], tuple[Any, Callable[[Path], None]]], options: Any) -> None:
        """Read the command line; measure one contender here, or compare, and keep and draw what came out.

        Args:
            compare: From the options to all figures, and what draws them into a file.
            options: `Options`, or a class of the part's own with more fields.
        """
        given = tyro.cli(options, description=sys.modules["__main__"].__doc__)
        if given.measure:
            print(json.dumps(self.contenders[given.measure].measure(*given.words)))
            return
        figures, draw_into = compare(given)
        say(machine())
        if given.json:
            found = {"machine": machine(), "figures": figures}
            given.json.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if given.png:
            draw_into(given.png)

    def measured(self, name: str, *words: str) -> dict[str, float]:
        """Measure a contender in a process of its own, which prints figures as JSON last."""
        command = [sys.executable, self.script, "--measure", name, *words]
        environment = {**os.environ, **self.contenders[name].environment}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            sys.exit(f"{name} failed:\n{done.stderr}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def take_turns(self, names: Sequence[str], rounds: int, *words: str, title: str = "") -> Figures:
        """Measure contenders in every round, the first once more at its end."""
        turns = [*((name, name) for name in names), (AGAIN, names[0])]
        figures: Figures = {label: {} for label, _ in turns}
        for number in range(rounds):
            for label, name in turns:
                found = self.measured(name, *words)
                for figure, value in found.items():
                    figures[label].setdefault(figure, []).append(value)
                said = ", ".join(f"{figure} {value:.3g}" for figure, value in found.items())
                say(f"{title}round {number + 1}/{rounds}: {label}: {said}")
        return figures


@functools.cache
def screen() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140)


def say(line: str) -> None:
    screen().print(line, highlight=False, markup=False)


def middle(values: Sequence[float], form: str = ".3g") -> str:
    """Return median and range."""
    return f"{statistics.median(values):{form}} [{min(values):{form}} to {max(values):{form}}]"


def pairs(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return the ratios of what was measured in the same rounds."""
    return [a / b for a, b in zip(one, other, strict=True)]


def show(figures: Figures, figure: str, *, title: str, over: str, form: str = ".3g") -> None:
    """Print a figure of all contenders, and its ratio over that of one of them."""
    from rich.table import Table

    table = Table("", figure, f"over {over}", title=title)
    for name, found in figures.items():
        if figure in found:
            ratios = pairs(found[figure], figures[over][figure])
            table.add_row(name, middle(found[figure], form), middle(ratios, ".2f"))
    screen().print(table)


def bars(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Callable[[Path], None]:
    """Return what draws, for every panel, the median of each contender as a bar with its range."""
    return functools.partial(_draw_bars, panels)


def panel(figures: Figures, figure: str) -> dict[str, list[float]]:
    """Return one figure of all contenders that have it."""
    return {name: found[figure] for name, found in figures.items() if figure in found}


def _draw_bars(panels: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    from matplotlib.figure import Figure

    from keras_inception.report.pictures import save

    rows = max(len(panel) for panel in panels.values())
    figure = Figure(figsize=(8 * len(panels), 1 + 0.4 * rows), layout="constrained")
    for axes, (title, panel) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        medians = [statistics.median(values) for values in panel.values()]
        reach = [
            [median - min(values) for median, values in zip(medians, panel.values(), strict=True)],
            [max(values) - median for median, values in zip(medians, panel.values(), strict=True)],
        ]
        axes.barh(list(panel), medians, xerr=reach, color="tab:blue", ecolor="black", capsize=3)
        axes.invert_yaxis()
        axes.set_xlabel(title)
        axes.grid(axis="x", alpha=0.3)
    save(figure, path)


def machine() -> str:
    """Return what the figures were measured on, and when."""
    name = platform.processor() or platform.machine()
    processor = Path("/proc/cpuinfo")
    if processor.exists():
        lines = dict(line.split(":", 1) for line in processor.read_text().splitlines() if ":" in line)
        name = {key.strip(): value.strip() for key, value in lines.items()}.get("model name", name)
        vnni = any("vnni" in value for value in lines.values())
        name += ", with VNNI" if vnni else ", without VNNI"
    return f"{name}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}"


def seconds_of(action: Callable[[], Any], *, warm_up: int, times: int) -> float:
    """Return the median of how long an action takes."""
    for _ in range(warm_up):
        action()
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


def peak_mib() -> float:
    """Return the most memory that this process has held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def machine_limit() -> dict[str, float]:
    """Return GFLOP/s of TensorFlow's best matrix product and of a large 3×3 convolution on all cores, float32."""
    import tensorflow as tf

    side, images, map_side, channels = 2048, 16, 28, 192
    matrix = tf.random.normal((side, side))
    maps = tf.random.normal((images, map_side, map_side, channels))
    kernel = tf.random.normal((3, 3, channels, channels))
    product = tf.function(lambda: tf.reduce_sum(matrix @ matrix))
    convolved = tf.function(lambda: tf.reduce_sum(tf.nn.conv2d(maps, kernel, 1, "SAME")))
    work = {
        "matrix product, GFLOP/s": (product, 2 * side**3),
        "3×3 convolution, GFLOP/s": (convolved, 2 * 9 * channels**2 * images * map_side**2),
    }
    return {
        name: operations / 1e9 / seconds_of(functools.partial(_waited_for, action), warm_up=2, times=9)
        for name, (action, operations) in work.items()
    }


def _waited_for(action: Callable[[], Any]) -> None:
    action().numpy()


LIMIT = "the machine's limit"
MACHINE = {LIMIT: Contender(machine_limit, with_onednn(True))}
