"""Weights by name: `GoogLeNet(weights=...)`, `predict` and `train --from`, with seeded weights in the cache."""

import dataclasses
import json
import logging

import keras
import numpy as np
import pytest
from checkpoints import caffe_blobs, slim_variables, torchvision_tensors, write_published
from PIL import Image

import keras_inception as ki
from keras_inception.card import read_card
from keras_inception.cli import main
from keras_inception.errors import ArchitectureError, DataError, WeightsError
from keras_inception.run_folder import RunFolder
from keras_inception.weights.imagenet import synsets
from keras_inception.weights.published import PUBLISHED
from keras_inception.weights.torchvision import read_torchvision


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder of models as downloads leave it, and what is published of them."""
    home = tmp_path_factory.mktemp("keras")
    return home, write_published(home, PUBLISHED)


@pytest.fixture(autouse=True)
def _published(cache, monkeypatch):
    home, seeded = cache
    monkeypatch.setenv("KERAS_HOME", str(home))
    for name, one in seeded.items():
        monkeypatch.setitem(PUBLISHED, name, one)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_name_implies_its_architecture_and_classes(name, cache):
    model = ki.GoogLeNet(weights=name)
    assert model.name == PUBLISHED[name].architecture
    assert model.output_shape == (None, 1000)
    kernel = model.get_layer("conv1").get_weights()[0]
    if name == "imagenet":
        np.testing.assert_array_equal(kernel, torchvision_tensors(seed=1)["conv1.conv.weight"].transpose(2, 3, 1, 0))
    elif name == "imagenet-slim":
        np.testing.assert_array_equal(kernel, slim_variables(seed=2)["InceptionV1/Conv2d_1a_7x7/weights"])
    else:
        blob = caffe_blobs(seed=3)["conv1/7x7_s2"][0]
        np.testing.assert_array_equal(kernel, blob.transpose(2, 3, 1, 0)[:, :, ::-1])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            {"architecture": "googlenet"},
            "are of the architecture 'googlenet-torchvision', not of 'googlenet'",
        ),
        ({"architecture": ki.GOOGLENET_TORCHVISION.scaled(0.5)}, r"not of 'googlenet-torchvision-w0\.5'"),
        ({"normalization": "none"}, "leave out architecture and normalization"),
        ({"weights": "imagenet-slim", "auxiliary": True}, "'googlenet-slim' has no auxiliary heads"),
        ({"weights": "imagenet-cafe"}, "imagenet, imagenet-slim, imagenet-caffe"),
    ],
)
def test_what_contradicts_the_name_is_refused(arguments, match):
    with pytest.raises(ArchitectureError, match=match):
        ki.GoogLeNet(**{"weights": "imagenet"} | arguments)


def test_its_own_architecture_may_be_named():
    ki.GoogLeNet(weights="imagenet", architecture="googlenet-torchvision", include_top=False, dropout=0.0)


def test_other_classes_and_channels_keep_all_else_and_say_what_is_new(cache, caplog):
    read = read_torchvision(cache[0] / "models" / PUBLISHED["imagenet"].file)
    model = ki.GoogLeNet(weights="imagenet", classes=5, input_shape=(64, 64, 1), auxiliary=True)
    (said,) = caplog.messages
    new, _, reason = said.removeprefix("weights imagenet: ").partition(" new, ")
    assert (sorted(new.split(", ")), reason) == (["aux1", "aux2", "conv1", "main"], "for their shapes are others")
    for layer in model.layers:
        if layer.weights and layer.name not in ("conv1", "main", "aux1", "aux2"):
            for value, expected in zip(layer.get_weights(), read.weights[layer.name], strict=True):
                np.testing.assert_array_equal(value, expected, err_msg=layer.name)


def test_nothing_is_said_where_all_fits(caplog):
    ki.GoogLeNet(weights="imagenet", include_top=False, input_shape=(None, None, 3))
    assert caplog.messages == []


def test_the_background_of_slim_stays_where_1001_classes_are_asked_for(caplog):
    model = ki.GoogLeNet(weights="imagenet-slim", classes=1001)
    np.testing.assert_array_equal(
        model.get_layer("main").get_weights()[1], slim_variables(seed=2)["InceptionV1/Logits/Conv2d_0c_1x1/biases"]
    )
    assert caplog.messages == []


def test_weights_that_cannot_be_fetched_end_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    nowhere = dataclasses.replace(PUBLISHED["imagenet"], url="http://127.0.0.1:9/googlenet.pth")
    monkeypatch.setitem(PUBLISHED, "imagenet", nowhere)
    with pytest.raises(WeightsError, match="put it at"):
        ki.GoogLeNet(weights="imagenet")
    assert main(["predict", "imagenet", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1


def test_predict_takes_a_name_and_an_imported_file_and_both_answer_alike(stripes, cache, tmp_path, capsys):
    photo = str(stripes / "lying" / "00.png")
    file = str(cache[0] / "models" / PUBLISHED["imagenet"].file)
    words = ["import-weights", file, "--from", "torchvision", "--out", str(tmp_path / "model.keras")]
    assert main([*words, "--transform-input"]) == 0
    assert "not used: 59 counters of batches, from conv1.bn.num_batches_tracked" in capsys.readouterr().out
    answers = []
    for model in ("imagenet", str(tmp_path / "model.keras")):
        assert main(["predict", model, photo, "--json", "--top", "3"]) == 0
        answers.append(json.loads(capsys.readouterr().out)[0])
    for first, second in zip(answers[0]["top"], answers[1]["top"], strict=True):
        assert first["label"] == second["label"]
        assert first["probability"] == pytest.approx(second["probability"], abs=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------------------------------

FAST = ("--epochs", "1", "--batch-size", "8", "--image-size", "64", "--set", "training.warmup_epochs=0")


@pytest.mark.slow
def test_finetuning_from_a_name_takes_all_but_the_classifiers(stripes, cache, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    words = ["--data", str(stripes), "--recipe", "finetune", "--from", "imagenet", "--learning-rate", "1e-9"]
    assert main(["train", "--run-dir", str(tmp_path / "run"), *words, *FAST, "--freeze-until", "3b"]) == 0
    (new,) = [line for line in caplog.messages if line.startswith("weights from imagenet; new: ")]
    assert sorted(new.partition("new: ")[2].split(", ")) == ["aux1", "aux2", "main"]
    run = RunFolder(tmp_path / "run")
    assert run.architecture() == ki.GOOGLENET_TORCHVISION
    assert (run.config().data.image_size, run.config().data.crop_fraction) == (64, 0.875)
    best = keras.saving.load_model(run.best_keras, compile=False)
    expected = read_torchvision(cache[0] / "models" / PUBLISHED["imagenet"].file).weights
    np.testing.assert_array_equal(best.get_layer("inception_3a_1x1").get_weights()[0], expected["inception_3a_1x1"][0])
    kernel = best.get_layer("inception_5b_1x1").get_weights()[0]
    np.testing.assert_allclose(kernel, expected["inception_5b_1x1"][0], atol=1e-4)
    assert best.get_layer("main").get_weights()[0].shape == (1024, 2)
    assert main(["predict", str(tmp_path / "run"), str(stripes / "lying" / "00.png")]) == 0


@pytest.mark.slow
def test_finetuning_from_an_imported_file_takes_its_architecture_and_preprocessing(stripes, cache, tmp_path):
    file = str(cache[0] / "models" / PUBLISHED["imagenet-caffe"].file)
    assert main(["import-weights", file, "--from", "caffe", "--out", str(tmp_path / "caffe.keras")]) == 0
    words = ["--data", str(stripes), "--recipe", "finetune", "--from", str(tmp_path / "caffe.keras")]
    words += ["--set", "model.auxiliary=false", "--learning-rate", "1e-7"]
    assert main(["train", "--run-dir", str(tmp_path / "run"), *words, *FAST]) == 0
    run = RunFolder(tmp_path / "run")
    assert run.architecture() == ki.GOOGLENET
    assert run.config().data.value_range == ((-123.0, -117.0, -104.0), (132.0, 138.0, 151.0))


# ---------------------------------------------------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("named", ["numbers", "names"])
def test_evaluate_finds_the_classes_of_imagenet_by_number_or_by_name(named, tmp_path):
    random = np.random.default_rng(0)
    for number, name in (("n01440764", "tench"), ("n02123045", "tabby")):
        folder = tmp_path / "photographs" / (number if named == "numbers" else name)
        folder.mkdir(parents=True)
        Image.fromarray(random.integers(0, 256, (250, 300, 3), dtype=np.uint8)).save(folder / "1.png")
    words = ["evaluate", "--weights", "imagenet-caffe", "--data", str(tmp_path / "photographs")]
    assert main([*words, "--output", str(tmp_path / "evaluation")]) == 0
    result = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert (result["images"], result["runs"], len(result["classes"])) == (2, ["imagenet-caffe"], 1000)
    assert result["classes"][281] == "tabby"
    assert [row["images"] for name, row in result["per_class"].items() if name in ("tench", "tabby")] == [1, 1]


def test_evaluate_takes_a_set_whose_classes_are_those_of_imagenet(monkeypatch):
    from keras_inception.evaluation import evaluate as module

    def dataset(classes):
        labels = [*range(len(classes)), 1, 0]
        pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 4, 4, 3), dtype=np.uint8)
        splits = [*["train"] * len(classes), "validation", "test"]
        return lambda config: ki.ImageDataset.from_arrays(pixels, labels, classes=classes, splits=splits)

    cards = [read_card("imagenet-caffe")]
    monkeypatch.setattr(module, "load_dataset", dataset(tuple(synsets())))
    (images,), labelled = module._images(cards, "validation", 1, "imagenet2012", lambda done, total: None)
    assert labelled
    assert images.labels.tolist() == [1]
    monkeypatch.setattr(module, "load_dataset", dataset(("cat", "dog")))
    with pytest.raises(DataError, match="the classes of 'imagenet2012' are not those of the model"):
        module._images(cards, "validation", 1, "imagenet2012", lambda done, total: None)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--weights", "imagenet-cafe"], "did you mean imagenet-caffe"),
        (["--weights", "imagenet"], "give --output a folder"),
        (["--weights", "imagenet", "--output", "out"], "is no run and knows no images; give --data"),
        ([], "give the folder of a run, or --weights NAME"),
    ],
)
def test_evaluate_says_what_is_missing(words, match, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *words]) == 2
    assert match in capsys.readouterr().err
