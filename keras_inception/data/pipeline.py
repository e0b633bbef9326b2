"""Batches for the network, by tf.data.

The order of training is a function of (seed, epoch, position), never of an iterator's history, and augmentation is
keyed by (seed, epoch, image): training can be entered at any step and gives the same batches on any number of devices.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from keras_inception.config import DataConfig
from keras_inception.data import augment
from keras_inception.data.crops import network_side, resized, test_crops
from keras_inception.data.images import Images
from keras_inception.data.mixing import mixed, mixes
from keras_inception.data.parallel import untuned
from keras_inception.data.randaugment import erased, randaugmented
from keras_inception.errors import ConfigError

#: What becomes of a last batch that is not full.
Remainder = Literal["keep", "pad"]

# Batches that are ready before they are asked for.
_PREFETCHED = 2


def training_batches(
    images: Images,
    config: DataConfig,
    *,
    batch_size: int,
    seed: int,
    outputs: Sequence[str],
    classes: int,
    class_weights: np.ndarray | None = None,
    first_step: int | tf.Variable = 0,
    end_step: int | tf.Variable | None = None,
    worker: int = 0,
    workers: int = 1,
    replicas: int = 1,
) -> tf.data.Dataset:
    """Return shuffled and augmented batches; every epoch has `len(images) // batch_size` of them.

    Args:
        images: What `read_images` returned: whole ones if `config.random_crop`.
        config: Patches, flips, distortions, erasing, mixing and range of values.
        batch_size: Images in a batch, over all workers.
        seed: Of order and augmentation.
        outputs: Names of the model's outputs; all get the same labels.
        classes: How many there are.
        class_weights: Float32 `(classes,)`, on top of the weights that images have; None is 1 for each.
        first_step: The step to begin with, counted from the beginning of training; what it shows does not depend on it.
            An int64 variable is read whenever iteration begins: so one dataset, which takes a second to make, serves
            all epochs.
        end_step: The step before which it ends; None is endless.
        worker: Which of `workers` this is; each gets its part of every batch.
        workers: How many share a batch, a divisor of `batch_size`.
        replicas: How many devices share this worker's part of a batch; they get theirs one after the other.

    Returns:
        A dataset of images, labels and weights: `(float32 (part, size, size, channels), {output: float32 (part,
        classes)}, float32 (part,))`, where a part is a device's, `batch_size // workers // replicas`.

    Raises:
        ConfigError: Images are mixed in pairs, and a part does not consist of pairs.
    """
    steps, share = len(images) // batch_size, batch_size // workers
    part = share // replicas
    if mixes(config) and part % 2:
        raise ConfigError(
            f"training.batch_size is {batch_size}: mixup and CutMix mix pairs, so it takes a multiple of "
            f"{2 * workers * replicas}"
        )
    labels = tf.constant(images.labels)
    weights = tf.constant(_weights(images, class_weights))

    def example(position: tf.Tensor) -> tuple[tf.Tensor, ...]:
        step, place = position // share, position % share
        epoch, place = step // steps, step % steps * batch_size + worker * share + place
        index = tf.random.experimental.index_shuffle(place, [seed, epoch], len(images) - 1)
        numbers = augment.draws(seed, epoch, index, config)
        return _training_view(images, index, numbers, config), labels[index], weights[index], numbers

    def finish(views: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, numbers: dict) -> tuple:
        views, labels = _coloured(views, numbers, config), tf.one_hot(labels, classes)
        if mixes(config):
            views, labels, weights = mixed(views, labels, weights, numbers["mixing"], numbers["share"], config)
        return views, dict.fromkeys(outputs, labels), weights

    def positions(_: tf.Tensor) -> tf.data.Dataset:
        end = np.iinfo(np.int64).max if end_step is None else end_step * share
        return tf.data.Dataset.range(first_step * share, end)

    examples = tf.data.Dataset.from_tensors(0).flat_map(positions).map(example, num_parallel_calls=tf.data.AUTOTUNE)
    batches = examples.batch(part, drop_remainder=True)
    return untuned(batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE).prefetch(_PREFETCHED))


def training_views(images: Images, config: DataConfig, *, seed: int, epochs: int) -> np.ndarray:
    """Return what training sees of every image in each of the first epochs, to be looked at.

    Returns:
        uint8 of shape `(images, epochs, size, size, channels)`.
    """

    def view(position: tf.Tensor) -> tf.Tensor:
        index, epoch = position // epochs, position % epochs
        numbers = augment.draws(seed, epoch, index, config)
        batch = {name: values[None] for name, values in numbers.items()}
        return _coloured(_training_view(images, index, numbers, config)[None], batch, config)[0]

    config = dataclasses.replace(config, value_range=(0.0, 255.0))
    drawn = untuned(tf.data.Dataset.range(len(images) * epochs).map(view))
    views = np.stack(list(drawn.as_numpy_iterator()))
    return views.round().astype(np.uint8).reshape(len(images), epochs, *views.shape[1:])


def evaluation_views(images: Images, config: DataConfig, positions: np.ndarray | None = None) -> np.ndarray:
    """Return images as evaluation sees them: uint8 of shape `(images, size, size, channels)`.

    Args:
        images: What `read_images` returned.
        config: Size, resize and crop.
        positions: Of which images; by default all.
    """
    chosen = tf.data.Dataset.from_tensor_slices(np.arange(len(images)) if positions is None else positions)
    views = untuned(chosen.map(lambda index: _network_sized(images, index, config)))
    return np.stack(list(views.as_numpy_iterator()))


def evaluation_batches(
    images: Images,
    config: DataConfig,
    *,
    batch_size: int,
    outputs: Sequence[str],
    classes: int,
    remainder: Remainder = "keep",
    worker: int = 0,
    workers: int = 1,
    replicas: int = 1,
) -> tf.data.Dataset:
    """Return every image once, in order, without augmentation.

    Args:
        images: What `read_images` returned.
        config: Range of values.
        batch_size: Images in a batch, over all workers.
        outputs: Names of the model's outputs; all get the same labels.
        classes: How many there are.
        remainder: The last batch may be smaller ("keep"), or is filled up with black images ("pad").
        worker: As for `training_batches`; workers and replicas need full batches.
        workers: As for `training_batches`.
        replicas: As for `training_batches`.

    Returns:
        As `training_batches`; weights are 1 for an image and 0 for filling.
    """
    labels = tf.constant(images.labels)
    share = batch_size // workers

    def example(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return _network_sized(images, index, config), labels[index], tf.ones(())

    def finish(pixels: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tuple:
        return scaled(pixels, config), dict.fromkeys(outputs, tf.one_hot(labels, classes)), weights

    count = -(-len(images) // batch_size) * batch_size if remainder == "pad" else len(images)
    places = np.arange(count).reshape(-1, share)[worker::workers].ravel() if workers > 1 else np.arange(count)
    mine = places[places < len(images)]
    examples = tf.data.Dataset.from_tensor_slices(mine).map(example, num_parallel_calls=tf.data.AUTOTUNE)
    if len(mine) < len(places):  # filling always comes last
        filling = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), examples.element_spec)
        examples = examples.concatenate(tf.data.Dataset.from_tensors(filling).repeat(len(places) - len(mine)))
    batches = examples.batch(share // replicas, drop_remainder=remainder == "pad")
    return untuned(batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE).prefetch(_PREFETCHED))


def crop_batches(images: Images, config: DataConfig, *, crops: int, batch_size: int) -> tf.data.Dataset:
    """Return the test crops of every image, in order, in batches that are cut wherever they are full.

    Args:
        images: What `read_images` returned: whole ones for more than one crop.
        config: Size, resize, crop and range of values.
        crops: 1, 10 or 144.
        batch_size: Crops in a batch; the last may be smaller.

    Returns:
        A dataset of `(float32 (batch, size, size, channels), int64 (batch,))`: crops, and which image each is of.
    """

    def example(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if crops == 1:
            return _network_sized(images, index, config)[None], index[None]
        return test_crops(images.image(index), config, crops), tf.repeat(index, crops)

    examples = tf.data.Dataset.range(len(images)).map(example, num_parallel_calls=tf.data.AUTOTUNE)
    batches = examples.rebatch(batch_size)
    return untuned(batches.map(lambda views, index: (scaled(views, config), index)).prefetch(_PREFETCHED))


def network_input(images: np.ndarray, config: DataConfig) -> np.ndarray:
    """Turn decoded images, uint8 `(height, width, channels)` of any size, into the float32 input of the network."""
    return scaled(resized(tf.constant(images), config), config).numpy()


def scaled(images: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """Return uint8 images as float32 in the range of the network's input."""
    low, high = map(np.asarray, config.value_range)
    return tf.cast(images, tf.float32) * tf.constant((high - low) / 255, tf.float32) + tf.constant(low, tf.float32)


