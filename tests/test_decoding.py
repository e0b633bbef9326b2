"""Images decoded within a graph are to the bit what Pillow makes of them; what is broken does not fail its batch."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st
from PIL import Image

from keras_inception.config import DataConfig
from keras_inception.data.crops import resized
from keras_inception.data.decode import decode
from keras_inception.export.decoding import decoded, decoded_batch

RANDOM = np.random.default_rng(0)
NOISE = Image.fromarray(RANDOM.integers(0, 256, (33, 21, 3), dtype=np.uint8))
ALPHA = Image.fromarray(RANDOM.integers(0, 256, (33, 21), dtype=np.uint8))
# Large plain areas, which survive JPEG.
AREAS = Image.fromarray(np.kron(RANDOM.integers(0, 256, (4, 5, 3), dtype=np.uint8), np.ones((9, 9, 1), np.uint8)))
CONFIG = DataConfig(image_size=28)

_CONTENT = tf.TensorSpec((), tf.string)
_GRAPHS = {
    channels: tf.function(lambda content, channels=channels: decoded(content, channels), input_signature=[_CONTENT])
    for channels in (1, 3)
}
_BATCH = tf.function(
    lambda contents: decoded_batch(contents, CONFIG), input_signature=[tf.TensorSpec((None,), tf.string)]
)


def stored(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, depth, colour, rows, *chunks):
    """A PNG made by hand: rows of bytes, without filters."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    more = b"".join(chunk(name, data) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + head + more + pixels + chunk(b"IEND", b"")


def png_of_few_bits(depth, colour, *chunks):
    """One of 1, 2 or 4 bits whose pixels hold every value."""
    row = b"\x01\x5a\xf3\x8c\xd6\x27\xb9\xe4"
    return png(64 // depth, 2, depth, colour, [row, row[::-1]], *chunks)


def with_alpha(mode):
    image = NOISE.copy()
    image.putalpha(ALPHA)
    return image.convert(mode)


def exif(orientation):
    tags = Image.Exif()
    tags[0x010E] = "a description before it"
    tags[0x0112] = orientation
    return tags


def check(content):
    for channels, graph in _GRAPHS.items():
        np.testing.assert_array_equal(graph(tf.constant(content)).numpy(), decode(content, channels))


def colours(depth):
    """The chunk of a palette."""
    return b"PLTE", bytes(range(7, 7 + 3 * 2**depth))


PALETTE, GREY = NOISE.convert("P"), NOISE.convert("L")
STORED = {
    **{f"JPEG {mode}": stored(AREAS.convert(mode), "JPEG", quality=90) for mode in ("RGB", "L")},
    "JPEG progressive": stored(AREAS, "JPEG", progressive=True),
    "JPEG without subsampling": stored(NOISE, "JPEG", subsampling=0),
    **{f"PNG {mode}": stored(NOISE.convert(mode), "PNG") for mode in ("RGB", "L", "P", "1")},
    **{f"PNG {mode}": stored(with_alpha(mode), "PNG") for mode in ("RGBA", "LA")},
    "PNG 16-bit grey": stored(Image.fromarray(RANDOM.integers(0, 65536, (9, 7)).astype(np.uint16)), "PNG"),
    "PNG 16-bit colour": png(2, 1, 16, 2, [bytes(range(40, 52))]),
    "PNG 16-bit alpha": png(2, 1, 16, 6, [bytes(range(40, 56))]),
    "PNG 2-bit grey": png(4, 2, 2, 0, [b"\x1b", b"\xe4"]),
    "PNG 4-bit grey": png(4, 2, 4, 0, [b"\x01\x9f", b"\x00\x11"]),
    "PNG 16-bit grey, one transparent": png(2, 1, 16, 0, [b"\0\7\7\7"], (b"tRNS", b"\0\7")),
    "PNG 16-bit colour, one transparent": png(1, 2, 16, 2, [b"\1\0" * 3, b"\0\1" * 3], (b"tRNS", b"\0\1" * 3)),
    **{
        f"PNG {depth}-bit grey, {key} transparent": png_of_few_bits(depth, 0, (b"tRNS", bytes([0, key])))
        for depth, key in ((1, 0), (1, 1), (2, 0), (2, 1), (4, 0), (4, 1), (4, 15))
    },
    **{f"PNG {depth}-bit palette": png_of_few_bits(depth, 3, colours(depth)) for depth in (1, 2, 4)},
    **{
        f"PNG {depth}-bit palette, alpha {alpha}": png_of_few_bits(
            depth, 3, colours(depth), (b"tRNS", bytes([alpha] * 2**depth))
        )
        for depth, alpha in ((1, 1), (2, 3), (4, 15), (4, 200))
    },
    "PNG palette, one transparent": stored(PALETTE, "PNG", transparency=3),
    "PNG palette, all translucent": stored(PALETTE, "PNG", transparency=bytes(range(256))),
    "PNG grey, one transparent": stored(
        NOISE.convert("L"), "PNG", transparency=int(np.asarray(NOISE.convert("L"))[0, 0])
    ),
    "PNG colour, one transparent": stored(NOISE, "PNG", transparency=tuple(map(int, np.asarray(NOISE)[0, 0]))),
}


@pytest.mark.parametrize("name", STORED)
def test_pixels_are_pillows_to_the_bit(name):
    check(STORED[name])


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright(form, orientation):
    check(stored(AREAS, form, exif=exif(orientation)))


def with_segments(*segments):
    """A JPEG with segments of EXIF data, or others as they stand, before all others."""
    plain = STORED["JPEG RGB"]
    return plain[:2] + b"".join(segments) + plain[2:]


def exif_segment(data):
    return b"\xff\xe1" + struct.pack(">H", len(data) + 8) + b"Exif\0\0" + data


def field(kind, count, value, order="<", head=None):
    """EXIF data that hold the orientation alone."""
    head = head or {"<": b"II*\0", ">": b"MM\0*"}[order]
    return head + struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, count) + value + bytes(4)


