"""The optimizer of a recipe: its rate at every step, its decay and the shares of the rate, against Keras's own."""

import dataclasses
import math

import keras
import numpy as np
import pytest

from keras_inception.config import RunConfig
from keras_inception.training.fused import FusedSGD
from keras_inception.training.optimizers import Schedule, optimizer
from keras_inception.training.replicas import LossScale
from keras_inception.training.session import resolved


def training(**fields):
    values = {f"training.{name}": value for name, value in fields.items()}
    return resolved(RunConfig().override(values)).training


def test_the_rate_warms_up_and_falls_to_zero_along_a_cosine():
    config = training(epochs=10, learning_rate=0.4)
    schedule = Schedule(config, steps=5)
    values = np.array([float(schedule(step)) for step in range(51)])
    keras_own = keras.optimizers.schedules.CosineDecay(0.0, 45, warmup_target=0.4, warmup_steps=5)
    np.testing.assert_allclose(values, [float(keras_own(step)) for step in range(51)], atol=1e-6)


def test_the_paper_lowers_the_rate_by_4_percent_every_8_epochs():
    config = dataclasses.replace(resolved(RunConfig.of_recipe("paper")).training, epochs=40)
    schedule = Schedule(config, steps=5)
    assert float(schedule(0)) == pytest.approx(0.01)
    for epoch in (0, 7.8, 8, 15.8, 16, 39.8):
        assert float(schedule(epoch * 5)) == pytest.approx(0.01 * 0.96 ** (epoch // 8)), epoch


@pytest.mark.parametrize(
    ("fields", "rate"),
    [
        ({}, 0.36 * 32 / 256),
        ({"batch_size": 256}, 0.36),
        ({"batch_size": 512}, 0.72),
        ({"optimizer": "adamw", "batch_size": 512}, 5e-4),
        ({"batch_size": 512, "learning_rate": 0.03}, 0.03),
        ({"batch_size": 64, "reference_rate": 0.01, "reference_batch": 32}, 0.02),
    ],
)
def test_the_rate_scales_with_the_batch_unless_it_is_given(fields, rate):
    assert training(**fields).learning_rate == pytest.approx(rate)


def steps_of(made: keras.optimizers.Optimizer, kernel, bias, gradients) -> list[np.ndarray]:
    for gradient in gradients:
        made.apply([keras.ops.convert_to_tensor(gradient), keras.ops.ones((2,))], [kernel, bias])
    return [kernel.numpy(), bias.numpy()]


def variables():
    return keras.Variable(np.arange(4.0), name="kernel"), keras.Variable([1.0, 2.0], name="bias")


@pytest.mark.parametrize(("name", "fused"), [("sgd", True), ("sgd", False), ("adamw", True)])
def test_steps_are_those_of_keras(name, fused):
    """With decay of kernels alone, momentum, and a rate that falls."""
    gradients = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    config = training(optimizer=name, learning_rate=0.1, epochs=2, warmup_epochs=0, weight_decay=0.01, fused=fused)
    cosine = keras.optimizers.schedules.CosineDecay(0.1, 6)
    theirs = (
        keras.optimizers.SGD(cosine, momentum=0.9, nesterov=True, weight_decay=0.1)
        if name == "sgd"
        else keras.optimizers.AdamW(cosine, weight_decay=0.01)
    )
    theirs.exclude_from_weight_decay(var_names=["bias"])
    expected = steps_of(theirs, *variables(), gradients)
    for value, wanted in zip(steps_of(optimizer(config, 3, "float32"), *variables(), gradients), expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_slowed_variables_are_as_with_a_share_of_the_rate(name):
    gradients = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)

    def trained(rate: float, share: float) -> list[np.ndarray]:
        config = training(optimizer=name, learning_rate=rate, epochs=9, warmup_epochs=0, weight_decay=0.01)
        kernel, bias = variables()
        made = optimizer(config, 3, "float32")
        made.build([kernel, bias])
        made.slow_down([kernel], share)
        return steps_of(made, kernel, bias, gradients)

    slow, whole, tenth = trained(0.1, 0.1), trained(0.1, 1.0), trained(0.01, 1.0)
    np.testing.assert_allclose(slow[0], tenth[0], rtol=1e-5)
    np.testing.assert_array_equal(slow[1], whole[1])


def test_all_gradients_together_are_clipped_to_the_norm():
    config = training(learning_rate=1.0, clip_norm=0.5, momentum=0, nesterov=False, weight_decay=0, warmup_epochs=0)
    kernel, bias = variables()
    optimizer(config, 100, "float32").apply([keras.ops.full((4,), 3.0), keras.ops.full((2,), 4.0)], [kernel, bias])
    moved = np.concatenate([np.arange(4.0) - kernel.numpy(), [1.0, 2.0] - bias.numpy()])
    assert np.linalg.norm(moved) == pytest.approx(0.5, rel=1e-5)
    assert moved[0] / moved[-1] == pytest.approx(3 / 4, rel=1e-5)


def test_one_operation_takes_the_step_of_sgd_unless_it_is_turned_off():
    assert isinstance(optimizer(training(), 5, "float32"), FusedSGD)
    assert not isinstance(optimizer(training(fused=False), 5, "float32"), FusedSGD)


def test_float16_alone_scales_the_loss():
    config = training()
    assert isinstance(optimizer(config, 5, "mixed_float16"), LossScale)
    assert not isinstance(optimizer(config, 5, "mixed_bfloat16"), LossScale)


def test_an_overflow_is_skipped_and_counted():
    kernel, bias = variables()
    made = optimizer(training(), 5, "mixed_float16")
    made.apply([keras.ops.full((4,), math.inf), keras.ops.ones((2,))], [kernel, bias])
    assert int(made.skipped.numpy()) == 1
    assert int(made.iterations.numpy()) == 0
    np.testing.assert_array_equal(kernel.numpy(), np.arange(4.0))
