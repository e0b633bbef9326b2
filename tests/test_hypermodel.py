"""HyperGoogLeNet in the hands of keras-tuner itself."""

import keras_tuner
import numpy as np
import pytest

import keras_inception as ki
from keras_inception.cost import row_costs
from keras_inception.errors import ConfigError
from keras_inception.tuning.space import Space

TINY = ki.GOOGLENET_SMALL.scaled(1 / 16)
# Two modules, of which a training starts in seconds.
MINI = ki.Architecture(
    "mini",
    (
        ki.Conv("conv1", 8, 3, stride=2),
        ki.Inception("3a", 16, 16, 16, 8, 8, 8),
        ki.MaxPool("pool3"),
        ki.Inception("4a", 16, 16, 16, 8, 8, 8),
    ),
    auxiliary=(ki.AuxiliaryHead("aux1", after="4a", filters=8, units=8),),
    image_size=32,
)


def test_the_default_is_the_given_architecture_value_by_value():
    """All of `hp.values`: 54 multiples of 1, and nothing else."""
    hyper, hp = ki.HyperGoogLeNet((32, 32, 3), 10, TINY), keras_tuner.HyperParameters()
    model = hyper.build(hp)
    modules = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    layers = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_projection")
    assert hp.values == {f"width_{module}_{layer}": 1.0 for module in modules for layer in layers}
    given = ki.GoogLeNet(architecture=TINY, input_shape=(32, 32, 3), classes=10, auxiliary=True)
    assert [layer.name for layer in model.layers] == [layer.name for layer in given.layers]
    assert [weight.shape for weight in model.weights] == [weight.shape for weight in given.weights]
    assert hyper.architecture(hp) == TINY


def test_everything_that_can_be_searched_has_a_name():
    hyper = ki.HyperGoogLeNet(
        (32, 32, 3), 10, TINY, sharing="all", depth=True, dropout=True, head_weight=True, learning_rate=True
    )
    hp = keras_tuner.HyperParameters()
    model = hyper.build(hp)
    assert hp.values == {
        "width_all": 1.0,
        "depth_4": 5,
        "depth_5": 2,
        "dropout": 0.4,
        "head_weight": 0.3,
        "rate_factor": 1.0,
    }
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(0.36 * 32 / 256)
    hp.values |= {"rate_factor": 2.0, "depth_5": 1}
    other = hyper.build(hp)
    assert float(other.optimizer.learning_rate.numpy()) == pytest.approx(2 * 0.36 * 32 / 256)
    assert not any(layer.name.startswith("inception_5a") for layer in other.layers)


def test_a_budget_holds_for_whatever_is_drawn():
    hyper = ki.HyperGoogLeNet((224, 224, 3), 1000, budget="multiply_adds=0.5x")
    oracle = keras_tuner.oracles.RandomSearchOracle(max_trials=5, seed=1, objective="val_accuracy")
    space = keras_tuner.HyperParameters()
    hyper.architecture(space)
    oracle.update_space(space)
    for number in range(5):
        hp = space.copy()
        hp.values = oracle.populate_space(str(number))["values"]
        counted = sum(row.multiply_adds for row in row_costs(hyper.architecture(hp)))
        assert 0.97 * 791_335_936 <= counted <= 791_335_936


def test_heads_cannot_be_weighed_where_there_are_none():
    with pytest.raises(ConfigError, match="the networks have no auxiliary heads; give auxiliary=True"):
        ki.HyperGoogLeNet((32, 32, 3), 10, TINY, head_weight=True, auxiliary=False)


def test_a_tuner_of_keras_tuner_searches_it(tmp_path):
    random = np.random.default_rng(1)
    images, labels = random.normal(size=(32, 32, 32, 3)).astype("float32"), np.eye(4)[random.integers(0, 4, 32)]
    hyper = ki.HyperGoogLeNet((32, 32, 3), 4, MINI, sharing="stage", budget="multiply_adds=0.5x")
    tuner = keras_tuner.RandomSearch(
        hyper,
        objective=keras_tuner.Objective("val_main_accuracy", "max"),
        max_trials=2,
        seed=1,
        directory=tmp_path,
        project_name="search",
    )
    truth = dict.fromkeys(("main", "aux1"), labels)
    tuner.search(images, truth, validation_data=(images, truth), batch_size=16, epochs=1, verbose=0)
    best = hyper.architecture(tuner.get_best_hyperparameters()[0])
    assert best != MINI
    assert {trial.status for trial in tuner.oracle.trials.values()} == {"COMPLETED"}


def test_a_network_without_heads_takes_plain_labels():
    hyper = ki.HyperGoogLeNet((32, 32, 3), 4, MINI, sharing="all", auxiliary=False)
    model = hyper.build(keras_tuner.HyperParameters())
    found = model.fit(np.zeros((4, 32, 32, 3)), np.eye(4), verbose=0).history
    assert found.keys() == {"loss", "accuracy"}
    assert hyper.space == Space(MINI, "all")
