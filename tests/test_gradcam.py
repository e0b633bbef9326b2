"""Grad-CAM against CAM, which it is where nothing but a mean and a linear layer is above the row."""

import keras
import numpy as np
import pytest

from keras_inception.analysis.gradcam import gradcam, inception_rows, overlaid
from keras_inception.architecture import GOOGLENET, GOOGLENET_BN
from keras_inception.errors import ArchitectureError
from keras_inception.googlenet import GoogLeNet


@pytest.fixture(scope="module")
def model():
    return GoogLeNet(architecture=GOOGLENET_BN.scaled(1 / 16), input_shape=(64, 64, 3), classes=5)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, (3, 64, 64, 3)).astype(np.float32)


def test_at_the_last_row_it_is_the_class_activation_map(model, images):
    """Zhou et al., arXiv:1512.04150: the map weighted by the classifier's row; Selvaraju et al., section 3.1."""
    maps = keras.Model(model.input, model.get_layer("inception_5b").output)(images).numpy()
    kernel = model.get_layer("main").get_weights()[0]
    labels = np.einsum("bhwc,cl->bhwl", maps, kernel).max(axis=(1, 2)).argmax(axis=1)  # for which something speaks
    cam = np.maximum(np.einsum("bhwc,cb->bhw", maps, kernel[:, labels]), 0)
    expected = cam / cam.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(gradcam(model, images, "5b", labels), expected, atol=1e-4)


@pytest.mark.parametrize("row", ["3a", "4e", "5b"])
def test_every_row_has_a_map_of_its_own_size_from_0_to_1(model, images, row):
    heat = np.concatenate([gradcam(model, images, row, np.full(3, label)) for label in range(5)])
    side = {"3a": 8, "4e": 4, "5b": 2}[row]
    assert heat.shape == (15, side, side)
    assert heat.min() >= 0
    assert set(heat.max(axis=(1, 2)).tolist()) <= {0, 1}  # 0 where nothing speaks for the class
    assert heat.max() == 1


def test_nothing_that_speaks_for_a_class_is_a_map_of_zeros(model, images):
    classifier = model.get_layer("main")
    before = classifier.get_weights()
    classifier.set_weights([-np.ones_like(before[0]), before[1]])
    heat = gradcam(model, images, "5b", np.asarray([0, 1, 2]))
    classifier.set_weights(before)
    assert not heat.any()


def test_an_unknown_row_is_named(model, images):
    with pytest.raises(ArchitectureError, match="unknown row '4f'; known: 3a, 3b"):
        gradcam(model, images, "4f", np.zeros(3, int))


def test_the_rows_of_the_paper():
    assert inception_rows(GOOGLENET) == ["3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_map_brightens_the_image_where_it_is_large(channels):
    pixels = np.full((20, 30, channels), 100, np.uint8)
    found = overlaid(pixels, np.asarray([[0.0, 1.0]], np.float32))
    assert found.shape == (20, 30, 3)
    assert found.dtype == np.uint8
    assert found[:, -1].mean() > found[:, 0].mean() + 50
