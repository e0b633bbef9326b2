"""One operation of TensorFlow's where Keras 3.15 composes several: batch normalisation, the step of SGD, averages."""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf


def fuse(model: keras.Model) -> None:
    """Let the batch normalisation of one replica be trained by TensorFlow's fused operation, in place.

    What comes out, the gradients and the moving averages equal Keras's within rounding. The layers stay Keras's, and
    are saved as such; at inference they do what they did. What TensorFlow has no such operation for on the CPU is left
    alone: statistics that span several replicas, channels that come first, and float64.

    Args:
        model: Whose layers it is.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and _can_be_fused(layer):
            layer.call = functools.partial(_call, layer, layer.call)


def assign_moving_average(average: tf.Variable, value: tf.Tensor, rate: float | tf.Tensor) -> None:
    """Move an average by a share of its distance towards a value, in one operation.

    Args:
        average: A variable of floats, of any shape.
        value: Of its shape and type.
        rate: The share, in [0, 1]: one less the decay.
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
    return not layer.synchronized and layer.axis in (-1, 3) and layer.compute_dtype != "float64"


def _call(
    layer: keras.layers.BatchNormalization, plain: Callable, inputs: tf.Tensor, training: bool | None = None, **words
) -> tf.Tensor:
    if not (training and layer.trainable):
        return plain(inputs, training=training, **words)
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        inputs, layer.gamma.value, layer.beta.value, epsilon=layer.epsilon, is_training=True
    )
    # TensorFlow's variance estimates that of all images, with one less than their number below; Keras's is the batch's.
    count = tf.cast(tf.size(inputs) // inputs.shape[-1], variance.dtype)
    assign_moving_average(layer.moving_mean.value, mean, 1 - layer.momentum)
    assign_moving_average(layer.moving_variance.value, variance * ((count - 1) / count), 1 - layer.momentum)
    return outputs
