"""Crops against coordinates computed by hand: every pixel of the images holds its own row and column."""

import functools
import resource

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st
from PIL import Image

from keras_inception.config import DataConfig
from keras_inception.data import crops
from keras_inception.errors import DataError


def coordinates(height, width):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)


@functools.cache
def graph(count, size, resize="bilinear", crop_fraction=1.0):
    """As in the pipeline, where the sizes of images are not known beforehand."""
    config = DataConfig(image_size=size, resize=resize, crop_fraction=crop_fraction)
    specification = tf.TensorSpec((None, None, 3), tf.uint8)
    return tf.function(lambda image: crops.test_crops(image, config, count), input_signature=[specification])


def cut(image, count, size, **options):
    views = graph(count, size, **options)(tf.constant(image)).numpy()
    assert views.shape == (count, size, size, 3)
    assert views.dtype == np.uint8
    return views


def corners(views):
    """The row and column that the first pixel of each view came from."""
    return [(int(view[0, 0, 0]), int(view[0, 0, 1])) for view in views]


def exact(view, size):
    """Whether a view is a piece of the image, not resized."""
    return np.array_equal(view - view[0, 0], coordinates(size, size))


# One crop and ten, where nothing is resized.


@pytest.mark.parametrize(("height", "width", "top", "left"), [(28, 50, 0, 11), (50, 28, 11, 0), (28, 51, 0, 11)])
def test_one_crop_is_the_centre(height, width, top, left):
    (view,) = cut(coordinates(height, width), 1, 28)
    np.testing.assert_array_equal(view, coordinates(height, width)[top : top + 28, left : left + 28])


@pytest.mark.parametrize("crop_fraction", [1.0, 0.875])
def test_one_crop_is_what_evaluation_sees(crop_fraction):
    image = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    expected = crops.resized(tf.constant(image), DataConfig(image_size=28, crop_fraction=crop_fraction))
    np.testing.assert_array_equal(cut(image, 1, 28, crop_fraction=crop_fraction)[0], expected)


@pytest.mark.parametrize(
    ("size", "height", "width", "expected"),
    [
        # 28 · 256 / 224 = 32, and 32 − 28 = 4. The square of a landscape of 50 begins at (50 − 32) / 2 = 9.
        (28, 32, 32, [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]),
        (28, 32, 50, [(0, 9), (0, 13), (4, 9), (4, 13), (2, 11)]),
        (28, 50, 32, [(9, 0), (9, 4), (13, 0), (13, 4), (11, 2)]),
        (28, 32, 51, [(0, 9), (0, 13), (4, 9), (4, 13), (2, 11)]),  # an odd pixel is left over at the right
        (28, 51, 32, [(9, 0), (9, 4), (13, 0), (13, 4), (11, 2)]),
        # 128 · 256 / 224 = 146.3, and 146 − 128 = 18.
        (128, 146, 146, [(0, 0), (0, 18), (18, 0), (18, 18), (9, 9)]),
        (128, 146, 200, [(0, 27), (0, 45), (18, 27), (18, 45), (9, 36)]),
        # 29 · 256 / 224 = 33.1, and 33 − 29 = 4.
        (29, 33, 33, [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]),
        # 224: 256 − 224 = 32.
        (224, 256, 256, [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]),
    ],
)
def test_ten_crops_are_the_corners_and_the_centre_of_the_central_square_and_their_mirrors(
    size, height, width, expected
):
    views = cut(coordinates(height, width), 10, size)
    assert corners(views[:5]) == expected
    assert all(exact(view, size) for view in views[:5])
    np.testing.assert_array_equal(views[5:], views[:5, :, ::-1])


def test_ten_crops_do_not_look_at_the_crop_fraction():
    image = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    np.testing.assert_array_equal(cut(image, 10, 28), cut(image, 10, 28, crop_fraction=0.5))


# 144 crops: four scales of three squares of six views, and mirrors.


SIDES = {28: (32, 36, 40, 44), 128: (146, 165, 183, 201), 16: (18, 21, 23, 25)}


def views_of(views, scale, square, view):
    return views[(scale * 3 + square) * 6 + view]


