"""The building blocks against convolutions and pools written out in NumPy."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_inception as ki
from keras_inception.blocks import classifier, convolution, convolution_row, max_pool
from keras_inception.errors import ArchitectureError

ROW = ki.Inception("3a", conv1x1=4, reduce3x3=3, conv3x3=5, reduce5x5=2, conv5x5=3, pool_projection=2)
PLAIN_AND_NORMALISED = pytest.mark.parametrize("normalized", [False, True], ids=["bias", "batch"])
RNG = np.random.default_rng(0)


# ---------------------------------------------------------------------------------------------------------------------
# The oracle
# ---------------------------------------------------------------------------------------------------------------------


def windows(x, size, stride, fill):
    """Windows of the map padded by size // 2 on each side: `(batch, height, width, size², channels)`."""
    pad = size // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=fill)
    rows = range(0, x.shape[1] - size + 1, stride)
    columns = range(0, x.shape[2] - size + 1, stride)
    cut = [[x[:, i : i + size, j : j + size].reshape(len(x), size**2, -1) for j in columns] for i in rows]
    return np.moveaxis(np.array(cut), 2, 0)


def numpy_convolution(x, kernel, bias=0.0, stride=1):
    size, _, inputs, outputs = kernel.shape
    return np.einsum("bhwkc,kco->bhwo", windows(x, size, stride, 0), kernel.reshape(size**2, inputs, outputs)) + bias


def numpy_max_pool(x, size=3, stride=1):
    return windows(x, size, stride, -np.inf).max(axis=3)


def numpy_average_pool(x, size, stride):
    rows = range(0, x.shape[1] - size + 1, stride)
    columns = range(0, x.shape[2] - size + 1, stride)
    return np.array([[x[:, i : i + size, j : j + size].mean(axis=(1, 2)) for j in columns] for i in rows]).transpose(
        2, 0, 1, 3
    )


def conv_relu(model, x, name, stride=1):
    """What the layers called `name` must compute, from their weights."""
    layer = model.get_layer(name)
    if layer.use_bias:
        y = numpy_convolution(x, *(np.asarray(weight, "float64") for weight in layer.weights), stride)
    else:
        y = numpy_convolution(x, np.asarray(layer.kernel, "float64"), stride=stride)
        norm = model.get_layer(f"{name}_bn")
        gamma, beta, mean, variance = (np.asarray(weight, "float64") for weight in norm.weights)
        y = gamma * (y - mean) / np.sqrt(variance + 1e-3) + beta
    return np.maximum(y, 0)


def randomized(model):
    """Fill every weight, biases and moving statistics included, with values that are not its initial ones."""
    model.set_weights([RNG.uniform(0.1, 1.0, weight.shape) * RNG.choice([-1, 1]) for weight in model.weights])
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            layer.set_weights([RNG.normal(0, 0.4, weight.shape) for weight in layer.weights])
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([RNG.uniform(0.2, 2.0, weight.shape) for weight in layer.weights])
    return model


def built(block, shape):
    image = keras.Input(shape)
    return randomized(keras.Model(image, block(image)))


def check(model, x, expected):
    assert np.ptp(expected) > 0.1  # a map of zeros would prove nothing
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-4)


def image(*shape):
    return RNG.normal(0, 1, (2, *shape))


# ---------------------------------------------------------------------------------------------------------------------
# Convolutions and pools
# ---------------------------------------------------------------------------------------------------------------------


@PLAIN_AND_NORMALISED
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (7, 2), (3, 2), (1, 2)])
@pytest.mark.parametrize("size", [8, 9])
def test_convolution_is_padded_by_half_a_kernel_on_each_side(kernel, stride, size, normalized):
    model = built(
        lambda x: convolution(x, 4, kernel, name="conv", stride=stride, batch_normalization=normalized), (size, 6, 3)
    )
    x = image(size, 6, 3)
    check(model, x, conv_relu(model, x, "conv", stride))


