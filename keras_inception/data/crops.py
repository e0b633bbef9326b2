"""The geometry of evaluation: which crops of an image the network is shown."""

from typing import Literal

import tensorflow as tf

from keras_inception.config import DataConfig
from keras_inception.data.sizing import LONGEST
from keras_inception.errors import DataError

#: How many crops of an image may be asked for.
Crops = Literal[1, 10, 144]

# Published shorter sides are for crops of 224 px; other sizes take them in proportion.
_PUBLISHED_SIZE = 224
_TEN_SIDE = 256  # Krizhevsky et al., 2012, section 4.1
_SCALES = (256, 288, 320, 352)  # arXiv:1409.4842, section 7

# Places along the height and the width: 0 is the near end, 1 the middle, 2 the far end.
_CORNERS_AND_CENTRE = ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1))


def network_side(config: DataConfig) -> int:
    """Return the side of the network's input; raises DataError where it is not set."""
    if config.image_size is None:
        raise DataError("data.image_size is not set; give the side of the input in pixels")
    return config.image_size


def resized(image: tf.Tensor, config: DataConfig) -> tf.Tensor:
    """Resize the shorter side, antialiased, and cut out the centre: uint8 `(size, size, channels)`."""
    size = network_side(config)
    shorter = round(size / config.crop_fraction)
    pixels = _square(_shortened_to(_centre_of_strip(image), shorter, config), size, 1)
    return tf.ensure_shape(_rounded(pixels), (size, size, config.channels))


def test_crops(image: tf.Tensor, config: DataConfig, crops: int) -> tf.Tensor:
    """Cut the crops of published evaluations out of an image.

    - 1: the centre, as `resized` gives it.
    - 10 (Krizhevsky et al., 2012, section 4.1): the shorter side becomes 256 at a size of 224 and in proportion
      otherwise; of the central square the four corners (top left, top right, bottom left, bottom right) and the
      centre; then the mirror images of the five in the same order. `config.crop_fraction` has no part in it.
    - 144 (arXiv:1409.4842, section 7): the shorter side becomes 256, 288, 320 and 352 at a size of 224 and in
      proportion otherwise; of each the left, central and right square (top, central and bottom of a portrait); of each
      the whole, resized, then the four corners and the centre as above; then the mirror images of the 72 in the same
      order.

    Args:
        image: uint8 of shape `(height, width, channels)`.
        config: Size, channels and resize; `crop_fraction` for one crop.
        crops: 1, 10 or 144.

    Returns:
        uint8 of shape `(crops, size, size, channels)`.
    """
    size = network_side(config)
    if crops == 1:
        return resized(image, config)[None]
    if crops == 10:
        side = _in_proportion(_TEN_SIDE, size)
        square = _square(_shortened_to(_centre_of_strip(image), side, config), side, 1)
        views = tf.stack(_five(square, size))
    else:
        strip = _ends_and_centre_of_strip(image)
        views = tf.concat([_of_three_squares(strip, _in_proportion(scale, size), config) for scale in _SCALES], axis=0)
    mirrored = tf.concat([views, tf.reverse(views, axis=[2])], axis=0)
    return tf.ensure_shape(_rounded(mirrored), (crops, size, size, config.channels))


def _of_three_squares(image: tf.Tensor, side: int, config: DataConfig) -> tf.Tensor:
    """Return six views of each square: float32 `(18, size, size, channels)`."""
    size = network_side(config)
    pixels = _shortened_to(image, side, config)
    squares = [_square(pixels, side, place) for place in (0, 1, 2)]
    wholes = tf.image.resize(tf.stack(squares), (size, size), config.resize, antialias=True)
    views = [[whole, *_five(square, size)] for whole, square in zip(tf.unstack(wholes), squares, strict=True)]
    return tf.concat(views, axis=0)


def _square(pixels: tf.Tensor, side: int, place: int) -> tf.Tensor:
    """Cut out the square that `place` names along both axes; about the middle, an odd pixel stays at the far end."""
    top, left = tf.unstack((tf.shape(pixels)[:2] - side) * place // 2)
    return tf.ensure_shape(pixels[top : top + side, left : left + side], (side, side, pixels.shape[2]))


def _five(square: tf.Tensor, size: int) -> list[tf.Tensor]:
    margin = square.shape[0] - size
    corners = [(margin * down // 2, margin * across // 2) for down, across in _CORNERS_AND_CENTRE]
    return [square[top : top + size, left : left + size] for top, left in corners]


def _shortened_to(image: tf.Tensor, shorter: int, config: DataConfig) -> tf.Tensor:
    """Resize so that the shorter side is `shorter`, antialiased: float32, not yet rounded."""
    height, width = tf.unstack(tf.shape(image)[:2])
    factor = shorter / tf.minimum(height, width)
    target = tf.cast(tf.round(tf.cast([height, width], tf.float64) * factor), tf.int32)
    return tf.image.resize(image, target, config.resize, antialias=True)


def _centre_of_strip(image: tf.Tensor) -> tf.Tensor:
    """Cut the centre out of a strip, whose longer side, resized, would fill the memory and be cut off."""
    top, left = tf.unstack(_beyond(image))
    height, width = tf.unstack(tf.shape(image)[:2])
    return image[top : height - top, left : width - left]  # as much on both sides: the centre stays


def _ends_and_centre_of_strip(image: tf.Tensor) -> tf.Tensor:
    """Take out of a strip what lies between its three squares, for the reason of `_centre_of_strip`.

    Its ends and its centre keep their places, and further pixels on either side, which resizing looks at.
    """
    for axis, beyond in enumerate(tf.unstack(_beyond(image))):
        length = tf.shape(image)[axis]
        end = (length - 2 * beyond) // 4
        kept = [tf.range(end), tf.range(end + beyond, length - end - beyond), tf.range(length - end, length)]
        image = tf.gather(image, tf.concat(kept, axis=0), axis=axis)
    return image


def _beyond(image: tf.Tensor) -> tf.Tensor:
    """Return half of what height and width have beyond `LONGEST` times the shorter of them, rounded down."""
    sides = tf.shape(image)[:2]
    return tf.maximum(sides - LONGEST * tf.reduce_min(sides), 0) // 2


def _rounded(pixels: tf.Tensor) -> tf.Tensor:
    return tf.saturate_cast(tf.round(pixels), tf.uint8)


def _in_proportion(side: int, size: int) -> int:
    return round(side * size / _PUBLISHED_SIZE)
