"""The layers Keras lacks. Only this module looks at the backend; all else is Keras layers and `keras.ops`."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_inception")
class LocalResponseNormalization(keras.layers.Layer):
    """Local response normalisation over channels: `x / (bias + alpha * sum(x²)) ** beta`.

    The sum runs over `depth_radius` channels on either side (Krizhevsky et al., NIPS 2012, section 3.3). Always
    computed in float32: TensorFlow has no bfloat16 kernel for it on the CPU. On TensorFlow it is TensorFlow's own
    operation, the only form that becomes a TFLite builtin. Input and output are `(batch, height, width, channels)`, of
    the same shape and dtype.

    Args:
        depth_radius: Channels on either side, ≥ 0. Caffe's `local_size` is 2 · depth_radius + 1.
        bias: Added to the weighted sum of squares.
        alpha: Weight of the sum of squares. Caffe divides its alpha by `local_size`; this one is used as it is.
        beta: Exponent.
        data_format: "channels_last" or "channels_first"; by default Keras's setting.
        **kwargs: Name and dtype, as any Keras layer takes them.
    """

    def __init__(
        self,
        depth_radius: int = 2,
        bias: float = 1.0,
        alpha: float = 2e-5,
        beta: float = 0.75,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.depth_radius = depth_radius
        self.bias = bias
        self.alpha = alpha
        self.beta = beta
        self.data_format = data_format or keras.config.image_data_format()

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        if self.data_format == "channels_first":
            x = ops.transpose(x, (0, 2, 3, 1))
        x = self._normalize(x)
        if self.data_format == "channels_first":
            x = ops.transpose(x, (0, 3, 1, 2))
        return ops.cast(x, self.compute_dtype)

    def _normalize(self, x):
        if keras.config.backend() == "tensorflow":
            import tensorflow as tf

            return tf.nn.local_response_normalization(x, self.depth_radius, self.bias, self.alpha, self.beta)
        window = 2 * self.depth_radius + 1
        squares = ops.pad(ops.square(x), ((0, 0), (0, 0), (0, 0), (self.depth_radius, self.depth_radius)))
        channels = x.shape[-1]
        total = sum(squares[..., shift : shift + channels] for shift in range(window))
        return x / (self.bias + self.alpha * total) ** self.beta

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "depth_radius": self.depth_radius,
            "bias": self.bias,
            "alpha": self.alpha,
            "beta": self.beta,
            "data_format": self.data_format,
        }


def batch_normalization(name: str) -> keras.layers.BatchNormalization:
    """Return the batch normalisation that follows a convolution.

    Under a distribution strategy with several replicas the statistics are taken over all of them, so that training
    equals one device with the same global batch; without it every replica would keep its own moving averages.
    The moving average forgets faster than Keras's default, 0.9 a step, since small data sets train for few steps.
    """
    return keras.layers.BatchNormalization(
        axis=channel_axis(), momentum=0.9, epsilon=1e-3, synchronized=_replicas_in_sync() > 1, name=name
    )


def channel_axis() -> int:
    """Return the axis of channels in Keras's current data format: -1 or 1."""
    return -1 if keras.config.image_data_format() == "channels_last" else 1


def _replicas_in_sync() -> int:
    if keras.config.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