FIELDS = {
    "16 bits": field(3, 1, b"\6\0\0\0"),
    "16 bits, big end first": field(3, 1, b"\0\6\0\0", ">"),
    "16 bits with a sign": field(8, 1, b"\6\0\0\0"),
    "32 bits": field(4, 1, b"\6\0\0\0"),
    "32 bits, big end first": field(4, 1, b"\0\0\0\6", ">"),
    "32 bits with a sign": field(9, 1, b"\6\0\0\0"),
    "letters": field(2, 2, b"6\0\0\0"),
    "none": field(3, 0, b"\6\0\0\0"),
    "two": field(3, 2, b"\6\0\3\0"),
    "no orientation": field(3, 1, b"\x09\0\0\0"),
    "its magic in the other order": field(3, 1, b"\0\6\0\0", ">", b"MM*\0"),
    "its name once more": b"Exif\0\0" + field(3, 1, b"\6\0\0\0"),
}


@pytest.mark.filterwarnings("ignore:Metadata Warning")
@pytest.mark.parametrize("name", FIELDS)
def test_the_orientation_of_every_kind_of_field(name):
    check(with_segments(exif_segment(FIELDS[name])))
    check(png(1, 2, 8, 0, [b"\1", b"\2"], (b"eXIf", FIELDS[name])))


@pytest.mark.parametrize("before", [b"\xff\xff\xff", b"\xff\xec\0\5abc", b"\xff\xe1\0\5abc"])
def test_filling_and_other_segments_before_exif(before):
    check(with_segments(before, exif_segment(FIELDS["16 bits"])))


@pytest.mark.parametrize("after", [b"eXIf", b"abCd"])
def test_what_follows_the_image_is_not_looked_at(after):
    check(STORED["PNG RGB"] + chunk(after, FIELDS["16 bits"]))
    check(STORED["PNG RGB"] + b"\x7f\xff\xff\xf0" + after + bytes(40))  # a length at which int32 overflows
    check(STORED["JPEG RGB"] + exif_segment(FIELDS["16 bits"]))


def test_exif_behind_the_pixels_of_a_png():
    end = chunk(b"IEND", b"")
    check(STORED["PNG RGB"].removesuffix(end) + chunk(b"eXIf", FIELDS["16 bits"]) + end)


