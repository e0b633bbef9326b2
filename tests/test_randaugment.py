"""RandAugment against Pillow, operation by operation, and random erasing against its definition."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from keras_inception.config import DataConfig
from keras_inception.data.randaugment import OPERATIONS, erased, randaugmented

RANDOM = np.random.default_rng(0)
# Smooth, so that all operations change something, and uneven, so that equalize does.
ROWS, COLUMNS = np.mgrid[:40, :48]
PICTURE = np.stack([30 + 3 * ROWS + COLUMNS, 200 - 2 * COLUMNS - ROWS, 60 + (ROWS * COLUMNS) // 20], axis=-1)
PICTURE = np.clip(PICTURE + RANDOM.integers(-6, 7, PICTURE.shape), 0, 255).astype(np.uint8)
PILLOW = Image.fromarray(PICTURE)


def ours(name: str, magnitude: float, sign: float, picture: np.ndarray = PICTURE) -> np.ndarray:
    values = OPERATIONS[name](tf.constant(picture, tf.float32), tf.constant(magnitude), tf.constant(sign)).numpy()
    assert values.shape == picture.shape
    assert values.min() >= 0
    assert values.max() <= 255
    return values


@pytest.mark.parametrize(
    ("name", "magnitude", "expected"),
    [
        ("identity", 1.0, PILLOW),
        ("autocontrast", 1.0, ImageOps.autocontrast(PILLOW)),
        ("equalize", 1.0, ImageOps.equalize(PILLOW)),
        ("solarize", 0.5, ImageOps.solarize(PILLOW, 128)),
        ("solarize", 1.0, ImageOps.invert(PILLOW)),
        ("posterize", 1.0, ImageOps.posterize(PILLOW, 4)),
        ("posterize", 0.5, ImageOps.posterize(PILLOW, 6)),
    ],
)
def test_operations_on_values_are_those_of_pillow(name, magnitude, expected):
    np.testing.assert_allclose(ours(name, magnitude, 1.0), np.asarray(expected), atol=1)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("magnitude", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(
    ("name", "enhance"),
    [
        ("colour", ImageEnhance.Color),
        ("contrast", ImageEnhance.Contrast),
        ("brightness", ImageEnhance.Brightness),
        ("sharpness", ImageEnhance.Sharpness),
    ],
)
def test_enhancements_are_those_of_pillow(name, enhance, magnitude, sign):
    """Within two levels: Pillow rounds the image that it blends with."""
    expected = enhance(PILLOW).enhance(1 + sign * 0.9 * magnitude)
    np.testing.assert_allclose(ours(name, magnitude, sign), np.asarray(expected), atol=2)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("magnitude", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_movements_are_those_of_pillow(name, magnitude, sign):
    """All but a few pixels, which fall between two others."""
    height, width = PICTURE.shape[:2]
    amount = sign * magnitude
    angle = np.radians(30) * amount
    matrix = {
        "rotate": ((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))),
        "shear_x": ((1, 0.3 * amount), (0, 1)),
        "shear_y": ((1, 0), (0.3 * amount, 1)),
    }.get(name, ((1, 0), (0, 1)))
    shift = {
        "translate_x": (round(150 / 331 * width * amount), 0),
        "translate_y": (0, round(150 / 331 * height * amount)),
    }.get(name, (0, 0))
    centre = np.array([width / 2, height / 2])  # Pillow's pixels lie half a pixel off
    offset = centre - np.array(matrix) @ centre + shift
    data = (*matrix[0], offset[0], *matrix[1], offset[1])
    expected = PILLOW.transform(PILLOW.size, Image.Transform.AFFINE, data, fillcolor=(128, 128, 128))
    differs = np.abs(ours(name, magnitude, sign) - np.asarray(expected)).max(axis=-1) > 0
    assert differs.mean() < 0.02


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in ("autocontrast", "equalize")])
def test_nothing_happens_at_magnitude_0(name):
    np.testing.assert_allclose(ours(name, 0.0, 1.0), PICTURE, atol=1e-3)


@pytest.mark.parametrize("name", OPERATIONS)
def test_grey_images_and_flat_ones_go_through_all_operations(name):
    grey = ours(name, 0.9, -1.0, PICTURE[..., :1])
    assert np.isfinite(grey).all()
    assert np.isfinite(ours(name, 0.9, 1.0, np.full((9, 9, 3), 77, np.uint8))).all()


def test_operations_follow_from_the_numbers_and_are_equally_likely():
    config = DataConfig(randaugment=1, randaugment_magnitude=10)
    every = {name: ours(name, 1.0, -1.0) for name in OPERATIONS}
    function = tf.function(lambda numbers: randaugmented(tf.constant(PICTURE, tf.float32), numbers, config))
    seen = []
    for place, name in enumerate(every):
        numbers = tf.constant([(place + 0.5) / len(every), 0.2])
        np.testing.assert_allclose(function(numbers).numpy(), every[name], atol=1e-3, err_msg=name)
        seen.append(name)
    assert seen == list(OPERATIONS)


def test_operations_follow_each_other():
    config = DataConfig(randaugment=2, randaugment_magnitude=10)
    names = list(OPERATIONS)
    numbers = [
        value
        for name, side in (("brightness", 0.1), ("solarize", 0.9))
        for value in ((names.index(name) + 0.5) / len(names), side)
    ]
    once = OPERATIONS["brightness"](tf.constant(PICTURE, tf.float32), tf.constant(1.0), tf.constant(-1.0))
    twice = OPERATIONS["solarize"](once, tf.constant(1.0), tf.constant(1.0))
    found = randaugmented(tf.constant(PICTURE, tf.float32), tf.constant(numbers, tf.float32), config)
    np.testing.assert_allclose(found.numpy(), twice.numpy(), atol=1e-3)


def erased_images(count: int, probability: float) -> np.ndarray:
    config = DataConfig(random_erasing=probability)
    function = tf.function(lambda numbers, key: erased(tf.fill((40, 40, 3), -1.0), numbers, key, config))
    numbers = RANDOM.uniform(size=(count, 5)).astype(np.float32)
    return np.stack([function(row, tf.constant([1, place])).numpy() for place, row in enumerate(numbers)])


def test_a_box_of_the_area_and_aspect_of_the_paper_is_filled_with_noise():
    images = erased_images(200, 0.999)
    holes = (images != -1).all(axis=-1)
    assert ((images != -1).any(axis=-1) == holes).all()
    areas, aspects = [], []
    for image, hole in zip(images, holes, strict=True):
        if not hole.any():
            continue
        rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert hole.sum() == height * width  # a box
        areas.append(height * width / 1600)
        aspects.append(width / height)
        noise = image[hole]
        assert noise.min() >= 0
        assert noise.max() <= 255
    assert 0.01 < min(areas) < 0.06
    assert 0.25 < max(areas) < 0.36
    assert 0.2 < min(aspects) < 0.5
    assert 2 < max(aspects) < 5
    noise = images[holes].ravel()
    assert stats.kstest(RANDOM.choice(noise, 2000, replace=False) / 255, "uniform").pvalue > 1e-3
    assert not np.array_equal(images[0][holes[0]][:20], images[1][holes[1]][:20])


@pytest.mark.slow
def test_images_are_erased_as_often_as_asked():
    hit = (erased_images(300, 0.3) != -1).any(axis=(1, 2, 3)).sum()
    assert stats.binomtest(int(hit), 300, 0.3).pvalue > 1e-3
    assert (erased_images(20, 0.0) == -1).all()
