"""The network while it is trained: a step over any number of replicas, and what is averaged and counted."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import tensorflow as tf

from keras_inception.architecture import Architecture, Inception
from keras_inception.config import TrainingConfig
from keras_inception.googlenet import MAIN
from keras_inception.training.fused import assign_moving_average, fuse
from keras_inception.training.replicas import SeveralReplicas, given, never_empty, summed, synchronize

#: Before the name of a row in the logs: the norm of its gradient, a mean over the epoch.
GRADIENT_NORM = "gradient_norm_"
#: In the logs: the loss of the last step alone.
STEP_LOSS = "step_loss"


class TrainingModel(SeveralReplicas, keras.Model):
    """A network with a dictionary of outputs, trained by `fit` on batches of images, labels and weights.

    A batch is `(images, {output: labels (batch, classes)}, weights (batch,))`. The loss of an output is the cross
    entropy, a mean over the images of the global batch; that of the network their sum, weighted by `loss_weights`.

    Args:
        network: Functional, with a dictionary of outputs that are probabilities.
        table: Its architecture, by whose rows gradients are logged.
        config: Smoothing of labels, parts of a batch, decay of the average, weights of the heads.
        steps: Steps per epoch.
        top5: Whether top-5 is logged.
    """

    def __init__(self, network: keras.Model, table: Architecture, config: TrainingConfig, *, steps: int, top5: bool):
        super().__init__(network.input, network.output, name=network.name)
        synchronize(self)
        if config.fused:
            fuse(self)
        self._training = config
        self._steps = steps
        self._heads = list(network.output)
        self._rows = rows_of(network, table)
        self._trackers = _trackers(self._heads, tuple(self._rows), top5)
        self.average = Average(self.weights, config.average) if config.average else None
        self.requests = Requests()

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What Keras resets when an epoch or an evaluation begins."""
        return list(self._trackers.values())

    def train_step(self, data):
        """Take one step; Keras calls this on every replica with its part of the batch."""
        gradients = self._gradients(data)
        self._note_norms(gradients)
        # Not apply_gradients, which has no place for gradients that belong to no variable of the optimizer's.
        self.optimizer.apply(gradients, self.trainable_variables)
        if self.average is not None:
            self.average.update(self.optimizer.iterations)
        return self.get_metrics_result()

    def test_step(self, data):
        """Measure a batch, of which images with weight 0 do not count."""
        with never_empty(data) as (images, labels, weights):
            predictions = self(images, training=False)
            self._count(labels, predictions, weights, self._cross_entropies(labels, predictions))
        return self.get_metrics_result()

    def evaluate(self, *args, **kwargs):
        """Measure as Keras does, with the averaged weights where there are any."""
        with self.averaged():
            return super().evaluate(*args, **kwargs)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights, where there are any, in the place of the weights, and take them out again."""
        with contextlib.nullcontext() if self.average is None else self.average.in_place():
            yield

    def get_metrics_result(self) -> dict[str, tf.Tensor]:
        results = {name: tracker.result() for name, tracker in self._trackers.items() if name != GRADIENT_NORM}
        norms = tf.unstack(self._trackers[GRADIENT_NORM].result(), num=len(self._rows))
        return results | {f"{GRADIENT_NORM}{row}": norm for row, norm in zip(self._rows, norms, strict=True)}

    def head_weights(self) -> dict[str, tf.Tensor]:
        """Return the weight of every output's loss at this step; those of the heads may follow a schedule."""
        config = self._training
        weights = dict(zip((MAIN, "aux1", "aux2"), config.loss_weights, strict=True))
        epoch = tf.cast(self.optimizer.iterations, tf.float32) / self._steps
        part = epoch / (config.auxiliary_epochs or config.epochs)
        factors = {
            "constant": tf.ones(()),
            "linear": tf.maximum(0.0, 1 - part),
            "off": tf.cast(part < 1, tf.float32),
        }
        factor = factors[config.auxiliary_schedule]
        return {name: weights[name] * (1.0 if name == MAIN else factor) for name in self._heads}

    def _gradients(self, data) -> list[tf.Tensor | None]:
        """Return the gradients of the scaled loss over the global batch, the same on every replica."""
        total = self.requests.summed_with(tf.cast(tf.shape(data[0])[0], tf.float32))
        variables = self.trainable_variables
        gradients: list[tf.Tensor | None] = [None] * len(variables)
        losses = []
        for part in _parts(data, self._training.accumulation):
            with never_empty(part) as images, tf.GradientTape() as tape:
                losses.append(self._training_loss(images, total))
                scaled = self.optimizer.scale_loss(losses[-1])
            gradients = [_sum(old, new) for old, new in zip(gradients, tape.gradient(scaled, variables), strict=True)]
        replicas = tf.distribute.get_strategy().num_replicas_in_sync  # of whose values Latest is the mean
        self._trackers[STEP_LOSS].update_state(tf.add_n(losses) * replicas)
        return summed(gradients)

    def _training_loss(self, data, total: tf.Tensor) -> tf.Tensor:
        """Return what these images add to the loss of a global batch of `total` images."""
        images, labels, weights = data
        predictions = self(images, training=True)
        losses = self._cross_entropies(_smoothed(labels, self._training.label_smoothing), predictions)
        self._count(labels, predictions, given(tf.ones_like(weights)), losses)
        factors = self.head_weights()
        kind = losses[MAIN].dtype
        sums = [tf.cast(factors[name], kind) * tf.reduce_sum(tf.cast(weights, kind) * losses[name]) for name in losses]
        return tf.add_n(sums) / tf.cast(total, kind)

    def _cross_entropies(self, labels, predictions) -> dict[str, tf.Tensor]:
        return {name: keras.losses.categorical_crossentropy(labels[name], predictions[name]) for name in self._heads}

    def _count(self, labels, predictions, weights: tf.Tensor, losses: Mapping[str, tf.Tensor]) -> None:
        factors = self.head_weights()
        everything = tf.add_n([factors[name] * tf.cast(losses[name], tf.float32) for name in losses])
        # An overflow of float16, whose step is skipped, is no figure of the epoch.
        finite = tf.math.is_finite(everything)
        weights = tf.where(finite, weights, 0.0)

        def track(name: str, values: tf.Tensor) -> None:
            self._trackers[name].update_state(tf.where(finite, tf.cast(values, tf.float32), 0.0), weights)

        track("loss", everything)
        for name in self._heads:
            truth = tf.argmax(labels[name], axis=-1)
            track(f"{name}_loss", losses[name])
            track(f"{name}_top1", truth == tf.argmax(predictions[name], axis=-1))
            if f"{name}_top5" in self._trackers:
                track(f"{name}_top5", tf.math.in_top_k(truth, predictions[name], 5))

    def _note_norms(self, gradients: Sequence[tf.Tensor | None]) -> None:
        scale = self.optimizer.scale_loss(tf.ones(()))
        named = zip(self.trainable_variables, gradients, strict=True)
        halves = {variable.path: tf.cast(tf.nn.l2_loss(g), tf.float32) for variable, g in named if g is not None}
        norms = [
            tf.sqrt(2 * tf.add_n([halves[path] for path in paths if path in halves] or [tf.zeros(())])) / scale
            for paths in self._rows.values()
        ]
        self._trackers[GRADIENT_NORM].update_state(tf.stack(norms))


