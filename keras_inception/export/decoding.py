"""Image files to pixels within a graph, for servers: what `data.decode` makes of a JPEG or PNG by Pillow, to the bit.

What TensorFlow decodes to other pixels is refused: JPEGs of four inks, CMYK and YCCK. An orientation is looked for in
EXIF alone; Pillow finds one also in XMP and in the text that ImageMagick writes into a PNG, and none behind an EXIF
field that points out of the EXIF data.
"""

from collections.abc import Callable

import tensorflow as tf

from keras_inception.config import DataConfig
from keras_inception.data.crops import network_side, resized
from keras_inception.data.parallel import untuned

# More are a decompression bomb: where Pillow warns.
_MOST_PIXELS = 89_478_485

# Segments or chunks of a file that are looked through; a loop takes some tens of microseconds for each.
_MOST_PARTS = 10_000

_ORIENTATION = 0x0112
_WHOLE_NUMBERS = (3, 4, 8, 9)  # kinds of EXIF fields: of 16 and of 32 bits, without and with a sign
_OF_32_BITS = (4, 9)

# What may follow 0xFF in a JPEG and begins no segment: nothing (0), filling, and markers that stand alone.
_NO_SEGMENT = (0x00, 0x01, *range(0xD0, 0xD9), 0xFF)


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

    files = untuned(tf.data.Dataset.from_tensor_slices((tf.range(count), contents)))
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
        tf.errors.InvalidArgumentError: It is neither, broken, a JPEG of four inks, in more than 10,000 parts, or a
            decompression bomb, which is not decoded.
    """
    is_jpeg = tf.strings.substr(content, 0, 3) == b"\xff\xd8\xff"
    is_png = tf.strings.substr(content, 0, 8) == b"\x89PNG\r\n\x1a\n"
    with tf.control_dependencies([tf.debugging.Assert(is_jpeg | is_png, ["neither JPEG nor PNG"])]):
        colours, orientation = tf.cond(is_jpeg, lambda: _jpeg(content), lambda: _png(content))
    return _upright(_in_channels(colours, channels), orientation)


def _jpeg(content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the colours, uint8 `(height, width, 3)`, and the orientation."""
    shape = tf.io.extract_jpeg_shape(content)
    with tf.control_dependencies([_no_bomb(shape[0], shape[1]), tf.debugging.Assert(shape[2] < 4, ["four inks"])]):
        colours = tf.io.decode_jpeg(content, 3, dct_method="INTEGER_ACCURATE")
    data = _Bytes(content)

    def is_exif(place: tf.Tensor) -> tf.Tensor:
        return (data.number(place, 2) == 0xFFE1) & (data.text(place + 4, 6) == b"Exif\0\0")

    def goes_on(place: tf.Tensor) -> tf.Tensor:
        return (place < data.length) & (data.number(place, 2) != 0xFFDA) & ~is_exif(place)  # pixels begin with 0xFFDA

    def following(place: tf.Tensor) -> list[tf.Tensor]:
        is_segment = (data[place] == 0xFF) & ~_is_one_of(data[place + 1], _NO_SEGMENT)
        return [place + tf.where(is_segment, 2 + data.number(place + 2, 2), 1)]

    (place,) = _looked_through(goes_on, following, [2])
    exif = data.text(place + 10, data.number(place + 2, 2) - 8)
    return colours, tf.cond(is_exif(place), lambda: _orientation(exif), lambda: 1)


