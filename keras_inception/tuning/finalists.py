"""The honest comparison: the best of a search trained from scratch, over seeds, beside the given widths."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_inception.architecture import Architecture
from keras_inception.errors import TrainingError
from keras_inception.files import write_text
from keras_inception.run_folder import RunFolder
from keras_inception.tuning.config import SearchConfig

SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Contender:
    """A network to be trained: its name, its table, and what it costs for one image without heads."""

    name: str
    table: Architecture
    multiply_adds: int
    parameters: int


@dataclass(frozen=True)
class Finalist:
    """A network trained from scratch over seeds, by the recipe of the search.

    Args:
        name: "given", "uniform" (the given widths scaled alike to the budget), or "trial 7".
        multiply_adds: For one image.
        parameters: Without heads.
        validation: Top-1 on validation in the best epoch, by seed.
        test: Top-1 on the test split of that epoch's weights, by seed; the split has no part in the search.
    """

    name: str
    multiply_adds: int
    parameters: int
    validation: tuple[float, ...]
    test: tuple[float, ...]


def train_finalists(
    config: SearchConfig,
    folder: Path,
    contenders: Sequence[Contender],
    on_run: Callable[[str, int], None],
) -> list[Finalist]:
    """Train every network with every seed and measure it, each in a process of its own; what is done is not repeated.

    Args:
        config: Of the search: data and recipe.
        folder: Where the run folders are made.
        contenders: The networks.
        on_run: Called with name and seed before a training.

    Raises:
        TrainingError: One could not be trained.
    """
    found = []
    for contender in contenders:
        slug = contender.name.replace(" ", "")
        write_text(folder / f"{slug}.json", contender.table.to_json())
        scores = []
        for seed in SEEDS:
            run = folder / f"{slug}-seed{seed}"
            on_run(contender.name, seed)
            _train(config, folder / f"{slug}.json", run, f"{contender.name}, seed {seed}", seed)
            scores.append(_scores(run))
        validation, test = zip(*scores, strict=True)
        found.append(Finalist(contender.name, contender.multiply_adds, contender.parameters, validation, test))
    return found


def spread(shares: Sequence[float]) -> str:
    """Return mean and standard deviation of shares in %.

    >>> spread([0.8, 0.82, 0.84])
    '82.0 ± 2.0'
    """
    return f"{100 * statistics.mean(shares):.1f} ± {100 * statistics.stdev(shares):.1f}"


def _train(config: SearchConfig, table: Path, run: Path, name: str, seed: int) -> None:
    configuration = run.with_suffix(".config.json")
    write_text(configuration, config.trained(table, {"name": name, "training.seed": seed}).to_json())
    _command(run, "train", "--config", str(configuration), "--run-dir", str(run), "--resume")
    if not (run / "evaluation" / "evaluation.json").exists():
        _command(run, "evaluate", str(run))


def _command(run: Path, *words: str) -> None:
    with open(run.with_suffix(".log"), "a") as log:
        done = subprocess.run([sys.executable, "-m", "keras_inception", *words], stdout=log, stderr=log)
    if done.returncode:
        raise TrainingError(
            f"{words[0]} of {str(run)!r} ended with status {done.returncode}; {str(run.with_suffix('.log'))!r} says "
            f"why. The same command with --resume goes on"
        )


def _scores(run: Path) -> tuple[float, float]:
    """Return top-1 on validation and on the test split."""
    evaluation = json.loads((run / "evaluation" / "evaluation.json").read_text("utf-8"))
    return RunFolder(run).summary()["best"]["val_main_top1"], evaluation["top1"]
