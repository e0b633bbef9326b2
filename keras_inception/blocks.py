"""The building blocks of the network: functions from a Keras tensor to a Keras tensor, for any functional model.

Every layer is named after its row and branch, as in `inception_3a_5x5_reduce`. Shapes are given for channels_last;
Keras's `image_data_format` decides.
"""

import dataclasses
from functools import partial
from typing import Literal, TypeAlias

import keras
from keras import layers

from keras_inception.architecture import AuxiliaryHead, Conv, FullyConnected, Inception, MaxPool, MlpConv
from keras_inception.errors import ArchitectureError
from keras_inception.layers import batch_normalization as batch_normalization_layer, channel_axis

Tensor: TypeAlias = keras.KerasTensor


def convolution(
    x: Tensor,
    filters: int,
    kernel: int,
    *,
    name: str,
    stride: int = 1,
    batch_normalization: bool = False,
    padding: Literal["symmetric", "same"] = "symmetric",
) -> Tensor:
    """Convolve, add a bias or normalise, and rectify.

    At stride 1 the padding is SAME; above it the input is padded by kernel // 2 on each side, as in Caffe, unless SAME
    is asked for.

    Args:
        x: `(batch, height, width, channels)`.
        filters: Number of output channels, ≥ 1.
        kernel: Side of the kernel in pixels, odd.
        name: Name of the convolution; `_pad`, `_bn` and `_relu` are added for the layers around it.
        stride: Stride in pixels.
        batch_normalization: Whether batch normalisation stands in place of the bias.
        padding: As `Conv` has it.

    Returns:
        `(batch, height / stride, width / stride, filters)`.
    """
    centred = stride > 1 and padding == "symmetric"
    if centred:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="valid" if centred else "same",
        use_bias=not batch_normalization,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    if batch_normalization:
        x = batch_normalization_layer(f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def convolution_row(x: Tensor, row: Conv, *, batch_normalization: bool = False) -> Tensor:
    """Build a convolution row of the stem, with its 1×1 reduction where it has one."""
    conv = partial(convolution, batch_normalization=batch_normalization)
    x = _pointwise(x, row.reduce, name=f"{row.name}_reduce", batch_normalization=batch_normalization)
    return conv(x, row.filters, row.kernel, name=row.name, stride=row.stride, padding=row.padding)


def max_pool(x: Tensor, row: MaxPool) -> Tensor:
    """Build a max pool: with SAME padding `(batch, ceil(height / stride), ceil(width / stride), channels)`.

    In ceil mode the map is padded with zeros below and on the right, which no value behind a ReLU is smaller than.
    """
    if row.padding == "ceil":
        x = layers.ZeroPadding2D(((0, row.stride - 1), (0, row.stride - 1)), name=f"{row.name}_pad")(x)
        return layers.MaxPooling2D(row.size, row.stride, name=row.name)(x)
    return layers.MaxPooling2D(row.size, row.stride, padding="same", name=row.name)(x)


def mlpconv_block(x: Tensor, row: MlpConv, *, batch_normalization: bool = False) -> Tensor:
    """Build an mlpconv layer (arXiv:1312.4400, section 3.1): a convolution with two 1×1 convolutions behind it.

    >>> import keras
    >>> mlpconv_block(keras.Input((32, 32, 3)), MlpConv("conv1", 192, kernel=5, mlp1=160, mlp2=96)).shape
    (None, 32, 32, 96)

    Args:
        x: `(batch, height, width, channels)`.
        row: Its widths, kernel and stride.
        batch_normalization: Whether batch normalisation stands in place of biases.

    Returns:
        `(batch, height / stride, width / stride, mlp2)`.
    """
    conv = partial(convolution, batch_normalization=batch_normalization)
    x = conv(x, row.conv, row.kernel, name=row.name, stride=row.stride)
    x = conv(x, row.mlp1, 1, name=f"{row.name}_mlp1")
    return conv(x, row.mlp2, 1, name=f"{row.name}_mlp2")


def inception_block(x: Tensor, row: Inception, *, batch_normalization: bool = False) -> Tensor:
    """Build an Inception module (arXiv:1409.4842, figure 2b; with zeros among its widths 2a, or what lies between).

    >>> import keras
    >>> image = keras.Input((28, 28, 192))
    >>> inception_block(image, Inception("3a", 64, 96, 128, 16, 32, 32)).shape
    (None, 28, 28, 256)

    Args:
        x: `(batch, height, width, channels)`.
        row: Widths of the branches.
        batch_normalization: Whether batch normalisation stands in place of biases.

    Returns:
        `(batch, height, width, conv1x1 + conv3x3 + conv5x5 + pool_projection)`; without a projection all channels of
        the input stand in its place.

    Raises:
        ArchitectureError: `row` is no `Inception`.
    """
    name = _prefix(row)
    conv = partial(convolution, batch_normalization=batch_normalization)
    pointwise = partial(_pointwise, batch_normalization=batch_normalization)
    branch1x1 = conv(x, row.conv1x1, 1, name=f"{name}_1x1")
    branch3x3 = pointwise(x, row.reduce3x3, name=f"{name}_3x3_reduce")
    branch3x3 = conv(branch3x3, row.conv3x3, 3, name=f"{name}_3x3")
    branch5x5 = pointwise(x, row.reduce5x5, name=f"{name}_5x5_reduce")
    branch5x5 = conv(branch5x5, row.conv5x5, row.kernel5x5, name=f"{name}_5x5")
    branch_pool = layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    branch_pool = pointwise(branch_pool, row.pool_projection, name=f"{name}_pool_projection")
    return _concatenate([branch1x1, branch3x3, branch5x5, branch_pool], name)


def naive_inception_block(x: Tensor, row: Inception, *, batch_normalization: bool = False) -> Tensor:
    """Build the naive Inception module (arXiv:1409.4842, figure 2a): no reductions, and a pool without projection.

    Args:
        x: `(batch, height, width, channels)`.
        row: Widths of the branches; `reduce3x3`, `reduce5x5` and `pool_projection` are not used.
        batch_normalization: Whether batch normalisation stands in place of biases.

    Returns:
        `(batch, height, width, conv1x1 + conv3x3 + conv5x5 + channels)`: the pool branch keeps all input channels.

    Raises:
        ArchitectureError: `row` is no `Inception`.
    """
    _prefix(row)  # refuses what is no module
    naive = dataclasses.replace(row, reduce3x3=0, reduce5x5=0, pool_projection=0)
    return inception_block(x, naive, batch_normalization=batch_normalization)


def fully_connected(x: Tensor, row: FullyConnected) -> Tensor:
    """Build a fully connected layer with bias and ReLU, as the convolution that it is, whose kernel is the whole map.

    >>> import keras
    >>> fully_connected(keras.Input((7, 7, 1024)), FullyConnected("fc", 1024)).shape
    (None, 1, 1, 1024)

    Args:
        x: `(batch, height, width, channels)` with known sizes.
        row: Name and number of units.

    Returns:
        `(batch, 1, 1, units)`.

    Raises:
        ArchitectureError: The size of the map is unknown.
    """
    height, width = _spatial(x)
    if height is None or width is None:
        raise ArchitectureError(
            f"row {row.name!r} is fully connected and needs an image of known size; give input_shape with numbers"
        )
    x = layers.Conv2D(row.units, (height, width), kernel_initializer="he_normal", name=row.name)(x)
    return layers.ReLU(name=f"{row.name}_relu")(x)


def auxiliary_head(
    x: Tensor,
    classes: int,
    name: str,
    *,
    row: AuxiliaryHead | None = None,
    classifier_activation: str | None = "softmax",
    batch_normalization: bool = False,
) -> Tensor:
    """Build an auxiliary classifier (arXiv:1409.4842, section 5): pool, 1×1, fully connected, dropout, classifier.

    Args:
        x: `(batch, height, width, channels)` with known sizes, the output of module 4a or 4d.
        classes: Number of classes, ≥ 1.
        name: Name of the output; prefix of the layers.
        row: Widths, dropout and pool; by default the paper's: 5×5/3 pool, 128 channels, 1024 units, dropout 70%.
        classifier_activation: Activation of the output; None gives logits.
        batch_normalization: Whether batch normalisation stands in place of the convolution's bias.

    Returns:
        `(batch, classes)`, float32 under mixed precision too.

    Raises:
        ArchitectureError: The map is smaller than the pool's window, or its size is unknown.
    """
    row = row or AuxiliaryHead(name, after=name)
    height, width = _spatial(x)
    if height is None or width is None:
        raise ArchitectureError(f"head {name!r} needs an image of known size; give input_shape with numbers")
    if min(height, width) < row.pool_size and not row.pooled_size:
        raise ArchitectureError(
            f"head {name!r} stands on a map of {height}×{width} px; its pool needs {row.pool_size}×{row.pool_size}"
        )
    if row.pooled_size:
        x = layers.AdaptiveAveragePooling2D(row.pooled_size, name=f"{name}_pool")(x)
    else:
        x = layers.AveragePooling2D(row.pool_size, row.pool_stride, name=f"{name}_pool")(x)  # 4×4 at 224 px
    x = convolution(x, row.filters, 1, name=f"{name}_1x1", batch_normalization=batch_normalization)
    x = layers.Flatten(name=f"{name}_flatten")(x)
    x = layers.Dense(row.units, kernel_initializer="he_normal", name=f"{name}_dense")(x)
    x = layers.ReLU(name=f"{name}_relu")(x)
    x = layers.Dropout(row.dropout, name=f"{name}_dropout")(x)
    return classifier(x, classes, name, activation=classifier_activation)


def classifier(x: Tensor, classes: int, name: str, *, activation: str | None = "softmax") -> Tensor:
    """Build the linear layer with its activation: `(batch, features)` to `(batch, classes)`.

    Computed in the dtype of the variables, so in float32 under mixed precision: a softmax in float16 overflows.
    """
    dtype = keras.config.dtype_policy().variable_dtype
    return layers.Dense(classes, activation=activation, dtype=dtype, name=name)(x)


def _pointwise(x: Tensor, filters: int, *, name: str, batch_normalization: bool) -> Tensor:
    """Build a 1×1 convolution; of 0 filters there is none."""
    return convolution(x, filters, 1, name=name, batch_normalization=batch_normalization) if filters else x


def _prefix(row: Inception) -> str:
    if not isinstance(row, Inception):
        raise ArchitectureError(f"an Inception block is built from an Inception row, not from {row!r}")
    return f"inception_{row.name}"


def _concatenate(branches: list[Tensor], name: str) -> Tensor:
    return layers.Concatenate(axis=channel_axis(), name=name)(branches)


def _spatial(x: Tensor) -> tuple[int | None, int | None]:
    return x.shape[1:3] if channel_axis() == -1 else x.shape[2:4]
