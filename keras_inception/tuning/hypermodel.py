"""The family of networks for keras-tuner: any of its tuners builds and trains them."""

from typing import Any

import keras
import keras_tuner

from keras_inception.architecture import GOOGLENET, Architecture, get_architecture
from keras_inception.budget import Budget, Fitting
from keras_inception.config import TrainingConfig, reference_rate
from keras_inception.cost import Shape
from keras_inception.errors import ConfigError
from keras_inception.googlenet import MAIN, GoogLeNet
from keras_inception.tuning.space import Point, Sharing, Space


class HyperGoogLeNet(keras_tuner.HyperModel):
    """GoogLeNet with the widths of its branches, and what else is asked for, as hyperparameters.

    >>> hyper = HyperGoogLeNet((64, 64, 3), classes=10, sharing="stage", auxiliary=False)
    >>> hp = keras_tuner.HyperParameters()
    >>> hyper.architecture(hp) == GOOGLENET, hp.values
    (True, {'width_3': 1.0, 'width_4': 1.0, 'width_5': 1.0})

    A network is compiled with cross entropy, top-1 as `accuracy`, and SGD with Nesterov momentum; with heads, labels
    are `{"main": ..., "aux1": ..., "aux2": ...}` and the objective is
    `keras_tuner.Objective("val_main_accuracy", "max")`.

    Args:
        input_shape: Height, width and channels of the images.
        classes: Number of classes; labels are one-hot.
        architecture: The given network: a table, a name or a JSON file.
        sharing: Which widths have a multiple in common: "none", "branch_of_stage", "branch", "stage" or "all".
        depth: Whether stages after the first may lose modules.
        dropout: Whether dropout in front of the classifier is searched.
        head_weight: Whether the weight of the auxiliary heads' losses is; needs `auxiliary`.
        learning_rate: Whether a factor on the learning rate is; 1 is the recipe modern's for batches of 32.
        budget: What a network may cost, as in "multiply_adds=0.5x"; then multiples are relative, and all widths have
            one more factor, the largest that meets it.
        auxiliary: Whether the networks have their auxiliary heads.
        name: As any HyperModel takes it.
        tunable: As any HyperModel takes it.

    Raises:
        ArchitectureError: The architecture is unknown or has no Inception module.
        ConfigError: The budget or the sharing cannot be read, or heads are searched that are not there.
    """

    def __init__(
        self,
        input_shape: Shape,
        classes: int,
        architecture: Architecture | str = GOOGLENET,
        *,
        sharing: Sharing = "none",
        depth: bool = False,
        dropout: bool = False,
        head_weight: bool = False,
        learning_rate: bool = False,
        budget: Budget | str | None = None,
        auxiliary: bool = True,
        name: str | None = None,
        tunable: bool = True,
    ):
        super().__init__(name, tunable)
        table = get_architecture(architecture) if isinstance(architecture, str) else architecture
        if head_weight and not (auxiliary and table.auxiliary):
            raise ConfigError("head_weight is searched, and the networks have no auxiliary heads; give auxiliary=True")
        self.input_shape, self.classes, self.auxiliary = input_shape, classes, auxiliary and bool(table.auxiliary)
        self.space = Space(table, sharing, depth, dropout, head_weight, learning_rate)
        budget = Budget.parse(budget) if isinstance(budget, str) else budget
        self._fit = None if budget is None else Fitting(table, budget, input_shape, classes)

    def architecture(self, hp: keras_tuner.HyperParameters) -> Architecture:
        """Return the architecture that the values of `hp` stand for."""
        return self._point(hp).architecture

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Return the compiled network that the values of `hp` stand for."""
        point = self._point(hp)
        model = GoogLeNet(
            architecture=point.architecture,
            input_shape=self.input_shape,
            classes=self.classes,
            auxiliary=self.auxiliary,
        )
        config = TrainingConfig()
        rate = reference_rate("sgd", point.architecture.batch_normalization) * config.batch_size
        heads = model.output_names if self.auxiliary else [MAIN]
        weight = config.loss_weights[1] if point.head_weight is None else point.head_weight
        together: dict[str, Any] = {name: 1.0 if name == MAIN else weight for name in heads}
        model.compile(
            keras.optimizers.SGD(point.rate_factor * rate / config.reference_batch, config.momentum, nesterov=True),
            loss=dict.fromkeys(heads, "categorical_crossentropy") if self.auxiliary else "categorical_crossentropy",
            loss_weights=together if self.auxiliary else None,
            metrics={name: ["accuracy"] for name in heads} if self.auxiliary else ["accuracy"],
        )
        return model

    def _point(self, hp: keras_tuner.HyperParameters) -> Point:
        values = {
            parameter.name: hp.Choice(parameter.name, list(parameter.choices), ordered=True, default=parameter.default)
            for parameter in self.space.parameters
        }
        return self.space.point(values, self._fit)
