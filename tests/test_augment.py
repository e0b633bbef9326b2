"""The paper's sampling against its definition, and colours against Pillow, TensorFlow and arithmetic."""

import functools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageEnhance

from keras_inception.config import DataConfig
from keras_inception.data import augment

SIDES = st.integers(1, 3000)


@functools.cache
def drawn(count=2000, seed=7):
    """The random numbers of many examples: name to `(count, numbers)`."""
    function = tf.function(lambda index: augment.draws(seed, tf.constant(0, tf.int64), index, DataConfig()))
    rows = tf.data.Dataset.range(count).map(function).batch(count)
    return {name: values.numpy() for name, values in next(iter(rows)).items()}


@functools.cache
def sampler(config):
    return tf.function(
        lambda index, shape: augment.patch(augment.draws(7, tf.constant(0, tf.int64), index, config), shape, config),
        input_signature=[tf.TensorSpec((), tf.int64), tf.TensorSpec((2,), tf.int32)],
    )


def patches(shape, count=400, **config):
    sample = sampler(DataConfig(**config))
    boxes = tf.data.Dataset.range(count).map(lambda index: sample(index, tf.constant(shape, tf.int32))).batch(count)
    return next(iter(boxes)).numpy()


# Numbers.


def test_all_numbers_are_even_in_0_to_1_and_independent_of_each_other():
    numbers = drawn()
    table = np.concatenate(list(numbers.values()), axis=1)
    assert ((table >= 0) & (table < 1)).all()
    for column in table.T:
        assert scipy.stats.kstest(column, "uniform").pvalue > 1e-5
    correlation = np.corrcoef(table.T) - np.eye(table.shape[1])
    assert np.abs(correlation).max() < 0.12  # five deviations of 2,000 pairs


def test_numbers_depend_on_seed_epoch_and_example_alone():
    def numbers(seed, epoch, index):
        values = augment.draws(seed, tf.constant(epoch, tf.int64), tf.constant(index, tf.int64), DataConfig())
        return np.concatenate([value.numpy() for value in values.values()])

    base = numbers(1, 2, 3)
    np.testing.assert_array_equal(base, numbers(1, 2, 3))
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2), (2**32 - 1, 2, 3), (1, 10**6, 10**7)):
        assert not np.array_equal(base, numbers(*other))


# Patches.


@settings(max_examples=25, deadline=None)
@given(SIDES, SIDES)
def test_a_patch_lies_inside_the_image_and_is_not_empty(height, width):
    for top, left, tall, wide in patches((height, width), count=20):
        assert top >= 0
        assert left >= 0
        assert tall >= 1
        assert wide >= 1
        assert top + tall <= height
        assert left + wide <= width


@settings(max_examples=15, deadline=None)
@given(st.integers(300, 2000), st.integers(300, 2000))
def test_area_and_aspect_are_in_their_ranges(height, width):
    boxes = patches((height, width), count=50).astype(float)
    area, aspect = boxes[:, 2] * boxes[:, 3] / (height * width), boxes[:, 3] / boxes[:, 2]
    assert (area < 1.001).all()
    assert ((aspect > 0.74) & (aspect < 1.35)).all()
    if 0.75 < width / height < 4 / 3:  # else the largest patch of a strip may be smaller than its 8%
        assert (area > 0.078).all()


def test_area_and_aspect_are_uniform_as_the_paper_says():
    # Areas small enough that every candidate fits: nothing is rejected.
    boxes = patches((2000, 2000), count=2000, crop_area=(0.08, 0.6)).astype(float)
    area, aspect = boxes[:, 2] * boxes[:, 3] / 2000**2, boxes[:, 3] / boxes[:, 2]
    assert scipy.stats.kstest(area, scipy.stats.uniform(0.08, 0.52).cdf).pvalue > 1e-4
    assert scipy.stats.kstest(aspect, scipy.stats.uniform(3 / 4, 4 / 3 - 3 / 4).cdf).pvalue > 1e-4


