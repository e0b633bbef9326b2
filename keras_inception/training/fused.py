"""One operation of TensorFlow's where Keras 3.15 composes several: batch normalisation, the step of SGD, averages."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_inception.training.replicas import given, joined, summed


def fuse(model: keras.Model) -> None:
    """Let batch normalisation be trained by TensorFlow's fused operations, in place.

    What comes out, the gradients and the moving averages equal Keras's within rounding, and over several replicas those
    of one. The layers stay Keras's, and are saved as such; at inference they do what they did. What TensorFlow has no
    such operation for on the CPU is left alone: channels that come first, and float64.

    Args:
        model: Whose layers it is.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and _can_be_fused(layer):
            layer.call = functools.partial(_call, layer, layer.call)


def approach(average: tf.Variable, value: tf.Tensor, rate: float | tf.Tensor) -> None:
    """Move an average by a share of its distance towards a value.

    Args:
        average: A variable.
        value: Of its shape and type.
        rate: The share.
    """
    tf.raw_ops.ResourceApplyGradientDescent(
        var=average.handle, alpha=tf.cast(rate, average.dtype), delta=average - value
    )


class FusedSGD(keras.optimizers.SGD):
    """Keras's SGD whose step is one operation for each variable where there is momentum; equal within rounding."""

    def update_step(self, gradient, variable, learning_rate):
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        velocity = self.momentums[self._get_variable_index(variable)].value
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=velocity.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
            momentum=tf.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )


def _can_be_fused(layer: keras.layers.BatchNormalization) -> bool:
    return layer.axis in (-1, 3) and layer.compute_dtype != "float64"


def _call(
    layer: keras.layers.BatchNormalization, plain: Callable, inputs: tf.Tensor, training: bool | None = None, **words
) -> tf.Tensor:
    if not (training and layer.trainable):
        return plain(inputs, training=training, **words)
    normalize = _of_all_replicas if layer.synchronized else _of_one
    outputs, mean, variance = normalize(inputs, layer.gamma.value, layer.beta.value, layer.epsilon)
    approach(layer.moving_mean.value, mean, 1 - layer.momentum)
    approach(layer.moving_variance.value, variance, 1 - layer.momentum)
    return outputs


def _of_one(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float) -> tuple[tf.Tensor, ...]:
    """Return the normalised images of one replica, and the mean and variance of each channel."""
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, scale, offset, epsilon=epsilon, is_training=True)
    # TensorFlow's variance estimates that of all images, with one less than their number below; Keras's is the batch's.
    count = _count(x)
    return outputs, mean, variance * ((count - 1) / count)


def _of_all_replicas(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float) -> tuple[tf.Tensor, ...]:
    """Return what `_of_one` does, with the statistics of all replicas: a collective for these, one for the gradients.

    The gradient is that of a normalisation by constants, less what the statistics' dependence on the images makes of
    it (arXiv:1502.03167, section 3), which is a normalisation of the images too.
    """
    ones, zeros = tf.ones_like(scale), tf.zeros_like(offset)
    _, own_mean, own_variance = tf.compat.v1.nn.fused_batch_norm(tf.stop_gradient(x), ones, zeros, is_training=True)
    count = _count(x)
    total, mean, variance = joined(count, own_mean, own_variance * (count - 1))
    deviation = tf.sqrt(variance + epsilon)

    def by_constants(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
        return tf.compat.v1.nn.fused_batch_norm(
            x, scale, offset, mean=mean, variance=variance, epsilon=epsilon, is_training=False
        )[0]

    # The sums are made outside: the search for variables in what tf.custom_gradient decorates then ends at once.
    @tf.custom_gradient
    def normalized(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            of_x, of_scale, of_offset, *_ = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=upstream,
                x=x,
                scale=scale,
                reserve_space_1=mean,
                reserve_space_2=variance,
                reserve_space_3=tf.zeros((0,)),
                epsilon=epsilon,
                is_training=False,
            )
            mean_scale, mean_offset = tf.unstack(summed(tf.stack([of_scale, of_offset])) / total)
            factor = scale / deviation
            return given(of_x - by_constants(x, factor * mean_scale, factor * mean_offset)), of_scale, of_offset

        return by_constants(x, scale, offset), gradient

    return normalized(x, scale, offset), mean, variance


def _count(x: tf.Tensor) -> tf.Tensor:
    """Return how many values a channel has, as a float32 scalar."""
    return tf.cast(tf.size(x) // x.shape[-1], tf.float32)