class Average:
    """The exponential moving average of weights, batch normalisation's statistics among them.

    The decay is warmed up, min(decay, (1 + step) / (10 + step)), so that a short training does not remember where it
    began (TensorFlow's ExponentialMovingAverage does the same).

    Args:
        weights: What is averaged.
        decay: Share of the old average that a step keeps, in long trainings.
    """

    def __init__(self, weights: Sequence[keras.Variable], decay: float):
        self._weights = list(weights)
        self._decay = decay
        self.variables = [
            keras.Variable(weight.numpy(), trainable=False, dtype=weight.dtype, name=f"average_{weight.name}")
            for weight in self._weights
        ]

    def update(self, step: tf.Tensor) -> None:
        """Take in the weights after a step; in a replica's context."""
        step = tf.cast(step, tf.float32)
        rate = 1 - tf.minimum(self._decay, (1 + step) / (10 + step))
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync == 1:  # a strategy's update of each variable takes milliseconds to trace
            for average, weight in zip(self.variables, self._weights, strict=True):
                assign_moving_average(average.value, weight.value, rate)
            return

        def on_all(strategy: tf.distribute.Strategy, rate: tf.Tensor) -> None:
            for average, weight in zip(self.variables, self._weights, strict=True):
                strategy.extended.update(average.value, assign_moving_average, args=(weight.value, rate), group=False)

        context.merge_call(on_all, args=(rate,))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages in the place of the weights, and take them out again."""
        kept = [weight.numpy() for weight in self._weights]
        try:
            for weight, average in zip(self._weights, self.variables, strict=True):
                weight.assign(average.numpy())
            yield
        finally:
            for weight, value in zip(self._weights, kept, strict=True):
                weight.assign(value)


class Requests:
    """What a process asks of all that train with it: a number whose sum over all replicas all see after a step."""

    def __init__(self):
        self._made = keras.Variable(0.0, trainable=False, dtype="float32", name="request")
        self._sum = keras.Variable(0.0, trainable=False, dtype="float32", name="requests")

    def make(self, number: float) -> None:
        """Ask, until another number is given."""
        if self._made.numpy() != number:
            self._made.assign(number)

    def made(self) -> float:
        """Return the sum of what all asked when the last step began; the same on every worker."""
        return float(self._sum.numpy())

    def summed_with(self, value: tf.Tensor) -> tf.Tensor:
        """Return the sum of a scalar over all replicas, and note the sum of what is asked; in a step."""
        total, asked = tf.unstack(summed(tf.stack([value, self._made + 0.0])))
        self._sum.assign(asked)
        return total


class Latest(keras.metrics.Metric):
    """A metric that is its last value."""

    def __init__(self, name: str):
        super().__init__(name=name)
        self._value = self.add_variable(shape=(), initializer="zeros", name="value", aggregation="mean")

    def update_state(self, value):
        self._value.assign(value)

    def result(self):
        return self._value + 0.0


class MeanOfEach(keras.metrics.Metric):
    """A metric of several numbers: the mean of each over the steps on which it was finite.

    Args:
        count: How many numbers.
        name: Of the metric.
    """

    def __init__(self, count: int, name: str):
        super().__init__(name=name)
        self._sums = self.add_variable(shape=(count,), initializer="zeros", name="sums")
        self._steps = self.add_variable(shape=(count,), initializer="zeros", name="steps")

    def update_state(self, values):
        finite = tf.math.is_finite(values)
        self._sums.assign(self._sums + tf.where(finite, values, 0.0))
        self._steps.assign(self._steps + tf.cast(finite, tf.float32))

    def result(self):
        return tf.math.divide_no_nan(self._sums + 0.0, self._steps + 0.0)


def rows_of(network: keras.Model, table: Architecture) -> dict[str, list[str]]:
    """Return the paths of the trainable variables of every row of the table that has any, and of every output.

    >>> from keras_inception import GOOGLENET, GoogLeNet
    >>> list(rows_of(GoogLeNet(auxiliary=True), GOOGLENET))[-4:]
    ['inception_5b', 'main', 'aux1', 'aux2']
    """
    names = [layer_prefix(row) for row in table.rows] + [MAIN] + [head.name for head in table.auxiliary]
    rows: dict[str, list[str]] = {name: [] for name in names}
    for layer in network.layers:
        if layer.trainable_variables:
            rows[row_of_layer(layer.name, names)] += [variable.path for variable in layer.trainable_variables]
    return {name: paths for name, paths in rows.items() if paths}


def layer_prefix(row) -> str:
    """Return what the names of a row's layers begin with."""
    return f"inception_{row.name}" if isinstance(row, Inception) else row.name


