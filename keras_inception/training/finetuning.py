"""Training that begins with the weights of another: which are taken, which are held, and which learn more slowly."""

import logging
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from keras_inception.architecture import Architecture
from keras_inception.errors import ArchitectureError, unknown
from keras_inception.googlenet import MAIN, first_convolution, read_model
from keras_inception.run_folder import RunFolder
from keras_inception.training.model import layer_prefix, row_of_layer
from keras_inception.weights.imagenet import synsets
from keras_inception.weights.published import PUBLISHED
from keras_inception.weights.read import published_weights

_LOG = logging.getLogger(__name__)


def take_weights(network: keras.Model, start_from: str, table: Architecture, classes: tuple[str, ...]) -> None:
    """Give a network the weights of another, layer by layer, but for classifiers of other classes.

    The first convolution is new too where the images have another number of channels.

    Args:
        network: To be trained; its classifiers keep their random weights unless a run of the same classes is given.
        start_from: A run's folder, whose best model is taken, a .keras file, or the name of published weights.
        table: The network's architecture.
        classes: What the network is to tell apart.

    Raises:
        ArchitectureError: The file is missing or cannot be read, or a layer of the body is missing or of another shape.
        WeightsError: Published weights cannot be fetched.
    """
    path, source, same_classes = _source(start_from, classes)
    heads = tuple(head.name for head in table.auxiliary)
    replaced = []
    for layer in network.layers:
        values = source.get(layer.name, [])
        fits = [value.shape for value in values] == [tuple(weight.shape) for weight in layer.weights]
        if fits and (same_classes or layer.name not in (MAIN, *heads)):
            layer.set_weights(values)
        elif layer.weights and (
            layer.name in (MAIN, *heads)
            or layer.name.startswith(tuple(f"{head}_" for head in heads))
            or (layer.name == first_convolution(table) and values and _differ_in_channels(values, layer.get_weights()))
        ):
            replaced.append(layer.name)
        elif layer.weights:
            raise ArchitectureError(
                f"layer {layer.name!r} of {path!r} is {_shapes(values)}, here {_shapes(layer.get_weights())}; "
                f"give the architecture, width and channels that it was trained with"
            )
    _LOG.info("weights from %s; new: %s", path, ", ".join(replaced) or "none")


def _source(start_from: str, classes: tuple[str, ...]) -> tuple[str, Mapping[str, list[np.ndarray]], bool]:
    """Return what weights come from, the weights of its layers, and whether its classes are `classes`."""
    if start_from in PUBLISHED:
        known = (tuple(synsets()), tuple(synsets().values()))
        return start_from, published_weights(start_from).weights, classes in known
    path, same_classes = Path(start_from), False
    if path.is_dir():
        folder = RunFolder(path)
        path, same_classes = folder.best_keras, folder.labels() == classes
    if not path.is_file():
        raise ArchitectureError(
            f"there are no weights {str(path)!r} to start from; give a run with a best.keras, a .keras file, or one of "
            f"{', '.join(PUBLISHED)}"
        )
    return str(path), {layer.name: layer.get_weights() for layer in read_model(path).layers}, same_classes


def _differ_in_channels(values: list[np.ndarray], others: list[np.ndarray]) -> bool:
    """Return whether kernels are of the same sides and filters, for images of other channels."""
    (kernel, *_), (other, *_) = values, others
    return kernel.shape[:2] + kernel.shape[3:] == other.shape[:2] + other.shape[3:]


def body(network: keras.Model, table: Architecture) -> list[keras.Variable]:
    """Return the trainable variables below the classifiers."""
    classifiers = (MAIN, *(head.name for head in table.auxiliary))
    layers = [layer for layer in network.layers if layer.name not in classifiers]
    return [variable for layer in layers for variable in layer.trainable_variables]


class Freezing:
    """Rows that keep their weights, with their batch normalisation in inference mode, for the first epochs.

    Args:
        network: The network.
        table: Its architecture.
        until: The last row that is held, as "3b" or "inception_3b"; None holds nothing.
        epochs: For how long.

    Raises:
        ArchitectureError: There is no such row.
    """

    def __init__(self, network: keras.Model, table: Architecture, until: str | None, epochs: int):
        self._epochs = epochs
        self._layers: list[keras.layers.Layer] = []
        if until is None:
            return
        rows = [layer_prefix(row) for row in table.rows]
        if until not in rows and f"inception_{until}" in rows:
            until = f"inception_{until}"
        if until not in rows:
            raise ArchitectureError(f"training.freeze_until: {unknown('row', until, rows)}")
        held = rows[: rows.index(until) + 1]
        names = [*rows, MAIN, *(head.name for head in table.auxiliary)]
        self._layers = [layer for layer in network.layers if layer.weights and row_of_layer(layer.name, names) in held]

    def holds(self, epoch: int) -> bool:
        """Return whether rows are held in an epoch, counted from 0."""
        return bool(self._layers) and epoch < self._epochs

    def set(self, epoch: int) -> bool:
        """Hold or release the rows as an epoch wants it; return whether that changed anything."""
        wanted = not self.holds(epoch)
        changed = [layer for layer in self._layers if layer.trainable != wanted]
        for layer in changed:
            layer.trainable = wanted
        return bool(changed)


def _shapes(values: list[np.ndarray]) -> str:
    return " and ".join("×".join(map(str, value.shape)) for value in values) or "missing"
