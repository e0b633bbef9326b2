"""Image files to pixels within a graph, for servers: what `data.decode` makes of a JPEG or PNG by Pillow, to the bit.

Pillow also reads an orientation from XMP, which is not looked for here.
"""

import tensorflow as tf

from keras_inception.config import DataConfig
from keras_inception.data.crops import network_side, resized

# More are a decompression bomb: where Pillow warns.
_MOST_PIXELS = 89_478_485

_ORIENTATION = 0x0112


def decoded_batch(contents: tf.Tensor, config: DataConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode image files and make each what evaluation sees.

    Args:
        contents: Strings `(batch,)`: JPEG or PNG files.
        config: Size, channels, resize and crop.

    Returns:
        uint8 `(batch, size, size, channels)`, and bool `(batch,)`: which could be decoded; the others are black.
    """
    side, count = network_side(config), tf.shape(contents)[0]

    def example(place: tf.Tensor, content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return place, resized(decoded(content, config.channels), config)

    files = tf.data.Dataset.from_tensor_slices((tf.range(count), contents))
    # A dataset alone passes over errors. One more image, whose row is cut off, stands for the case that none is good.
    good = files.map(example, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    filling = tf.data.Dataset.from_tensors((count, tf.zeros((side, side, config.channels), tf.uint8)))
    every = good.concatenate(filling).batch(tf.cast(count, tf.int64) + 1)
    places, squares = every.get_single_element()
    rows = tf.concat([[count + 1], tf.shape(squares)[1:]], axis=0)
    known = tf.scatter_nd(places[:, None], tf.ones_like(places), [count + 1]) > 0
    return tf.scatter_nd(places[:, None], squares, rows)[:count], known[:count]


def decoded(content: tf.Tensor, channels: int) -> tf.Tensor:
    """Decode an image file: upright by its EXIF orientation, alpha on white.

    Args:
        content: A string: a JPEG or PNG file.
        channels: 3 for RGB, 1 for grey.

    Returns:
        uint8 of shape `(height, width, channels)`.

    Raises:
        tf.errors.InvalidArgumentError: It is neither, broken, or a decompression bomb, which is not decoded.
    """
    is_jpeg = tf.strings.substr(content, 0, 3) == b"\xff\xd8\xff"
    is_png = tf.strings.substr(content, 0, 8) == b"\x89PNG\r\n\x1a\n"
    with tf.control_dependencies([tf.debugging.Assert(is_jpeg | is_png, ["neither JPEG nor PNG"])]):
        colours, orientation = tf.cond(is_jpeg, lambda: _jpeg(content), lambda: _png(content))
    return _upright(_in_channels(colours, channels), orientation)


def _jpeg(content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the colours, uint8 `(height, width, 3)`, and the orientation."""
    shape = tf.io.extract_jpeg_shape(content)
    with tf.control_dependencies([_no_bomb(shape[0], shape[1])]):
        colours = tf.io.decode_jpeg(content, 3, dct_method="INTEGER_ACCURATE")
    data = _Bytes(content)

    def is_segment(place: tf.Tensor) -> tf.Tensor:
        within = (place + 10 < data.length) & (data[place] == 0xFF)
        return within & (data[place + 1] != 0xDA) & ~is_exif(place)  # pixels begin with 0xDA

    def is_exif(place: tf.Tensor) -> tf.Tensor:
        return (data[place + 1] == 0xE1) & (data.text(place + 4, 6) == b"Exif\0\0")

    place = tf.while_loop(is_segment, lambda place: [place + 2 + data.number(place + 2, 2)], [2])[0]
    return colours, tf.cond(is_exif(place), lambda: _orientation(data, place + 10), lambda: 1)


def _png(content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the colours on white, uint8 `(height, width, 3)`, and the orientation."""
    data = _Bytes(content)
    with tf.control_dependencies([_no_bomb(data.number(20, 4), data.number(16, 4))]):
        colours = _on_white(_opaque(tf.io.decode_png(content, 4), depth=data[24]))

    def is_chunk(place: tf.Tensor) -> tf.Tensor:
        return (place + 12 < data.length) & ~is_exif(place)

    def is_exif(place: tf.Tensor) -> tf.Tensor:
        return data.text(place + 4, 4) == b"eXIf"

    place = tf.while_loop(is_chunk, lambda place: [place + 12 + tf.maximum(data.number(place, 4), 0)], [8])[0]
    return colours, tf.cond(is_exif(place), lambda: _orientation(data, place + 8), lambda: 1)


class _Bytes:
    """The bytes of a file; beyond its end they are 0."""

    def __init__(self, content: tf.Tensor):
        self._content = content
        self._values = tf.cast(tf.io.decode_raw(content, tf.uint8), tf.int32)
        self.length = tf.size(self._values)

    def __getitem__(self, place: tf.Tensor) -> tf.Tensor:
        inside = (place >= 0) & (place < self.length)
        return tf.where(inside, tf.gather(self._values, tf.clip_by_value(place, 0, self.length - 1)), 0)

    def number(self, place: tf.Tensor, size: int, little: tf.Tensor | bool = False) -> tf.Tensor:
        """Return the whole numbers of `size` bytes at places, the first byte counting most unless `little`."""
        values = self[place[..., None] + tf.range(size)] if tf.is_tensor(place) else self[place + tf.range(size)]
        powers = 256 ** tf.range(size)
        return tf.reduce_sum(values * tf.where(little, powers, powers[::-1]), axis=-1)

    def text(self, place: tf.Tensor, size: int) -> tf.Tensor:
        """Return a string of bytes; it is empty where the file ends before."""
        begin = tf.clip_by_value(place, 0, self.length)
        return tf.strings.substr(self._content, begin, size)


def _orientation(data: _Bytes, start: tf.Tensor) -> tf.Tensor:
    """Return the orientation, 1 to 8, that EXIF data say; 1 where they say none or are broken."""
    little = data.text(start, 4) == b"II*\0"
    sound = little | (data.text(start, 4) == b"MM\0*")
    table = start + data.number(start + 4, 4, little)
    fields = table + 2 + 12 * tf.range(data.number(table, 2, little))
    right = (data.number(fields, 2, little) == _ORIENTATION) & (data.number(fields + 2, 2, little) == 3)  # 3: 16 bits
    found = tf.boolean_mask(data.number(fields + 8, 2, little), right)
    value = tf.concat([found, [1]], axis=0)[0]
    return tf.where(sound & (value >= 1) & (value <= 8), value, 1)


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn by an EXIF orientation: 5 to 8 are mirrored at the diagonal, before they are mirrored like 1 to 4."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    across, down = (tf.reduce_any(orientation == kinds) for kinds in ([2, 3, 6, 7], [3, 4, 7, 8]))
    image = tf.cond(across, lambda: image[:, ::-1], lambda: image)
    return tf.cond(down, lambda: image[::-1], lambda: image)


def _opaque(image: tf.Tensor, depth: tf.Tensor) -> tf.Tensor:
    """Return RGBA with alpha from 0 to 255: of grey of 1, 2 and 4 bits TensorFlow makes 1, 3 and 15 of it."""
    most = 2 ** tf.minimum(depth, 8) - 1
    alpha = tf.cast(image[..., 3:], tf.int32)
    alpha = alpha * tf.where(tf.reduce_max(alpha) <= most, 255 // most, 1)
    return tf.concat([image[..., :3], tf.cast(alpha, tf.uint8)], axis=-1)


def _on_white(image: tf.Tensor) -> tf.Tensor:
    """Compose RGBA on white, in the whole numbers that Pillow takes."""
    alpha = tf.cast(image[..., 3:], tf.int32) * 128
    total = tf.cast(image[..., :3], tf.int32) * alpha + 255 * (255 * 128 - alpha) + 0x80 * 128
    return tf.cast(((total // 256) + total) // 256 // 128, tf.uint8)


def _in_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Return RGB as it is or as grey, ITU-R 601-2 in the whole numbers that Pillow takes."""
    if channels == 3:
        return image
    weighted = tf.cast(image, tf.int32) * [19595, 38470, 7471]
    return tf.cast((tf.reduce_sum(weighted, axis=-1, keepdims=True) + 0x8000) // 65536, tf.uint8)


def _no_bomb(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    pixels = tf.cast(height, tf.float64) * tf.cast(width, tf.float64)
    return tf.debugging.Assert((pixels > 0) & (pixels <= _MOST_PIXELS), ["size", width, height])
