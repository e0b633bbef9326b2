"""Training on several replicas, right where Keras 3.15 is wrong.

Keras 3.15 (Keras 3.16's sources say the same) on TensorFlow, with a strategy of several replicas:

- clips each replica's own gradients, before they are summed: not what one device does;
- looks for a float16 overflow in the first replica's own gradients: one on another replica ends as NaN in the weights;
- averages the means of the replicas' losses: wrong where a last batch is divided unequally;
- divides `gradient_accumulation_steps` inside a graph that cannot be divided, and raises;
- learns shapes by adding up the replicas' first batches, which must then be of one size;
- cannot reduce scalar logs over several workers, nor look at a first batch there (keras-team/keras#20329, #20585).

All of it follows from gradients that are summed too late and batches that are looked at too early. So here a train step
sums the gradients itself and hands them on as what the optimizer believes them to be; the loss is a sum over the global
batch divided by its size; and nothing is learnt from a first batch, since all is built before.
The tests of this module show each fault upstream, and fail once it is mended there and this is no longer needed.
"""

import logging
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_LOG = logging.getLogger(__name__)

# What this module was tried with; it stands on methods of Keras's that are not public.
_KERAS = "3.15."


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
    """Return the sum of each tensor over all replicas, in a replica's context; Nones stay."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    flat = tf.nest.flatten(values)
    there = [value for value in flat if value is not None]
    sums = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, there))
    return tf.nest.pack_sequence_as(values, [None if value is None else next(sums) for value in flat])


def of_every_replica(strategy: tf.distribute.Strategy, variables: Sequence[Any]) -> list[Any]:
    """Return what variables hold on each replica of all workers: arrays `(replicas, *shape)`.

    Args:
        strategy: Which they are mirrored by; on several workers all must call.
        variables: Keras variables.
    """
    if strategy.num_replicas_in_sync == 1:
        return [variable.numpy()[None] for variable in variables]
    # Types that not every collective has a kernel for go as float64, which holds what they are.
    values = strategy.run(lambda: [tf.cast(variable.value, tf.float64)[None] for variable in variables])
    kinds = [variable.dtype for variable in variables]
    return [strategy.gather(value, axis=0).numpy().astype(kind) for value, kind in zip(values, kinds, strict=True)]


def give_every_replica(strategy: tf.distribute.Strategy, variables: Sequence[Any], values: Sequence[Any]) -> None:
    """Give variables back what `of_every_replica` returned."""

    def assign() -> None:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for variable, rows in zip(variables, values, strict=True):
            variable.assign(tf.constant(rows)[replica])

    strategy.run(assign)


def from_chief(strategy: tf.distribute.Strategy, content: bytes | None, chief: bool) -> bytes | None:
    """Return on every worker what the chief gives; all must call.

    Args:
        strategy: Of the workers.
        content: The chief's; of the others it does not count.
        chief: Whether this is the chief.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return content

    def spread(values: Any) -> Any:
        def of_one() -> Any:
            context = tf.distribute.get_replica_context()
            first = tf.equal(context.replica_id_in_sync_group, 0)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(first, values, tf.zeros_like(values)))

        return strategy.experimental_local_results(strategy.run(of_one))[0].numpy()

    mine = content if chief and content is not None else b""
    (length,) = spread(tf.constant([len(mine)], tf.int32))
    if not length:
        return None
    words = np.zeros(-(-length // 4), np.int32)
    words.view(np.uint8)[: len(mine)] = np.frombuffer(mine, np.uint8)
    return spread(tf.constant(words)).tobytes()[:length]


def _of_one_element(logs: Any) -> Any:
    return tf.nest.map_structure(lambda value: tf.reshape(value, [1]), logs)
