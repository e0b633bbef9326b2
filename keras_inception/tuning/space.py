"""What a search may change about a network, as data: names, choices, and how a point becomes an architecture."""

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Literal, get_args

from keras_inception.architecture import Architecture, Inception
from keras_inception.budget import Multiples, widened
from keras_inception.errors import ArchitectureError, ConfigError, unknown

#: Which widths have a multiple in common: none; all of a branch of a stage; of a branch; of a stage; all.
Sharing = Literal["none", "branch_of_stage", "branch", "stage", "all"]

#: What the widths are multiplied by.
MULTIPLES = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.125, 1.25)

# Every width of a module: its branch, and its layer's name.
_BRANCHES = {
    "conv1x1": ("1x1", "1x1"),
    "reduce3x3": ("3x3", "3x3_reduce"),
    "conv3x3": ("3x3", "3x3"),
    "reduce5x5": ("5x5", "5x5_reduce"),
    "conv5x5": ("5x5", "5x5"),
    "pool_projection": ("pool", "pool_projection"),
}
_DROPOUTS = (0.0, 0.2, 0.4, 0.6)
_HEAD_WEIGHTS = (0.0, 0.1, 0.3, 0.6)
_RATES = (0.25, 0.5, 1.0, 2.0, 4.0)
_SIZES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter: a name, its choices in ascending order, and the one that changes nothing."""

    name: str
    choices: tuple[float, ...]
    default: float


@dataclass(frozen=True)
class Point:
    """What the values of all hyperparameters stand for.

    Args:
        architecture: With its dropout.
        head_weight: Weight of the loss of each auxiliary head; None is the recipe's.
        rate_factor: On the recipe's learning rate.
        size: Of the budget, the share that is used up.
    """

    architecture: Architecture
    head_weight: float | None = None
    rate_factor: float = 1.0
    size: float = 1.0


@dataclass(frozen=True)
class Space:
    """The networks of a search: an architecture with other widths, and what else is switched on.

    With every default it holds exactly the given architecture.

    Args:
        table: The given architecture.
        sharing: Which widths of the Inception modules have a multiple in common; the stem's keep theirs.
        depth: Whether stages after the first may lose modules: never one that a head reads, nor the last.
        dropout: Whether dropout in front of the classifier is searched.
        head_weight: Whether the weight of the auxiliary heads' losses is.
        learning_rate: Whether a factor on the learning rate is.
        size: Whether a network may use up less than the whole budget.

    Raises:
        ArchitectureError: The table has no Inception module.
        ConfigError: There is no such sharing.
    """

    table: Architecture
    sharing: Sharing = "none"
    depth: bool = False
    dropout: bool = False
    head_weight: bool = False
    learning_rate: bool = False
    size: bool = False

    def __post_init__(self) -> None:
        if not self.stages:
            raise ArchitectureError(f"architecture {self.table.name!r} has no Inception module to tune the widths of")
        if self.sharing not in get_args(Sharing):
            raise ConfigError(unknown("sharing of widths", str(self.sharing), get_args(Sharing)))

    @cached_property
    def stages(self) -> dict[str, tuple[Inception, ...]]:
        """The Inception modules between two pools, by the number in the name of the first, as "4" of "4a"."""
        found: dict[str, tuple[Inception, ...]] = {}
        for modules, rows in groupby(self.table.rows, lambda row: isinstance(row, Inception)):
            if modules:
                stage = tuple(row for row in rows if isinstance(row, Inception))
                name = stage[0].name.rstrip(string.ascii_lowercase)
                found[stage[0].name if name in ("", *found) else name] = stage
        return found

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """All hyperparameters, in a fixed order."""
        names = dict.fromkeys(
            self._name_of(row.name, width)
            for rows in self.stages.values()
            for row in rows
            for width in _BRANCHES
            if getattr(row, width)
        )
        found = [Parameter(name, MULTIPLES, 1.0) for name in names]
        for stage, rows in list(self.stages.items())[1:] if self.depth else []:
            fewest = len(rows) - len(self._removable(rows))
            found.append(Parameter(f"depth_{stage}", tuple(range(fewest, len(rows) + 1)), len(rows)))
        if self.dropout:
            found.append(_parameter("dropout", _DROPOUTS, self.table.dropout))
        if self.head_weight:
            found.append(_parameter("head_weight", _HEAD_WEIGHTS, 0.3))
        if self.learning_rate:
            found.append(_parameter("rate_factor", _RATES, 1.0))
        if self.size:
            found.append(_parameter("size", _SIZES, 1.0))
        return tuple(found)

    def multiples(self, values: Mapping[str, float]) -> Multiples:
        """Return the multiple of every width, from the name of its row and its own; 1 in the stem."""
        known = {row.name for rows in self.stages.values() for row in rows}
        return lambda row, width: values[self._name_of(row, width)] if row in known else 1.0

    def point(
        self,
        values: Mapping[str, float],
        fit: Callable[[Architecture, Multiples, float], Architecture] | None = None,
    ) -> Point:
        """Return what values stand for.

        Args:
            values: Of every hyperparameter.
            fit: From the given architecture without the modules left out, the multiples of its widths, and a share of
                the budget to the architecture; by default the widths are multiplied.
        """
        size = values.get("size", 1.0)
        table, multiples = self._shortened(values), self.multiples(values)
        table = widened(table, multiples) if fit is None else fit(table, multiples, size)
        table = table.with_dropout(values.get("dropout"))
        if table != self.table:
            table = replace(table, name=f"{self.table.name}-tuned")
        return Point(table, values.get("head_weight"), values.get("rate_factor", 1.0), size)

    def shares(self, table: Architecture) -> dict[str, float]:
        """Return the output channels of every stage's modules in a table, summed, as a share of the given ones."""
        found = {row.name: row.filters for row in table.rows if isinstance(row, Inception)}
        return {
            stage: sum(found.get(row.name, 0) for row in rows) / sum(row.filters for row in rows)
            for stage, rows in self.stages.items()
        }

    def defaults(self) -> dict[str, float]:
        """Return the values that stand for the given architecture."""
        return {parameter.name: parameter.default for parameter in self.parameters}

    def nearest(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return values with those of this space as the nearest choices: some came through float32."""
        chosen = {
            parameter.name: min(parameter.choices, key=lambda choice: abs(choice - values[parameter.name]))
            for parameter in self.parameters
        }
        return {**values, **chosen}

    def _name_of(self, row: str, width: str) -> str:
        """Return the hyperparameter that a width of a module hangs on."""
        branch, layer = _BRANCHES[width]
        stage = next(stage for stage, rows in self.stages.items() if row in [one.name for one in rows])
        names = {
            "none": f"{row}_{layer}",
            "branch_of_stage": f"{stage}_{branch}",
            "branch": branch,
            "stage": stage,
            "all": "all",
        }
        return f"width_{names[self.sharing]}"

    def _removable(self, rows: tuple[Inception, ...]) -> list[str]:
        read = {head.after for head in self.table.auxiliary}
        return [row.name for row in rows[:-1] if row.name not in read]

    def _shortened(self, values: Mapping[str, float]) -> Architecture:
        """Return the table without the modules that its depths leave out: of each stage the later ones first."""
        gone: set[str] = set()
        for stage, rows in self.stages.items():
            fewer = len(rows) - int(values.get(f"depth_{stage}", len(rows)))
            gone.update(self._removable(rows)[len(self._removable(rows)) - fewer :])
        return replace(self.table, rows=tuple(row for row in self.table.rows if row.name not in gone))


def _parameter(name: str, choices: tuple[float, ...], default: float) -> Parameter:
    return Parameter(name, tuple(sorted({*choices, default})), default)
