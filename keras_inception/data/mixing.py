"""mixup and CutMix: pairs of images, and their labels, become mixtures.

The images at the places 2k and 2k + 1 of a batch are a pair and mix with each other alone, so that the mixture of an
image does not depend on how many devices divide the batch.
"""

import tensorflow as tf

from keras_inception.config import DataConfig


def mixes(config: DataConfig) -> bool:
    """Return whether `config` asks for any mixing."""
    return bool(config.mixup or config.cutmix)


def mixing_share(key: tf.Tensor, number: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """Return how much of itself an image keeps: from Beta(alpha, alpha), float32.

    Args:
        key: int32 or int64 `(2,)`.
        number: In [0, 1): which of the two mixings, where `config` asks for both.
        config: alpha of each.
    """
    alpha = tf.where(_is_mixup(number, config), config.mixup, config.cutmix)
    first, second = tf.unstack(tf.random.stateless_gamma((2,), key, alpha))
    return tf.math.divide_no_nan(first, first + second)


def mixed(
    images: tf.Tensor,
    labels: tf.Tensor,
    weights: tf.Tensor,
    numbers: tf.Tensor,
    shares: tf.Tensor,
    config: DataConfig,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Mix the pairs of a batch: mixup (arXiv:1710.09412) or CutMix (arXiv:1905.04899), each for half where both are on.

    Args:
        images: float32 `(batch, height, width, channels)`; an even number of known size.
        labels: float32 `(batch, classes)`.
        weights: float32 `(batch,)`.
        numbers: In [0, 1), `(batch, 4)`: which mixing, and where the box lies; those of the first of a pair count.
        shares: From `mixing_share`, `(batch,)`; likewise.
        config: Which mixing is asked for.

    Returns:
        Images, labels and weights, mixed by the same shares.
    """
    numbers, shares = _of_pairs(numbers), _of_pairs(shares)
    boxes = _boxes(numbers, shares, images.shape[1], images.shape[2])
    is_mixup = _is_mixup(numbers[:, 0], config)
    kept = tf.where(is_mixup, shares, 1 - tf.reduce_mean(boxes, axis=(1, 2)))
    of_pixels = tf.where(is_mixup[:, None, None], shares[:, None, None], 1 - boxes)
    return (
        _blended(images, of_pixels[..., None]),
        _blended(labels, kept[:, None]),
        _blended(weights, kept),
    )


def _is_mixup(number: tf.Tensor, config: DataConfig) -> tf.Tensor:
    if config.mixup and config.cutmix:
        return number < 0.5
    return tf.fill(tf.shape(number), bool(config.mixup))


def _of_pairs(values: tf.Tensor) -> tf.Tensor:
    """Give both of a pair what the first has."""
    return tf.repeat(values[::2], 2, axis=0)


def _boxes(numbers: tf.Tensor, shares: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Return 1 in the box that is cut and 0 elsewhere, `(batch, height, width)`.

    Its area is 1 − share; its centre lies anywhere, and what leaves the image is cut off.
    """

    def inside(centre: tf.Tensor, size: int) -> tf.Tensor:
        half = tf.sqrt(1 - shares) * size / 2
        place = tf.range(size, dtype=tf.float32) + 0.5
        return tf.cast(tf.abs(place - (centre * size)[:, None]) < half[:, None], tf.float32)

    return inside(numbers[:, 1], height)[:, :, None] * inside(numbers[:, 2], width)[:, None, :]


def _blended(values: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """Return what an example keeps of itself, and the rest of the other of its pair."""
    shape = tf.shape(values)
    others = tf.reshape(tf.reshape(values, tf.concat([[-1, 2], shape[1:]], axis=0))[:, ::-1], shape)
    return kept * values + (1 - kept) * others