def test_first_convolution_sees_three_pixels_of_padding_on_each_side():
    model = built(lambda x: convolution(x, 1, 7, name="conv1", stride=2), (224, 224, 1))
    model.get_layer("conv1").set_weights([np.ones((7, 7, 1, 1)), np.zeros(1)])
    y = np.asarray(model(np.ones((1, 224, 224, 1))))[0, :, :, 0]
    assert y.shape == (112, 112)
    # Ones under the window: 7 − 3 at the first corner; the last window starts at 222 − 3 and covers 5 pixels.
    assert (y[0, 0], y[-1, -1], y[50, 50]) == (16, 25, 49)


@PLAIN_AND_NORMALISED
def test_convolution_row_reduces_first(normalized):
    row = ki.Conv("conv2", 4, kernel=3, reduce=2)
    model = built(lambda x: convolution_row(x, row, batch_normalization=normalized), (6, 5, 3))
    x = image(6, 5, 3)
    check(model, x, conv_relu(model, conv_relu(model, x, "conv2_reduce"), "conv2"))


@PLAIN_AND_NORMALISED
@pytest.mark.parametrize("stride", [1, 2])
def test_mlpconv_sends_every_pixel_through_the_same_two_layers(normalized, stride):
    row = ki.MlpConv("conv1", 9, kernel=3, mlp1=8, mlp2=7, stride=stride)
    model = built(lambda x: ki.mlpconv_block(x, row, batch_normalization=normalized), (6, 5, 3))
    x = expected = image(6, 5, 3)
    for name, step in (("conv1", stride), ("conv1_mlp1", 1), ("conv1_mlp2", 1)):
        expected = conv_relu(model, expected, name, step)
    check(model, x, expected)


@pytest.mark.parametrize("size", [14, 28, 112])
def test_max_pool_is_caffes_ceil_mode_pool_on_even_maps(size):
    # Caffe's windows start at 0 without padding, and the last one hangs over the border.
    x = RNG.normal(0, 1, (1, size, size, 2))
    half = size // 2
    expected = np.array(
        [[x[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(0, 1)) for j in range(half)] for i in range(half)]
    )
    np.testing.assert_allclose(max_pool(x.astype("float32"), ki.MaxPool("pool"))[0], expected, rtol=1e-6)


def test_max_pool_on_odd_maps_is_centred():
    x = -1 - RNG.random((2, 7, 9, 3)).astype("float32")  # all negative: padding with zeros would show
    np.testing.assert_allclose(max_pool(x, ki.MaxPool("pool")), numpy_max_pool(x, 3, 2), rtol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# Inception modules
# ---------------------------------------------------------------------------------------------------------------------


@PLAIN_AND_NORMALISED
def test_inception_block_is_four_branches_in_the_papers_order(normalized):
    model = built(lambda x: ki.inception_block(x, ROW, batch_normalization=normalized), (7, 6, 5))
    x = image(7, 6, 5) - 1
    name = "inception_3a"
    branches = [
        conv_relu(model, x, f"{name}_1x1"),
        conv_relu(model, conv_relu(model, x, f"{name}_3x3_reduce"), f"{name}_3x3"),
        conv_relu(model, conv_relu(model, x, f"{name}_5x5_reduce"), f"{name}_5x5"),
        conv_relu(model, numpy_max_pool(x), f"{name}_pool_projection"),
    ]
    assert [branch.shape[-1] for branch in branches] == [4, 5, 3, 2]
    check(model, x, np.concatenate(branches, axis=-1))


@PLAIN_AND_NORMALISED
def test_naive_block_has_no_reductions_and_keeps_the_pooled_channels(normalized):
    model = built(lambda x: ki.naive_inception_block(x, ROW, batch_normalization=normalized), (7, 6, 5))
    x = image(7, 6, 5) - 1
    name = "inception_3a"
    branches = [
        conv_relu(model, x, f"{name}_1x1"),
        conv_relu(model, x, f"{name}_3x3"),
        conv_relu(model, x, f"{name}_5x5"),
        numpy_max_pool(x),
    ]
    assert [branch.shape[-1] for branch in branches] == [4, 5, 3, 5]
    check(model, x, np.concatenate(branches, axis=-1))


@PLAIN_AND_NORMALISED
@pytest.mark.parametrize("missing", ["reduce3x3", "reduce5x5", "pool_projection"])
def test_a_width_of_zero_leaves_its_convolution_out(missing, normalized):
    row = dataclasses.replace(ROW, **{missing: 0})
    model = built(lambda x: ki.inception_block(x, row, batch_normalization=normalized), (7, 6, 5))
    x = image(7, 6, 5) - 1
    built_layers = {layer.name for layer in model.layers}

    def optional(x, name):
        return conv_relu(model, x, name) if name in built_layers else x

    name = "inception_3a"
    branches = [
        conv_relu(model, x, f"{name}_1x1"),
        conv_relu(model, optional(x, f"{name}_3x3_reduce"), f"{name}_3x3"),
        conv_relu(model, optional(x, f"{name}_5x5_reduce"), f"{name}_5x5"),
        optional(numpy_max_pool(x), f"{name}_pool_projection"),
    ]
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers) == 5
    assert sum(branch.shape[-1] for branch in branches) == row.output_channels(5)
    check(model, x, np.concatenate(branches, axis=-1))


