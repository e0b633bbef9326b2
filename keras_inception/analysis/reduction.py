"""What a 1×1 convolution in front of a larger one saves (arXiv:1409.4842, sections 2 and 4), by arithmetic.

Naive is a module without reductions whose pool branch keeps all channels of its input (figure 2a); reduced is one as in
Table 1 (figure 2b).
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from keras_inception.analysis.branches import modules as modules_of
from keras_inception.architecture import Architecture, Inception
from keras_inception.cost import row_costs
from keras_inception.errors import ArchitectureError


@dataclass(frozen=True)
class Cost:
    """What some convolutions cost.

    Args:
        weights: Weights.
        biases: Biases, one for each output channel.
        multiply_adds: Over all positions of the map, without biases.
    """

    weights: int
    biases: int
    multiply_adds: int

    @property
    def connections(self) -> int:
        """Weights and biases: what is computed for each position of the map."""
        return self.weights + self.biases

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.weights + other.weights, self.biases + other.biases, self.multiply_adds + other.multiply_adds)


@dataclass(frozen=True)
class Reduction:
    """A convolution at stride 1, and the same behind a 1×1 convolution.

    >>> one = Reduction(inputs=256, filters=64, kernel=5, reduce=32)
    >>> one.direct.weights, one.reduced.weights, one.direct.connections, one.reduced.connections
    (409600, 59392, 409664, 59488)

    Args:
        inputs: Channels of the input, ≥ 1.
        filters: Channels of the output, ≥ 1.
        kernel: Side of the kernel, ≥ 1.
        reduce: Channels of the 1×1, ≥ 1.
        height: Of the map, ≥ 1; 1 counts for one position.
        width: Of the map, ≥ 1.

    Raises:
        ArchitectureError: One of them is below 1.
    """

    inputs: int
    filters: int
    kernel: int
    reduce: int
    height: int = 1
    width: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            if (value := getattr(self, field.name)) < 1:
                raise ArchitectureError(f"{field.name} is {value}; it takes a whole number ≥ 1")

    @property
    def direct(self) -> Cost:
        """The convolution by itself."""
        return _convolution(self.kernel, self.inputs, self.filters, self.height * self.width)

    @property
    def reduced(self) -> Cost:
        """The 1×1 and the convolution behind it."""
        positions = self.height * self.width
        reduction = _convolution(1, self.inputs, self.reduce, positions)
        return reduction + _convolution(self.kernel, self.reduce, self.filters, positions)


@dataclass(frozen=True)
class Example:
    """A saving that is often told.

    Args:
        what: Which, in words.
        quantity: What is counted.
        before: Without the saving.
        after: With it.
        remark: What must be said about it.
    """

    what: str
    quantity: str
    before: int
    after: int
    remark: str = ""


@dataclass(frozen=True)
class ModuleReduction:
    """A module of an architecture, naive and reduced.

    Args:
        row: The module's widths.
        inputs: Channels of its input.
        naive: Without reductions and without projection behind the pool.
        unprojected: With reductions and without projection.
        reduced: As it stands in the table.
    """

    row: Inception
    inputs: int
    naive: Cost
    unprojected: Cost
    reduced: Cost

    @property
    def unprojected_filters(self) -> int:
        """Channels of its output where the pool branch keeps those of its input."""
        return self.row.filters - self.row.pool_projection + self.inputs


def examples() -> list[Example]:
    """Return the savings that are often told, with what their widths give."""
    five, deep = Reduction(256, 64, kernel=5, reduce=32), Reduction(512, 64, kernel=5, reduce=24)
    three = Reduction(192, 256, kernel=3, reduce=96, height=32, width=32)
    module = module_reduction(Inception("3a", 64, 96, 128, 16, 32, 32), inputs=192, positions=28 * 28)
    of_five = "5×5 of 64 filters on 256 channels, behind a 1×1 of 32"
    third = f"often told as a saving to one third; these widths give {_share(module.unprojected, module.naive):.0%}"
    return [
        Example(
            "module 3a on 28×28×192: 1×1 64, 3×3 128, 5×5 32, behind 1×1 of 96 and 16, before the pool projection",
            "weights",
            module.naive.weights,
            module.unprojected.weights,
            third,
        ),
        Example(of_five, "weights", five.direct.weights, five.reduced.weights),
        Example(of_five, "connections with biases, a position", five.direct.connections, five.reduced.connections),
        Example(
            "5×5 of 64 filters on 512 channels, behind a 1×1 of 24",
            "weights",
            deep.direct.weights,
            deep.reduced.weights,
        ),
        Example(
            "3×3 of 256 filters on 32×32×192, behind a 1×1 of 96",
            "multiplications",
            three.direct.multiply_adds,
            three.reduced.multiply_adds,
        ),
        Example(
            "dense layer of 1,024 on 7×7×1024, against global average pooling",
            "weights",
            _convolution(7, 1024, 1024, 1).weights,
            0,
        ),
    ]


def modules(table: Architecture, image_size: int | None = None) -> list[ModuleReduction]:
    """Return every module of an architecture, on the input that it has there.

    Args:
        table: The architecture.
        image_size: Side of the image, px; by default the architecture's own.

    Raises:
        ArchitectureError: It has no module, or the image is too small.
    """
    return list(_modules(table, image_size, pile_up=False))


def piled_up(table: Architecture, image_size: int | None = None) -> list[ModuleReduction]:
    """Return every module where no pool branch has a projection: channels pile up from one to the next.

    `inputs` are the channels that have piled up by then; `reduced` costs the module as it stands in the table on them.

    Args:
        table: The architecture.
        image_size: Side of the image, px; by default the architecture's own.

    Raises:
        ArchitectureError: It has no module, or the image is too small.
    """
    return list(_modules(table, image_size, pile_up=True))


def module_reduction(row: Inception, inputs: int, positions: int) -> ModuleReduction:
    """Return what a module costs on a map of so many channels and positions."""

    def conv(kernel: int, channels: int, filters: int) -> Cost:
        return _convolution(kernel, channels, filters, positions)

    first = conv(1, inputs, row.conv1x1)
    naive = first + conv(3, inputs, row.conv3x3) + conv(row.kernel5x5, inputs, row.conv5x5)
    unprojected = first + conv(1, inputs, row.reduce3x3) + conv(3, row.reduce3x3 or inputs, row.conv3x3)
    unprojected += conv(1, inputs, row.reduce5x5) + conv(row.kernel5x5, row.reduce5x5 or inputs, row.conv5x5)
    return ModuleReduction(row, inputs, naive, unprojected, unprojected + conv(1, inputs, row.pool_projection))


def _modules(table: Architecture, image_size: int | None, pile_up: bool) -> Iterable[ModuleReduction]:
    modules_of(table)  # refuses a table without any
    side = table.image_size if image_size is None else image_size
    costs = row_costs(table, (side, side, 3))
    channels, piled = 3, 0
    for row, cost in zip(table.rows, costs, strict=False):
        if isinstance(row, Inception):
            one = module_reduction(row, channels + piled, cost.output[0] * cost.output[1])
            piled = one.unprojected_filters - cost.output[2] if pile_up else 0
            yield one
        elif cost.depth:  # a convolution makes its own channels of all that have piled up
            piled = 0
        channels = cost.output[2]


def _convolution(kernel: int, inputs: int, filters: int, positions: int) -> Cost:
    weights = kernel**2 * inputs * filters
    return Cost(weights, filters, weights * positions)


def _share(part: Cost, whole: Cost) -> float:
    return part.weights / whole.weights
