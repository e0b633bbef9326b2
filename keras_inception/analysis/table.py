"""Table 1 of arXiv:1409.4842 for any architecture: sizes, widths, costs and memory of every row, by arithmetic.

Beside the paper's own network stand the figures that the paper prints, and where they do not follow from its widths.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keras_inception.architecture import (
    GOOGLENET,
    LRN,
    Architecture,
    AuxiliaryHead,
    Conv,
    FullyConnected,
    Inception,
    MaxPool,
    MlpConv,
    Row,
)
from keras_inception.cost import RowCost, Shape, row_costs
from keras_inception.errors import ArchitectureError

#: Bytes of one number of an activation, float32.
ACTIVATION_BYTES = 4

#: The columns of widths, in the paper's order; the last two are those of Network in Network's rows.
WIDTH_COLUMNS = ("#1×1", "#3×3 reduce", "#3×3", "#5×5 reduce", "#5×5", "pool proj", "#mlp1", "#mlp2")


@dataclass(frozen=True)
class Printed:
    """What the paper prints in a row: K is 1,024 and M is 10^6.

    Args:
        parameters: The column "params", such as "159K".
        operations: The column "ops", such as "128M".
    """

    parameters: str
    operations: str


#: The columns "params" and "ops" of Table 1, as printed.
PRINTED = {
    "conv1": Printed("2.7K", "34M"),
    "conv2": Printed("112K", "360M"),
    "inception 3a": Printed("159K", "128M"),
    "inception 3b": Printed("380K", "304M"),
    "inception 4a": Printed("364K", "73M"),
    "inception 4b": Printed("437K", "88M"),
    "inception 4c": Printed("463K", "100M"),
    "inception 4d": Printed("580K", "119M"),
    "inception 4e": Printed("840K", "170M"),
    "inception 5a": Printed("1072K", "54M"),
    "inception 5b": Printed("1388K", "71M"),
    "linear": Printed("1000K", "1M"),
}

_UNITS = {"K": 1024, "M": 10**6}


@dataclass(frozen=True)
class TableRow:
    """One row.

    Args:
        cost: Its output, depth, weights and multiply-adds.
        window: Kernel or window and stride, such as "7×7/2"; "" where there is none.
        widths: Channels by the name of their column in `WIDTH_COLUMNS`; a stem's convolution of another kernel has the
            channels of its output alone, as in the paper.
        activation_bytes: Of what its convolutions, pools and dense layers put out for one image, in float32; ReLU and
            batch normalisation work in place, and a concatenation is its parts.
        printed: What the paper prints, in its own network alone.
    """

    cost: RowCost
    window: str
    widths: Mapping[str, int]
    activation_bytes: int
    printed: Printed | None = None

    @property
    def parameters_follow(self) -> bool:
        """Whether the parameters that are printed follow from the widths, where any are."""
        return self.printed is None or follows(self.printed.parameters, self.cost.weights)

    @property
    def operations_follow(self) -> bool:
        """Whether the operations that are printed do."""
        return self.printed is None or follows(self.printed.operations, self.cost.multiply_adds)


@dataclass(frozen=True)
class Total:
    """Sums over rows.

    Args:
        depth: Layers with weights.
        weights: Of convolutions and dense layers.
        biases: Of the same.
        normalization: Parameters of batch normalisation, trained or not.
        parameters: All of them.
        multiply_adds: For one image.
        activation_bytes: For one image, in float32.
    """

    depth: int
    weights: int
    biases: int
    normalization: int
    parameters: int
    multiply_adds: int
    activation_bytes: int


@dataclass(frozen=True)
class ArchitectureTable:
    """The table of an architecture.

    Args:
        name: Of the architecture.
        input_shape: Height, width and channels of the image.
        classes: How many.
        rows: From the image to the softmax.
        heads: The auxiliary heads; none where the image is too small for them.
        notes: What must be said about the figures.
    """

    name: str
    input_shape: Shape
    classes: int
    rows: tuple[TableRow, ...]
    heads: tuple[TableRow, ...]
    notes: tuple[str, ...]

    @property
    def width_columns(self) -> tuple[str, ...]:
        """The columns of widths, in the paper's order."""
        return WIDTH_COLUMNS

    @property
    def total(self) -> Total:
        """Sums without heads."""
        return total(self.rows)

    @property
    def total_with_heads(self) -> Total:
        """Sums with heads; the depth remains that of the network."""
        return dataclasses.replace(total((*self.rows, *self.heads)), depth=self.total.depth)


