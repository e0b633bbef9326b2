"""How training scales: over processes, a core each, and with image size, width and batch; for tools/benchmark.

- Several processes train one network by MultiWorkerMirroredStrategy on loopback, 16 images of 224 px a step each; and
  as many that know nothing of each other, which is what the machine allows.
- The time of a training step of 16 images of 112 px against one quantity at a time; a slope of 1 on logarithmic axes
  is proportional.
"""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import train  # beside this file, as the next
from rounds import Contender, Options, Part, middle, pairs, say, with_onednn

LAUNCH = Path(__file__).resolve().parent.parent / "launch"
SECONDS = "seconds for a step"
BATCH, SIZE, SIZE_OF_PROCESSES, STEPS = 16, 112, 224, 8
QUANTITIES: dict[str, tuple[float, ...]] = {
    "size": (80, 112, 160, 224),
    "width": (0.25, 0.5, 0.75, 1),
    "batch": (4, 8, 16, 32),
}
LABELS = {"size": "side of the image, px", "width": "factor on the widths", "batch": "images in a batch"}


def step(batch: str, size: str, width: str) -> dict[str, float]:
    """Return the median of how long a step takes, on batches that stay in memory."""
    job = train.training(int(batch), int(size), {"model.width": float(width)}, batches=STEPS + 2)
    return {SECONDS: float(np.median(job.measure(STEPS)))}


def step_on_a_core(batch: str, size: str, width: str, core: str = "0") -> dict[str, float]:
    """Measure the same on one core alone: that of this worker's number, or that of a process that is no worker."""
    task = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {"index": int(core)})
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[task["index"]]})
    return step(batch, size, width)


STEP, ON_A_CORE, ONE = "step", "step on a core", "one process"
PART = Part(__file__, {STEP: Contender(step, with_onednn(True)), ON_A_CORE: Contender(step_on_a_core)})


def images_per_second(processes: int) -> float:
    """Return what so many processes train together, each on a core of its own."""
    launch = (sys.executable, str(LAUNCH), "--workers", str(processes))
    return BATCH * processes / seconds_on_cores(BATCH * processes, before=launch)


def images_per_second_apart(processes: int) -> float:
    """Return what as many train that know nothing of each other."""
    with ThreadPoolExecutor(processes) as pool:
        jobs = [pool.submit(seconds_on_cores, BATCH, core) for core in range(processes)]
        return sum(BATCH / job.result() for job in jobs)


def seconds_on_cores(batch: int, core: int = 0, before: Sequence[str] = ()) -> float:
    """Return the seconds of a step of a process on a core, or of all that the words `before` its command start."""
    setting = (str(batch), str(SIZE_OF_PROCESSES), "1", str(core))
    command = [*before, sys.executable, __file__, "--measure", ON_A_CORE, *setting]
    done = subprocess.run(command, env={**os.environ, **with_onednn(True)}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    said = next(line for line in reversed(done.stdout.splitlines()) if SECONDS in line)
    return json.loads(said[said.index("{") :])[SECONDS]


def cost(quantity: str, value: float) -> float:
    """Return the seconds of a step where one quantity is `value` and the others are as usual."""
    usual = {"batch": BATCH, "size": SIZE, "width": 1} | {quantity: value}
    return PART.measured(STEP, *(f"{number:g}" for number in usual.values()))[SECONDS]


def slope(costs: dict[float, float]) -> float:
    """Return the exponent of the power law through the points."""
    return float(np.polyfit(np.log(list(costs)), np.log(list(costs.values())), 1)[0])


def draw(costs: dict[str, dict[float, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    from keras_inception.report.pictures import save

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (quantity, found) in zip(figure.subplots(1, len(costs)), costs.items(), strict=True):
        axes.loglog(list(found), list(found.values()), "o-")
        axes.set(xlabel=LABELS[quantity], ylabel=SECONDS)
        axes.set_title(f"slope {slope(found):.2f}")
        axes.set_xticks(list(found), [f"{value:g}" for value in found])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    save(figure, path)


def compare(options: Options) -> Any:
    cores = len(os.sched_getaffinity(0))
    jobs = {
        ONE: functools.partial(images_per_second, 1),
        f"{cores} processes": functools.partial(images_per_second, cores),
        f"{cores} processes that know nothing of each other": functools.partial(images_per_second_apart, cores),
    }
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(options.rounds):
        for name, job in jobs.items():
            rates[name].append(job())
            say(f"round {number + 1}/{options.rounds}: {name}: {rates[name][-1]:.1f} images/s")
    for name, found in rates.items():
        say(f"{name}: {middle(found, '.2f')} images/s, {middle(pairs(found, rates[ONE]), '.2f')} times one process")
    costs: dict[str, dict[float, float]] = {}
    for quantity, values in QUANTITIES.items():
        costs[quantity] = {value: cost(quantity, value) for value in values}
        times = ", ".join(f"{value:g}: {seconds:.3f}" for value, seconds in costs[quantity].items())
        say(f"{SECONDS} by {LABELS[quantity]}: {times}; slope {slope(costs[quantity]):.2f}")
    return {"images/s of processes": rates, SECONDS: costs}, functools.partial(draw, costs)


if __name__ == "__main__":
    PART.run(compare, Options)
