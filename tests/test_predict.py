"""Answers for images without labels: what is read, what is left out, and the files they are written to."""

import csv
import json

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from keras_inception.cli import main, runs
from keras_inception.data.decode import decode
from keras_inception.data.pipeline import network_input
from keras_inception.errors import DataError
from keras_inception.evaluation import predict as prediction
from keras_inception.evaluation.predict import predict
from keras_inception.evaluation.predictions import Prediction, likeliest, write_predictions
from keras_inception.predictor import Predictor, open_run
from keras_inception.run_folder import RunFolder

CLASSES = ("lying", "standing")


def darkness(images):
    """A network that needs no training: the darker, the more surely lying; of a middle grey as likely as not."""
    dark = 1 / (1 + np.exp(4 * images.mean(axis=(1, 2, 3))))
    return np.stack([dark, 1 - dark], axis=1)


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(prediction, "open_model", lambda path: Predictor("run", darkness))


@pytest.fixture
def photos(tmp_path):
    """A folder of a dark, a grey and a bright image, and of two that are broken."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name, tone in (("dark", 0), ("grey", 128), ("sub/bright", 255)):
        Image.new("RGB", (30, 40), (tone,) * 3).save(folder / f"{name}.png")
    (folder / "broken.jpg").write_text("text")
    (folder / "sub" / "empty.png").write_bytes(b"")
    return folder


def test_predict_answers_as_the_model_does_on_the_same_pixels(run, stripes):
    path = stripes / "standing" / "07.png"
    (answer,) = predict(run, [str(path)], top=2)
    config = RunFolder(run).config().data
    row = open_run(run).probabilities(network_input(decode(path, 3), config)[None])[0]
    assert dict(answer.top) == pytest.approx({"lying": row[0], "standing": row[1]}, abs=1e-6)
    assert answer.top[0][1] >= answer.top[1][1]
    assert answer.answer == answer.top[0][0]


def test_broken_images_of_a_folder_or_pattern_are_left_out_and_told(run, photos, fast):
    broken = []
    answers = predict(run, [str(photos), str(photos / "*.jpg")], on_broken=broken.append)
    assert [answer.image for answer in answers] == [
        str(photos / name) for name in ("dark.png", "grey.png", "sub/bright.png")
    ]
    assert [answer.answer for answer in answers][::2] == ["lying", "standing"]
    assert len(broken) == 3
    assert "broken.jpg cannot be decoded: its content is no JPEG" in broken[0]


def test_a_broken_image_that_is_named_is_an_error(run, photos, fast):
    with pytest.raises(DataError, match=r"broken\.jpg cannot be decoded"):
        predict(run, [str(photos / "dark.png"), str(photos / "broken.jpg")])


def test_nothing_but_broken_images_is_an_error(run, photos, fast):
    with pytest.raises(DataError, match="none of 1 images can be decoded"):
        predict(run, [str(photos / "*.jpg")])


def test_more_images_than_a_batch_stay_in_order(run, tmp_path, fast):
    for number in range(70):
        Image.new("L", (8, 8), number * 3).save(tmp_path / f"{number:02}.png")
    answers = predict(run, [str(tmp_path)])
    dark = [dict(answer.top)["lying"] for answer in answers]
    assert dark == sorted(dark, reverse=True)
    assert len(set(dark)) == 70


@pytest.mark.parametrize(
    ("below", "expected"), [(None, ["lying", "standing"]), (0.6, ["lying", None]), (1.0, [None, None])]
)
def test_an_answer_below_the_least_probability_is_none_of_the_classes(below, expected):
    answers = likeliest(["a", "b"], np.asarray([[0.7, 0.3], [0.45, 0.55]]), CLASSES, 1, below)
    assert [answer.answer for answer in answers] == expected
    assert answers[1].top == (("standing", 0.55),)
    assert likeliest(["a"], np.asarray([[0.6, 0.4]]), CLASSES, 5, 0.6)[0].answer == "lying"  # not below


def test_what_is_asked_for_is_checked(run, photos, fast):
    with pytest.raises(DataError, match="top is 0"):
        predict(run, [str(photos)], top=0)
    with pytest.raises(DataError, match="reject_below is 2; it takes a probability from 0 to 1"):
        predict(run, [str(photos)], reject_below=2)


# Files.

ANSWERS = [
    Prediction("plain.jpg", (("lying", 0.75), ("standing", 0.25)), "lying", "standing"),
    Prediction('new\nline, "quoted" größe.jpg', (("standing", 0.5), ("lying", 0.5)), None, "lying"),
    Prediction("latin\udcfc.jpg", (("standing", 1.0), ("lying", 1e-9)), "standing", "standing"),
]
NAMES = ["plain.jpg", 'new\nline, "quoted" größe.jpg', r"latin\udcfc.jpg"]


def test_a_table_of_comma_separated_values(tmp_path):
    write_predictions(tmp_path / "answers.csv", ANSWERS)
    with open(tmp_path / "answers.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == NAMES
    assert [row["label"] for row in rows] == ["standing", "lying", "standing"]
    assert [row["answer"] for row in rows] == ["lying", "", "standing"]
    assert [float(row["top1_probability"]) for row in rows] == [0.75, 0.5, 1.0]
    assert [float(row["top2_probability"]) for row in rows] == [0.25, 0.5, 1e-9]


def test_a_parquet_file(tmp_path):
    write_predictions(tmp_path / "answers.parquet", ANSWERS)
    table = pyarrow.parquet.read_table(tmp_path / "answers.parquet")
    assert table["path"].to_pylist() == NAMES
    assert table["answer"].to_pylist() == ["lying", None, "standing"]
    assert table["top1_label"].to_pylist() == ["lying", "standing", "standing"]
    np.testing.assert_allclose(table["top2_probability"].to_numpy(), [0.25, 0.5, 1e-9])
    assert [path.name for path in tmp_path.iterdir()] == ["answers.parquet"]


def test_a_parquet_file_of_answers_that_are_all_rejected_has_text_columns(tmp_path):
    write_predictions(tmp_path / "answers.parquet", [Prediction("a", (("lying", 0.5),), None)])
    table = pyarrow.parquet.read_table(tmp_path / "answers.parquet")
    assert str(table.schema.field("answer").type) == "string"
    assert "label" not in table.column_names


def test_a_json_file_holds_names_as_they_are(tmp_path):
    write_predictions(tmp_path / "answers.json", ANSWERS)
    found = json.loads((tmp_path / "answers.json").read_text())
    assert [one["image"] for one in found] == [answer.image for answer in ANSWERS]
    assert found[1] == {
        "image": ANSWERS[1].image,
        "label": "lying",
        "answer": None,
        "top": [{"label": "standing", "probability": 0.5}, {"label": "lying", "probability": 0.5}],
    }


# The command.


@pytest.mark.parametrize("ending", ["csv", "parquet", "json"])
def test_the_answers_are_written_in_place_of_printed(ending, run, photos, tmp_path, fast, capsys):
    output = tmp_path / f"answers.{ending}"
    assert main(["predict", str(run), str(photos), "--output", str(output), "--reject-below", "0.9"]) == 0
    said = capsys.readouterr()
    assert "wrote the answers for 3 images" in said.out
    assert "lying" not in said.out
    assert said.err.count("left out: ") == 2
    if ending == "json":
        found = [one["answer"] for one in json.loads(output.read_text())]
    elif ending == "csv":
        found = [row["answer"] or None for row in csv.DictReader(output.read_text().splitlines())]
    else:
        found = pyarrow.parquet.read_table(output)["answer"].to_pylist()
    assert found == ["lying", None, "standing"]


def test_broken_images_do_not_spoil_printed_json(run, photos, fast, capsys):
    assert main(["predict", str(run), str(photos), "--json", "--top", "1"]) == 0
    said = capsys.readouterr()
    assert [one["top"][0]["label"] for one in json.loads(said.out)][::2] == ["lying", "standing"]
    assert said.err.count("left out: ") == 2


def test_rejected_answers_are_called_none_of_these(run, photos, fast, capsys):
    (photos / "[bold]new\nline.png").write_bytes((photos / "dark.png").read_bytes())
    assert main(["predict", str(run), str(photos), "--reject-below", "0.9"]) == 0
    table = capsys.readouterr().out
    assert table.count("none of these") == 1
    assert r"[bold]new\nline.png" in table


def test_another_ending_is_refused_before_anything_is_read(run, photos, tmp_path, capsys):
    assert main(["predict", str(run), str(photos), "--output", str(tmp_path / "answers.xls")]) == 2
    assert "give another ending" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["folder.csv", "file/answers.csv", "/proc/answers.csv"])
def test_a_place_that_cannot_be_written_is_refused_before_tensorflow_is_loaded(
    place, run, photos, tmp_path, monkeypatch, capsys
):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr(runs, "load_tensorflow", pytest.fail)
    assert main(["predict", str(run), str(photos), "--output", str(tmp_path / place)]) == 2
    said = capsys.readouterr().err
    assert "give --output another place" in said
    assert said.count("\n") == 1