def test_both_byte_orders_and_a_segment_before():
    tags = exif(6).tobytes()
    assert tags[6:8] == b"MM"
    little = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    check(stored(AREAS, "JPEG", exif=little))
    check(stored(AREAS, "JPEG", exif=exif(8), icc_profile=b"profile" * 100, comment=b"before"))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "data",
    [b"II*\0\xff\xff\xff\xff", b"XX*\0\x08\0\0\0", b"", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\x08\0\0\0\x05\0\x12\x01"],
)
def test_broken_exif_is_passed_over(data):
    check(with_segments(exif_segment(data)))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["RGB", "L", "RGBA", "LA", "P"]),
    st.integers(5, 100),
    st.integers(1, 8),
)
def test_any_size_mode_quality_and_orientation(height, width, mode, quality, orientation):
    pixels = np.random.default_rng(height * 41 + width).integers(0, 256, (height, width, 4), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    check(stored(image, "PNG", exif=exif(orientation)))
    check(stored(image.convert("L" if mode in ("L", "LA") else "RGB"), "JPEG", quality=quality, exif=exif(orientation)))


CMYK = stored(Image.merge("CMYK", [ALPHA] * 4), "JPEG")
ADOBE = CMYK[2:18]
FOUR_INKS = {
    "CMYK": CMYK,
    "CMYK without a word by Adobe": CMYK.replace(ADOBE, b""),
    "YCCK": CMYK.replace(ADOBE, ADOBE[:-1] + b"\2"),
}
BROKEN = {
    "empty": b"",
    "garbage": b"garbage",
    "a head alone": b"\xff\xd8\xff",
    "a PNG's head alone": b"\x89PNG\r\n\x1a\n",
    "truncated JPEG": STORED["JPEG RGB"][:-40],
    "truncated PNG": STORED["PNG RGB"][:-30],
    "WebP": stored(AREAS, "WEBP"),
    "GIF": stored(AREAS, "GIF"),
    **{f"JPEG of {name}": content for name, content in FOUR_INKS.items()},
    "a PNG of 30,000 times 30,000": png(30_000, 30_000, 8, 2, [b"\0"]),
    "a PNG with a chunk before its head": STORED["PNG RGB"][:8] + chunk(b"abCd", bytes(13)) + STORED["PNG RGB"][8:],
    "a JPEG in too many parts": with_segments(b"\xff\xec\0\2" * 20_000),
    "a PNG in too many parts": png(1, 1, 8, 0, [b"\0"], *[(b"abCd", b"")] * 20_000),
    "a JPEG of 65,000 times 65,000": STORED["JPEG RGB"].replace(
        struct.pack(">HH", AREAS.height, AREAS.width), struct.pack(">HH", 65_000, 65_000), 1
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_a_bomb_or_neither_is_refused(name):
    with pytest.raises(tf.errors.InvalidArgumentError):
        _GRAPHS[3](tf.constant(BROKEN[name]))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a PNG of 30,000 times 30,000", "30000"),
        ("a JPEG of 65,000 times 65,000", "65000"),
        ("a PNG with a chunk before its head", "no head"),
        ("a JPEG in too many parts", "too many parts"),
        ("a PNG in too many parts", "too many parts"),
        *((f"JPEG of {name}", "four inks") for name in FOUR_INKS),
    ],
)
def test_what_could_be_decoded_is_refused_for_its_reason(name, reason):
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        _GRAPHS[3](tf.constant(BROKEN[name]))


def test_broken_images_do_not_fail_their_batch():
    good = [STORED["JPEG RGB"], STORED["PNG LA"], stored(AREAS, "JPEG", exif=exif(5))]
    bad = list(BROKEN.values())
    squares, flags = _BATCH(tf.constant([good[0], *bad, *good[1:]]))
    assert flags.numpy().tolist() == [True] + [False] * len(bad) + [True, True]
    for place, content in zip((0, -2, -1), good, strict=True):
        np.testing.assert_array_equal(squares[place], resized(tf.constant(decode(content, 3)), CONFIG))
    assert not squares.numpy()[1:-2].any()


@pytest.mark.parametrize("contents", [[], [b""], [b"", b"garbage"], [STORED["PNG P"]]])
def test_batches_of_none_of_one_and_of_broken_ones(contents):
    squares, flags = _BATCH(tf.constant(contents, tf.string))
    assert squares.shape == (len(contents), 28, 28, 3)
    assert flags.numpy().tolist() == [content == STORED["PNG P"] for content in contents]


def test_it_is_saved_and_loaded_without_keras(tmp_path):
    module = tf.Module()
    module.decode = _BATCH
    tf.saved_model.save(module, tmp_path / "saved")
    (tmp_path / "image").write_bytes(STORED["JPEG progressive"])
    code = (
        "import sys\nsys.modules['keras'] = None\n"
        "import numpy as np, tensorflow as tf\n"
        "content = open(sys.argv[2], 'rb').read()\n"
        "squares, flags = tf.saved_model.load(sys.argv[1]).decode(tf.constant([b'', content]))\n"
        "assert flags.numpy().tolist() == [False, True]\n"
        "np.save(sys.argv[3], squares[1].numpy())\n"
    )
    words = [sys.executable, "-c", code, tmp_path / "saved", tmp_path / "image", tmp_path / "square.npy"]
    subprocess.run(list(map(str, words)), check=True, capture_output=True)
    expected = resized(tf.constant(decode(STORED["JPEG progressive"], 3)), CONFIG)
    np.testing.assert_array_equal(np.load(tmp_path / "square.npy"), expected)
