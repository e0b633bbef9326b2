"""Whether an Inception module needs its parts: networks without them, or with others, trained beside the whole.

Each question changes one thing in every module of a table (the last but the modules: what stands behind them) and keeps
the rest. All networks are trained by one recipe over seeds; the best epoch is chosen on validation, and its weights
answer the training and the test images once.
"""

import json
import math
import re
import time
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from keras_inception.analysis.branches import modules
from keras_inception.architecture import Architecture, Conv, FullyConnected, Inception, Row
from keras_inception.config import RunConfig
from keras_inception.cost import Shape, row_costs
from keras_inception.data.dataset import TEST, TRAIN, VALIDATION
from keras_inception.data.sources import load_dataset
from keras_inception.errors import ArchitectureError, RunError
from keras_inception.evaluation.over_seeds import SEEDS, top1, trained_over_seeds
from keras_inception.files import write_text
from keras_inception.run_folder import RunFolder

#: What is asked: how narrow reductions may be; whether they are needed; whether branches are; what averaging in place
#: of a fully connected layer does; whether the pool needs its projection.
Question = Literal["reduction", "naive", "plain", "classifier", "projection"]

#: Name of the network that all questions start from.
GIVEN = "given"
#: What the given reductions are multiplied by, before they are all of one channel.
RATIOS = (Fraction(1, 2), Fraction(1, 4), Fraction(1, 8))
#: Share of the given network's best validation top-1 whose epoch tells how fast a network learns.
LEVEL = 0.95
# Thousandths that the output channels of modules are multiplied by, at most, for plain convolutions of their cost.
_STEPS = 10_000


@dataclass(frozen=True)
class Variant:
    """A network of the ablation.

    Args:
        name: "given", or what is different.
        question: Which it answers; None is the given network.
        table: The network.
        multiply_adds: For one image, without heads.
        parameters: Without heads.
    """

    name: str
    question: Question | None
    table: Architecture
    multiply_adds: int
    parameters: int

    @property
    def slug(self) -> str:
        """Its name in the names of files."""
        return "-".join(re.findall(r"\w+", self.name))


@dataclass
class Result:
    """What came of the trainings of a network, each list in the order of the seeds that are done.

    Args:
        variant: The network.
        seeds: Which are done.
        train: Top-1 of the best epoch's weights on the training images, without augmentation and dropout.
        validation: Their top-1 on validation, by which they were chosen.
        test: Their top-1 on the test split.
        epochs: Top-1 on validation after every epoch.
    """

    variant: Variant
    seeds: list[int] = field(default_factory=list)
    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    test: list[float] = field(default_factory=list)
    epochs: list[list[float]] = field(default_factory=list)

    def read(self, seed: int, run: Path) -> None:
        """Take in a training."""
        self.seeds.append(seed)
        self.train.append(top1(run, TRAIN))
        self.validation.append(top1(run, VALIDATION))
        self.test.append(top1(run, TEST))
        self.epochs.append([row["val_main_top1"] for row in RunFolder(run).metrics()])

    def mean_epochs(self) -> list[float]:
        """Return top-1 on validation after every epoch, a mean over the seeds that are done."""
        return [sum(values) / len(values) for values in zip(*self.epochs, strict=True)]


def variants(
    table: Architecture, questions: Sequence[Question], input_shape: Shape | None = None, classes: int = 1000
) -> list[Variant]:
    """Return the networks that answer some questions, the given one first; what equals an earlier one is left out.

    Args:
        table: The given network, with modules.
        questions: Which.
        input_shape: Height, width and channels of the images, for the costs; by default the table's own size in colour.
        classes: Number of classes, for the costs.

    Raises:
        ArchitectureError: The table has no module, or modules that cost less than any 3×3 convolutions.
    """
    modules(table)
    shape = input_shape or (table.image_size, table.image_size, 3)
    found = [_variant(GIVEN, None, table, shape, classes)]
    for question in questions:
        for name, other in _ANSWERS[question](table, shape, classes):
            if all(one.table.rows != other.rows for one in found):
                found.append(_variant(name, question, other, shape, classes))
    return found


