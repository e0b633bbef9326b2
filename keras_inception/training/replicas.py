"""Training on several replicas, right where Keras 3.15 is wrong.

Keras 3.15 (Keras 3.16's sources say the same) on TensorFlow, with a strategy of several replicas:

- clips each replica's own gradients, before they are summed: not what one device does;
- looks for a float16 overflow in the first replica's own gradients: one on another replica ends as NaN in the weights;
- averages the means of the replicas' losses: wrong where a last batch is divided unequally;
- divides `gradient_accumulation_steps` inside a graph that cannot be divided, and raises;
- learns shapes by adding up the replicas' first batches, which must then be of one size;
- takes minutes to trace a synchronised batch normalisation in every layer;
- lets a replica without images run on none, where oneDNN gives wrong shapes or ends the process;
- cannot reduce scalar logs over several workers, nor look at a first batch there (keras-team/keras#20329, #20585).

All of it follows from gradients that are summed too late and batches that are looked at too early. So here a train step
sums the gradients itself and hands them on as what the optimizer believes them to be; the loss is a sum over the global
batch divided by its size; and nothing is learnt from a first batch, since all is built before.
The tests of this module show each fault upstream, and fail once it is mended there and this is no longer needed.
"""

import contextlib
import contextvars
import functools
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_LOG = logging.getLogger(__name__)

# What this module was tried with; it stands on methods of Keras's that are not public.
_KERAS = "3.15."

# Sums over workers go in packs of so many bytes; on loopback that is half the time of TensorFlow's own division.
_SUMMED = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=8 * 2**20)

# Whether the images that a replica is at were given to it; each replica is traced by a thread of its own.
_given: contextvars.ContextVar[tf.Tensor | None] = contextvars.ContextVar("given", default=None)


class SummedGradients(keras.optimizers.Optimizer):
    """A mixin for optimizers: gradients come summed over the replicas, and are not summed again."""

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars


class LossScale(keras.optimizers.LossScaleOptimizer):
    """Dynamic loss scaling for float16 that counts the steps it skips, in `skipped`."""

    def build(self, var_list):
        super().build(var_list)
        self.skipped = self.add_variable(shape=(), dtype="int", initializer="zeros", aggregation="none", name="skipped")

    def _stateful_handle_non_finite_grads(self):
        super()._stateful_handle_non_finite_grads()
        self.skipped.assign_add(1)


class SeveralReplicas(keras.Model):
    """A mixin for models that are built before they see data, trained on any number of replicas and workers."""

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Do nothing: see above."""

    def _make_function(self, step_function):
        if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return super()._make_function(lambda data: _of_one_element(step_function(data)))
        return super()._make_function(step_function)


def check_keras(replicas: int) -> None:
    """Log a line where several replicas meet a Keras that this module was not tried with."""
    if replicas > 1 and not keras.__version__.startswith(_KERAS):
        _LOG.warning("Keras is %s; training on several devices was tried with %sx alone", keras.__version__, _KERAS)


def summed(values: Any) -> Any:
    """Return the sum of each tensor over all replicas, in a replica's context; Nones stay. Not differentiable."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    flat = tf.nest.flatten(values)
    there = [value for value in flat if value is not None]

    def on_all(strategy: tf.distribute.Strategy, *of_replicas: Any) -> list[Any]:
        pairs = [(value, value) for value in of_replicas]
        return strategy.extended.batch_reduce_to(tf.distribute.ReduceOp.SUM, pairs, _SUMMED)

    sums = iter(context.merge_call(on_all, args=there))
    return tf.nest.pack_sequence_as(values, [None if value is None else next(sums) for value in flat])


@contextlib.contextmanager
def never_empty(data: Any) -> Iterator[Any]:
    """Let a replica that got no images of a ragged last batch run on a blank one of weight 0.

    TensorFlow's oneDNN kernels (TensorFlow 2.21) cannot do with none: a convolution then has the channels of its input,
    and the gradient of a max pool ends the process. Within the context batch normalisation passes over the blank image,
    and `given` tells it from the others.

    Args:
        data: Tensors of any nesting, `(images, …)` each, as many images in all.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        yield data
        return
    there = tf.shape(tf.nest.flatten(data)[0])[0] > 0
    blank = tf.cast(~there, tf.int32)
    token = _given.set(there)
    try:
        yield tf.nest.map_structure(lambda part: tf.pad(part, [[0, blank], *[[0, 0]] * (part.shape.rank - 1)]), data)
    finally:
        _given.reset(token)


def given(values: tf.Tensor) -> tf.Tensor:
    """Return zeros in the place of values that come from a blank image."""
    return _where(_given.get(), values)


def synchronize(model: keras.Model) -> None:
    """Let batch normalisation of several replicas take its statistics over all of them in Keras's place.

    Keras sums through an operation whose gradient, in every one of the layers, searches the graphs of all replicas for
    variables, so that the first step of GoogLeNet takes minutes to trace; and its variance, the mean square less the
    squared mean, loses digits where the mean is large. The layers stay Keras's, and are saved as such.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and layer.synchronized:
            layer._moments = functools.partial(_moments, layer)