@pytest.mark.parametrize("size", SIDES)
@pytest.mark.parametrize("scale", range(4))
@pytest.mark.parametrize("longer", [0, 8, 19])
@pytest.mark.parametrize("portrait", [False, True])
def test_at_the_scale_that_needs_no_resize_the_pieces_are_where_arithmetic_puts_them(size, scale, longer, portrait):
    side = SIDES[size][scale]
    shape = (side, side + longer)
    views = cut(coordinates(*(shape[::-1] if portrait else shape)), 144, size)
    margin = side - size
    for square, start in enumerate((0, longer // 2, longer)):
        across, down = (0, start) if portrait else (start, 0)
        places = [(0, 0), (0, margin), (margin, 0), (margin, margin), (margin // 2, margin // 2)]
        for number, (top, left) in enumerate(places, start=1):
            view = views_of(views, scale, square, number)
            assert corners([view]) == [(down + top, across + left)]
            assert exact(view, size)


def test_the_published_sides_at_224_by_hand():
    # A landscape of 256×341: at the first scale nothing is resized; 341 − 256 = 85 and 85 // 2 = 42.
    image = np.zeros((256, 341, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = (*np.mgrid[:256, :341] % 256, np.mgrid[:256, :341][1] // 256)
    views = cut(image, 144, 224)
    for square, start in enumerate((0, 42, 85)):
        expected = [(0, start), (0, start + 32), (32, start), (32, start + 32), (16, start + 16)]
        for number, (top, left) in enumerate(expected, start=1):
            piece = image[top : top + 224, left : left + 224]
            np.testing.assert_array_equal(views_of(views, 0, square, number), piece)


@pytest.mark.parametrize(("height", "width"), [(100, 100), (100, 160), (160, 100), (97, 173), (173, 97)])
def test_every_view_of_every_scale_shows_the_part_of_the_image_that_it_should(height, width):
    size = 28
    views = cut(coordinates(height, width), 144, size)
    shorter, longer = sorted((height, width))
    for scale, side in enumerate(SIDES[size]):
        long_side = round(longer * side / shorter)
        factors = np.asarray([height, width]) / ([long_side, side] if height > width else [side, long_side])
        for square, start in enumerate((0, (long_side - side) // 2, long_side - side)):
            down, across = (start, 0) if height > width else (0, start)
            margin = side - size
            extents = [(0, 0, side)] + [
                (top, left, size)
                for top, left in [(0, 0), (0, margin), (margin, 0), (margin, margin), (margin // 2, margin // 2)]
            ]
            for number, (top, left, extent) in enumerate(extents):
                view = views_of(views, scale, square, number).astype(float)
                centre = (np.asarray([down + top, across + left]) + extent / 2) * factors - 0.5
                # The middle of what is seen, and how far it reaches; a pixel of the resized image is 2.2 to 3.1 here.
                np.testing.assert_allclose(view[..., :2].mean(axis=(0, 1)), centre, atol=0.75)
                reach = [np.ptp(view[:, 14, 0]), np.ptp(view[14, :, 1])]
                np.testing.assert_allclose(reach, extent * factors * (size - 1) / size, atol=2)


def test_the_whole_square_is_resized_as_pillow_does():
    image = np.random.default_rng(0).integers(0, 256, (44, 60, 3), dtype=np.uint8)
    views = cut(image, 144, 28)
    for square, left in enumerate((0, 8, 16)):
        piece = Image.fromarray(image[:, left : left + 44])
        expected = np.asarray(piece.resize((28, 28), Image.Resampling.BILINEAR)).astype(int)
        np.testing.assert_allclose(views_of(views, 3, square, 0).astype(int), expected, atol=1)


@pytest.mark.parametrize("count", [10, 144])
def test_the_second_half_mirrors_the_first(count):
    image = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    views = cut(image, count, 28)
    np.testing.assert_array_equal(views[count // 2 :], views[: count // 2, :, ::-1])


def test_the_three_squares_of_a_square_are_the_same():
    views = cut(np.random.default_rng(0).integers(0, 256, (61, 61, 3), dtype=np.uint8), 144, 28)
    views = views.reshape(2, 4, 3, 6, 28, 28, 3)
    np.testing.assert_array_equal(views[:, :, 0], views[:, :, 1])
    np.testing.assert_array_equal(views[:, :, 0], views[:, :, 2])


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from([(10, 28, "area"), (144, 7, "lanczos3"), (144, 1, "bicubic")]),
)
def test_images_of_every_size_give_crops_and_plain_ones_stay_plain(height, width, target):
    count, size, resize = target
    image = np.broadcast_to(np.asarray([0, 100, 255], np.uint8), (height, width, 3))
    assert (cut(image, count, size, resize=resize) == [0, 100, 255]).all()


# Strips: their squares lie at the ends, and what lies between them is never resized.


@pytest.mark.parametrize("portrait", [False, True])
@pytest.mark.parametrize("length", [4_000, 4_001, 20_003])
def test_the_squares_of_a_strip_are_its_ends_and_its_centre(length, portrait):
    # In steps of 32 pixels, the shorter side of the strip, the number of the step.
    steps = np.arange(length) // 32 % 256
    image = np.broadcast_to(steps[None, :, None], (32, length, 3)).astype(np.uint8)
    views = cut(image.transpose(1, 0, 2) if portrait else image, 144, 28)
    for square, start in enumerate((0, (length - 32) // 2, length - 32)):
        for number, along in enumerate((0, 0, 4, 4, 2) if portrait else (0, 4, 0, 4, 2), start=1):
            view = views_of(views, 0, square, number)
            line = view[:, 0] if portrait else view[0]
            np.testing.assert_array_equal(line, image[0, start + along : start + along + 28])


def test_a_strip_just_too_long_gives_what_a_strip_just_short_enough_gives():
    random = np.random.default_rng(0)
    image = np.repeat(random.integers(0, 256, (20, 33, 3), dtype=np.uint8), 5, axis=1)[:, :162]  # 8.1 times its height
    config = DataConfig(image_size=28)
    for side in SIDES[28]:
        whole = crops._shortened_to(tf.constant(image), side, config)
        short = crops._shortened_to(crops._ends_and_centre_of_strip(tf.constant(image)), side, config)
        for place in (0, 1, 2):
            squares = [crops._square(pixels, side, place).numpy() for pixels in (whole, short)]
            # Random pixels, five in a row alike: the ends are moved by a hundredth of a pixel, and the centre, where
            # half a pixel is rounded, by half of one. A square in another place differs by 50 and more.
            assert np.abs(squares[0] - squares[1]).mean() < (5 if place == 1 else 0.3)


@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1), (3, 100_000)])
@pytest.mark.parametrize("count", [10, 144])
def test_an_extreme_strip_takes_no_more_memory_than_an_image(shape, count):
    image = np.full((*shape, 3), 200, np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (cut(image, count, 128) == 200).all()
    # Resized whole, the strip of one pixel would be 146 × 8,760,000 × 3 floats: 15 GB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_a_side_that_is_not_set_is_named():
    with pytest.raises(DataError, match="image_size is not set"):
        crops.test_crops(tf.zeros((8, 8, 3), tf.uint8), DataConfig(), 10)
