"""ILSVRC's 1000 classes, and images as the public checkpoints take them."""

import functools
import importlib.resources
from collections.abc import Collection, Sequence
from typing import Any, get_args

import numpy as np

from keras_inception.errors import WeightsError, unknown
from keras_inception.weights.published import VALUE_RANGES, Mode


@functools.cache
def synsets() -> dict[str, str]:
    """Return WordNet's number of each class, such as n01440764, and its name; no two names are the same.

    The order, by number, is that of all three public checkpoints.
    """
    text = importlib.resources.files(__package__).joinpath("imagenet.tsv").read_text(encoding="utf-8")
    return dict(line.split("\t") for line in text.splitlines())


def class_names(classes: int) -> tuple[str, ...]:
    """Return the names of a checkpoint's classes: ILSVRC's 1000, TF-Slim's 1001, or numbers where there are others."""
    names = tuple(synsets().values())
    if classes == len(names):
        return names
    if classes == len(names) + 1:
        return ("background", *names)
    return tuple(f"class {number}" for number in range(classes))


def names_on_disk(labels: Sequence[str], found: Collection[str]) -> tuple[str, ...]:
    """Return what a model's classes are called in a collection of images.

    Args:
        labels: The model's.
        found: Names of classes, or folders, in the collection.

    Returns:
        WordNet's numbers where the labels are ILSVRC's and the collection has some of them; else the labels.
    """
    is_ilsvrc = tuple(labels) == tuple(synsets().values()) and not set(labels) & set(found)
    return tuple(synsets()) if is_ilsvrc and set(found) & synsets().keys() else tuple(labels)


def preprocess_input(x: Any, mode: Mode = "tf", data_format: str | None = None) -> Any:
    """Turn RGB images into a network's input.

    >>> preprocess_input(np.asarray([[[0, 127.5, 255]]]))
    array([[[-1.,  0.,  1.]]], dtype=float32)

    Args:
        x: Array or tensor of values in [0, 255], red, green and blue, `(height, width, 3)` or with a batch in front. It
            is not changed.
        mode: "tf" gives [−1, 1], which `weights="imagenet"`, `"imagenet-slim"` and networks trained here take; "torch"
            what torchvision's other checkpoints take; "caffe" is for `weights="imagenet-caffe"`. Colours stay in the
            order red, green, blue in all of them: the importer has turned Caffe's first kernel.
        data_format: "channels_last" or "channels_first"; by default Keras's setting.

    Returns:
        float32, of the shape of `x`; a tensor of the backend where `x` is one.

    Raises:
        WeightsError: There is no such mode, or the images are not of three colours.
    """
    import keras

    if mode not in get_args(Mode):
        raise WeightsError(unknown("mode", str(mode), get_args(Mode)))
    axis = -1 if (data_format or keras.config.image_data_format()) == "channels_last" else -3
    if not isinstance(x, np.ndarray) and not keras.ops.is_tensor(x) and not keras.utils.is_keras_tensor(x):
        x = np.asarray(x)
    if len(x.shape) < 3 or x.shape[axis] != 3:
        raise WeightsError(f"images have the shape {tuple(x.shape)}; they take three colours along axis {axis}")
    shape = (3,) if axis == -1 else (3, 1, 1)
    low, high = (np.broadcast_to(np.asarray(bound), 3).reshape(shape) for bound in VALUE_RANGES[mode])
    scale, low = ((high - low) / 255).astype(np.float32), low.astype(np.float32)
    if isinstance(x, np.ndarray):
        return x.astype(np.float32) * scale + low
    return keras.ops.cast(x, "float32") * scale + low


def decode_predictions(predictions: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Return the most probable of ILSVRC's classes.

    Args:
        predictions: `(images, 1000)` probabilities.
        top: How many for each image, 1 to 1000.

    Returns:
        For each image a list of WordNet's number, name and probability, the most probable first.

    Raises:
        WeightsError: There are not 1000 classes, or `top` is out of range.
    """
    values, known = np.asarray(predictions), list(synsets().items())
    if values.ndim != 2 or values.shape[1] != len(known):
        raise WeightsError(f"predictions have the shape {values.shape}; they take (images, {len(known)})")
    if not 1 <= top <= len(known):
        raise WeightsError(f"top is {top!r}; it takes a number from 1 to {len(known)}")
    order = np.argsort(-values, axis=1, kind="stable")[:, :top]
    return [[(*known[place], float(row[place])) for place in places] for row, places in zip(values, order, strict=True)]
