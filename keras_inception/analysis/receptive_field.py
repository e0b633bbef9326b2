"""Receptive fields: how much of the image a unit can see, by arithmetic, and how much it does see, by its gradient.

The fields that a table allows are sums over its kernels and strides, and nothing here imports TensorFlow for them. What
a unit really answers to is less (Luo et al., arXiv:1701.04128): most of its gradient falls on the middle of its field.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_inception.analysis.branches import BRANCHES, branch_layer, output_layer
from keras_inception.architecture import LRN, Architecture, Conv, FullyConnected, Inception, MaxPool, MlpConv, Row

if TYPE_CHECKING:
    import keras

#: Share of the gradient's energy that an effective field holds.
ENERGY = 0.95


@dataclass(frozen=True)
class Field:
    """What the units of a row, or of one branch of it, can see of a square image.

    Args:
        row: Name of the row.
        branch: "1×1", "3×3", "5×5" or "pool" of an Inception module; "" is the row as a whole.
        size: Side of a unit's field, px.
        stride: Between the fields of two neighbouring units, px.
        start: First pixel of the first unit's field; below 0 where it lies in the padding.
        units: Side of the row's map.
        image: Side of the image, px.
    """

    row: str
    branch: str
    size: int
    stride: int
    start: int
    units: int
    image: int

    @property
    def centre(self) -> int:
        """The unit whose field lies nearest to the middle of the image, along each side."""
        unit = round(((self.image - self.size) / 2 - self.start) / self.stride)
        return min(max(unit, 0), self.units - 1)

    def span(self, unit: int) -> tuple[int, int]:
        """Return the first pixel of a unit's field and the one behind its last; both may lie beyond the image."""
        first = self.start + unit * self.stride
        return first, first + self.size


@dataclass(frozen=True)
class EffectiveField:
    """What the middle unit of a row, or of one branch of it, does see.

    Args:
        field: What it can see.
        side: Of the smallest square around the middle of the field that holds 95% of the gradient's energy, px, and no
            more than that of the image; None where the gradient is zero.
        energy: float32 `(image, image)`, with a sum of 1: the squared gradient of the unit by every pixel, summed over
            colours and the unit's channels, a mean over images and weights.
    """

    field: Field
    side: int | None
    energy: np.ndarray


def fields(table: Architecture, image_size: int | None = None) -> list[Field]:
    """Return the receptive fields of every row, the lowest first; a module's branches follow it.

    >>> from keras_inception.architecture import GOOGLENET
    >>> [(field.row, field.size, field.stride) for field in fields(GOOGLENET) if field.row in ("conv1", "5b")][:2]
    [('conv1', 7, 2), ('5b', 715, 32)]

    Args:
        table: The network.
        image_size: Side of the image, px; by default the table's own. Sizes and strides do not depend on it, places do.

    Raises:
        ArchitectureError: The image is smaller than the network can take.
    """
    side = table.image_size if image_size is None else image_size
    table.check_image(side, side)
    seen = Field("", "", size=1, stride=1, start=0, units=side, image=side)
    found = []
    for row in table.rows:
        if not isinstance(row, LRN):  # which looks across channels alone
            of_row = list(_of_row(row, seen))
            seen = of_row[0]
            found += of_row
    return found


def effective_fields(
    model: "keras.Model", table: Architecture, images: np.ndarray, seed: int = 0
) -> list[EffectiveField]:
    """Measure what the middle units of a built network do see of some images.

    A gradient with random signs over the channels has, in the mean, the energy of all of them together: it costs one
    pass where every channel by itself would cost hundreds.

    Args:
        model: The network, without heads.
        table: Its architecture.
        images: float32 `(batch, size, size, channels)`, the network's input.
        seed: Of the signs.

    Returns:
        As `fields`, in its order.
    """
    import keras
    import tensorflow as tf

    found = fields(table, images.shape[1])
    layers = _layers(found, table)
    inside = keras.Model(model.input, {name: model.get_layer(name).output for name in layers.values()})
    random, pixels = np.random.default_rng(seed), tf.constant(images)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(pixels)
        maps = inside(pixels, training=False)
        middles = {field: maps[name][:, field.centre, field.centre, :] for field, name in layers.items()}
        targets = {field: x * random.choice(np.asarray([-1, 1], np.float32), x.shape) for field, x in middles.items()}
    energies = {
        field: np.square(tape.gradient(target, pixels).numpy()).sum(axis=-1) for field, target in targets.items()
    }
    for field in found:  # the channels of a module are those of its branches
        if field not in energies:
            energies[field] = np.sum([energies[other] for other in layers if other.row == field.row], axis=0)
    return [_effective(field, energies[field]) for field in found]