def test_every_place_is_as_likely():
    boxes = patches((10, 10), count=2000, crop_area=(0.25, 0.25), crop_aspect=(1.0, 1.0))
    assert (boxes[:, 2:] == 5).all()
    for corner in boxes[:, :2].T:
        assert scipy.stats.chisquare(np.bincount(corner, minlength=6)).pvalue > 1e-4


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((10, 1000), (0, 493, 10, 13)),
        ((1000, 10), (493, 0, 13, 10)),
        ((1, 1), (0, 0, 1, 1)),
        ((30, 30), (0, 0, 30, 30)),
    ],
)
def test_where_no_candidate_fits_the_largest_centred_patch_is_taken(shape, box):
    # No candidate of the whole area fits but into a square of the right aspect.
    found = patches(
        shape, count=3, crop_area=(1.0, 1.0), crop_aspect=(1.0, 1.0) if shape == (30, 30) else (3 / 4, 4 / 3)
    )
    assert {tuple(row) for row in found.tolist()} == {box}


@pytest.mark.parametrize("interpolation", ["area", "bilinear", "bicubic", "nearest", "random"])
@pytest.mark.parametrize("side", [3, 8, 29])
def test_a_patch_of_one_colour_stays_so_whatever_the_interpolation(interpolation, side):
    numbers = {"interpolation": tf.constant([0.6])}
    pixels = tf.fill((side, side, 3), tf.constant(200, tf.uint8))
    view = augment.resized_patch(pixels, numbers, DataConfig(interpolation=interpolation), 8)
    assert view.shape == (8, 8, 3)
    np.testing.assert_allclose(view, 200, atol=1e-3)


def test_area_averages_where_it_shrinks_and_is_bilinear_where_it_enlarges():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    config = DataConfig(interpolation="area")
    shrunk = augment.resized_patch(tf.constant(pixels), {}, config, 8)
    np.testing.assert_allclose(shrunk, pixels.reshape(8, 2, 8, 2, 3).mean(axis=(1, 3)), atol=1e-3)
    enlarged = augment.resized_patch(tf.constant(pixels), {}, config, 32)
    expected = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(enlarged, np.asarray(expected, float), atol=1)


def test_random_interpolation_takes_each_of_four_as_often():
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (12, 12, 1), np.uint8))
    config = DataConfig(interpolation="random")
    views = [
        augment.resized_patch(pixels, {"interpolation": tf.constant([n])}, config, 8).numpy()
        for n in (0, 0.3, 0.6, 0.99)
    ]
    names = ("area", "bilinear", "bicubic", "nearest")
    for view, name in zip(views, names, strict=True):
        np.testing.assert_array_equal(view, augment.resized_patch(pixels, {}, DataConfig(interpolation=name), 8))


# Colours.

NEUTRAL = {"order": [0.1, 0.2, 0.3, 0.4], "brightness": [0.5], "contrast": [0.5], "saturation": [0.5], "hue": [0.5]}


def colour(image, config, **numbers):
    """Distort one image with the numbers given; one half changes nothing."""
    values = {name: tf.constant([value], tf.float32) for name, value in (NEUTRAL | numbers).items()}
    return augment.distorted(
        tf.constant(image, tf.float32)[None], values, DataConfig(**config, value_range=(0.0, 255.0))
    )[0].numpy()


def photograph(seed=0, low=60, high=190):
    return np.random.default_rng(seed).integers(low, high, (9, 7, 3)).astype(np.uint8)


ALL = {"brightness": 0.125, "contrast": 0.5, "saturation": 0.5, "hue": 0.2}


def test_numbers_in_the_middle_change_nothing():
    np.testing.assert_allclose(colour(photograph(), ALL), photograph(), atol=1e-2)


@pytest.mark.parametrize("number", [0.0, 0.25, 0.9])
def test_brightness_and_contrast_are_tensorflows(number):
    image = photograph().astype(np.float32)
    shift = (2 * number - 1) * 0.125 * 255
    np.testing.assert_allclose(
        colour(image, ALL, brightness=[number]), tf.image.adjust_brightness(image, shift), atol=1e-2
    )
    expected = np.clip(tf.image.adjust_contrast(image, 1 + (2 * number - 1) * 0.5), 0, 255)
    np.testing.assert_allclose(colour(image, ALL, contrast=[number]), expected, atol=1e-2)


