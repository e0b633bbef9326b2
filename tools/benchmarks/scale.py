"""How training scales: over processes, a core each, and with image size, width and batch; for tools/benchmark.

- Several processes train one network by MultiWorkerMirroredStrategy on loopback, 16 images of 112 px a step each.
- The time of a training step against one quantity at a time; a slope of 1 on logarithmic axes is proportional.
"""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import train  # beside this file, as the next
import tyro
from rounds import keep, machine, middle, pairs, say, screen, with_onednn

BATCH, SIZE = 16, 112
QUANTITIES: dict[str, tuple[float, ...]] = {
    "size": (64, 80, 112, 160, 224),
    "width": (0.25, 0.5, 0.75, 1),
    "batch": (4, 8, 16, 32),
}
LABELS = {"size": "side of the image, px", "width": "factor on the widths", "batch": "images in a batch"}


def images_per_second(processes: int) -> float:
    """Return what so many processes train together, each on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))[:processes]
    addresses = ",".join(f"localhost:{port}" for port in _free_ports(processes))
    started = []
    for index, core in enumerate(cores):
        words = ["taskset", "-c", str(core), sys.executable, __file__, "--measure", "step", "--steps", "10"]
        words += ["--batch", str(BATCH * processes), "--size", str(SIZE)]
        if processes > 1:
            words += ["--workers", addresses, "--task-index", str(index)]
        environment = {**os.environ, **with_onednn(True)}
        started.append(subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    said = [process.communicate() for process in started]
    if any(process.returncode for process in started):
        sys.exit(b"\n".join(errors for _, errors in said).decode())
    return BATCH * processes / float(said[0][0].split()[-1])


def step_seconds(batch: int, size: int, width: float, steps: int, workers: str | None, task_index: int) -> float:
    """Return the median of how long a step takes, from batches that stay in memory."""
    from keras_inception.training.devices import join_workers

    if workers:
        join_workers(workers, task_index)
    job = train.training(batch, size, {"model.width": width})
    return float(np.median(job.measure(steps)))


def _step_seconds_alone(quantity: str, value: float) -> float:
    """Return the seconds of a step in a process of its own."""
    command = [sys.executable, __file__, "--measure", "step", f"--{quantity}", f"{value:g}"]
    done = subprocess.run(command, env={**os.environ, **with_onednn(True)}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout.split()[-1])


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def slope(costs: dict[float, float]) -> float:
    """Return the exponent of the power law through the points."""
    return float(np.polyfit(np.log(list(costs)), np.log(list(costs.values())), 1)[0])


def draw(costs: dict[str, dict[float, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    from keras_inception.report.pictures import save

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (quantity, found) in zip(figure.subplots(1, len(costs)), costs.items(), strict=True):
        axes.loglog(list(found), list(found.values()), "o-")
        axes.set(xlabel=LABELS[quantity], ylabel="seconds for a step")
        axes.set_title(f"slope {slope(found):.2f}")
        axes.set_xticks(list(found), [f"{value:g}" for value in found])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    save(figure, path)


def main(
    rounds: int = 5,
    json: Path | None = None,
    png: Path | None = None,
    measure: str | None = None,
    batch: int = BATCH,
    size: int = SIZE,
    width: float = 1,
    steps: int = train.STEPS,
    workers: str | None = None,
    task_index: int = 0,
) -> None:
    """Measure how training scales.

    Args:
        rounds: How often one process and one on every core are measured, in turn; costs are measured once.
        json: Also write all figures to this file.
        png: Also draw the costs there.
        measure: A step, once, in this process; the rest goes with it.
        batch: Images in a batch over all workers.
        size: Their side, px.
        width: Factor on all widths.
        steps: That are timed.
        workers: Addresses of all that train together.
        task_index: Which of them this process is.
    """
    if measure:
        print(step_seconds(batch, size, width, steps, workers, task_index))
        return
    if not shutil.which("taskset"):
        sys.exit("scale.py: there is no taskset, which pins a process to a core: install util-linux")
    shown = screen()
    rates: dict[int, list[float]] = {1: [], len(os.sched_getaffinity(0)): []}
    for number in range(rounds):
        for processes, found in rates.items():
            found.append(images_per_second(processes))
            say(shown, f"round {number + 1}/{rounds}: {processes} processes: {found[-1]:.1f} images/s")
    one, all_cores = rates.values()
    say(shown, f"{max(rates)} processes over one: {middle(pairs(all_cores, one), '.2f')}")
    costs: dict[str, dict[float, float]] = {}
    for quantity, values in QUANTITIES.items():
        costs[quantity] = {value: _step_seconds_alone(quantity, value) for value in values}
        times = ", ".join(f"{value:g}: {seconds:.3f}" for value, seconds in costs[quantity].items())
        say(shown, f"seconds for a step by {LABELS[quantity]}: {times}; slope {slope(costs[quantity]):.2f}")
    say(shown, machine())
    keep({"images/s of processes": rates, "seconds for a step": costs}, json)
    if png:
        draw(costs, png)


if __name__ == "__main__":
    tyro.cli(main)
