"""Batches for the network, by tf.data.

The order of training is a function of (seed, epoch, position), never of an iterator's history, and augmentation is
keyed by (seed, epoch, image): an epoch can be entered anywhere and gives the same batches on any number of devices.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import psutil
import tensorflow as tf

from keras_inception.config import DataConfig
from keras_inception.data.dataset import Split
from keras_inception.data.sources import load_dataset
from keras_inception.errors import DataError

_LOG = logging.getLogger(__name__)

# Decoded images are kept in memory when they take less than this share of what is free.
_MEMORY_SHARE = 0.4


@dataclass(frozen=True)
class Images:
    """The readable images of a split at the network's size.

    Args:
        names: What each is called in messages.
        labels: int32 of shape `(images,)`.
        broken: A line for each image that could not be decoded and was left out.
        image: From a position, an int64 scalar tensor, to uint8 `(size, size, channels)`.
    """

    names: Sequence[str]
    labels: np.ndarray
    broken: Sequence[str]
    image: Callable[[tf.Tensor], tf.Tensor]

    def __len__(self) -> int:
        return len(self.labels)


def read_images(
    split: Split, config: DataConfig, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Images:
    """Decode every image of `split` once: find the broken ones, and keep the others in memory if they fit.

    Images that do not fit are decoded again whenever they are used.

    Args:
        split: The images.
        config: Size, channels, resize and crop; `image_size` must be a number.
        on_progress: Called with the number of images read and of all.

    Raises:
        DataError: No image can be decoded.
    """
    load, broken = _loader(split, config)
    shape = _image_shape(config)
    fits = len(split) * np.prod(shape) < _MEMORY_SHARE * psutil.virtual_memory().available
    kept = np.empty((len(split), *shape), np.uint8) if fits else None
    loaded = tf.data.Dataset.range(len(split)).map(load, num_parallel_calls=tf.data.AUTOTUNE).prefetch(8)
    for index, image in enumerate(loaded.as_numpy_iterator()):
        if kept is not None:
            kept[index] = image
        on_progress(index + 1, len(split))
    good = np.asarray([index for index in range(len(split)) if index not in broken], dtype=np.int64)
    if not len(good):
        raise DataError(f"none of {len(split)} images can be decoded; the first: {broken[0]}")
    if kept is None:
        _LOG.info("%d images do not fit in memory and are decoded whenever they are used", len(good))
    return Images(
        names=[split.names[index] for index in good],
        labels=split.labels[good],
        broken=[broken[index] for index in sorted(broken)],
        image=_from_files(load, good) if kept is None else _from_memory(kept, good),
    )


def read_split(
    config: DataConfig,
    classes: Sequence[str],
    split: str,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    limit: int | None = None,
) -> Images:
    """Return the images of one split of a trained run's data.

    Args:
        config: The run's.
        classes: The classes it was trained on.
        split: "train", "validation" or "test".
        on_progress: As in `read_images`.
        limit: At most that many images, spread evenly over the split.

    Raises:
        DataError: The data are gone, have other classes now, or cannot be decoded.
    """
    dataset = load_dataset(config)
    if dataset.classes != tuple(classes):
        raise DataError(
            f"the labels do not fit: the run was trained on {', '.join(classes)}; "
            f"{dataset.name} now has {', '.join(dataset.classes)}"
        )
    part = dataset.splits[split]
    if limit is not None and len(part) > limit:
        part = part.take(np.linspace(0, len(part) - 1, limit).astype(int))
    return read_images(part, config, on_progress)


def training_batches(
    images: Images, config: DataConfig, *, batch_size: int, seed: int, outputs: Sequence[str], first_epoch: int = 0
) -> tf.data.Dataset:
    """Return endless shuffled and augmented batches; every epoch has `len(images) // batch_size` of them.

    Args:
        images: What `read_images` returned.
        config: Flips and range of values.
        batch_size: Images in a batch.
        seed: Of order and augmentation.
        outputs: Names of the model's outputs; all get the same labels.
        first_epoch: The epoch to begin with; its batches do not depend on it.

    Returns:
        A dataset of `(float32 (batch, size, size, channels), {output: int32 (batch,)})`.
    """
    per_epoch = len(images) // batch_size * batch_size
    labels = tf.constant(images.labels)

    def example(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        epoch, place = position // per_epoch, position % per_epoch
        index = tf.random.experimental.index_shuffle(place, [seed, epoch], len(images) - 1)
        key = tf.random.fold_in(tf.random.fold_in([seed, 0], epoch), index)
        return _augmented(images.image(index), key, config), labels[index]

    positions = tf.data.Dataset.range(first_epoch * per_epoch, np.iinfo(np.int64).max)
    batches = positions.map(example, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size, drop_remainder=True)
    return _finished(batches, config, outputs)


def evaluation_batches(
    images: Images, config: DataConfig, *, batch_size: int, outputs: Sequence[str]
) -> tf.data.Dataset:
    """Return every image once, in order, without augmentation; the last batch may be smaller."""
    labels = tf.constant(images.labels)
    positions = tf.data.Dataset.range(len(images))
    examples = positions.map(lambda index: (images.image(index), labels[index]), num_parallel_calls=tf.data.AUTOTUNE)
    return _finished(examples.batch(batch_size), config, outputs)


def network_input(images: np.ndarray, config: DataConfig) -> np.ndarray:
    """Turn decoded images, uint8 `(height, width, channels)` of any size, into the float32 input of the network."""
    return _scaled(resized(tf.constant(images), config), config).numpy()


def resized(image: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """Resize the shorter side, antialiased, and cut out the centre: uint8 `(size, size, channels)`."""
    size, _, channels = _image_shape(config)
    shorter = round(size / config.crop_fraction)
    image = _shortened(image)
    height, width = tf.unstack(tf.shape(image)[:2])
    factor = shorter / tf.minimum(height, width)
    target = tf.cast(tf.round(tf.cast([height, width], tf.float64) * factor), tf.int32)
    pixels = tf.image.resize(image, target, config.resize, antialias=True)
    top, left = tf.unstack((target - size) // 2)
    pixels = tf.image.crop_to_bounding_box(pixels, top, left, size, size)
    return tf.ensure_shape(tf.saturate_cast(tf.round(pixels), tf.uint8), (size, size, channels))


def _shortened(image: tf.Tensor, limit: int = 8) -> tf.Tensor:
    """Cut the centre out of a strip, whose longer side, resized, would fill the memory and be cut off."""
    height, width = tf.unstack(tf.shape(image)[:2])
    longest = limit * tf.minimum(height, width)
    top, left = tf.maximum(height - longest, 0) // 2, tf.maximum(width - longest, 0) // 2
    return image[top : height - top, left : width - left]  # as much on both sides: the centre stays


def _image_shape(config: DataConfig) -> tuple[int, int, int]:
    if config.image_size is None:
        raise DataError("data.image_size is not set; give the side of the input in pixels")
    return config.image_size, config.image_size, config.channels


def _loader(split: Split, config: DataConfig) -> tuple[Callable[[tf.Tensor], tf.Tensor], dict[int, str]]:
    """Return a function from a position to a resized image, and the dictionary in which it notes broken ones."""
    broken: dict[int, str] = {}

    def read(index: np.int64) -> np.ndarray:
        try:
            return split.read(int(index), config.channels)
        except DataError as error:
            broken[int(index)] = str(error)
            return np.zeros((1, 1, config.channels), np.uint8)

    def load(index: tf.Tensor) -> tf.Tensor:
        image = tf.numpy_function(read, [index], tf.uint8, stateful=False)
        image.set_shape((None, None, config.channels))
        return resized(image, config)

    return load, broken


def _from_memory(images: np.ndarray, good: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    with tf.device("CPU:0"):
        held, positions = tf.constant(images), tf.constant(good)
    return lambda index: held[positions[index]]


def _from_files(load: Callable[[tf.Tensor], tf.Tensor], good: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    positions = tf.constant(good)
    return lambda index: load(positions[index])


def _augmented(image: tf.Tensor, key: tf.Tensor, config: DataConfig) -> tf.Tensor:
    horizontal, vertical, brightness, contrast = tf.unstack(tf.random.split(key, 4))
    if config.flip_horizontal:
        image = tf.image.stateless_random_flip_left_right(image, horizontal)
    if config.flip_vertical:
        image = tf.image.stateless_random_flip_up_down(image, vertical)
    if config.brightness:
        image = tf.image.stateless_random_brightness(image, config.brightness, brightness)
    if config.contrast:
        image = tf.image.stateless_random_contrast(image, 1 - config.contrast, 1 + config.contrast, contrast)
    return image


def _scaled(images: tf.Tensor, config: DataConfig) -> tf.Tensor:
    low, high = config.value_range
    return tf.cast(images, tf.float32) * ((high - low) / 255) + low


def _finished(batches: tf.data.Dataset, config: DataConfig, outputs: Sequence[str]) -> tf.data.Dataset:
    def finish(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        return _scaled(images, config), dict.fromkeys(outputs, labels)

    return batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
