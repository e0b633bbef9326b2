"""What an architecture costs, by arithmetic on its table: sizes, weights and multiply-adds. No TensorFlow is imported.

A multiply-add is one multiplication with its addition; only convolutions and fully connected layers are counted, as in
Table 1 of arXiv:1409.4842. The input channels of a row are those of the row above it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from keras_inception.architecture import (
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

Shape = tuple[int, int, int]  # height, width, channels


@dataclass(frozen=True)
class RowCost:
    """The cost of one row.

    Args:
        name: Name of the row, as in Table 1.
        output: Height, width and channels of its output.
        depth: Number of layers with weights on the longest path through the row.
        weights: Number of weights of convolutions and fully connected layers.
        biases: Number of their biases.
        normalization_trainable: Number of batch normalisation's scales and shifts.
        normalization_moving: Number of batch normalisation's moving means and variances; not trained.
        multiply_adds: Multiply-adds for one image.
    """

    name: str
    output: Shape
    depth: int = 0
    weights: int = 0
    biases: int = 0
    normalization_trainable: int = 0
    normalization_moving: int = 0
    multiply_adds: int = 0

    @property
    def normalization(self) -> int:
        """Number of batch normalisation's parameters, trained or not."""
        return self.normalization_trainable + self.normalization_moving

    @property
    def trainable(self) -> int:
        """Number of parameters that training changes."""
        return self.weights + self.biases + self.normalization_trainable

    @property
    def parameters(self) -> int:
        """Number of all parameters."""
        return self.trainable + self.normalization_moving


@dataclass(frozen=True)
class _Layer:
    """A convolution or fully connected layer: what the sums are made of."""

    kernel: int
    inputs: int
    outputs: int
    positions: int  # height × width of its output
    normalized: bool = False

    @property
    def weights(self) -> int:
        return self.kernel**2 * self.inputs * self.outputs


def row_costs(
    architecture: Architecture,
    input_shape: Shape | None = None,
    classes: int = 1000,
    auxiliary: bool = False,
) -> list[RowCost]:
    """Return the cost of every row of `architecture`, in its order, then of the classifier and the heads.

    >>> from keras_inception.architecture import GOOGLENET
    >>> sum(row.parameters for row in row_costs(GOOGLENET)), sum(row.multiply_adds for row in row_costs(GOOGLENET))
    (6998552, 1582671872)

    Args:
        architecture: The table.
        input_shape: Height, width and channels of the image; by default the table's own size and 3 channels.
        classes: Number of classes, ≥ 1.
        auxiliary: Whether the auxiliary heads are added behind the classifier.

    Raises:
        ArchitectureError: The image is smaller than the network or its heads can take.
    """
    shape = tuple(input_shape or (architecture.image_size, architecture.image_size, 3))
    architecture.check_image(shape[0], shape[1], auxiliary)
    batch_normalization = architecture.batch_normalization
    rows, maps = [], {}
    for row in architecture.rows:
        rows.append(_row_cost(row, shape, batch_normalization))
        shape = maps[row.name] = rows[-1].output
    channels = shape[2]
    rows.append(RowCost("avg pool", (1, 1, channels)))
    rows.append(RowCost(f"dropout {architecture.dropout:.0%}", (1, 1, channels)))
    rows.append(_sum("linear", (1, 1, classes), 1, [_Layer(1, channels, classes, 1)]))
    rows.append(RowCost("softmax", (1, 1, classes)))
    if auxiliary:
        rows += [_head_cost(head, maps[head.after], classes, batch_normalization) for head in architecture.auxiliary]
    return rows


@lru_cache(maxsize=10_000)  # searches change some rows of a table and ask what it costs then
def _row_cost(row: Row, shape: Shape, batch_normalization: bool) -> RowCost:
    height, width = (row.output_size(size) for size in shape[:2])
    match row:
        case Conv():
            layers = list(_conv_layers(row, shape, height * width, batch_normalization))
            return _sum(row.name, (height, width, row.filters), len(layers), layers)
        case MlpConv():
            layers = list(_mlpconv_layers(row, shape[2], height * width, batch_normalization))
            return _sum(row.name, (height, width, row.filters), len(layers), layers)
        case Inception():
            layers = list(_inception_layers(row, shape[2], height * width, batch_normalization))
            output = (height, width, row.output_channels(shape[2]))
            return _sum(f"inception {row.name}", output, 1 + bool(row.reduce3x3 or row.reduce5x5), layers)
        case FullyConnected():
            return _sum(row.name, (1, 1, row.units), 1, [_Layer(1, math.prod(shape), row.units, 1)])
        case MaxPool() | LRN():
            return RowCost(row.name, (height, width, shape[2]))


def _conv_layers(row: Conv, shape: Shape, positions: int, normalized: bool) -> Iterator[_Layer]:
    yield from _pointwise(shape[2], row.reduce, shape[0] * shape[1], normalized)
    yield _Layer(row.kernel, row.reduce or shape[2], row.filters, positions, normalized)


def _mlpconv_layers(row: MlpConv, inputs: int, positions: int, normalized: bool) -> Iterator[_Layer]:
    yield _Layer(row.kernel, inputs, row.conv, positions, normalized)
    yield _Layer(1, row.conv, row.mlp1, positions, normalized)
    yield _Layer(1, row.mlp1, row.mlp2, positions, normalized)


def _inception_layers(row: Inception, inputs: int, positions: int, normalized: bool) -> Iterator[_Layer]:
    yield _Layer(1, inputs, row.conv1x1, positions, normalized)
    yield from _pointwise(inputs, row.reduce3x3, positions, normalized)
    yield _Layer(3, row.reduce3x3 or inputs, row.conv3x3, positions, normalized)
    yield from _pointwise(inputs, row.reduce5x5, positions, normalized)
    yield _Layer(row.kernel5x5, row.reduce5x5 or inputs, row.conv5x5, positions, normalized)
    yield from _pointwise(inputs, row.pool_projection, positions, normalized)


def _pointwise(inputs: int, outputs: int, positions: int, normalized: bool) -> Iterator[_Layer]:
    """Yield a 1×1 convolution; of 0 outputs there is none."""
    if outputs:
        yield _Layer(1, inputs, outputs, positions, normalized)


def _head_cost(head: AuxiliaryHead, shape: Shape, classes: int, batch_normalization: bool) -> RowCost:
    height, width = (head.output_size(size) for size in shape[:2])
    layers = [
        _Layer(1, shape[2], head.filters, height * width, batch_normalization),
        _Layer(1, height * width * head.filters, head.units, 1),
        _Layer(1, head.units, classes, 1),
    ]
    return _sum(head.name, (1, 1, classes), len(layers), layers)


def _sum(name: str, output: Shape, depth: int, layers: list[_Layer]) -> RowCost:
    normalized = sum(layer.outputs for layer in layers if layer.normalized)
    return RowCost(
        name=name,
        output=output,
        depth=depth,
        weights=sum(layer.weights for layer in layers),
        biases=sum(layer.outputs for layer in layers if not layer.normalized),
        normalization_trainable=2 * normalized,
        normalization_moving=2 * normalized,
        multiply_adds=sum(layer.weights * layer.positions for layer in layers),
    )