def test_reductions_take_module_3a_from_387_072_weights_to_157_184_before_the_pool_projection():
    row = ki.Inception("3a", 64, 96, 128, 16, 32, 32)
    pixels = keras.Input((28, 28, 192))

    def weights(block):
        kernels = [layer for layer in keras.Model(pixels, block(pixels, row)).layers if hasattr(layer, "kernel")]
        return {layer.name: int(np.prod(layer.kernel.shape)) for layer in kernels}

    naive, reduced = weights(ki.naive_inception_block), weights(ki.inception_block)
    assert sum(naive.values()) == 387_072
    assert sum(reduced.values()) - reduced["inception_3a_pool_projection"] == 157_184
    assert sum(reduced.values()) == 163_328


def test_block_shapes_at_28_px():
    pixels, row = keras.Input((28, 28, 192)), ki.Inception("3a", 64, 96, 128, 16, 32, 32)
    assert ki.inception_block(pixels, row).shape == (None, 28, 28, 256)
    assert ki.naive_inception_block(pixels, row).shape == (None, 28, 28, 64 + 128 + 32 + 192)


@pytest.mark.parametrize("block", [ki.inception_block, ki.naive_inception_block])
def test_block_of_another_kind_of_row_is_refused(block):
    with pytest.raises(ArchitectureError, match="Inception row"):
        block(keras.Input((8, 8, 3)), ki.Conv("conv", 3, kernel=3))


