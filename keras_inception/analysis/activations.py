"""What the branches of Inception modules answer to: their maps of a photograph, and what of a module each carries."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from keras_inception.analysis.branches import BRANCHES, branch_layer, module, modules
from keras_inception.architecture import Architecture, Inception
from keras_inception.data.decode import decode
from keras_inception.data.sizing import model_input
from keras_inception.predictor import run_model
from keras_inception.run_folder import RunFolder

if TYPE_CHECKING:
    from keras_inception.data.images import Images

# Images that the network sees at a time.
_BATCH = 16


@dataclass(frozen=True)
class BranchActivity:
    """What a branch of a module answers over many images.

    Args:
        module: Name of the module.
        branch: "1×1", "3×3", "5×5" or "pool".
        channels: How many it has.
        silent: Share of its channels that were above 0 nowhere in any image.
        active: Share of its values that were above 0.
        energy: Its share of the module's energy, the sum of squares over all values.
        width: Its share of the module's channels, to which the energy compares.
    """

    module: str
    branch: str
    channels: int
    silent: float
    active: float
    energy: float
    width: float


def branch_maps(model: keras.Model, image: np.ndarray, row: Inception) -> dict[str, np.ndarray]:
    """Return what every branch of a module makes of an image.

    Args:
        model: The network.
        image: float32 `(size, size, channels)`, the network's input.
        row: The module.

    Returns:
        Branch to float32 `(height, width, channels)`, ≥ 0.
    """
    inside = keras.Model(model.input, [model.get_layer(branch_layer(row, branch)).output for branch in BRANCHES])
    return {branch: maps.numpy()[0] for branch, maps in zip(BRANCHES, inside(image[None], training=False), strict=True)}


def branch_activity(
    model: keras.Model,
    table: Architecture,
    batches: Iterable[np.ndarray],
    on_progress: Callable[[int], None] = lambda images: None,
) -> list[BranchActivity]:
    """Measure every branch of every module over images.

    Args:
        model: The network.
        table: Its architecture.
        batches: float32 `(batch, size, size, channels)`, the network's input; at least one.
        on_progress: Called with the number of images that have been seen.

    Raises:
        ArchitectureError: The network has no Inception module.
    """
    rows = modules(table)
    names = [branch_layer(row, branch) for row in rows for branch in BRANCHES]
    inside = keras.Model(model.input, [model.get_layer(name).output for name in names])

    @tf.function(input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)])
    def sums(images: tf.Tensor) -> list[tuple[tf.Tensor, ...]]:
        return [_sums(maps) for maps in inside(images, training=False)]

    totals = [np.zeros((3, model.get_layer(name).output.shape[-1])) for name in names]
    seen, positions = 0, [0] * len(names)
    for batch in batches:
        for place, found in enumerate(sums(batch)):
            largest, *counted, values = (part.numpy() for part in found)
            totals[place][0] = np.maximum(totals[place][0], largest)
            totals[place][1:] += counted
            positions[place] += int(values)
        seen += len(batch)
        on_progress(seen)
    return list(_activities(rows, totals, positions))


def run_activity(
    run: str | Path,
    *,
    split: str = "validation",
    data: str | Path | None = None,
    limit: int | None = None,
    on_images: Callable[[int, int], None] = lambda done, total: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[BranchActivity]:
    """Measure every branch of a run's best model over images.

    Args:
        run: The run's folder.
        split: Of the run's data.
        data: A folder of other images in place of them.
        limit: At most that many, spread evenly; None is all.
        on_images: Called with the number of images read and of all.
        on_progress: Called with the number of images answered and of all.

    Raises:
        RunError: There is no trained run.
        DataError: The images are gone.
        ArchitectureError: The network has no Inception module.
    """
    from keras_inception.data.pipeline import evaluation_batches

    folder = RunFolder(Path(run))
    table, config = folder.architecture(), folder.config().data
    modules(table)
    model = run_model(folder)
    images = _images(folder, split, data, limit, on_images)
    batches = evaluation_batches(images, config, batch_size=_BATCH, outputs=(), classes=len(folder.labels()))
    pixels = (batch[0].numpy() for batch in batches)
    return branch_activity(model, table, pixels, lambda done: on_progress(done, len(images)))


def run_maps(run: str | Path, photograph: str | Path, name: str | None = None) -> tuple[str, dict[str, np.ndarray]]:
    """Return what every branch of a module of a run's best model makes of a photograph.

    Args:
        run: The run's folder.
        photograph: A file.
        name: Of the module; by default the one in the middle.

    Returns:
        The name of the module, and the maps as of `branch_maps`.

    Raises:
        RunError: There is no trained run.
        DataError: The photograph cannot be decoded.
        ArchitectureError: There is no such module.
    """
    folder = RunFolder(Path(run))
    table, config = folder.architecture(), folder.config().data
    rows = modules(table)
    row = rows[len(rows) // 2] if name is None else module(table, name)
    image = model_input(decode(Path(photograph), config.channels), config)
    return row.name, branch_maps(run_model(folder), image, row)


def _sums(maps: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Return of every channel the largest value, how many are above 0 and the sum of squares; and how many it has."""
    axes = (0, 1, 2)
    above = tf.reduce_sum(tf.cast(maps > 0, tf.float32), axes)
    squares = tf.reduce_sum(tf.square(maps), axes)
    return tf.reduce_max(maps, axes), above, squares, tf.reduce_prod(tf.shape(maps)[:3])


def _activities(rows: list[Inception], totals: list[np.ndarray], positions: list[int]) -> Iterable[BranchActivity]:
    for number, row in enumerate(rows):
        of_module = slice(number * len(BRANCHES), (number + 1) * len(BRANCHES))
        energies = [part[2].sum() for part in totals[of_module]]
        whole, channels = sum(energies), sum(len(part[0]) for part in totals[of_module])
        for branch, (largest, above, _), energy, places in zip(
            BRANCHES, totals[of_module], energies, positions[of_module], strict=True
        ):
            yield BranchActivity(
                module=row.name,
                branch=branch,
                channels=len(largest),
                silent=float(np.mean(largest <= 0)),
                active=float(above.sum() / (places * len(above))),
                energy=float(energy / whole) if whole else float("nan"),
                width=len(largest) / channels,
            )


def _images(
    folder: RunFolder,
    split: str,
    data: str | Path | None,
    limit: int | None,
    on_images: Callable[[int, int], None],
) -> "Images":
    from keras_inception.data.images import read_images, read_split
    from keras_inception.data.sources import folder_split

    config = folder.config().data
    if data is None:
        return read_split(config, folder.labels(), split, on_images, limit)
    others, _ = folder_split(Path(data), folder.labels())
    return read_images(others if limit is None else others.spread(limit), config, on_images)