def _variant(name: str, question: Question | None, table: Architecture, shape: Shape, classes: int) -> Variant:
    costs = row_costs(table, shape, classes)
    return Variant(name, question, table, sum(row.multiply_adds for row in costs), sum(row.parameters for row in costs))


def ablate(
    config: RunConfig,
    folder: str | Path,
    *,
    questions: Sequence[Question] = get_args(Question),
    seeds: Sequence[int] = SEEDS,
    minutes: float | None = None,
    on_run: Callable[[str, int], None] = lambda name, seed: None,
    on_result: Callable[[list[Result]], None] = lambda results: None,
) -> list[Result]:
    """Train the networks that answer some questions, all with the first seed first, each in a process of its own.

    Stopped at any moment, the same call goes on, and no training that has ended is repeated.

    Args:
        config: Data and recipe, and the given network.
        folder: Where the runs are kept; it is made.
        questions: Which; more of them, and more seeds, can be added to what is there.
        seeds: Of the trainings.
        minutes: After which no further training begins; None is no limit.
        on_run: Called with the name of a network and the seed before a training.
        on_result: Called with what is known after every training.

    Returns:
        A result for every network; without seeds where its first training has not ended.

    Raises:
        ArchitectureError, ConfigError, DataError: As their messages say; before anything is written.
        RunError: The folder holds something else, or was begun with another network, data or recipe.
        TrainingError: A network could not be trained.
    """
    folder = Path(folder)
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    table, data = config.model.table(), config.data
    side = data.image_size or table.image_size
    row_costs(table, (side, side, data.channels), auxiliary=config.model.heads)  # refuses an image too small for heads
    found = variants(table, questions, (side, side, data.channels), len(load_dataset(data).classes))
    _begin(folder, config)
    results = {variant.slug: Result(variant) for variant in found}
    with RunFolder(folder).claimed("ablation", "--output"):
        configs = {}
        for variant in found:
            path = folder / f"{variant.slug}.json"
            named = replace(variant.table, name=f"{table.name}-{variant.slug}")
            write_text(path, named.to_json())
            configs[variant.slug] = config.with_table(path)
        trained = trained_over_seeds(
            configs, folder, seeds=seeds, splits=(TRAIN, TEST), deadline=deadline, on_run=on_run
        )
        for name, seed, run in trained:
            results[name].read(seed, run)
            on_result(list(results.values()))
    return list(results.values())


def epochs_to_level(results: Sequence[Result], level: float = LEVEL) -> list[int | None]:
    """Return the first epoch in which a network's top-1 on validation, a mean over seeds, reaches the level.

    Args:
        results: The first is the given network's.
        level: Share of the given network's best.

    Returns:
        Epochs from 1; None where a network never came there, or it or the given one has not been trained.
    """
    wanted = level * max(results[0].mean_epochs(), default=math.inf)
    return [
        next((epoch for epoch, value in enumerate(one.mean_epochs(), start=1) if value >= wanted), None)
        for one in results
    ]


# ---------------------------------------------------------------------------------------------------------------------
# The networks of each question
# ---------------------------------------------------------------------------------------------------------------------


def _narrow(table: Architecture, shape: Shape, classes: int) -> Iterator[tuple[str, Architecture]]:
    """Narrower reductions in every module; none becomes less than 1 channel, and those of the stem stay."""
    for ratio in RATIOS:
        yield f"reductions × {ratio}", _each(table, partial(_with_reductions, ratio=ratio))
    yield "reductions to 1", _each(table, partial(_with_reductions, ratio=Fraction(0)))


def _with_reductions(row: Inception, ratio: Fraction) -> Inception:
    def times(width: int) -> int:
        return max(1, round(width * ratio)) if width else 0

    return replace(row, reduce3x3=times(row.reduce3x3), reduce5x5=times(row.reduce5x5))


