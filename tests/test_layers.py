"""Local response normalisation against its formula, and batch normalisation's settings."""

import keras
import numpy as np
import pytest

import keras_inception as ki
from keras_inception.layers import batch_normalization

# Values of about 100 make the sum of squares matter beside the bias of 1.
MAPS = np.random.default_rng(0).normal(0, 100, (2, 5, 4, 9)).astype("float32")
CONSTANTS = [
    {},
    {"depth_radius": 1, "bias": 2.0, "alpha": 1e-3, "beta": 0.5},
    {"depth_radius": 20, "bias": 0.5, "alpha": 1e-4, "beta": 1.0},  # wider than the map has channels
]


def formula(x, depth_radius=2, bias=1.0, alpha=2e-5, beta=0.75):
    """b = a / (bias + alpha · Σ a²)^beta, Krizhevsky et al., NIPS 2012, section 3.3."""
    x = x.astype("float64")
    result = np.empty_like(x)
    channels = x.shape[-1]
    for channel in range(channels):
        first, last = max(0, channel - depth_radius), min(channels - 1, channel + depth_radius)
        total = (x[..., first : last + 1] ** 2).sum(axis=-1)
        result[..., channel] = x[..., channel] / (bias + alpha * total) ** beta
    return result


@pytest.mark.parametrize("constants", CONSTANTS)
def test_lrn_is_its_formula(constants):
    output = ki.LocalResponseNormalization(**constants)(MAPS)
    np.testing.assert_allclose(output, formula(MAPS, **constants), rtol=1e-5)


def test_lrn_defaults_are_caffes_with_alpha_divided_by_the_size():
    # bvlc_googlenet: local_size 5, alpha 1e-4, beta 0.75; Caffe's k is 1 and it divides alpha by local_size.
    size, alpha, beta = 5, 1e-4, 0.75
    padded = np.pad(MAPS.astype("float64") ** 2, [(0, 0)] * 3 + [(size // 2, size // 2)])
    squares = sum(padded[..., shift : shift + MAPS.shape[-1]] for shift in range(size))
    expected = MAPS / (1 + alpha / size * squares) ** beta
    np.testing.assert_allclose(ki.LocalResponseNormalization()(MAPS), expected, rtol=1e-5)


def test_lrn_on_other_backends_is_the_same(monkeypatch):
    expected = [np.asarray(ki.LocalResponseNormalization(**constants)(MAPS)) for constants in CONSTANTS]
    monkeypatch.setattr(keras.config, "backend", lambda: "another")
    for constants, values in zip(CONSTANTS, expected, strict=True):
        output = ki.LocalResponseNormalization(**constants)(MAPS)
        np.testing.assert_allclose(output, values, rtol=1e-5)


def test_lrn_channels_first_is_channels_last_transposed():
    first = ki.LocalResponseNormalization(data_format="channels_first")(MAPS.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(np.transpose(first, (0, 2, 3, 1)), formula(MAPS), rtol=1e-5)


def test_lrn_takes_the_data_format_of_keras():
    keras.config.set_image_data_format("channels_first")
    output = ki.LocalResponseNormalization()(MAPS.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(np.transpose(output, (0, 2, 3, 1)), formula(MAPS), rtol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-3), ("bfloat16", 8e-3)])
def test_lrn_computes_in_float32_and_answers_in_the_policys_dtype(dtype, tolerance):
    keras.config.set_dtype_policy(f"mixed_{dtype}")
    layer = ki.LocalResponseNormalization()
    # In float16 the square of 300 is infinite: a sum taken in it would make every value 0.
    x = keras.ops.cast(MAPS * 3, dtype)
    output = layer(x)
    assert keras.backend.standardize_dtype(output.dtype) == dtype
    exact = formula(np.asarray(keras.ops.cast(x, "float32")))
    np.testing.assert_allclose(keras.ops.cast(output, "float32"), exact, rtol=tolerance)


def test_lrn_has_no_weights_and_keeps_unknown_sizes():
    image = keras.Input((None, None, 7))
    layer = ki.LocalResponseNormalization()
    assert layer(image).shape == (None, None, None, 7)
    assert layer.weights == []


def test_lrn_saves_and_loads_with_its_constants(tmp_path):
    constants = {"depth_radius": 1, "bias": 2.0, "alpha": 1e-3, "beta": 0.5, "data_format": "channels_first"}
    image = keras.Input((9, 5, 4))
    model = keras.Model(image, ki.LocalResponseNormalization(**constants, name="norm")(image))
    model.save(tmp_path / "lrn.keras")
    loaded = keras.saving.load_model(tmp_path / "lrn.keras")
    assert {name: getattr(loaded.get_layer("norm"), name) for name in constants} == constants
    x = MAPS.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(loaded(x), model(x))


def test_lrn_can_be_trained_through():
    import tensorflow as tf

    x = tf.constant(MAPS[:1, :1, :1] / 50)
    layer = ki.LocalResponseNormalization(alpha=0.1)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(layer(x) * tf.range(9.0))
    gradient = tape.gradient(y, x).numpy().ravel()
    weights, step = np.arange(9.0), 1e-4
    for channel in range(9):
        up, down = (x.numpy().astype("float64") for _ in range(2))
        up[..., channel] += step
        down[..., channel] -= step
        slope = ((formula(up, alpha=0.1) - formula(down, alpha=0.1)) * weights).sum() / (2 * step)
        assert gradient[channel] == pytest.approx(slope, abs=1e-3)


@pytest.mark.parametrize(("data_format", "axis"), [("channels_last", -1), ("channels_first", 1)])
def test_batch_normalization_runs_over_channels_and_is_not_synchronised_on_one_device(data_format, axis):
    keras.config.set_image_data_format(data_format)
    layer = batch_normalization("norm")
    assert (layer.name, layer.axis, layer.epsilon, layer.synchronized) == ("norm", axis, 1e-3, False)
