"""What travels inside exported files: written, read back, and refused where it is not there."""

import json
import zipfile

import pytest

from keras_inception.card import CARD, Card, kind_of, put_into_saved_model, put_into_zip, read_card
from keras_inception.cli import main
from keras_inception.config import DataConfig
from keras_inception.errors import RunError
from keras_inception.run_folder import RunFolder


@pytest.fixture
def card(tmp_path):
    data = DataConfig(source="secret/photos", image_size=28, channels=1, value_range=(0.0, 1.0), crop_fraction=0.875)
    return Card(tmp_path / "x", "first", ("cats", "Öre, gr.", 'a "dog"'), data, {"epoch": "3"})


def test_a_card_reads_back_with_its_preprocessing_and_without_the_users_paths(card):
    text = card.to_json()
    assert "secret" not in text
    found = Card.from_json(text, card.path)
    assert (found.name, found.labels, found.provenance) == (card.name, card.labels, card.provenance)
    assert found.data == DataConfig(image_size=28, channels=1, value_range=(0.0, 1.0), crop_fraction=0.875)


def test_a_card_behind_another_file_leaves_its_bytes_and_holds_the_labels(card, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"flat buffer")
    put_into_zip(card, path)
    assert path.read_bytes().startswith(b"flat buffer")
    assert read_card(path).labels == card.labels
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().splitlines() == list(card.labels)


def test_equal_models_become_equal_files(card, tmp_path):
    for name in ("a.tflite", "b.tflite"):
        (tmp_path / name).write_bytes(b"flat buffer")
        put_into_zip(card, tmp_path / name)
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()


def test_a_saved_model_is_known_by_its_content(card, tmp_path):
    folder = tmp_path / "1"
    folder.mkdir()
    assert kind_of(folder) == "run"
    (folder / "saved_model.pb").touch()
    assert kind_of(folder) == "saved_model"
    put_into_saved_model(card, folder)
    assert read_card(folder).labels == card.labels


def test_a_runs_card_is_what_its_folder_says(run):
    card = read_card(run)
    assert card.labels == RunFolder(run).labels()
    assert card.data == RunFolder(run).config().data


@pytest.mark.parametrize("name", ["model.tflite", "model.keras"])
def test_a_file_of_somebody_else_is_refused_in_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"flat buffer")
    with pytest.raises(RunError, match="holds no labels") as caught:
        read_card(tmp_path / name)
    assert name in str(caught.value)
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("other", "")
    with pytest.raises(RunError, match="holds no labels"):
        read_card(tmp_path / name)


def test_an_onnx_file_that_is_damaged_is_refused_in_one_line(tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="tools/install onnx")
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes(range(256)) * 40)
    assert main(["predict", str(path), "photo.jpg"]) == 2
    said = capsys.readouterr().err
    assert "model.onnx' holds no labels" in said
    assert said.count("\n") == 1


def test_a_saved_models_card_that_is_no_text_is_refused(card, tmp_path):
    (tmp_path / "saved_model.pb").touch()
    put_into_saved_model(card, tmp_path)
    (tmp_path / "assets.extra" / CARD).write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(RunError, match="holds no labels"):
        read_card(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"preprocessing": {"image_size": -1}})])
def test_a_card_that_cannot_be_read_is_named(tmp_path, text):
    path = tmp_path / "model.tflite"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(CARD, text)
    with pytest.raises(RunError, match="export the run anew"):
        read_card(path)


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx", "model.keras"])
def test_a_file_that_is_not_there(tmp_path, name):
    with pytest.raises(RunError, match="there is no file"):
        read_card(tmp_path / name)