def row_of_layer(layer: str, names: Sequence[str]) -> str:
    """Return which of the prefixes `names` a layer's name begins with."""
    return next(name for name in names if layer == name or layer.startswith(f"{name}_"))


def _trackers(heads: Sequence[str], rows: Sequence[str], top5: bool) -> dict[str, keras.metrics.Metric]:
    kinds = ("loss", "top1", "top5") if top5 else ("loss", "top1")
    names = ["loss", *(f"{head}_{kind}" for head in heads for kind in kinds)]
    return {name: keras.metrics.Mean(name=name) for name in names} | {
        STEP_LOSS: Latest(STEP_LOSS),
        GRADIENT_NORM: MeanOfEach(len(rows), GRADIENT_NORM),
    }


def _parts(data, count: int) -> list:
    """Cut a batch into `count` of the same size."""
    if count == 1:
        return [data]
    images, labels, weights = data
    cut: Callable = lambda tensor: tf.split(tensor, count)  # noqa: E731
    of_labels = {name: cut(values) for name, values in labels.items()}
    return [
        (part, {name: values[number] for name, values in of_labels.items()}, weight)
        for number, (part, weight) in enumerate(zip(cut(images), cut(weights), strict=True))
    ]


def _sum(old: tf.Tensor | None, new: tf.Tensor | None) -> tf.Tensor | None:
    return new if old is None else old if new is None else old + new


def _smoothed(labels: Mapping[str, tf.Tensor], smoothing: float) -> dict[str, tf.Tensor]:
    """Move a share of every label to all classes alike."""
    return {name: (1 - smoothing) * values + smoothing / values.shape[-1] for name, values in labels.items()}
