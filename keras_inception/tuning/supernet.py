"""One network whose first channels are all smaller ones: it is trained once, and others take their weights from it.

Slimmable networks (arXiv:1812.08928) trained by the sandwich rule (arXiv:1903.05134): every step takes the largest
network, the smallest, and some between. All learn the labels. Where the others learnt what the largest answers
(in-place distillation, arXiv:1903.05134), the smaller networks were worse after as short a training as is wanted here.
Widths are tensors, so that all networks are one graph, and channels that a network lacks are not computed.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_inception.architecture import LRN, WIDTHS, Architecture, Conv, FullyConnected, Inception, MaxPool
from keras_inception.cost import Shape
from keras_inception.errors import ArchitectureError
from keras_inception.googlenet import MAIN, GoogLeNet

#: Mean and variance of every batch normalisation, in the order of the network's layers.
Statistics = Sequence[tuple[np.ndarray, np.ndarray]]

# Channels of a tensor in parts: of each, how many the largest network has and how many this one.
_Segments = Sequence[tuple[int, Any]]
# From the name of a convolution to the channels that go in and how many come out.
_Cuts = Mapping[str, tuple[_Segments, Any]]
# Normalises what a layer of a name gives.
_Normalize = Callable[[str, tf.Tensor, Any], tf.Tensor]


class Supernet:
    """The largest network, and all that have its rows with smaller widths, in the same weights.

    Args:
        largest: Its architecture; heads are not built.
        input_shape: Height, width and channels of the images.
        classes: Number of classes.
        seed: Of its first weights.
    """

    def __init__(self, largest: Architecture, input_shape: Shape, classes: int, *, seed: int = 0):
        self.largest = largest
        self._input_shape, self._classes = input_shape, classes
        keras.utils.set_random_seed(seed)
        #: The largest network as an ordinary model; its variables are what is trained.
        self.network = GoogLeNet(architecture=largest, input_shape=input_shape, classes=classes)
        self._fields = [(row.name, name) for row in largest.rows for name in WIDTHS.get(type(row), ())]
        self._normalized = [layer.name for layer in self.network.layers if _is_normalization(layer)]
        images, widths = tf.TensorSpec((None, *input_shape)), tf.TensorSpec((len(self._fields),), tf.int32)
        statistics = [(tf.TensorSpec((None,)), tf.TensorSpec((None,)))] * len(self._normalized)
        # Without AutoGraph, which does not know `match`; nothing here depends on the values of tensors.
        traced = partial(tf.function, autograph=False)
        self._moments = traced(self._moments_of, input_signature=[images, widths])
        self._answer = traced(self._answer_of, input_signature=[images, widths, statistics])
        targets = tf.TensorSpec((None, classes))
        self._gradients = traced(self._gradients_of, input_signature=[images, targets, widths])

    def train(
        self,
        batches: Iterator[tuple[tf.Tensor, tf.Tensor]],
        steps: int,
        draw: Callable[[], Architecture],
        *,
        smallest: Architecture,
        optimizer: keras.optimizers.Optimizer,
        drawn: int = 2,
        label_smoothing: float = 0.0,
        on_step: Callable[[int, float], None] = lambda step, loss: None,
    ) -> None:
        """Train all networks for some steps.

        All learn the labels, and a weight goes down the sum of the gradients of all that have it.

        Args:
            batches: Of images, float32 `(batch, height, width, channels)`, and labels, one-hot `(batch, classes)`.
            steps: How many are taken of them.
            draw: Returns a network of the step, within the largest.
            smallest: Trained in every step, as the largest is (sandwich rule).
            optimizer: Built for the trainable variables of `network`.
            drawn: Networks in a step beside these two.
            label_smoothing: Share of a label that moves to all classes alike, in [0, 1).
            on_step: Called with the step, from 0, and the loss of the largest.

        Raises:
            ArchitectureError: A network is not within the largest.
        """
        variables = self.network.trainable_variables

        # The networks are called one by one: all in one graph take seconds to build, at every call of this method.
        @tf.function(autograph=False)
        def apply(gradients: Sequence[Sequence[tf.Tensor]]) -> None:
            optimizer.apply([tf.add_n(same) for same in zip(*gradients, strict=True)], variables)

        for number in range(steps):
            images, labels = next(batches)
            networks = [self.largest, smallest, *(draw() for _ in range(drawn))]
            smoothed = (1 - label_smoothing) * labels + label_smoothing / self._classes
            losses, gradients = zip(
                *(self._gradients(images, smoothed, self._vector(table)) for table in networks), strict=True
            )
            apply(gradients)
            on_step(number, float(losses[0]))

    def calibrated(self, table: Architecture, batches: Iterable[tf.Tensor]) -> Statistics:
        """Return the statistics of batch normalisation that a network has on images; a mean over batches.

        Args:
            table: Within the largest.
            batches: Of images.

        Raises:
            ArchitectureError: It is not within the largest.
        """
        widths, total, sums = self._vector(table), 0, [(np.float64(0), np.float64(0))] * len(self._normalized)
        for images in batches:
            count = len(images)
            found = self._moments(images, widths)
            sums = [
                (mean + count * one.numpy(), variance + count * other.numpy())
                for (mean, variance), (one, other) in zip(sums, found, strict=True)
            ]
            total += count
        return [tuple((value / total).astype(np.float32) for value in pair) for pair in sums]  # type: ignore[misc]

    def probabilities(self, table: Architecture, statistics: Statistics, batches: Iterable[tf.Tensor]) -> np.ndarray:
        """Return what a network answers, float32 `(images, classes)`.

        Args:
            table: Within the largest.
            statistics: From `calibrated`.
            batches: Of images.

        Raises:
            ArchitectureError: It is not within the largest.
        """
        widths = self._vector(table)
        checked = self._checked(widths, statistics)
        return np.concatenate([self._answer(images, widths, checked).numpy() for images in batches])

    def inherited(self, table: Architecture, statistics: Statistics) -> keras.Model:
        """Return a network as a model of its own, with its part of the weights.

        Args:
            table: Within the largest.
            statistics: From `calibrated`.

        Raises:
            ArchitectureError: It is not within the largest.
        """
        widths = self._vector(table)
        statistics = self._checked(widths, statistics)
        cuts = self._cuts(dict(zip(self._fields, widths, strict=True)))
        model = GoogLeNet(architecture=table, input_shape=self._input_shape, classes=self._classes)
        for name, (segments, width) in cuts.items():
            kernel = _cut(self.network.get_layer(name).kernel.value, segments, width)
            bias = self.network.get_layer(name).bias
            model.get_layer(name).set_weights([kernel] if bias is None else [kernel, bias[:width]])
        for name, (mean, variance) in zip(self._normalized, statistics, strict=True):
            layer, width = self.network.get_layer(name), len(mean)
            affine = [weight[:width] for weight in (layer.gamma, layer.beta) if weight is not None]
            model.get_layer(name).set_weights([*affine, mean, variance])
        return model

    def _vector(self, table: Architecture) -> list[int]:
        """Return all widths of a table."""
        self._check(table)
        found = []
        for row, most in zip(table.rows, self.largest.rows, strict=True):
            for name in WIDTHS.get(type(row), ()):
                width, limit = getattr(row, name), getattr(most, name)
                if width > limit or (width == 0) != (limit == 0):
                    possible = f"1 to {limit}" if limit else "0"
                    raise ArchitectureError(
                        f"{name} of row {row.name!r} is {width}; the shared network has {limit}: give {possible}"
                    )
                found.append(width)
        return found

    def _check(self, table: Architecture) -> None:
        """Refuse a table that differs from the largest in more than widths."""
        if table.batch_normalization != self.largest.batch_normalization:
            raise ArchitectureError(
                f"{table.name!r} has batch_normalization={table.batch_normalization}; the shared network has "
                f"{self.largest.batch_normalization}, and it takes the same"
            )
        other = f"{table.name!r} has other rows than the shared network"
        if len(table.rows) != len(self.largest.rows):
            raise ArchitectureError(f"{other}: {len(table.rows)} in place of {len(self.largest.rows)}")
        for row, most in zip(table.rows, self.largest.rows, strict=True):
            widths = {name: getattr(most, name) for name in WIDTHS.get(type(most), ())}
            if type(row) is not type(most) or dataclasses.replace(row, **widths) != most:
                raise ArchitectureError(f"{other}: {row} in place of {most}; it takes the same but for widths")

    def _checked(self, widths: Sequence[int], statistics: Statistics) -> Statistics:
        """Refuse statistics of other widths, which TensorFlow's fused kernels would read out of bounds."""
        cuts = self._cuts(dict(zip(self._fields, widths, strict=True)))
        expected = [cuts[name.removesuffix("_bn")][1] for name in self._normalized]
        if [len(mean) for mean, _ in statistics] != expected or [len(v) for _, v in statistics] != expected:
            raise ArchitectureError("the statistics are of another network; calibrate this one")
        return list(statistics)

    def _cuts(self, widths: Mapping[tuple[str, str], Any]) -> _Cuts:
        """Return the part of every convolution's kernel that a network has, by widths that are numbers or tensors."""
        found: dict[str, tuple[_Segments, Any]] = {}
        segments: _Segments = [(self._input_shape[2], self._input_shape[2])]

        def of(row: Any, name: str) -> tuple[int, Any]:
            return getattr(row, name), widths[row.name, name]

        for row in self.largest.rows:
            match row:
                case Conv():
                    if row.reduce:
                        found[f"{row.name}_reduce"] = (segments, widths[row.name, "reduce"])
                        segments = [of(row, "reduce")]
                    found[row.name] = (segments, widths[row.name, "filters"])
                    segments = [of(row, "filters")]
                case Inception():
                    name = f"inception_{row.name}"
                    for size in ("3x3", "5x5"):
                        inputs, reduce = segments, f"reduce{size}"
                        if getattr(row, reduce):
                            found[f"{name}_{size}_reduce"] = (segments, widths[row.name, reduce])
                            inputs = [of(row, reduce)]
                        found[f"{name}_{size}"] = (inputs, widths[row.name, f"conv{size}"])
                    found[f"{name}_1x1"] = (segments, widths[row.name, "conv1x1"])
                    pool = segments
                    if row.pool_projection:
                        found[f"{name}_pool_projection"] = (segments, widths[row.name, "pool_projection"])
                        pool = [of(row, "pool_projection")]
                    segments = [*(of(row, width) for width in ("conv1x1", "conv3x3", "conv5x5")), *pool]
                case FullyConnected():
                    found[row.name] = (segments, widths[row.name, "units"])
                    segments = [of(row, "units")]
        found[MAIN] = (segments, self._classes)
        return found

    def _logits(self, images: tf.Tensor, widths: tf.Tensor, normalize: _Normalize) -> tf.Tensor:
        """Compute a network; as `GoogLeNet` builds it."""
        cuts = self._cuts(dict(zip(self._fields, tf.unstack(widths), strict=True)))
        conv = partial(self._convolution, cuts=cuts, normalize=normalize)

        def optional(x: tf.Tensor, name: str) -> tf.Tensor:
            return conv(x, name) if name in cuts else x

        x = images
        for row in self.largest.rows:
            match row:
                case Conv():
                    x = conv(optional(x, f"{row.name}_reduce"), row.name, stride=row.stride)
                case MaxPool(padding="ceil"):
                    beside = [0, row.stride - 1]
                    x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], beside, beside, [0, 0]]), row.size, row.stride, "VALID")
                case MaxPool():
                    x = tf.nn.max_pool2d(x, row.size, row.stride, "SAME")
                case LRN():
                    values = {name: value for name, value in dataclasses.asdict(row).items() if name != "name"}
                    x = tf.nn.local_response_normalization(x, **values)
                case Inception():
                    name = f"inception_{row.name}"
                    branch1x1 = conv(x, f"{name}_1x1")
                    branch3x3 = conv(optional(x, f"{name}_3x3_reduce"), f"{name}_3x3")
                    branch5x5 = conv(optional(x, f"{name}_5x5_reduce"), f"{name}_5x5")
                    pool = optional(tf.nn.max_pool2d(x, 3, 1, "SAME"), f"{name}_pool_projection")
                    x = tf.concat([branch1x1, branch3x3, branch5x5, pool], axis=-1)
                case FullyConnected():
                    x = conv(x, row.name)
        layer, (segments, _) = self.network.get_layer(MAIN), cuts[MAIN]
        return tf.reduce_mean(x, [1, 2]) @ _cut(layer.kernel.value, segments, self._classes) + layer.bias.value

    def _convolution(
        self, x: tf.Tensor, name: str, *, cuts: _Cuts, normalize: _Normalize, stride: int = 1
    ) -> tf.Tensor:
        layer, (segments, width) = self.network.get_layer(name), cuts[name]
        if stride > 1 and layer.padding == "valid":  # its window is centred
            beside = layer.kernel_size[0] // 2
            x = tf.pad(x, [[0, 0], [beside, beside], [beside, beside], [0, 0]])
        x = tf.nn.conv2d(x, _cut(layer.kernel.value, segments, width), stride, layer.padding.upper())
        if layer.bias is not None:
            return tf.nn.relu(x + layer.bias.value[:width])
        return tf.nn.relu(normalize(f"{name}_bn", x, width))

    def _normalization(self, name: str, x: tf.Tensor, width: Any, **how: Any) -> tuple[tf.Tensor, ...]:
        layer = self.network.get_layer(name)
        scale = tf.ones([width]) if layer.gamma is None else layer.gamma.value[:width]
        return tf.compat.v1.nn.fused_batch_norm(x, scale, layer.beta.value[:width], epsilon=layer.epsilon, **how)

    def _in_training(self, found: dict[str, tuple[tf.Tensor, tf.Tensor]]) -> _Normalize:
        """Return the normalisation by a batch's own statistics, which are noted in `found`."""

        def normalize(name: str, x: tf.Tensor, width: Any) -> tf.Tensor:
            y, mean, variance = self._normalization(name, x, width, is_training=True)
            count = tf.cast(tf.size(x) // width, tf.float32)
            found[name] = (mean, variance * (count - 1) / count)  # the operation's is of a sample, Keras's of all
            return y

        return normalize

    def _moments_of(self, images: tf.Tensor, widths: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        found: dict[str, tuple[tf.Tensor, tf.Tensor]] = {}
        self._logits(images, widths, self._in_training(found))
        return [found[name] for name in self._normalized]

    def _answer_of(self, images: tf.Tensor, widths: tf.Tensor, statistics: Any) -> tf.Tensor:
        known = dict(zip(self._normalized, statistics, strict=True))

        def normalize(name: str, x: tf.Tensor, width: Any) -> tf.Tensor:
            mean, variance = known[name]
            return self._normalization(name, x, width, mean=mean, variance=variance, is_training=False)[0]

        return tf.nn.softmax(self._logits(images, widths, normalize))

    def _gradients_of(self, images: tf.Tensor, targets: tf.Tensor, widths: tf.Tensor) -> tuple[Any, ...]:
        """Return the loss of a network and the gradients of all weights; 0 where it has no part."""
        with tf.GradientTape() as tape:
            logits = self._logits(images, widths, self._in_training({}))
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
        variables = [variable.value for variable in self.network.trainable_variables]
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return loss, [tf.convert_to_tensor(gradient) for gradient in gradients]


def _cut(kernel: Any, segments: _Segments, width: Any) -> tf.Tensor:
    """Return the part of a kernel, `(..., inputs, outputs)`, from the first channels of every segment to `width`."""
    parts, begin = [], 0
    for most, some in segments:
        parts.append(kernel[..., begin : begin + some, :width])
        begin += most
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=-2)


def _is_normalization(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)
