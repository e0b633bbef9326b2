"""The optimizer of a recipe: its rate over time, for each variable, and its decay."""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_inception.config import TrainingConfig
from keras_inception.training import fused
from keras_inception.training.replicas import LossScale, SummedGradients


class RatePerVariable(SummedGradients):
    """A mixin for optimizers: some variables learn, and are decayed, at a share of the rate."""

    def slow_down(self, variables: Sequence[keras.Variable], share: float) -> None:
        """Give variables a share of the rate; others have all of it."""
        self._shares = dict.fromkeys((self._var_key(variable) for variable in variables), share)

    def _apply_weight_decay(self, variables):
        """Do nothing: `update_step` decays."""

    def update_step(self, gradient, variable, learning_rate):
        share = self._shares.get(self._var_key(variable), 1.0)
        rate = learning_rate if share == 1 else learning_rate * share
        if self.weight_decay and self._use_weight_decay(variable):
            variable.assign_sub(variable * tf.cast(self.weight_decay * rate, variable.dtype))
        super().update_step(gradient, variable, rate)


class SGD(RatePerVariable, keras.optimizers.SGD):
    """Stochastic gradient descent with decoupled weight decay and a rate for each variable."""


class FusedSGD(RatePerVariable, fused.FusedSGD):
    """`SGD` whose step is one operation for each variable."""


class AdamW(RatePerVariable, keras.optimizers.AdamW):
    """AdamW with a rate for each variable."""


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of a step: a linear warm-up, and then a cosine to zero or steps down by a factor.

    Args:
        config: Peak, kind and lengths.
        steps: Steps per epoch.
    """

    def __init__(self, config: TrainingConfig, steps: int):
        self._config = config
        self._steps = steps

    def __call__(self, step):
        config, step = self._config, tf.cast(step, tf.float32)
        total = config.epochs * self._steps
        warmup = min(round(config.warmup_epochs * self._steps), total - 1)
        if config.schedule == "cosine":
            part = tf.clip_by_value((step - warmup) / (total - warmup), 0.0, 1.0)
            factor = (1 + tf.cos(math.pi * part)) / 2
        else:
            factor = config.decay_factor ** tf.floor(step / (config.decay_epochs * self._steps))
        return config.learning_rate * factor * (tf.minimum(1.0, step / warmup) if warmup else 1.0)

    def get_config(self):
        return {"config": self._config, "steps": self._steps}


def optimizer(config: TrainingConfig, steps: int, precision: str) -> keras.optimizers.Optimizer:
    """Return the optimizer of `config`, with loss scaling where `precision` is "mixed_float16".

    Args:
        config: With numbers for `learning_rate` and `weight_decay`.
        steps: Steps per epoch.
        precision: Of the network.
    """
    assert config.weight_decay is not None
    schedule = Schedule(config, steps)
    if config.optimizer == "sgd":
        # Keras decays by rate · decay without passing through the momentum; divided so that it equals the L2 penalty
        # of Caffe and PyTorch, which do.
        decay = config.weight_decay / (1 - config.momentum)
        kind = FusedSGD if config.fused else SGD
        made = kind(schedule, momentum=config.momentum, nesterov=config.nesterov, weight_decay=decay or None)
    else:
        made = AdamW(schedule, weight_decay=config.weight_decay or None)
    made.global_clipnorm = config.clip_norm
    made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    made.slow_down([], 1.0)
    return LossScale(made) if precision == "mixed_float16" else made