def measured_at_random(
    table: Architecture, image_size: int | None = None, *, images: int = 2, seeds: int = 3
) -> list[EffectiveField]:
    """Measure the effective fields of a network that has not been trained, on normal noise.

    Args:
        table: The network.
        image_size: As in `fields`.
        images: How many, for each of the weights.
        seeds: How many times weights are drawn.

    Returns:
        Energies are means over images and weights.
    """
    from keras_inception.analysis.gradients import draw_weights
    from keras_inception.googlenet import GoogLeNet

    found = fields(table, image_size)
    side = table.image_size if image_size is None else image_size
    model = GoogLeNet(architecture=table, input_shape=(side, side, 3), classes=2)
    parts = []
    for seed in range(seeds):
        draw_weights(model, seed)
        noise = np.random.default_rng(seed).standard_normal((images, side, side, 3)).astype(np.float32)
        parts.append(effective_fields(model, table, noise, seed))
    return [_effective(field, np.stack([part[place].energy for part in parts])) for place, field in enumerate(found)]


def measured_on_run(run: str | Path, *, images: int = 8) -> list[EffectiveField]:
    """Measure the effective fields of a run's best model on images of its validation split.

    Args:
        run: The run's folder.
        images: How many, spread evenly over the split.

    Raises:
        RunError: There is no trained run.
        DataError: Its images are gone.
    """
    from keras_inception.data.images import read_split
    from keras_inception.data.pipeline import evaluation_views
    from keras_inception.data.sizing import scaled
    from keras_inception.predictor import run_model
    from keras_inception.run_folder import RunFolder

    folder = RunFolder(Path(run))
    config, table = folder.config().data, folder.architecture()
    model = run_model(folder)
    views = evaluation_views(read_split(config, folder.labels(), "validation", limit=images), config)
    return effective_fields(model, table, scaled(views, config))


def side_of_energy(energy: np.ndarray, field: Field, share: float = ENERGY) -> int | None:
    """Return the side of the smallest square around the middle of the middle unit's field that holds so much energy.

    Args:
        energy: `(image, image)`, ≥ 0.
        field: Whose middle unit it is of.
        share: Of the sum, in (0, 1].

    Returns:
        px, no more than the side of the image; None where there is no energy.
    """
    first, end = field.span(field.centre)
    away = np.abs(np.arange(len(energy)) - (first + end - 1) / 2)
    sides = (2 * np.maximum(away[:, None], away)).round().astype(int) + 1
    held = np.cumsum(np.bincount(sides.ravel(), energy.ravel()))
    if not held[-1] > 0:
        return None
    return min(int(np.argmax(held >= share * held[-1] * (1 - 1e-9))), len(energy))


def _of_row(row: Row, seen: Field) -> Iterator[Field]:
    match row:
        case Conv(padding="same"):
            yield _behind_same(seen, row.name, row.kernel, row.stride)
        case Conv() | MlpConv():
            yield _behind(seen, row.name, "", row.kernel, row.stride, row.kernel // 2, row.output_size(seen.units))
        case MaxPool(padding="ceil"):
            yield _behind(seen, row.name, "", row.size, row.stride, 0, row.output_size(seen.units))
        case MaxPool():
            yield _behind_same(seen, row.name, row.size, row.stride)
        case FullyConnected():
            yield _behind(seen, row.name, "", seen.units, 1, 0, 1)
        case Inception():
            kernels = dict(zip(BRANCHES, (1, 3, row.kernel5x5, 3), strict=True))
            branches = [
                _behind(seen, row.name, branch, kernel, 1, kernel // 2, seen.units)
                for branch, kernel in kernels.items()
            ]
            # All are centred on the same pixel, so that the largest holds the others.
            yield dataclasses.replace(max(branches, key=lambda field: field.size), branch="")
            yield from branches


def _behind_same(seen: Field, row: str, kernel: int, stride: int) -> Field:
    """Return `_behind` with SAME padding, whose odd pixel stands behind."""
    units = -(-seen.units // stride)
    padding = max((units - 1) * stride + kernel - seen.units, 0)
    return _behind(seen, row, "", kernel, stride, padding // 2, units)


def _behind(seen: Field, row: str, branch: str, kernel: int, stride: int, padding: int, units: int) -> Field:
    """Return the field of a unit that looks at `kernel` units of a map, each of which sees what `seen` says."""
    return Field(
        row,
        branch,
        size=seen.size + (kernel - 1) * seen.stride,
        stride=seen.stride * stride,
        start=seen.start - padding * seen.stride,
        units=units,
        image=seen.image,
    )


def _layers(found: Iterable[Field], table: Architecture) -> dict[Field, str]:
    """Return the layers whose gradients are measured: the branches of modules, and all other rows."""
    rows = {row.name: row for row in table.rows}
    layers = {}
    for field in found:
        row = rows[field.row]
        if field.branch and isinstance(row, Inception):
            layers[field] = branch_layer(row, field.branch)
        elif not isinstance(row, Inception):
            layers[field] = output_layer(row)
    return layers


def _effective(field: Field, maps: np.ndarray) -> EffectiveField:
    """Return the mean over maps, `(maps, image, image)`, each of which counts alike."""
    maps = maps.astype(np.float64)
    sums = maps.sum(axis=(1, 2))
    shares = maps[sums > 0] / sums[sums > 0, None, None]
    energy = shares.mean(axis=0) if len(shares) else np.zeros(maps.shape[1:])
    return EffectiveField(field, side_of_energy(energy, field), energy.astype(np.float32))