def _naive(table: Architecture, shape: Shape, classes: int) -> Iterator[tuple[str, Architecture]]:
    """Without reductions; with the projection of the pool, so that every branch gives as many channels as before."""
    yield "no reductions", _each(table, lambda row: replace(row, reduce3x3=0, reduce5x5=0))


def _plain(table: Architecture, shape: Shape, classes: int) -> Iterator[tuple[str, Architecture]]:
    """One 3×3 convolution in place of every module, and two, which are as deep, of the multiply-adds of the whole."""
    yield "one 3×3", _replaced(table, shape, classes, lambda row, filters: (Conv(row.name, filters, 3),))
    yield (
        "two 3×3",
        _replaced(
            table,
            shape,
            classes,
            lambda row, filters: (Conv(f"{row.name}_first", filters, 3), Conv(row.name, filters, 3)),
        ),
    )


def _dense(table: Architecture, shape: Shape, classes: int) -> Iterator[tuple[str, Architecture]]:
    """A fully connected layer on the last map, of as many units as it has channels, in place of the average."""
    channels = row_costs(table, shape)[len(table.rows) - 1].output[2]
    yield "fully connected", replace(table, rows=(*table.rows, FullyConnected("fc", channels)))


def _unprojected(table: Architecture, shape: Shape, classes: int) -> Iterator[tuple[str, Architecture]]:
    """Pools that keep all channels of their input: they pile up from module to module."""
    yield "no projection", _each(table, lambda row: replace(row, pool_projection=0))


_ANSWERS: dict[Question, Callable[[Architecture, Shape, int], Iterator[tuple[str, Architecture]]]] = {
    "reduction": _narrow,
    "naive": _naive,
    "plain": _plain,
    "classifier": _dense,
    "projection": _unprojected,
}


def _each(table: Architecture, change: Callable[[Inception], Inception]) -> Architecture:
    return replace(table, rows=tuple(change(row) if isinstance(row, Inception) else row for row in table.rows))


def _replaced(
    table: Architecture, shape: Shape, classes: int, make: Callable[[Inception, int], tuple[Row, ...]]
) -> Architecture:
    """Return a table with other rows for every module, of its output channels times one factor.

    It is the largest, in steps of a thousandth, whose multiply-adds do not exceed the table's.
    """

    def scaled(step: int) -> Architecture:
        rows: list[Row] = []
        for row in table.rows:
            rows += make(row, max(1, round(row.filters * step / 1000))) if isinstance(row, Inception) else (row,)
        return replace(table, rows=tuple(rows))

    def multiply_adds(table: Architecture) -> int:
        return sum(cost.multiply_adds for cost in row_costs(table, shape, classes))

    steps = range(1, _STEPS)
    fitting = bisect(steps, multiply_adds(table), key=lambda step: multiply_adds(scaled(step)))
    if not fitting:
        raise ArchitectureError(
            f"the modules of {table.name!r} have fewer multiply-adds than 3×3 convolutions of one filter in their "
            f"places; give a wider network, or leave out the question plain"
        )
    return scaled(steps[fitting - 1])


# ---------------------------------------------------------------------------------------------------------------------
# The folder
# ---------------------------------------------------------------------------------------------------------------------


def _begin(folder: Path, config: RunConfig) -> None:
    """Write what is trained, or see that it is the same as before."""
    path = folder / "recipe.json"
    if path.exists():
        old, new = (json.loads(text) for text in (path.read_text("utf-8"), config.to_json()))
        for section in ("data", "model", "training"):
            for name, value in new[section].items():
                if old[section].get(name) != value:
                    raise RunError(
                        f"the ablation in {str(folder)!r} was begun with {section}.{name} = "
                        f"{old[section].get(name)!r}, not {value!r}; give the same, or another --output"
                    )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{str(folder)!r} holds something else than an ablation; give another --output")
    else:
        write_text(path, config.to_json())
