"""From the correlation of channels to other branch widths that cost the same: a proposal as an `Architecture`.

The rule: a branch gets channels in proportion to those of its channels that are not silent, times how many uncorrelated
directions they span, over how many as many channels of the module would span whatever their branch. Plain proportion to
the number of directions would not do: of channels that are correlated alike it grows more slowly than their number, and
the smaller branches would be widened whatever they hold. Reductions go with their branch. In a module the sum of
channels stays, and one factor on all modules brings the network to the given one's multiply-adds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from keras_inception.analysis.branches import BRANCHES, modules
from keras_inception.analysis.correlation import Directions, RowCorrelation
from keras_inception.architecture import Architecture, Inception
from keras_inception.budget import Budget, Fitting, cost
from keras_inception.cost import Shape
from keras_inception.run_folder import RunFolder

#: No width grows beyond this multiple of the given one.
LARGEST = 4.0

#: The widths of a module that go with each branch.
WIDTHS_OF_BRANCH = dict(
    zip(
        BRANCHES,
        (("conv1x1",), ("reduce3x3", "conv3x3"), ("reduce5x5", "conv5x5"), ("pool_projection",)),
        strict=True,
    )
)
_SMALLEST = 1e-3  # multiple of a branch that is silent as a whole


@dataclass(frozen=True)
class WidthChange:
    """The widths of a branch, given and proposed.

    Args:
        row: Name of the module.
        branch: "1×1", "3×3", "5×5" or "pool".
        reduction: Of the 1×1 in front of it; None where the branch has none.
        channels: Of its output.
    """

    row: str
    branch: str
    reduction: tuple[int, int] | None
    channels: tuple[int, int]


def wanted(found: Directions) -> float:
    """Return how many channels a branch should have, by the rule above; only their ratios within a module count."""
    active = found.channels - found.silent
    return active * found.effective / found.expected if active else 0.0


def proposal(
    table: Architecture, channels: Mapping[tuple[str, str], float], input_shape: Shape, classes: int
) -> Architecture:
    """Return a table whose modules divide their channels otherwise, and which costs no more multiply-adds.

    The stem and the heads keep their widths. Widths from 16 on are multiples of 8, or the given one, and none grows
    beyond 4 times the given one, as in `keras_inception.budget`.

    Args:
        table: The given architecture.
        channels: From (module, branch), as in ("4a", "3×3"), to how many channels it should have, ≥ 0; only ratios
            within a module count. A module of which all are 0 keeps its own.
        input_shape: Height, width and channels of the images.
        classes: Number of classes.

    Raises:
        ArchitectureError: The network has no Inception module.
    """
    multiples: dict[tuple[str, str], float] = {}
    for row in modules(table):
        given = {branch: getattr(row, widths[-1]) for branch, widths in WIDTHS_OF_BRANCH.items()}
        asked = {branch: channels[row.name, branch] for branch in given}
        total = sum(asked.values())
        for branch, widths in WIDTHS_OF_BRANCH.items():
            share = asked[branch] / total * row.filters / given[branch] if total else 1.0
            multiples.update({(row.name, width): max(share, _SMALLEST) for width in widths})
    held = frozenset(row.name for row in table.rows if not isinstance(row, Inception))
    fit = Fitting(table, Budget("multiply_adds", 1.0, relative=True), input_shape, classes, LARGEST, held)
    found = fit(table, lambda row, width: multiples.get((row, width), 1.0))
    return replace(found, name=f"{table.name}-correlation") if found != table else found


def changes(given: Architecture, proposed: Architecture) -> list[WidthChange]:
    """Return what a proposal changes, a value for every branch of every module."""
    found = []
    for old, new in zip(modules(given), modules(proposed), strict=True):
        for branch, names in WIDTHS_OF_BRANCH.items():
            *reduction, channels = ((getattr(old, name), getattr(new, name)) for name in names)
            found.append(WidthChange(old.name, branch, reduction[0] if reduction else None, channels))
    return found


def run_proposal(run: str | Path, found: Sequence[RowCorrelation]) -> Architecture:
    """Return the proposal for a run's network, at its image size and with its classes.

    Args:
        run: The run's folder.
        found: As `run_correlations` measured it.

    Raises:
        RunError: There is no run.
        ArchitectureError: The network has no Inception module.
    """
    folder = RunFolder(Path(run))
    channels = {(one.row, one.branch): wanted(one) for row in found for one in row.directions}
    return proposal(folder.architecture(), channels, *_use(folder))


def run_multiply_adds(run: str | Path, table: Architecture) -> int:
    """Return what a table costs for one image at a run's image size and with its classes; raises as `run_proposal`."""
    return cost(table, "multiply_adds", *_use(RunFolder(Path(run))))


def _use(folder: RunFolder) -> tuple[Shape, int]:
    """Return the shape of a run's images and the number of its classes."""
    data, table = folder.config().data, folder.architecture()
    side = data.image_size or table.image_size
    return (side, side, data.channels), len(folder.labels())
