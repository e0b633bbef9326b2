"""ILSVRC's classes, and images as the public checkpoints take them, against other packages' numbers."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_inception as ki
from keras_inception.errors import WeightsError
from keras_inception.weights.imagenet import class_names, synsets


def test_synsets_are_those_of_tensorflow_datasets_in_its_order():
    package = Path(importlib.util.find_spec("tensorflow_datasets").origin).parent
    assert list(synsets()) == (package / "datasets/imagenet2012/labels.txt").read_text().split()
    assert len(set(synsets().values())) == 1000
    assert {number: synsets()[number] for number in ("n01440764", "n02123045", "n15075141")} == {
        "n01440764": "tench",
        "n02123045": "tabby",
        "n15075141": "toilet tissue",
    }


def test_class_names_of_checkpoints():
    assert class_names(1000)[0] == class_names(1001)[1] == "tench"
    assert class_names(1001)[0] == "background"
    assert class_names(3) == ("class 0", "class 1", "class 2")


PIXELS = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("mode", ["tf", "torch"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_input_is_that_of_keras_applications(mode, data_format):
    x = PIXELS if data_format == "channels_last" else PIXELS.transpose(0, 3, 1, 2)
    expected = keras.applications.imagenet_utils.preprocess_input(x.copy(), data_format=data_format, mode=mode)
    found = ki.preprocess_input(x, mode=mode, data_format=data_format)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32
    keras.config.set_image_data_format(data_format)
    np.testing.assert_array_equal(ki.preprocess_input(x, mode=mode), found)


def test_input_of_caffe_is_less_the_mean_and_not_turned():
    np.testing.assert_allclose(ki.preprocess_input(PIXELS, mode="caffe"), PIXELS - [123, 117, 104], atol=1e-4)


def test_input_may_be_whole_numbers_a_list_or_a_tensor_and_is_not_changed():
    before = PIXELS.copy()
    expected = ki.preprocess_input(PIXELS)
    np.testing.assert_array_equal(PIXELS, before)
    for x in (PIXELS.astype(np.uint8), PIXELS.astype(int).tolist(), keras.ops.convert_to_tensor(PIXELS)):
        np.testing.assert_allclose(ki.preprocess_input(x), expected, atol=1e-6)
    assert ki.preprocess_input(keras.Input((8, 8, 3))).shape == (None, 8, 8, 3)
    np.testing.assert_array_equal(ki.preprocess_input(PIXELS[0]), expected[0])


@pytest.mark.parametrize(
    ("x", "mode", "match"),
    [(PIXELS, "tff", "did you mean tf"), (PIXELS[..., :1], "tf", "three colours"), (PIXELS[0, 0], "tf", "shape")],
)
def test_input_that_does_not_fit_is_refused(x, mode, match):
    with pytest.raises(WeightsError, match=match):
        ki.preprocess_input(x, mode=mode)


def test_predictions_are_decoded_the_likeliest_first():
    predictions = np.full((2, 1000), 1e-4, np.float32)
    predictions[0, [281, 0]] = 0.7, 0.2
    predictions[1, 999] = 0.9
    (first, second), whole = ki.decode_predictions(predictions, top=2), ki.decode_predictions(predictions, top=1000)
    assert first == [("n02123045", "tabby", pytest.approx(0.7)), ("n01440764", "tench", pytest.approx(0.2))]
    assert second[0] == ("n15075141", "toilet tissue", pytest.approx(0.9))
    assert [len(row) for row in whole] == [1000, 1000]


@pytest.mark.parametrize(
    ("shape", "top", "match"),
    [((1, 10), 5, r"shape \(1, 10\)"), ((1000,), 5, "shape"), ((1, 1000), 0, "top is 0"), ((1, 1000), 1001, "1001")],
)
def test_predictions_of_other_classes_are_refused(shape, top, match):
    with pytest.raises(WeightsError, match=match):
        ki.decode_predictions(np.zeros(shape), top=top)


def test_weights_are_listed_with_what_a_user_must_know():
    assert {one.name: (one.architecture, one.mode, one.top1, one.top5) for one in ki.list_weights()} == {
        "imagenet": ("googlenet-torchvision", "tf", 0.69778, 0.8953),
        "imagenet-slim": ("googlenet-slim", "tf", 0.698, 0.896),
        "imagenet-caffe": ("googlenet", "caffe", 0.687, 0.889),
    }
