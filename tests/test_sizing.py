"""The preprocessing in NumPy against TensorFlow's: equal, but for values that fall the other way when rounded."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from keras_inception.config import DataConfig
from keras_inception.data.sizing import model_input, square

METHODS = ("bilinear", "bicubic", "area", "lanczos3")


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def by_tensorflow(image, config):
    import tensorflow as tf

    from keras_inception.data.crops import resized

    return resized(tf.constant(image), config).numpy()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fraction", [1.0, 0.875])
def test_pixels_are_tensorflows_to_a_level(method, fraction):
    config = DataConfig(image_size=24, resize=method, crop_fraction=fraction)
    for height, width in ((50, 80), (80, 50), (24, 24), (7, 9), (1, 1), (31, 500), (61, 43)):
        image = noise(height, width)
        difference = np.abs(square(image, config).astype(int) - by_tensorflow(image, config))
        assert difference.max() <= 1
        # Values half way between two levels are common where areas are averaged.
        assert (difference > 0).mean() < (0.1 if method == "area" else 0.02)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 40),
    st.sampled_from(METHODS),
    st.sampled_from([1, 3]),
    st.floats(0.3, 1),
)
def test_any_size_and_method(height, width, size, method, channels, fraction):
    config = DataConfig(image_size=size, resize=method, channels=channels, crop_fraction=fraction)
    image = noise(height, width, channels, seed=height * 100 + width)
    found = square(image, config)
    assert found.shape == (size, size, channels)
    assert np.abs(found.astype(int) - by_tensorflow(image, config)).max() <= 1


def test_an_image_of_the_networks_size_is_left_as_it_is():
    image = noise(24, 24)
    np.testing.assert_array_equal(square(image, DataConfig(image_size=24)), image)


def test_the_input_is_in_the_range_of_the_network():
    image = np.asarray([[[0], [255]], [[51], [102]]], np.uint8)
    config = DataConfig(image_size=2, channels=1, value_range=(-1.0, 1.0))
    np.testing.assert_allclose(model_input(image, config)[..., 0], [[-1, 1], [-0.6, -0.2]], atol=1e-6)
    assert model_input(image, config).dtype == np.float32
    colours = DataConfig(image_size=2, value_range=((0.0, -1.0, 5.0), (1.0, 1.0, 5.0)))
    white = np.full((2, 2, 3), 255, np.uint8)
    np.testing.assert_allclose(model_input(white, colours)[0, 0], [1, 1, 5])
    assert model_input(white, colours).dtype == np.float32


def test_it_needs_no_tensorflow():
    code = "import sys; sys.modules['tensorflow'] = None; import keras_inception.data.sizing"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
