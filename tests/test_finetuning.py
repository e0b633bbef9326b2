"""Weights taken from another network, and rows that are held."""

import keras
import numpy as np
import pytest

import keras_inception as ki
from keras_inception.errors import ArchitectureError
from keras_inception.run_folder import RunFolder
from keras_inception.training.finetuning import Freezing, body, take_weights

TABLE = ki.GOOGLENET_SMALL.scaled(1 / 16)
CLASSES = ("a", "b", "c")
CLASSIFIERS = ("main", "aux1", "aux2")


def network(seed: int, classes: int = 3, table: ki.Architecture = TABLE) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return ki.GoogLeNet(architecture=table, classes=classes, auxiliary=True)


def values(model: keras.Model) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    network(1).save(path)
    return path


@pytest.mark.parametrize("classes", [3, 5])
def test_all_but_the_classifiers_is_taken_from_a_file(classes, saved):
    """Of a file nobody knows the classes, so that its classifiers are not taken for ours, even if as many."""
    new = network(2, classes)
    own, source = values(new), values(network(1))
    take_weights(new, str(saved), TABLE, tuple("abcde"[:classes]))
    for name, now in values(new).items():
        expected = own[name] if name in CLASSIFIERS else source[name]
        for value, wanted in zip(now, expected, strict=True):
            np.testing.assert_array_equal(value, wanted, err_msg=name)


def test_a_run_of_the_same_classes_gives_its_classifiers_too(run):
    config = RunFolder(run).config()
    table, classes = config.model.table(), RunFolder(run).labels()
    source = values(keras.saving.load_model(run / "best.keras", compile=False))
    for names, same in ((classes, True), (tuple(reversed(classes)), False)):
        keras.utils.set_random_seed(2)
        new = ki.GoogLeNet(architecture=table, input_shape=(28, 28, 3), classes=2, auxiliary=True)
        take_weights(new, str(run), table, names)
        assert np.array_equal(values(new)["main"][0], source["main"][0]) == same
        np.testing.assert_array_equal(values(new)["inception_4a_1x1"][0], source["inception_4a_1x1"][0])


def test_what_does_not_fit_is_named_with_both_shapes(saved, tmp_path):
    new, table = network(1), ki.GOOGLENET_SMALL.scaled(1 / 8)
    with pytest.raises(ArchitectureError, match=r"layer 'conv1' of .* is 3×3×3×\d+.*, here 3×3×3×\d+.*give the"):
        take_weights(network(1, table=table), str(saved), table, CLASSES)
    with pytest.raises(ArchitectureError, match=r"there are no weights 'nowhere\.keras'"):
        take_weights(new, "nowhere.keras", TABLE, CLASSES)
    (tmp_path / "broken.keras").write_bytes(b"not a model")
    with pytest.raises(ArchitectureError, match="cannot be read as a Keras model"):
        take_weights(new, str(tmp_path / "broken.keras"), TABLE, CLASSES)
    data = bytearray(saved.read_bytes())
    data[len(data) // 3] ^= 0xFF
    (tmp_path / "broken.keras").write_bytes(data)
    with pytest.raises(ArchitectureError, match="cannot be read as a Keras model"):
        take_weights(new, str(tmp_path / "broken.keras"), TABLE, CLASSES)


def test_the_body_is_all_below_the_classifiers():
    model = network(1)
    paths = {variable.path for variable in body(model, TABLE)}
    others = {variable.path.split("/")[0] for variable in model.trainable_variables if variable.path not in paths}
    assert others == set(CLASSIFIERS)


@pytest.mark.parametrize("word", ["3b", "inception_3b"])
def test_rows_are_held_for_their_epochs_and_then_released(word):
    model = network(1)
    freezing = Freezing(model, TABLE, word, epochs=2)
    assert freezing.set(0)
    held = [layer.name for layer in model.layers if layer.weights and not layer.trainable]
    assert all(name.startswith(("conv", "inception_3")) for name in held)
    assert not model.get_layer("conv1").trainable
    assert not model.get_layer("inception_3b_3x3").trainable
    assert model.get_layer("inception_4a_1x1").trainable
    assert not freezing.set(1)  # nothing changes
    assert freezing.set(2)
    assert all(layer.trainable for layer in model.layers)


def test_batch_normalisation_of_held_rows_does_not_learn_the_statistics():
    model = network(1)
    Freezing(model, TABLE, "3b", epochs=1).set(0)
    before = values(model)
    model(np.random.default_rng(0).normal(size=(4, *model.input_shape[1:])).astype(np.float32), training=True)
    after = values(model)
    moved = {name for name in after if not all(map(np.array_equal, before[name], after[name]))}
    assert moved
    assert all(name.startswith(("inception_4", "inception_5", "aux")) for name in moved)


def test_nothing_is_held_without_a_row_and_an_unknown_one_is_named():
    model = network(1)
    assert not Freezing(model, TABLE, None, epochs=5).set(0)
    with pytest.raises(ArchitectureError, match=r"training\.freeze_until: unknown row '3c'; known: conv1"):
        Freezing(model, TABLE, "3c", epochs=5)