@pytest.mark.parametrize("number", [0.0, 0.25, 0.9])
def test_saturation_is_pillows_colour_enhancement(number):
    image = photograph()
    expected = ImageEnhance.Color(Image.fromarray(image)).enhance(1 + (2 * number - 1) * 0.5)
    np.testing.assert_allclose(colour(image, ALL, saturation=[number]), np.asarray(expected, float), atol=2)


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 0.999), st.integers(0, 100))
def test_hue_keeps_luma_and_grey(number, seed):
    image = photograph(seed, 110, 140)
    turned = colour(image, {"hue": 0.5}, hue=[number])
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(turned @ luma, image @ luma, atol=0.1)
    grey = np.repeat(image[..., :1], 3, axis=2)
    np.testing.assert_allclose(colour(grey, {"hue": 0.5}, hue=[number]), grey, atol=0.05)


def test_hue_of_a_whole_turn_in_four_steps_comes_back():
    image = photograph(0, 120, 135).astype(np.float32)
    quarter = functools.partial(colour, config={"hue": 0.25}, hue=[1.0])
    there = quarter(image)
    assert np.abs(there - image).max() > 3
    np.testing.assert_allclose(quarter(quarter(quarter(there))), image, atol=0.1)


@pytest.mark.parametrize("order", [[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.3, 0.1, 0.4, 0.2]])
def test_the_order_is_followed(order):
    """One map per pixel gives what the four operations give one after the other."""
    names = ("brightness", "contrast", "saturation", "hue")
    numbers = {"brightness": [0.8], "contrast": [0.3], "saturation": [0.7], "hue": [0.6]}
    image = photograph(3, 110, 140).astype(np.float32)
    expected = image
    for place in np.argsort(order):
        expected = colour(expected, ALL, **{names[place]: numbers[names[place]]})
    np.testing.assert_allclose(colour(image, ALL, order=order, **numbers), expected, atol=0.05)


def test_all_24_orders_occur_about_as_often():
    orders = np.argsort(drawn()["order"], axis=1)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_each_image_of_a_batch_has_its_own_distortion():
    images = tf.constant(np.stack([photograph()] * 6), tf.float32)
    numbers = {name: tf.constant(values[:6]) for name, values in drawn().items()}
    config = DataConfig(**ALL, value_range=(0.0, 255.0))
    batch = augment.distorted(images, numbers, config).numpy()
    assert ((batch >= 0) & (batch <= 255)).all()
    for row, image in enumerate(batch):
        alone = augment.distorted(images[:1], {name: values[row : row + 1] for name, values in numbers.items()}, config)
        np.testing.assert_allclose(alone[0], image, atol=1e-3)
    assert len({image.tobytes() for image in batch}) == 6


def test_a_grey_image_of_one_channel_has_brightness_and_contrast_alone():
    image = photograph()[..., :1]
    numbers = {"brightness": [0.7], "contrast": [0.2]}
    coloured = colour(image, ALL, saturation=[0.9], hue=[0.1], **numbers)
    np.testing.assert_allclose(coloured, colour(image, ALL, **numbers), atol=1e-3)
    assert np.abs(coloured - image).max() > 5


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 1.0), (1.0, -1.0), ((0.0, -2.0, 3.0), (1.0, 2.0, -3.0))])
@pytest.mark.parametrize("shape", [(9, 7), (8, 8), (6, 6)])
def test_values_are_in_the_range_of_the_networks_input(bounds, shape):
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (4, *shape, 3)), tf.float32)
    numbers = {name: tf.constant(values[:4]) for name, values in drawn().items()}
    plain = augment.distorted(images, numbers, DataConfig(**ALL, value_range=(0.0, 255.0)))
    scaled = augment.distorted(images, numbers, DataConfig(**ALL, value_range=bounds))
    low, high = map(np.asarray, bounds)
    np.testing.assert_allclose(scaled, plain.numpy() * ((high - low) / 255) + low, atol=1e-4)
