"""Networks trained over seeds by one recipe and measured: what tells a difference from chance.

Every training is a process of its own, through the command line, so that it can be stopped at any moment and leaves its
memory behind; what is done is not repeated.
"""

import ctypes
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from keras_inception.config import RunConfig
from keras_inception.data.dataset import TEST, VALIDATION
from keras_inception.errors import TrainingError
from keras_inception.evaluation.evaluate import evaluate, evaluation_folder
from keras_inception.files import write_text
from keras_inception.run_folder import RunFolder

SEEDS = (1, 2, 3)

_PR_SET_PDEATHSIG = 1


def trained_over_seeds(
    configs: Mapping[str, RunConfig],
    folder: Path,
    *,
    seeds: Sequence[int] = SEEDS,
    splits: Sequence[str] = (TEST,),
    deadline: float = math.inf,
    on_run: Callable[[str, int], None] = lambda name, seed: None,
) -> Iterator[tuple[str, int, Path]]:
    """Train every configuration with every seed and measure what the best epoch gave: all with the first seed first.

    Args:
        configs: By name, which names files too; each is the same as in the calls before.
        folder: Where the run folders are made.
        seeds: Of weights, order, augmentation and dropout.
        splits: What the best epoch's weights are measured on; that it is the best, validation says.
        deadline: Of `time.monotonic`, after which no further training begins; what has been trained is yielded.
        on_run: Called with name and seed before a training.

    Yields:
        Name, seed and run folder, from which `top1` reads.

    Raises:
        TrainingError: One could not be trained.
    """
    for seed in seeds:
        for name, config in configs.items():
            run = folder / f"{name}-seed{seed}"
            if RunFolder(run).state() != "finished":
                if time.monotonic() > deadline:
                    continue
                on_run(name, seed)
                changes = {"name": f"{name}, seed {seed}", "training.seed": seed}
                write_text(_beside(run, "config.json"), config.override(changes).to_json())
                train_in_process(run)
            for split in splits:
                if not _evaluation_json(run, split).exists():
                    evaluate(run, split)
            yield name, seed, run


def train_in_process(run: Path) -> None:
    """Train, or go on training, what RUN.config.json beside a run folder says; RUN.log has what it prints.

    Where this process is ended, by SIGTERM or SIGKILL too, so is the training, and the run folder is free to go on.

    Raises:
        TrainingError: It could not be trained.
    """
    configuration, log = _beside(run, "config.json"), _beside(run, "log")
    words = [sys.executable, "-m", "keras_inception", "train"]
    words += ["--config", str(configuration), "--run-dir", str(run), "--resume"]
    with open(log, "a") as said:
        done = subprocess.run(words, stdout=said, stderr=said, preexec_fn=_die_with(os.getpid()))
    if done.returncode:
        raise TrainingError(
            f"train of {str(run)!r} ended with status {done.returncode}; {str(log)!r} says why. The same command, of "
            f"tune with --resume, goes on"
        )


def top1(run: Path, split: str) -> float:
    """Return top-1 of a run's best epoch on a split that it was measured on; on validation as the training logged it.

    Args:
        run: As `trained_over_seeds` yields it.
        split: One of its `splits`, or "validation".
    """
    if split == VALIDATION:
        return RunFolder(run).summary()["best"]["val_main_top1"]
    return json.loads(_evaluation_json(run, split).read_text("utf-8"))["top1"]


def spread(shares: Sequence[float], sign: str = "") -> str:
    """Return mean and standard deviation of shares in %; of a single one it alone.

    >>> spread([0.8, 0.82, 0.84])
    '82.0 ± 2.0'

    Args:
        shares: At least one.
        sign: "+" for differences.
    """
    mean = f"{100 * statistics.mean(shares):{sign}.1f}"
    return mean if len(shares) == 1 else f"{mean} ± {100 * statistics.stdev(shares):.1f}"


def _beside(run: Path, ending: str) -> Path:
    """Return a file beside a run folder, whose name may have a point, as "uniform 0.9" has."""
    return run.with_name(f"{run.name}.{ending}")


def _die_with(parent: int) -> Callable[[], None]:
    """Return what makes a new process be killed when this one dies, be it by SIGKILL; only Linux knows this."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    libc = ctypes.CDLL(None)

    def in_child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os.kill(os.getpid(), signal.SIGKILL)

    return in_child


def _evaluation_json(run: Path, split: str) -> Path:
    return evaluation_folder(run, split) / "evaluation.json"
