"""The paper's sampling of training images: patches, flips and photometric distortion, as functions of drawn numbers.

Nothing here keeps a state. All that is random about an example comes from one call of `draws`, keyed by the seed, the
epoch and the example; the functions behind it turn numbers in [0, 1) into boxes and colours.
"""

import math

import numpy as np
import tensorflow as tf

from keras_inception.config import DataConfig
from keras_inception.data import mixing

_DISTORTIONS = ("brightness", "contrast", "saturation", "hue")

# Of the random numbers of an example: areas and aspects of ten candidate patches, where the patch lies, and so on.
_CANDIDATES = 10
_LAYOUT = {
    "area": _CANDIDATES,
    "aspect": _CANDIDATES,
    "place": 2,
    "flip": 2,
    "interpolation": 1,
    "order": len(_DISTORTIONS),
    **dict.fromkeys(_DISTORTIONS, 1),
}

# RGB to luma and two colour differences (NTSC's YIQ): hue turns the differences about luma.
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def draws(seed: int, epoch: tf.Tensor, index: tf.Tensor, config: DataConfig) -> dict[str, tf.Tensor]:
    """Return all random numbers of one example in one epoch.

    Args:
        seed: Of the run.
        epoch: int64 scalar.
        index: int64 scalar: which example.
        config: What is asked for beside the sampling of the paper.

    Returns:
        A name for each kind of number to float32 in [0, 1), of shape `(count,)`; for mixing also "share", the scalar
        share of itself that an image keeps, and for erasing "noise", a key, int32 `(2,)`.
    """
    key = tf.random.fold_in(tf.random.fold_in([seed, 0], epoch), index)
    numbers = _numbers(_LAYOUT, key)
    # Keys of their own, so that what was there before does not change with what is asked for.
    if config.randaugment:
        numbers |= _numbers({"randaugment": 2 * config.randaugment}, tf.random.fold_in(key, 1))
    if config.random_erasing:
        numbers |= _numbers({"erasing": 5}, tf.random.fold_in(key, 2))
        numbers["noise"] = tf.cast(tf.random.fold_in(key, 3), tf.int32)
    if mixing.mixes(config):
        numbers |= _numbers({"mixing": 4}, tf.random.fold_in(key, 4))
        numbers["share"] = mixing.mixing_share(tf.random.fold_in(key, 5), numbers["mixing"][0], config)
    return numbers