def architecture_table(table: Architecture, image_size: int | None = None, classes: int = 1000) -> ArchitectureTable:
    """Return the table of an architecture.

    >>> architecture_table(GOOGLENET).total.parameters
    6998552

    Args:
        table: The architecture.
        image_size: Side of the image, px; by default the architecture's own.
        classes: How many, ≥ 1.

    Raises:
        ArchitectureError: The image is smaller than the network takes, or there is no class.
    """
    if classes < 1:
        raise ArchitectureError(f"classes is {classes}; it takes a number ≥ 1")
    side = table.image_size if image_size is None else image_size
    shape = (side, side, 3)
    as_published = table == GOOGLENET and side == 224 and classes == 1000
    printed = PRINTED if as_published else {}
    rows = _rows(table, shape, classes, printed)
    heads, notes = _heads(table, shape, classes)
    if as_published:
        notes += paper_notes(rows)
    for kernel in sorted({row.kernel5x5 for row in table.rows if isinstance(row, Inception)} - {5}):
        notes += (f"The third branch, whose widths stand under #5×5, has kernels of {kernel}×{kernel} here.",)
    return ArchitectureTable(table.name, shape, classes, rows, heads, notes)


def total(rows: Sequence[TableRow]) -> Total:
    """Return the sums over rows."""
    costs = [row.cost for row in rows]
    return Total(
        depth=sum(cost.depth for cost in costs),
        weights=sum(cost.weights for cost in costs),
        biases=sum(cost.biases for cost in costs),
        normalization=sum(cost.normalization for cost in costs),
        parameters=sum(cost.parameters for cost in costs),
        multiply_adds=sum(cost.multiply_adds for cost in costs),
        activation_bytes=sum(row.activation_bytes for row in rows),
    )


def follows(printed: str, arithmetic: int) -> bool:
    """Tell whether a printed figure is the arithmetic one: nearer than 2%, or than one of its last digit.

    >>> follows("159K", 163_328), follows("463K", 509_440)
    (True, False)
    """
    unit = _UNITS[printed[-1]]
    decimals = len(printed[:-1].partition(".")[2])
    return abs(float(printed[:-1]) * unit - arithmetic) <= max(0.02 * arithmetic, unit / 10**decimals)


def separable_weights(kernel: int, inputs: int, multiplier: int, filters: int) -> int:
    """Return the weights of a separable convolution: a kernel for each input and multiplier, then a 1×1 convolution.

    >>> separable_weights(kernel=7, inputs=3, multiplier=8, filters=64)
    2712
    """
    return kernel**2 * inputs * multiplier + inputs * multiplier * filters


def paper_notes(rows: Sequence[TableRow]) -> tuple[str, ...]:
    """Say where the paper's figures do not follow from its widths, and what is known of why."""
    notes = ["≠: printed, and does not follow from the widths (K is 1,024, M is 10^6); all others do."]
    for row in rows:
        if said := _departures(row):
            notes.append(f"{row.cost.name}: {'; '.join(said)}.")
        if said and row.cost.name == "conv1":
            height, width, filters = row.cost.output
            weights = separable_weights(7, 3, 8, filters)
            notes[-1] += (
                f" Both are exactly a separable 7×7 of channel multiplier 8: 7·7·3·8 + 24·{filters} = {weights:,} "
                f"weights, {weights * height * width:,} multiply-adds."
            )
    parameters = total(rows).parameters
    notes.append(
        f"{parameters - 4160:,} parameters, a widely copied total, is this network without the 64-wide 1×1 in front of "
        f"the second convolution: 64·64 + 64 = 4,160 fewer than {parameters:,}."
    )
    return tuple(notes)


