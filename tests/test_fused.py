"""Batch normalisation and the step of SGD in one operation each, beside Keras's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings, strategies as st

from keras_inception.layers import batch_normalization
from keras_inception.training.fused import FusedSGD, fuse


def network(shape, seed):
    """A model of one layer with weights that are not those it begins with."""
    image = keras.Input(shape)
    model = keras.Model(image, batch_normalization("bn")(image))
    chance = np.random.default_rng(seed)
    model.set_weights([chance.uniform(0.5, 2, weight.shape) for weight in model.weights])
    return model


def trained(model, images, upstream):
    """What a step gives: outputs, gradients of images and weights, and the moving averages after it."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = model(images, training=True)
        loss = tf.reduce_sum(outputs * upstream)
    gradients = tape.gradient(loss, [images, *(weight.value for weight in model.trainable_weights)])
    return [outputs, *gradients, *model.non_trainable_weights]


@settings(max_examples=30, deadline=None)
@example(images=1, height=1, width=2, channels=5, mean=2.0, seed=0)
@given(
    images=st.integers(1, 5),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    channels=st.integers(1, 9),
    mean=st.floats(-3, 3),
    seed=st.integers(0, 99),
)
def test_outputs_gradients_and_averages_equal_kerass(images, height, width, channels, mean, seed):
    shape = (height, width, channels)
    plain, fused = network(shape, seed), network(shape, seed)
    fuse(fused)
    chance = np.random.default_rng(seed)
    values = tf.constant(chance.normal(mean, 1, (images, *shape)), tf.float32)
    upstream = tf.constant(chance.normal(size=values.shape), tf.float32)
    # Rounding grows as a channel's values lie closer together, seen from zero, for two pixels can be almost the same;
    # and so do the terms whose difference the gradient is.
    deviation = np.sqrt(np.var(values, axis=(0, 1, 2)) + 1e-3)
    condition = np.max(np.maximum(np.abs(values), np.abs(upstream)) / deviation)
    for one, two in zip(trained(plain, values, upstream), trained(fused, values, upstream), strict=True):
        scale = max(1, np.abs(one).max())
        np.testing.assert_allclose(two, one, atol=max(1e-5, 2e-6 * condition) * scale, rtol=0)


def test_inference_and_frozen_layers_are_kerass_own():
    plain, fused = network((4, 4, 3), seed=1), network((4, 4, 3), seed=1)
    fuse(fused)
    images = tf.random.stateless_normal((2, 4, 4, 3), seed=(0, 1))
    np.testing.assert_array_equal(fused(images, training=False), plain(images, training=False))
    fused.layers[1].trainable = False
    before = fused.get_weights()
    np.testing.assert_array_equal(fused(images, training=True), plain(images, training=False))
    np.testing.assert_array_equal(fused.get_weights(), before)


def test_what_is_saved_is_kerass_layer(tmp_path):
    model = network((4, 4, 3), seed=1)
    fuse(model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.layers[1]) is keras.layers.BatchNormalization
    images = tf.random.stateless_normal((2, 4, 4, 3), seed=(0, 1))
    np.testing.assert_array_equal(again(images), model(images))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_keeps_its_kind(policy):
    image = keras.Input((4, 4, 3))
    layer = keras.layers.BatchNormalization(dtype=policy)
    model = keras.Model(image, layer(image))
    plain = model(tf.random.stateless_normal((2, 4, 4, 3), seed=(0, 1)), training=True)
    fuse(model)
    outputs = model(tf.random.stateless_normal((2, 4, 4, 3), seed=(0, 1)), training=True)
    assert outputs.dtype == layer.compute_dtype == plain.dtype
    np.testing.assert_allclose(tf.cast(outputs, tf.float32), tf.cast(plain, tf.float32), atol=0.02)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), max_size=4),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    nesterov=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 99),
)
def test_steps_equal_those_of_kerass_sgd(shape, momentum, nesterov, dtype, seed):
    chance = np.random.default_rng(seed)
    begun, gradients = chance.normal(size=shape), chance.normal(size=(4, *shape))
    ends = []
    for kind in (keras.optimizers.SGD, FusedSGD):
        variable = keras.Variable(begun, dtype=dtype)
        optimizer = kind(0.1, momentum=momentum, nesterov=nesterov)
        for gradient in gradients:
            optimizer.apply([tf.constant(gradient, dtype)], [variable])
        ends.append([variable, *optimizer.variables])
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(two.numpy(), one.numpy(), atol=1e-5)
