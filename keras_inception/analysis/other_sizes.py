"""Other input sizes with the same weights: what global average pooling allows (arXiv:1312.4400, arXiv:1409.4842)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras

from keras_inception.architecture import Architecture, FullyConnected
from keras_inception.cost import row_costs
from keras_inception.data.crops import network_side
from keras_inception.data.dataset import VALIDATION
from keras_inception.data.images import read_split
from keras_inception.errors import ArchitectureError
from keras_inception.evaluation.answers import mean_answers
from keras_inception.evaluation.figures import figures
from keras_inception.predictor import keras_predictor, run_model
from keras_inception.run_folder import RunFolder

#: Sizes that are measured where none are given, as factors on the run's.
SCALES = (0.75, 1.0, 1.25, 1.5)


@dataclass(frozen=True)
class SizeFigures:
    """What a network answers to images of one size.

    Args:
        image_size: Side of its input, px.
        images: How many were answered.
        top1: Share of right answers.
        interval: 95% bootstrap interval of it over images; None of a single image.
        log_loss: Mean negative logarithm of the true class's probability.
        multiply_adds: For one image.
    """

    image_size: int
    images: int
    top1: float
    interval: tuple[float, float] | None
    log_loss: float
    multiply_adds: int


def default_sizes(run: str | Path) -> list[int]:
    """Return the sizes that are measured where none are given: 3/4, 1, 5/4 and 3/2 of the run's, px.

    Sizes that the network is too deep for are left out.
    """
    folder = RunFolder(Path(run))
    side, smallest = network_side(folder.config().data), folder.architecture().smallest_image()
    return [size for scale in SCALES if (size := round(scale * side)) >= smallest]


def other_sizes(
    run: str | Path,
    sizes: Sequence[int] | None = None,
    split: str = VALIDATION,
    *,
    on_images: Callable[[int, int], None] = lambda done, total: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[SizeFigures]:
    """Measure a run's best model, as it is, on images of several sizes.

    Only the resizing of the images changes: the weights are convolutions and, behind the global average, a linear
    layer, and fit any size.

    Args:
        run: The run's folder.
        sizes: Sides of the input, px; by default those of `default_sizes`.
        split: Of the run's data.
        on_images: Called with the number of images read and of all; sizes count apart.
        on_progress: Called with the number of images answered and of all; sizes count apart.

    Raises:
        RunError: There is no trained run.
        DataError: Its images are gone.
        ArchitectureError: A size is smaller than the network can take, or a row of it is fully connected.
    """
    folder = RunFolder(Path(run))
    config, table, labels = folder.config().data, folder.architecture(), folder.labels()
    _check_any_size(table)
    sizes = default_sizes(run) if sizes is None else sizes
    costs = {size: row_costs(table, (size, size, config.channels), len(labels)) for size in sizes}  # refuses small ones
    predictor = keras_predictor(any_size(run_model(folder)))
    found = []
    for size in sizes:
        resized = replace(config, image_size=size)
        images = read_split(resized, labels, split, on_images)
        answers = mean_answers(predictor, images, resized, 1, on_progress=_of(len(images), on_progress))
        result = figures(images.labels, answers, labels)
        found.append(
            SizeFigures(
                image_size=size,
                images=len(images),
                top1=result["top1"],
                interval=None if (bounds := result["intervals"]["top1"]) is None else (bounds[0], bounds[1]),
                log_loss=result["log_loss"],
                multiply_adds=sum(row.multiply_adds for row in costs[size]),
            )
        )
    return found


def any_size(model: keras.Model) -> keras.Model:
    """Return the same network, with a copy of its weights, for images of any size.

    Args:
        model: The network with one output and no heads: those need a map of one size.
    """
    channels = model.input_shape[-1]
    free = keras.models.clone_model(model, input_tensors=keras.Input((None, None, channels), name="image"))
    free.set_weights(model.get_weights())
    return free


def _check_any_size(table: Architecture) -> None:
    for row in table.rows:
        if isinstance(row, FullyConnected):
            raise ArchitectureError(
                f"row {row.name!r} of {table.name!r} is fully connected, so that the network takes images of one size "
                f"alone; give a run whose network averages globally"
            )


def _of(total: int, on_progress: Callable[[int, int], None]) -> Callable[[int], None]:
    return lambda done: on_progress(done, total)