def _png(content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the colours on white, uint8 `(height, width, 3)`, and the orientation."""
    data = _Bytes(content)
    # TensorFlow also decodes files with another chunk before the head, whose size would be that of a bomb.
    begins = tf.debugging.Assert(data.text(12, 4) == b"IHDR", ["no head"])
    with tf.control_dependencies([begins, _no_bomb(data.number(20, 4), data.number(16, 4))]):
        image = tf.io.decode_png(content, 4)

    def is_chunk(place: tf.Tensor, exif: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        size = data.number(place, 4)
        return (data.text(place + 4, 4) != b"IEND") & (size >= 0) & (size <= data.length - place - 12)

    def following(place: tf.Tensor, exif: tf.Tensor, key: tf.Tensor) -> list[tf.Tensor]:
        name = data.text(place + 4, 4)
        found = [tf.where(name == b"eXIf", place, exif), tf.where(name == b"tRNS", place, key)]
        return [place + 12 + data.number(place, 4), *found]

    _, exif, key = _looked_through(is_chunk, following, [8, 0, 0])
    orientation = tf.cond(exif > 0, lambda: _orientation(data.text(exif + 8, data.number(exif, 4))), lambda: 1)
    return _on_white(image[..., :3], _alpha(image, data, key)), orientation


def _looked_through(goes_on: Callable, following: Callable, start: list[int]) -> list[tf.Tensor]:
    """Return what a loop ends with; fails where that takes too long, which a file can be made for."""
    end = tf.while_loop(goes_on, following, start, maximum_iterations=_MOST_PARTS)
    with tf.control_dependencies([tf.debugging.Assert(~goes_on(*end), ["too many parts"])]):
        return [tf.identity(value) for value in end]


class _Bytes:
    """The bytes of a file; beyond its end they are 0."""

    def __init__(self, content: tf.Tensor):
        self._content = content
        self._values = tf.io.decode_raw(tf.strings.join([content, b"\0"]), tf.uint8)
        self.length = tf.strings.length(content)

    def __getitem__(self, place: tf.Tensor | int) -> tf.Tensor:
        inside = tf.where((place >= 0) & (place < self.length), place, self.length)
        return tf.cast(tf.gather(self._values, inside), tf.int32)

    def number(self, place: tf.Tensor | int, size: int, little: tf.Tensor | bool = False) -> tf.Tensor:
        """Return the whole numbers of `size` bytes at places, the first byte counting most unless `little`.

        They are int32: those of 4 bytes have a sign.
        """
        values = self[tf.expand_dims(place, -1) + tf.range(size)]
        powers = 256 ** tf.range(size)
        return tf.reduce_sum(values * tf.where(little, powers, powers[::-1]), axis=-1)

    def text(self, place: tf.Tensor | int, size: tf.Tensor | int) -> tf.Tensor:
        """Return a string of bytes; it is shorter where the file ends before."""
        begin = tf.clip_by_value(place, 0, self.length)
        return tf.strings.substr(self._content, begin, tf.maximum(size, 0))


def _orientation(exif: tf.Tensor) -> tf.Tensor:
    """Return the orientation, 1 to 8, that EXIF data say; 1 where they say none or are broken."""
    name = tf.where(tf.strings.substr(exif, 0, 6) == b"Exif\0\0", 6, 0)  # some write it once more
    data = _Bytes(tf.strings.substr(exif, name, tf.strings.length(exif)))
    order, magic = data.text(0, 2), data.text(2, 2)
    little = order == b"II"
    sound = (little | (order == b"MM")) & _is_one_of(magic, (b"*\0", b"\0*"))  # in either order, as Pillow has it
    table = data.number(4, 4, little)
    fields = table + 2 + 12 * tf.range(data.number(table, 2, little))
    kinds, counts = data.number(fields + 2, 2, little), data.number(fields + 4, 4, little)
    wide = _is_one_of(kinds, _OF_32_BITS)
    right = (data.number(fields, 2, little) == _ORIENTATION) & _is_one_of(kinds, _WHOLE_NUMBERS)
    right &= (counts >= 1) & (counts <= tf.where(wide, 1, 2)) & (fields <= data.length - 12)  # of two it is the first
    values = tf.where(wide, data.number(fields + 8, 4, little), data.number(fields + 8, 2, little))
    value = tf.concat([tf.boolean_mask(values, right), [1]], axis=0)[0]
    return tf.where(sound & (value >= 1) & (value <= 8), value, 1)


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn by an EXIF orientation: 5 to 8 are mirrored at the diagonal, before they are mirrored like 1 to 4."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    across, down = (tf.reduce_any(orientation == kinds) for kinds in ([2, 3, 6, 7], [3, 4, 7, 8]))
    image = tf.cond(across, lambda: image[:, ::-1], lambda: image)
    return tf.cond(down, lambda: image[::-1], lambda: image)


def _alpha(image: tf.Tensor, data: _Bytes, key: tf.Tensor) -> tf.Tensor:
    """Return the alpha that Pillow finds in a PNG: uint8 `(height, width, 1)`.

    TensorFlow's own is right where the file holds one for every pixel or colour of its palette. For an opaque image of
    less than 8 bits it is not 255; and where a colour stands for transparency, Pillow looks for the lower 8 bits of it
    among 8-bit colours, and not at all in 16-bit grey.

    Args:
        image: RGBA of TensorFlow.
        data: The file.
        key: Where its chunk tRNS begins; 0 if it has none.
    """
    depth, kind = data[24], data[25]  # 0: grey, 2: RGB, 3: palette, 4: grey with alpha, 6: RGBA
    stored = (kind >= 4) | ((kind == 3) & (key > 0))
    colour = data[key + 8 + tf.where(kind == 2, [1, 3, 5], 1)]
    colour = tf.where(depth == 1, tf.where(data.number(key + 8, 2) == 0, 0, 255), colour)
    has_colour = (key > 0) & ((kind == 2) | ((kind == 0) & (depth < 16)))
    is_colour = tf.reduce_all(image[..., :3] == tf.cast(colour, tf.uint8), axis=-1, keepdims=True)
    return tf.where(stored, image[..., 3:], tf.where(has_colour & is_colour, tf.zeros_like(image[..., 3:]), 255))


def _on_white(image: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Compose RGB on white, in the whole numbers that Pillow takes."""

    def composed() -> tf.Tensor:
        weight = tf.cast(alpha, tf.int32) * 128
        total = tf.cast(image, tf.int32) * weight + 255 * (255 * 128 - weight) + 0x80 * 128
        return tf.cast(((total // 256) + total) // 256 // 128, tf.uint8)

    return tf.cond(tf.reduce_all(alpha == 255), lambda: image, composed)  # most are opaque, and this takes long


def _in_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Return RGB as it is or as grey, ITU-R 601-2 in the whole numbers that Pillow takes."""
    if channels == 3:
        return image
    weighted = tf.cast(image, tf.int32) * [19595, 38470, 7471]
    return tf.cast((tf.reduce_sum(weighted, axis=-1, keepdims=True) + 0x8000) // 65536, tf.uint8)


def _no_bomb(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    pixels = tf.cast(height, tf.float64) * tf.cast(width, tf.float64)
    return tf.debugging.Assert((pixels > 0) & (pixels <= _MOST_PIXELS), ["size", width, height])


def _is_one_of(values: tf.Tensor, choices: tuple) -> tf.Tensor:
    return tf.reduce_any(values[..., None] == tf.constant(choices), axis=-1)
