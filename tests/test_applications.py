"""What users of keras.applications expect of a model function, for every table that the public weights are of."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_inception as ki
from keras_inception.errors import ArchitectureError


def narrow(table, width=1 / 32):
    """The table with three of its modules alone: quick to build."""
    rows = (row for row in table.rows if not isinstance(row, ki.Inception) or row.name in {"4a", "4d", "5b"})
    return dataclasses.replace(table, rows=tuple(rows)).scaled(width)


NAMES = ("googlenet", "googlenet-torchvision", "googlenet-slim")
TABLES = pytest.mark.parametrize("table", [narrow(ki.get_architecture(name)) for name in NAMES], ids=NAMES)
FEATURES = 32  # 1024 / 32


def build(table, **arguments):
    return ki.GoogLeNet(architecture=table, **arguments)


@TABLES
def test_the_whole_network_has_1000_probabilities_and_survives_its_file(table, tmp_path):
    model = build(table)
    assert model.output_shape == (None, 1000)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).uniform(-1, 1, (1, 224, 224, 3)).astype(np.float32)
    answers = np.asarray(model(x))
    np.testing.assert_array_equal(loaded(x), answers)
    np.testing.assert_allclose(answers.sum(), 1, rtol=1e-5)
    copy = keras.Model.from_config(model.get_config())
    assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]


@TABLES
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_without_its_top_it_gives_a_map_of_an_image_of_any_size(table, data_format):
    keras.config.set_image_data_format(data_format)
    shape, expected = ((None, None, 3), (None, None, None, FEATURES))
    if data_format == "channels_first":
        shape, expected = (3, None, None), (None, FEATURES, None, None)
    assert build(table, include_top=False, input_shape=shape).output_shape == expected
    known = build(table, include_top=False)
    assert sorted(known.output_shape[1:]) == [7, 7, FEATURES]


@TABLES
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_pooling_gives_features(table, pooling):
    assert build(table, include_top=False, pooling=pooling).output_shape == (None, FEATURES)


@TABLES
@pytest.mark.parametrize("channels", [1, 4])
def test_images_may_have_one_channel_or_four(table, channels):
    model = build(table, include_top=False, input_shape=(None, None, channels))
    assert model.output_shape == (None, None, None, FEATURES)
    assert model(np.zeros((1, 96, 64, channels), np.float32)).shape == (1, 3, 2, FEATURES)


@TABLES
def test_it_can_be_built_on_a_tensor(table):
    image = keras.Input((96, 96, 3))
    doubled = keras.layers.Rescaling(2.0)(image)
    model = build(table, input_tensor=doubled, classes=4)
    assert model.input is image
    assert model(np.zeros((2, 96, 96, 3), np.float32)).shape == (2, 4)


@TABLES
def test_the_classifiers_activation_is_the_callers(table):
    x = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    model, logits = (
        build(table, classifier_activation=name, classes=5, input_shape=(64, 64, 3)) for name in ("softmax", None)
    )
    logits.set_weights(model.get_weights())
    assert logits.get_layer("main").activation is keras.activations.linear
    np.testing.assert_allclose(keras.ops.softmax(logits(x)), model(x), rtol=1e-4)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_torchvisions_heads_stand_on_maps_of_any_size(auxiliary):
    table = narrow(ki.GOOGLENET_TORCHVISION)
    model = build(table, auxiliary=auxiliary, input_shape=(32, 47, 3), classes=5)
    assert keras.tree.map_structure(lambda x: x.shape, model.output) == (
        {"main": (None, 5), "aux1": (None, 5), "aux2": (None, 5)} if auxiliary else (None, 5)
    )


# ---------------------------------------------------------------------------------------------------------------------
# Maps of its rows
# ---------------------------------------------------------------------------------------------------------------------


@TABLES
def test_maps_of_any_row_are_those_inside_the_network(table):
    model = build(table, classes=3, input_shape=(96, 96, 3))
    rows = [row.name for row in table.rows]
    extractor = ki.feature_extractor(model, rows)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 96, 96, 3)).astype(np.float32)
    maps = extractor(x)
    assert list(maps) == rows
    costs = ki.row_costs(table, (96, 96, 3), classes=3)
    assert [tuple(maps[row].shape[1:]) for row in rows] == [cost.output for cost in costs[: len(rows)]]
    pooled = np.mean(maps["5b"], axis=(1, 2))
    classifier = model.get_layer("main")
    np.testing.assert_allclose(classifier(pooled), model(x), rtol=1e-4)
    assert extractor.get_layer("inception_4a") is model.get_layer("inception_4a")


def test_maps_of_network_in_network_come_behind_its_last_1x1():
    model = ki.GoogLeNet(architecture=ki.NIN.scaled(1 / 16), classes=10)
    extractor = ki.feature_extractor(model, ("conv1", "conv3_mlp1"))
    assert {row: x.shape for row, x in extractor.output.items()} == {
        "conv1": (None, 32, 32, 6),
        "conv3_mlp1": (None, 8, 8, 12),
    }


@pytest.mark.parametrize(("rows", "match"), [(("4a", "4f"), "unknown row '4f'; known: 4a"), ((), "no row given")])
def test_rows_that_are_not_there_are_refused(rows, match):
    model = build(narrow(ki.GOOGLENET), include_top=False)
    with pytest.raises(ArchitectureError, match=match):
        ki.feature_extractor(model, rows)
