"""What importers share: the tensors of a file with account of their use, and the layers that an architecture wants."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_inception.architecture import Architecture, Conv, Inception
from keras_inception.errors import WeightsError


@dataclass(frozen=True)
class LayerWeights:
    """Weights of an architecture, as its Keras layers take them.

    Args:
        table: The architecture.
        channels: Of the image.
        classes: Number of classes.
        heads: Whether the auxiliary heads are there.
        weights: Name of a layer to its arrays, in the order of Keras's `get_weights`.
        left_over: Names of the file's tensors that are no part of the network.
    """

    table: Architecture
    channels: int
    classes: int
    heads: bool
    weights: Mapping[str, list[np.ndarray]]
    left_over: tuple[str, ...]


class Tensors:
    """The tensors of a file by their names there, and which of them have been taken.

    Args:
        path: The file, for messages.
        values: Its tensors.
    """

    def __init__(self, path: Path, values: Mapping[str, np.ndarray]):
        self._path, self._values = path, values
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def length(self, name: str, axis: int, layer: str) -> int:
        """Return how long a tensor is along an axis; raises WeightsError as `take`."""
        value = self._value(name, layer)
        if not -value.ndim <= axis < value.ndim:
            raise WeightsError(f"layer {layer!r}: {name} in {str(self._path)!r} has the shape {_said(value.shape)}")
        return value.shape[axis]

    def take(self, name: str, shape: tuple[int, ...], layer: str) -> np.ndarray:
        """Return a tensor as float32.

        Args:
            name: In the file.
            shape: That it must have there.
            layer: That it is for.

        Raises:
            WeightsError: It is missing or of another shape.
        """
        value = self._value(name, layer)
        if value.shape != shape:
            raise WeightsError(
                f"layer {layer!r} takes {name} of shape {_said(shape)}; received {_said(value.shape)} from "
                f"{str(self._path)!r}"
            )
        self._taken.add(name)
        return value.astype(np.float32)

    @property
    def left_over(self) -> tuple[str, ...]:
        """The names of those that nobody took."""
        return tuple(name for name in self._values if name not in self._taken)

    def _value(self, name: str, layer: str) -> np.ndarray:
        if name not in self._values:
            raise WeightsError(f"layer {layer!r} takes {name}, which {str(self._path)!r} does not have")
        return self._values[name]


class Convolution(NamedTuple):
    """A convolution of an architecture: the name of its layer, the side of its kernel, and its channels."""

    layer: str
    kernel: int
    inputs: int
    filters: int


def convolutions(table: Architecture, channels: int, heads: bool) -> Iterator[Convolution]:
    """Yield the convolutions of a table without mlpconv rows, named as `blocks` names them; those of the heads last."""
    maps: dict[str, int] = {}
    for row in table.rows:
        match row:
            case Conv():
                if row.reduce:
                    yield Convolution(f"{row.name}_reduce", 1, channels, row.reduce)
                yield Convolution(row.name, row.kernel, row.reduce or channels, row.filters)
                channels = row.filters
            case Inception():
                name = f"inception_{row.name}"
                yield Convolution(f"{name}_1x1", 1, channels, row.conv1x1)
                yield Convolution(f"{name}_3x3_reduce", 1, channels, row.reduce3x3)
                yield Convolution(f"{name}_3x3", 3, row.reduce3x3, row.conv3x3)
                yield Convolution(f"{name}_5x5_reduce", 1, channels, row.reduce5x5)
                yield Convolution(f"{name}_5x5", row.kernel5x5, row.reduce5x5, row.conv5x5)
                yield Convolution(f"{name}_pool_projection", 1, channels, row.pool_projection)
                channels = row.filters
        maps[row.name] = channels
    for head in table.auxiliary if heads else ():
        yield Convolution(f"{head.name}_1x1", 1, maps[head.after], head.filters)


def dense_layers(
    table: Architecture,
    classes: int,
    sides: Mapping[str, int],
    take: Callable[[str, tuple[int, int]], tuple[np.ndarray, np.ndarray]],
) -> dict[str, list[np.ndarray]]:
    """Return the classifier and the fully connected layers of the heads from files that hold them transposed.

    Args:
        table: The architecture.
        classes: Number of classes.
        sides: Of every head that is there, the side of its pooled map in pixels.
        take: From the name of a layer and the shape `(units, inputs)` to what the file has for it, and its bias.
    """
    kernel, bias = take("main", (classes, features(table)))
    found = {"main": [kernel.T, bias]}
    for head in table.auxiliary if sides else ():
        side = sides[head.name]
        kernel, bias = take(f"{head.name}_dense", (head.units, head.filters * side**2))
        found[f"{head.name}_dense"] = [_spatial_first(kernel, side), bias]
        kernel, bias = take(head.name, (classes, head.units))
        found[head.name] = [kernel.T, bias]
    return found


def features(table: Architecture) -> int:
    """Return the channels of the last map, which the classifier reads."""
    return [row.filters for row in table.rows if isinstance(row, Conv | Inception)][-1]


def _spatial_first(weights: np.ndarray, side: int) -> np.ndarray:
    """Return a fully connected layer behind a map for Keras's order of its pixels.

    Args:
        weights: `(units, channels · side · side)`, as Caffe and PyTorch flatten a map: channel by channel.
        side: Of the map in pixels.

    Returns:
        `(side · side · channels, units)`, pixel by pixel.
    """
    units = len(weights)
    return weights.reshape(units, -1, side, side).transpose(2, 3, 1, 0).reshape(-1, units)


def _said(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a single number"