def test_blocks_work_in_any_functional_model():
    pixels = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3)(pixels)
    x = ki.inception_block(x, ki.Inception("first", 2, 2, 2, 2, 2, 2))
    x = ki.naive_inception_block(x, ki.Inception("second", 2, 2, 2, 2, 2, 2))
    model = keras.Model(pixels, ki.auxiliary_head(x, classes=3, name="head"))
    np.testing.assert_allclose(np.sum(model(image(16, 16, 3)), axis=-1), [1, 1], rtol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# Fully connected layers
# ---------------------------------------------------------------------------------------------------------------------


def test_a_fully_connected_layer_is_a_matrix_on_the_flattened_map():
    model = built(lambda x: ki.fully_connected(x, ki.FullyConnected("fc", 6)), (3, 4, 5))
    x = image(3, 4, 5)
    kernel, bias = model.get_layer("fc").get_weights()
    expected = np.maximum(x.reshape(2, -1) @ kernel.reshape(-1, 6) + bias, 0)
    check(model, x, expected[:, None, None])


def test_a_fully_connected_layer_on_a_map_of_unknown_size_is_refused():
    with pytest.raises(ArchitectureError, match="row 'fc' is fully connected and needs an image of known size"):
        ki.fully_connected(keras.Input((None, 4, 5)), ki.FullyConnected("fc", 6))


# ---------------------------------------------------------------------------------------------------------------------
# Heads
# ---------------------------------------------------------------------------------------------------------------------


@PLAIN_AND_NORMALISED
@pytest.mark.parametrize("size", [5, 9, 14])
def test_auxiliary_head_is_pool_convolution_two_linear_layers_and_softmax(size, normalized):
    row = ki.AuxiliaryHead("aux1", after="4a", filters=3, units=6)
    model = built(lambda x: ki.auxiliary_head(x, 4, "aux1", row=row, batch_normalization=normalized), (size, size, 5))
    x = image(size, size, 5) * 3
    y = conv_relu(model, numpy_average_pool(x, 5, 3), "aux1_1x1")
    kernel, bias = model.get_layer("aux1_dense").get_weights()
    y = np.maximum(y.reshape(2, -1) @ kernel + bias, 0)
    kernel, bias = model.get_layer("aux1").get_weights()
    logits = y @ kernel + bias
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    check(model, x, exponents / exponents.sum(axis=-1, keepdims=True))


def test_auxiliary_head_without_a_row_is_the_papers():
    pixels = keras.Input((14, 14, 512))
    model = keras.Model(pixels, ki.auxiliary_head(pixels, classes=1000, name="aux1"))
    assert model.count_params() == 3_188_840
    assert model.get_layer("aux1_pool").output.shape == (None, 4, 4, 512)
    assert model.get_layer("aux1_dropout").rate == 0.7


def test_auxiliary_head_drops_the_share_of_units_in_training_alone():
    pixels = keras.Input((5, 5, 2))
    row = ki.AuxiliaryHead("aux1", after="4a", filters=2, units=4000, dropout=0.25)
    model = keras.Model(pixels, ki.auxiliary_head(pixels, 2, "aux1", row=row))
    dropout = model.get_layer("aux1_dropout")
    assert np.mean(np.asarray(dropout(np.ones((1, 4000)), training=True)) == 0) == pytest.approx(0.25, abs=0.05)
    assert np.all(np.asarray(dropout(np.ones((1, 4000)), training=False)) == 1)


def test_auxiliary_head_gives_logits_on_request():
    pixels = keras.Input((5, 5, 2))
    outputs = [ki.auxiliary_head(pixels, 3, "aux1", classifier_activation=value) for value in ("softmax", None)]
    softmax, logits = (keras.Model(pixels, output) for output in outputs)
    logits.set_weights(softmax.get_weights())
    x = image(5, 5, 2)
    np.testing.assert_allclose(keras.ops.softmax(logits(x)), softmax(x), rtol=1e-5)


@pytest.mark.parametrize(("shape", "message"), [((4, 9, 3), "4×9"), ((9, 4, 3), "9×4"), ((None, 9, 3), "known size")])
def test_auxiliary_head_on_a_map_it_cannot_pool_is_refused(shape, message):
    with pytest.raises(ArchitectureError, match=message):
        ki.auxiliary_head(keras.Input(shape), classes=2, name="aux1")


def test_classifier_stays_in_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    assert classifier(keras.Input((7,)), 3, "main").dtype == "float32"


def test_every_layer_is_named_after_its_row_and_branch():
    pixels = keras.Input((9, 9, 3))
    model = keras.Model(pixels, ki.inception_block(pixels, ROW, batch_normalization=True))
    convolutions = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert sorted(convolutions) == [
        f"inception_3a_{branch}" for branch in ("1x1", "3x3", "3x3_reduce", "5x5", "5x5_reduce", "pool_projection")
    ]
    names = {layer.name for layer in model.layers}
    assert {f"{name}_bn" for name in convolutions} | {f"{name}_relu" for name in convolutions} <= names
    assert model.layers[-1].name == "inception_3a"
