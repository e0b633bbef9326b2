"""The honest comparison: the best of a search trained from scratch, over seeds, beside the given widths."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_inception.data.dataset import TEST, VALIDATION
from keras_inception.evaluation.over_seeds import top1, trained_over_seeds
from keras_inception.files import write_text
from keras_inception.tuning.config import SearchConfig
from keras_inception.tuning.space import Point


@dataclass(frozen=True)
class Contender:
    """A network to be trained: its name, what it is, and what it costs for one image without heads."""

    name: str
    point: Point
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
    files = {contender.name.replace(" ", ""): contender for contender in contenders}
    runs: dict[str, list[Path]] = {name: [] for name in files}
    configs = {}
    for name, contender in files.items():
        write_text(folder / f"{name}.json", contender.point.architecture.to_json())
        configs[name] = config.trained(folder / f"{name}.json", contender.point, {})
    for name, _, run in trained_over_seeds(configs, folder, on_run=on_run):
        runs[name].append(run)
    return [
        Finalist(
            contender.name,
            contender.multiply_adds,
            contender.parameters,
            validation=tuple(top1(run, VALIDATION) for run in runs[name]),
            test=tuple(top1(run, TEST) for run in runs[name]),
        )
        for name, contender in files.items()
    ]