def _departures(row: TableRow) -> list[str]:
    said: list[str] = []
    if row.printed is None:
        return said
    if not row.parameters_follow:
        said.append(f"printed {row.printed.parameters} parameters, by its widths {row.cost.weights / 1024:.4g}K")
    if not row.operations_follow:
        said.append(f"printed {row.printed.operations} operations, by its widths {row.cost.multiply_adds / 1e6:.3g}M")
    return said


def _rows(table: Architecture, shape: Shape, classes: int, printed: Mapping[str, Printed]) -> tuple[TableRow, ...]:
    costs = row_costs(table, shape, classes)
    rows = []
    for row, cost in zip(table.rows, costs, strict=False):
        numbers = _inner_numbers(row, shape, cost.output)
        rows.append(TableRow(cost, _window(row), _widths(row), ACTIVATION_BYTES * numbers, printed.get(cost.name)))
        shape = cost.output
    pooled = f"{shape[0]}×{shape[1]}/1"
    for cost in costs[len(table.rows) :]:
        window = pooled if cost.name == "avg pool" else ""
        rows.append(TableRow(cost, window, {}, ACTIVATION_BYTES * math.prod(cost.output), printed.get(cost.name)))
    return tuple(rows)


def _heads(table: Architecture, shape: Shape, classes: int) -> tuple[tuple[TableRow, ...], tuple[str, ...]]:
    smallest = table.smallest_image(auxiliary=True)
    if table.auxiliary and min(shape[:2]) < smallest:
        return (), (f"an image of {shape[0]} px is too small for the auxiliary heads; they need {smallest} px.",)
    costs = row_costs(table, shape, classes, auxiliary=True)
    maps = {row.name: cost.output for row, cost in zip(table.rows, costs, strict=False)}
    heads = zip(table.auxiliary, costs[len(costs) - len(table.auxiliary) :], strict=True)
    return tuple(_head(head, cost, maps[head.after], classes) for head, cost in heads), ()


def _head(head: AuxiliaryHead, cost: RowCost, shape: Shape, classes: int) -> TableRow:
    positions = math.prod(head.output_size(size) for size in shape[:2])
    # Pool and 1×1; dense layer and dropout; linear and softmax.
    numbers = positions * (shape[2] + head.filters) + 2 * head.units + 2 * classes
    pool = f"{head.pool_size}×{head.pool_size}/{head.pool_stride}"
    window = f"to {head.pooled_size}×{head.pooled_size}" if head.pooled_size else pool
    return TableRow(cost, window, {"#1×1": head.filters}, ACTIVATION_BYTES * numbers)


def _inner_numbers(row: Row, inputs: Shape, output: Shape) -> int:
    """Count the numbers that the layers inside a row put out."""
    positions = output[0] * output[1]
    match row:
        case Conv():
            return inputs[0] * inputs[1] * row.reduce + math.prod(output)
        case MlpConv():
            return positions * (row.conv + row.mlp1 + row.mlp2)
        case Inception():  # the pool keeps all channels of the input
            return positions * (row.reduce3x3 + row.reduce5x5 + inputs[2] + row.filters)
        case MaxPool() | LRN() | FullyConnected():
            return math.prod(output)


def _window(row: Row) -> str:
    match row:
        case Conv() | MlpConv():
            return f"{row.kernel}×{row.kernel}/{row.stride}"
        case MaxPool():
            return f"{row.size}×{row.size}/{row.stride}"
        case _:
            return ""


def _widths(row: Row) -> dict[str, int]:
    match row:
        case Inception():
            widths = (row.conv1x1, row.reduce3x3, row.conv3x3, row.reduce5x5, row.conv5x5, row.pool_projection)
            return _known(dict(zip(WIDTH_COLUMNS, widths, strict=False)))
        case Conv():
            return _known(
                {f"#{row.kernel}×{row.kernel} reduce": row.reduce, f"#{row.kernel}×{row.kernel}": row.filters}
            )
        case MlpConv():
            return _known({f"#{row.kernel}×{row.kernel}": row.conv, "#mlp1": row.mlp1, "#mlp2": row.mlp2})
        case _:
            return {}


def _known(widths: Mapping[str, int]) -> dict[str, int]:
    return {name: width for name, width in widths.items() if width and name in WIDTH_COLUMNS}