def patch(numbers: dict[str, tf.Tensor], shape: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """Return a random patch of an image: area and aspect uniform in their ranges (arXiv:1409.4842, section 6).

    The first of ten candidates that fits into the image is taken; where none fits, the largest centred patch whose
    aspect is in the range.

    Args:
        numbers: From `draws`.
        shape: int32 `(2,)`: height and width of the image.
        config: Ranges of area and aspect.

    Returns:
        int32 `(4,)`: top, left, height and width, all inside the image.
    """
    size = tf.cast(shape, tf.float32)
    area = _between(numbers["area"], config.crop_area) * size[0] * size[1]
    aspect = _between(numbers["aspect"], config.crop_aspect)
    candidates = tf.sqrt(tf.stack([area / aspect, area * aspect], axis=1))
    # At the end the patch that always fits: limited by the image's height, its width, and the ends of the range.
    low, high = config.crop_aspect
    width = tf.minimum(size[1], size[0] * high)
    candidates = tf.concat([candidates, [[tf.minimum(size[0], width / low), width]]], axis=0)
    fits = tf.reduce_all(candidates < size + 0.5, axis=1)
    first = tf.argmax(tf.cast(fits, tf.int32))
    sides = tf.clip_by_value(tf.cast(tf.round(candidates[first]), tf.int32), 1, shape)
    free = tf.cast(shape - sides, tf.float32)
    centred = tf.cast(free / 2, tf.int32)
    anywhere = tf.cast(numbers["place"] * (free + 1), tf.int32)
    corner = tf.where(first == _CANDIDATES, centred, tf.minimum(anywhere, shape - sides))
    return tf.concat([corner, sides], axis=0)


def resized_patch(pixels: tf.Tensor, numbers: dict[str, tf.Tensor], config: DataConfig, size: int) -> tf.Tensor:
    """Resize a patch to float32 `(size, size, channels)`; raw and random interpolation as `config` says."""
    methods = {
        "area": lambda: _area(pixels, size),
        "bilinear": lambda: tf.image.resize(pixels, (size, size), "bilinear"),
        "bicubic": lambda: tf.clip_by_value(tf.image.resize(pixels, (size, size), "bicubic"), 0, 255),
        "nearest": lambda: tf.cast(tf.image.resize(pixels, (size, size), "nearest"), tf.float32),
    }
    if config.interpolation != "random":
        return methods[config.interpolation]()
    choice = tf.cast(numbers["interpolation"][0] * len(methods), tf.int32)
    return tf.switch_case(choice, list(methods.values()))


def flipped(pixels: tf.Tensor, numbers: dict[str, tf.Tensor], config: DataConfig) -> tf.Tensor:
    """Mirror an image `(height, width, channels)` with probability 1/2 for each direction that `config` allows."""
    for axis, (allowed, number) in enumerate(
        zip((config.flip_vertical, config.flip_horizontal), tf.unstack(numbers["flip"]), strict=True)
    ):
        if allowed:
            pixels = tf.cond(number < 0.5, lambda p=pixels, a=axis: tf.reverse(p, [a]), lambda p=pixels: p)
    return pixels


def distorts(config: DataConfig) -> bool:
    """Return whether `config` asks for any photometric distortion."""
    return any(getattr(config, name) for name in _DISTORTIONS)


def distorted(images: tf.Tensor, numbers: dict[str, tf.Tensor], config: DataConfig) -> tf.Tensor:
    """Change brightness, contrast, saturation and hue of a batch, for each image in an order of its own.

    Each of the four is an affine map of colours: a shift; a stretch about the image's mean; a blend with its grey; a
    turn about the grey axis in YIQ. Four in a row, and the change of range that follows, are one affine map, computed
    per image and applied once per pixel, where separate operations would each pass over all pixels. Values that leave
    the range are cut once, at the end.

    Args:
        images: float32 `(batch, height, width, channels)` in [0, 255], 1 or 3 channels, of a known size.
        numbers: From `draws`, `(batch, count)` each.
        config: Largest change of each, and the range of the values returned.

    Returns:
        float32 of the shape of `images`, in `config.value_range`.
    """
    _, height, width, channels = images.shape
    # Kernels for three columns are slow: several pixels are taken together where the size allows.
    together = math.gcd(8, height * width)
    pixels = tf.reshape(images, [-1, height * width // together, together * channels])
    mean = tf.reduce_mean(tf.reshape(tf.reduce_mean(pixels, axis=1), [-1, together, channels]), axis=1)
    matrix, offset = _colour_map(mean, numbers, config)

    low, high = (np.broadcast_to(bound, channels).astype(np.float64) for bound in config.value_range)
    scale = ((high - low) / 255).astype(np.float32)
    block = tf.linalg.LinearOperatorFullMatrix(tf.linalg.matrix_transpose(matrix) * scale)
    blocks = tf.linalg.LinearOperatorBlockDiag([block] * together).to_dense()
    changed = pixels @ blocks + tf.tile(scale * offset + low.astype(np.float32), [1, together])[:, None]
    ends = (np.tile(end, together).astype(np.float32) for end in (np.minimum(low, high), np.maximum(low, high)))
    return tf.reshape(tf.clip_by_value(changed, *ends), tf.shape(images))


def _colour_map(mean: tf.Tensor, numbers: dict[str, tf.Tensor], config: DataConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the distortions of each image, one after the other, as a matrix and an offset of its colours.

    Args:
        mean: Of each image, `(batch, channels)`.
        numbers: From `draws`, `(batch, count)` each.
        config: Largest change of each.

    Returns:
        Float32 `(batch, channels, channels)` and `(batch, channels)`.
    """
    channels = mean.shape[-1]
    asked = [place for place, name in enumerate(_DISTORTIONS) if getattr(config, name)]
    signed = {name: (2 * numbers[name] - 1) * getattr(config, name) for name in _DISTORTIONS}
    none = tf.zeros_like(signed["brightness"])
    one = tf.eye(channels, batch_shape=tf.shape(none)[:1])
    matrices = tf.stack(
        [
            one,
            (1 + signed["contrast"])[..., None] * one,
            _saturation(1 + signed["saturation"], channels),
            _hue(signed["hue"], channels),
        ],
        axis=1,
    )
    shifts = tf.concat([255 * signed["brightness"], none, none, none], axis=1)
    of_mean = tf.concat([none, -signed["contrast"], none, none], axis=1)

    matrix, offset = one, tf.zeros(tf.shape(one)[:2])
    order = tf.gather(asked, tf.argsort(tf.gather(numbers["order"], asked, axis=1), axis=1))
    for step in tf.unstack(order, num=len(asked), axis=1):
        chosen = tf.gather(matrices, step, batch_dims=1)
        added = tf.gather(shifts, step, batch_dims=1)[:, None] + tf.gather(of_mean, step, batch_dims=1)[:, None] * mean
        matrix = chosen @ matrix
        offset = tf.linalg.matvec(chosen, offset) + added
        mean = tf.linalg.matvec(chosen, mean) + added
    return matrix, offset


def _numbers(layout: dict[str, int], key: tf.Tensor) -> dict[str, tf.Tensor]:
    numbers = tf.split(tf.random.stateless_uniform([sum(layout.values())], key), list(layout.values()))
    return dict(zip(layout, numbers, strict=True))


def _between(number: tf.Tensor, bounds: tuple[float, float]) -> tf.Tensor:
    return bounds[0] + number * (bounds[1] - bounds[0])


def _area(pixels: tf.Tensor, size: int) -> tf.Tensor:
    enlarges = tf.reduce_all(tf.shape(pixels)[:2] <= size)
    return tf.cond(
        enlarges,
        lambda: tf.image.resize(pixels, (size, size), "bilinear"),
        lambda: tf.image.resize(pixels, (size, size), "area"),
    )


def _saturation(factor: tf.Tensor, channels: int) -> tf.Tensor:
    """Return matrices `(batch, channels, channels)` that blend a colour with its luma; factors are `(batch, 1)`."""
    if channels == 1:
        return tf.ones_like(factor)[..., None]
    factor = factor[..., None]
    grey = tf.constant([_YIQ[0]] * 3)
    return factor * tf.eye(3) + (1 - factor) * grey


def _hue(turn: tf.Tensor, channels: int) -> tf.Tensor:
    """Return matrices `(batch, channels, channels)` that turn a colour about the grey axis; turns are `(batch, 1)`."""
    if channels == 1:
        return tf.ones_like(turn)[..., None]
    angle = 2 * math.pi * turn[:, 0]
    one, none = tf.ones_like(angle), tf.zeros_like(angle)
    rows = [[one, none, none], [none, tf.cos(angle), -tf.sin(angle)], [none, tf.sin(angle), tf.cos(angle)]]
    rotation = tf.stack([tf.stack(row, axis=-1) for row in rows], axis=1)
    yiq = tf.constant(_YIQ)
    return tf.linalg.inv(yiq) @ rotation @ yiq
