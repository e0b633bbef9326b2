"""What a network may cost, and the one factor on all of its widths that meets it, by arithmetic on its table."""

import bisect
import dataclasses
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, get_args

from keras_inception.architecture import WIDTHS, Architecture, Row
from keras_inception.cost import Shape, row_costs
from keras_inception.errors import ConfigError, unknown

#: What is counted, for one image and without auxiliary heads; latency is measured, ms a batch of one image takes.
Quantity = Literal["multiply_adds", "parameters", "latency"]

#: From this width on, widths are multiples of 8, which is what vector units compute at once.
COARSE, STEP = 16, 8
#: No width grows beyond this multiple of the given one.
LARGEST = 1.25

#: From the name of a row and that of a width of it to what it is multiplied by.
Multiples = Callable[[str, str], float]

_SMALLEST_MULTIPLE = 0.25
_HALVINGS = 24
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_AMOUNT = re.compile(r"(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+)\s*(x|ms|k|m|g|)", re.IGNORECASE)


def _alike(row: str, width: str) -> float:
    return 1.0


@dataclass(frozen=True)
class Budget:
    """What a network may cost.

    Args:
        quantity: What is counted.
        amount: How much, > 0: a number of multiply-adds or parameters, milliseconds, or a share of what the given
            architecture has.
        relative: Whether it is a share.
    """

    quantity: Quantity
    amount: float
    relative: bool = False

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read "multiply_adds=0.5x", "multiply_adds=800M", "parameters=3e6" or "latency=5ms".

        >>> Budget.parse("multiply_adds=0.5x")
        Budget(quantity='multiply_adds', amount=0.5, relative=True)

        Raises:
            ConfigError: It is none of these, or not above 0.
        """
        quantity, _, amount = (part.strip() for part in text.partition("="))
        if quantity not in get_args(Quantity):
            raise ConfigError(unknown("budget", quantity, get_args(Quantity)))
        found = _AMOUNT.fullmatch(amount)
        unit = found[2].lower() if found else ""
        units = {"x", "ms"} if quantity == "latency" else {"x", *_UNITS}
        if found is None or unit not in units or not float(found[1]) > 0:
            example = "5ms" if quantity == "latency" else "800M"
            raise ConfigError(f"{quantity} is {amount!r}; it takes a share as in 0.5x, or an amount as in {example}")
        return cls(quantity, float(found[1]) * _UNITS.get(unit, 1.0), relative=unit == "x")  # type: ignore[arg-type]

    def limit(self, given: float) -> float:
        """Return the largest cost, where the given architecture costs `given`."""
        return self.amount * given if self.relative else self.amount

    def __str__(self) -> str:
        unit = "x" if self.relative else "ms" if self.quantity == "latency" else ""
        return f"{self.quantity}={self.amount:.12g}{unit}"


def cost(table: Architecture, quantity: Quantity, input_shape: Shape, classes: int) -> int:
    """Return the multiply-adds or parameters of a table, without heads.

    Args:
        table: The architecture.
        quantity: "multiply_adds" or "parameters".
        input_shape: Height, width and channels of the image.
        classes: Number of classes.
    """
    return sum(getattr(row, quantity) for row in row_costs(table, input_shape, classes))


@dataclass(frozen=True)
class Fitting:
    """The budget of a search: it makes of every choice of multiples the largest network that the budget allows.

    Args:
        table: The given architecture, which a share refers to.
        budget: In multiply-adds or parameters.
        input_shape: Height, width and channels of the images.
        classes: Number of classes.
        largest: No width grows beyond this multiple of the given one.
        held: Names of the rows that keep the widths they have.

    Raises:
        ConfigError: The budget is a latency, which no arithmetic tells, or the smallest widths exceed it.
    """

    table: Architecture
    budget: Budget
    input_shape: Shape
    classes: int
    largest: float = LARGEST
    held: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.budget.quantity == "latency":
            raise ConfigError("a latency is measured, not computed; give multiply_adds or parameters")
        smallest = self.cost(self._widened(self.table, _alike, 0.0))
        if smallest > self.limit:
            raise ConfigError(
                f"the budget is {self.budget}; with a width of 1 everywhere {self.table.name!r} still costs "
                f"{smallest:,}: give a larger one"
            )

    @cached_property
    def limit(self) -> float:
        """The largest cost."""
        return self.budget.limit(self.cost(self.table))

    def cost(self, table: Architecture) -> int:
        """Return what a table costs."""
        return cost(table, self.budget.quantity, self.input_shape, self.classes)

    def __call__(self, table: Architecture, multiples: Multiples = _alike, size: float = 1.0) -> Architecture:
        """Return a table with every width times its multiple times one factor: the largest that meets the budget.

        Args:
            table: The given architecture, or what is left of it without some modules.
            multiples: Of every width, ≥ 0.25; by default all are alike, which scales the table uniformly.
            size: Share of the budget that may be used up.
        """
        limit = max(self.limit * size, self.cost(self._widened(table, multiples, 0.0)))
        # Every width has reached its largest at this factor.
        low, high = 0.0, self.largest / _SMALLEST_MULTIPLE + 1
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if self.cost(self._widened(table, multiples, middle)) <= limit:
                low = middle
            else:
                high = middle
        return self._filled(table, self._widened(table, multiples, low), multiples, limit)

    def _widened(self, table: Architecture, multiples: Multiples, factor: float) -> Architecture:
        return widened(table, multiples, factor, largest=self.largest, held=self.held)

    def _filled(self, given: Architecture, table: Architecture, multiples: Multiples, limit: float) -> Architecture:
        """Raise single widths by a step where there is room, those first that the factor would raise next."""
        steps: list[tuple[float, int, dict[str, Any]]] = []
        for place, row in enumerate(given.rows):
            for name in _widths(row) if row.name not in self.held else ():
                old = getattr(row, name)
                higher = next((n for n in choices(old, self.largest) if n > getattr(table.rows[place], name)), None)
                if higher is not None:
                    steps.append((higher / (multiples(row.name, name) * old), place, {name: higher}))
        for _, place, change in sorted(steps, key=lambda step: step[:2]):
            raised = dataclasses.replace(table.rows[place], **change)
            tried = dataclasses.replace(table, rows=(*table.rows[:place], raised, *table.rows[place + 1 :]))
            if self.cost(tried) <= limit:
                table = tried
        return table


def widened(
    table: Architecture,
    multiples: Multiples,
    factor: float = 1.0,
    *,
    largest: float = LARGEST,
    held: Collection[str] = (),
) -> Architecture:
    """Return a table with every width times its multiple times one factor, as the nearest that a width can be.

    Heads, and the rows that are held, are as wide as the given ones; no width grows beyond `largest` times its own.
    """

    def widen(row: Any) -> Any:
        if row.name in held:
            return row
        widths = {}
        for name in _widths(row):
            old = getattr(row, name)
            wanted = factor * multiples(row.name, name) * old
            widths[name] = _nearest(choices(old, largest), wanted)
        return dataclasses.replace(row, **widths)

    return dataclasses.replace(table, rows=tuple(map(widen, table.rows)))


@cache
def choices(given: int, largest: float = LARGEST) -> tuple[int, ...]:
    """Return what a width can be: the given one, below 16 any, from there on multiples of 8, up to `largest` of itself.

    >>> choices(24)
    (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24)
    """
    end = int(largest * given) + 1
    return tuple(sorted({given, *range(1, min(COARSE, end)), *range(COARSE, end, STEP)}))


def _nearest(ordered: Sequence[int], wanted: float) -> int:
    """Return the nearest of ordered numbers, the smaller of two that are as near.

    >>> _nearest((16, 24, 32), 20), _nearest((16, 24, 32), 20.1), _nearest((16, 24, 32), 99)
    (16, 24, 32)
    """
    place = bisect.bisect_left(ordered, wanted)
    return min(ordered[max(place - 1, 0) : place + 1], key=lambda number: abs(number - wanted))


def _widths(row: Row) -> list[str]:
    """Return the names of the widths that a row has."""
    return [name for name in WIDTHS.get(type(row), ()) if getattr(row, name)]
