"""RandAugment and random erasing of one image, as functions of drawn numbers.

The operations and their ranges at full magnitude are those of torchvision's RandAugment, which are AutoAugment's.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from keras_inception.config import DataConfig

# How far each goes at magnitude 10.
_ROTATION = math.radians(30)
_SHEAR = 0.3
_SHIFT = 150 / 331  # of the side
_ENHANCEMENT = 0.9  # factors of colour, contrast, brightness and sharpness are 1 ± this
_BITS = 4  # of 8, that posterize takes away
_GREY = 128.0  # what comes in from outside of the image

# Weights of the neighbourhood that sharpness blends with; Pillow's SMOOTH.
_SMOOTH = ((1, 1, 1), (1, 5, 1), (1, 1, 1))

# Area of the box that is erased, as a share of the image, and its aspect (arXiv:1708.04896, section 4.1).
_ERASED_AREA = (0.02, 1 / 3)
_ERASED_ASPECT = (0.3, 1 / 0.3)

Operation = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def randaugmented(pixels: tf.Tensor, numbers: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """Put an image through `config.randaugment` random operations (RandAugment, arXiv:1909.13719).

    Args:
        pixels: float32 `(height, width, channels)` in [0, 255], 1 or 3 channels, of a known size.
        numbers: In [0, 1), `(2 * config.randaugment,)`: which operation, and to which side it goes, in turn.
        config: Number and magnitude of the operations.

    Returns:
        An image like `pixels`.
    """
    operations = list(OPERATIONS.values())
    magnitude = tf.constant(config.randaugment_magnitude / 10)
    for turn in range(config.randaugment):
        which, side = numbers[2 * turn], numbers[2 * turn + 1]
        sign = tf.where(side < 0.5, -1.0, 1.0)
        choice = tf.cast(which * len(operations), tf.int32)
        branches = [lambda x=pixels, f=f, s=sign: f(x, magnitude, s) for f in operations]
        pixels = tf.ensure_shape(tf.switch_case(choice, branches), pixels.shape)
    return pixels


def erased(pixels: tf.Tensor, numbers: tf.Tensor, key: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """Fill a random box of an image with noise, with probability `config.random_erasing` (arXiv:1708.04896).

    Args:
        pixels: float32 `(height, width, channels)` in [0, 255], of a known size.
        numbers: In [0, 1), `(5,)`: whether; area, aspect and place of the box.
        key: Of the noise, int32 `(2,)`.
        config: The probability.
    """
    height, width, _ = pixels.shape
    whether, area, aspect, top, left = tf.unstack(numbers)
    area = (_ERASED_AREA[0] + area * (_ERASED_AREA[1] - _ERASED_AREA[0])) * height * width
    low, high = (math.log(bound) for bound in _ERASED_ASPECT)
    ratio = tf.exp(low + aspect * (high - low))  # width / height
    sides = tf.minimum(tf.stack([tf.sqrt(area / ratio), tf.sqrt(area * ratio)]), [height, width])
    corner = tf.stack([top, left]) * ([height, width] - sides)
    inside = _within(corner[0], sides[0], height)[:, None] & _within(corner[1], sides[1], width)[None, :]
    noise = 255 * tf.random.stateless_uniform(pixels.shape, key)
    return tf.where((inside & (whether < config.random_erasing))[..., None], noise, pixels)


def _within(start: tf.Tensor, size: tf.Tensor, count: int) -> tf.Tensor:
    places = tf.range(count, dtype=tf.float32)
    return (places >= tf.floor(start)) & (places < tf.floor(start) + tf.maximum(tf.round(size), 1))


def _identity(x: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    return x


def _autocontrast(x: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    """Stretch every channel over the whole range."""
    low, high = tf.reduce_min(x, (0, 1)), tf.reduce_max(x, (0, 1))
    return tf.where(high > low, tf.math.divide_no_nan((x - low) * 255, high - low), x)


def _equalize(x: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    """Let every value of a channel occur as often as any other, as far as that goes; as Pillow's ImageOps does."""

    def of_channel(values: tf.Tensor) -> tf.Tensor:
        counts = tf.math.bincount(tf.reshape(values, [-1]), minlength=256, maxlength=256)
        last = counts[tf.reduce_max(values)]
        step = (tf.reduce_sum(counts) - last) // 255
        table = (tf.cumsum(counts, exclusive=True) + step // 2) // tf.maximum(step, 1)
        return tf.where(step > 0, tf.gather(tf.minimum(table, 255), values), values)

    channels = tf.unstack(tf.cast(tf.round(x), tf.int32), axis=-1)
    return tf.cast(tf.stack([of_channel(channel) for channel in channels], axis=-1), tf.float32)


def _solarize(x: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    """Invert what is at least as bright as a threshold, which falls from 256 to 0."""
    return tf.where(x < 256 * (1 - magnitude), x, 255 - x)


def _posterize(x: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    """Take away the lowest bits."""
    step = 2.0 ** tf.round(_BITS * magnitude)
    return tf.floor(tf.round(x) / step) * step


def _colour(x: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    return _enhanced(_luma(x), x, magnitude, sign)


def _contrast(x: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    return _enhanced(tf.reduce_mean(_luma(x)), x, magnitude, sign)


def _brightness(x: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    return _enhanced(tf.zeros_like(x), x, magnitude, sign)


def _sharpness(x: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    """Blend with a smoothed image; the outermost pixels stay."""
    channels = x.shape[-1]
    kernel = tf.tile(tf.constant(_SMOOTH, tf.float32)[..., None, None] / 13, [1, 1, channels, 1])
    smoothed = tf.nn.depthwise_conv2d(x[None], kernel, [1, 1, 1, 1], "VALID")[0]
    inner = tf.pad(tf.ones(smoothed.shape, tf.bool), [[1, 1], [1, 1], [0, 0]])
    smoothed = tf.where(inner, tf.pad(smoothed, [[1, 1], [1, 1], [0, 0]]), x)
    return _enhanced(smoothed, x, magnitude, sign)


def _rotate(x: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    angle = sign * magnitude * _ROTATION
    cosine, sine = tf.cos(angle), tf.sin(angle)
    return _moved(x, [[cosine, -sine], [sine, cosine]])


def _shear_x(x: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    return _moved(x, [[1.0, sign * magnitude * _SHEAR], [0.0, 1.0]])


def _shear_y(x: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    return _moved(x, [[1.0, 0.0], [sign * magnitude * _SHEAR, 1.0]])


def _translate_x(x: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    return _moved(x, [[1.0, 0.0], [0.0, 1.0]], tf.stack([tf.round(sign * magnitude * _SHIFT * x.shape[1]), 0.0]))


def _translate_y(x: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    return _moved(x, [[1.0, 0.0], [0.0, 1.0]], tf.stack([0.0, tf.round(sign * magnitude * _SHIFT * x.shape[0])]))


#: From an image, a magnitude in [0, 1] and a side, −1 or 1, to an image.
OPERATIONS: dict[str, Operation] = {
    "identity": _identity,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "rotate": _rotate,
    "solarize": _solarize,
    "colour": _colour,
    "posterize": _posterize,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}


def _luma(x: tf.Tensor) -> tf.Tensor:
    """Return the grey image, with as many channels as `x` or one."""
    if x.shape[-1] == 1:
        return x
    return tf.reduce_sum(x * (0.299, 0.587, 0.114), axis=-1, keepdims=True)


def _enhanced(plain: tf.Tensor, x: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    """Go from `plain` to the image and, to the other side, beyond it."""
    factor = 1 + sign * magnitude * _ENHANCEMENT
    return tf.clip_by_value(plain + factor * (x - plain), 0, 255)


def _moved(x: tf.Tensor, matrix: list, shift: tf.Tensor | None = None) -> tf.Tensor:
    """Take every pixel (column, row) from `matrix` times its place about the centre, plus `shift`."""
    height, width, _ = x.shape
    matrix = tf.convert_to_tensor([[tf.convert_to_tensor(value) for value in row] for row in matrix])
    centre = tf.constant([(width - 1) / 2, (height - 1) / 2])
    offset = centre - tf.linalg.matvec(matrix, centre) + (0.0 if shift is None else shift)
    transform = tf.concat([matrix[0], offset[:1], matrix[1], offset[1:], [0.0, 0.0]], axis=0)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=x[None],
        transforms=transform[None],
        output_shape=[height, width],
        fill_value=_GREY,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]