def _weights(images: Images, class_weights: np.ndarray | None) -> np.ndarray:
    """Return how much every image counts in training, float32 `(images,)`."""
    if class_weights is None:
        return images.weights
    return (images.weights * class_weights[images.labels]).astype(np.float32)


def _training_view(images: Images, index: tf.Tensor, numbers: dict[str, tf.Tensor], config: DataConfig) -> tf.Tensor:
    """Return an image as training sees it: in [0, 255] if its colours are yet to be distorted, else in the range of the
    network's input.
    """
    if config.random_crop:
        box = augment.patch(numbers, images.shapes[index], config)
        patch = augment.flipped(images.window(index, box), numbers, config)
        view = augment.resized_patch(patch, numbers, config, network_side(config))
        view = tf.ensure_shape(view, (network_side(config), network_side(config), config.channels))
    else:
        view = augment.flipped(_network_sized(images, index, config), numbers, config)
    if config.randaugment:
        view = randaugmented(tf.cast(view, tf.float32), numbers["randaugment"], config)
    if config.random_erasing:
        view = erased(tf.cast(view, tf.float32), numbers["erasing"], numbers["noise"], config)
    return view if augment.distorts(config) else scaled(view, config)


def _coloured(views: tf.Tensor, numbers: dict[str, tf.Tensor], config: DataConfig) -> tf.Tensor:
    """Return a batch of views in the range of the network's input, distorted if `config` says so."""
    if not augment.distorts(config):
        return views
    return augment.distorted(tf.cast(views, tf.float32), numbers, config)


def _network_sized(images: Images, index: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """Return an image as evaluation sees it, uint8 `(size, size, channels)`."""
    size = network_side(config)
    pixels = images.image(index)
    if not images.resized:
        pixels = resized(pixels, config)
    return tf.ensure_shape(pixels, (size, size, config.channels))