class OfEveryReplica:
    """Variables that differ between replicas: running metrics, the states of random generators.

    Args:
        strategy: Which they are mirrored by.
        variables: Keras variables.
    """

    def __init__(self, strategy: tf.distribute.Strategy, variables: Sequence[Any]):
        self._strategy = strategy
        self._variables = list(variables)

        # Types that not every collective has a kernel for go as float64, which holds what they are.
        @tf.function
        def read() -> Any:
            return strategy.run(lambda: [tf.cast(variable.value, tf.float64)[None] for variable in self._variables])

        @tf.function
        def write(values: Sequence[tf.Tensor]) -> None:
            def assign() -> None:
                replica = tf.distribute.get_replica_context().replica_id_in_sync_group
                for variable, rows in zip(self._variables, values, strict=True):
                    variable.assign(tf.cast(rows[replica], variable.dtype))

            strategy.run(assign)

        self._read, self._write = read, write

    def values(self) -> list[np.ndarray]:
        """Return what each variable holds on all replicas, `(replicas, *shape)`; all workers must call."""
        read = self._read()
        if self._strategy.num_replicas_in_sync > 1:
            read = [self._strategy.gather(value, axis=0) for value in read]
        return [value.numpy().astype(v.dtype) for value, v in zip(read, self._variables, strict=True)]

    def give(self, values: Sequence[np.ndarray]) -> None:
        """Give every replica back what `values` returned."""
        self._write([tf.constant(rows.astype(np.float64)) for rows in values])


def from_chief(strategy: tf.distribute.Strategy, content: bytes | None, chief: bool) -> bytes | None:
    """Return on every worker what the chief gives; all must call.

    Args:
        strategy: Of the workers.
        content: The chief's; of the others it does not count.
        chief: Whether this is the chief.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return content

    @tf.function
    def spread(values: Any) -> Any:
        def of_one() -> Any:
            first = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, 0)
            return summed(tf.where(first, values, tf.zeros_like(values)))

        return strategy.experimental_local_results(strategy.run(of_one))[0]

    mine = content if chief and content is not None else b""
    (length,) = spread(tf.constant([len(mine)], tf.int32)).numpy()
    if not length:
        return None
    words = np.zeros(-(-length // 4), np.int32)
    words.view(np.uint8)[: len(mine)] = np.frombuffer(mine, np.uint8)
    return spread(tf.constant(words)).numpy().tobytes()[:length]


def _moments(layer: keras.layers.BatchNormalization, inputs: tf.Tensor, mask: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Return mean and variance over the images of all replicas, as `BatchNormalization._moments` does for one.

    Collectives wait for one another, so there are two: one for what the replicas have found each, and one for the
    gradients. Means and sums of squares about them are joined as Chan, Golub and LeVeque do (1983, The American
    Statistician 37, "Algorithms for computing the sample variance"), which loses no digits where the mean is large.

    Args:
        layer: Whose statistics they are.
        inputs: This replica's, `(batch, …)` with the channels where the layer has them.
        mask: Not looked at; Keras hands it on.

    Returns:
        Two tensors `(channels,)` of the inputs' type, the same on every replica.
    """
    axes = layer._reduction_axes
    x = tf.cast(inputs, tf.float32) if inputs.dtype in (tf.float16, tf.bfloat16) else inputs
    shape = [size if axis not in axes else 1 for axis, size in enumerate(x.shape)]
    of_channels = functools.partial(tf.reshape, shape=shape)

    own = tf.stop_gradient(x)
    own_mean = tf.reduce_mean(own, axes)
    squares = tf.reduce_sum(tf.math.squared_difference(own, of_channels(own_mean)), axes)
    count = tf.cast(tf.size(x) // x.shape[layer.axis], x.dtype)
    found = given(tf.stack([tf.fill(tf.shape(own_mean), count), own_mean, squares]))
    counts, means, squares = tf.unstack(_of_all_replicas(found), axis=1)
    total = tf.reduce_sum(counts, axis=0)
    mean = tf.reduce_sum(counts * means, axis=0) / total
    variance = tf.reduce_sum(squares + counts * tf.square(means - mean), axis=0) / total

    there = _given.get()  # which has ended when gradients are taken

    # The sums are made outside: the search for variables in what tf.custom_gradient decorates then ends at once.
    @tf.custom_gradient
    def attached(x: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor) -> Any:
        def gradient(of_mean: tf.Tensor, of_variance: tf.Tensor) -> tuple[tf.Tensor, None, None]:
            of_mean, of_variance = tf.unstack(summed(tf.stack([of_mean, of_variance])) / total)
            of_x = of_channels(of_mean) + 2 * of_channels(of_variance) * (x - of_channels(mean))
            return _where(there, of_x), None, None

        return (tf.identity(mean), tf.identity(variance)), gradient

    mean, variance = attached(x, mean, variance)
    return tf.cast(mean, inputs.dtype), tf.cast(variance, inputs.dtype)


def _where(there: tf.Tensor | None, values: tf.Tensor) -> tf.Tensor:
    return values if there is None else tf.where(there, values, tf.zeros_like(values))


def _of_all_replicas(values: tf.Tensor) -> tf.Tensor:
    """Return the values of every replica, `(replicas, *shape)`, by one sum; a gather would ask for shapes first."""
    context = tf.distribute.get_replica_context()
    row = tf.one_hot(context.replica_id_in_sync_group, context.num_replicas_in_sync, dtype=values.dtype)
    return summed(tf.tensordot(row, values, axes=0))


def _of_one_element(logs: Any) -> Any:
    return tf.nest.map_structure(lambda value: tf.reshape(value, [1]), logs)
