"""Evaluation: crops and runs averaged, images that are not the run's own, and what is written."""

import csv
import json
import math
import shutil

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from keras_inception.cli import main, runs
from keras_inception.config import DataConfig
from keras_inception.data.dataset import Split
from keras_inception.data.images import read_images, read_split
from keras_inception.data.pipeline import evaluation_batches
from keras_inception.errors import DataError, RunError
from keras_inception.evaluation import evaluate as evaluation
from keras_inception.evaluation.answers import mean_answers
from keras_inception.evaluation.evaluate import evaluate, evaluation_folder
from keras_inception.predictor import Predictor, open_heads, open_run, open_saved_model, open_tflite
from keras_inception.run_folder import RunFolder


def stripe_detector(images):
    """A network that needs no training: stripes lie where the mean of rows varies more than that of columns."""
    grey = images.mean(axis=3)
    lying = 1 / (1 + np.exp(-3 * (grey.mean(axis=2).std(axis=1) - grey.mean(axis=1).std(axis=1) - 0.2)))
    return np.stack([lying, 1 - lying], axis=1)


@pytest.fixture
def detector(monkeypatch):
    monkeypatch.setattr(evaluation, "open_model", lambda path: Predictor("run", stripe_detector))


@pytest.fixture(scope="module")
def measured(run, tmp_path_factory):
    """The real run and its evaluation on the test split, written through the command line; not to be changed."""
    folder = shutil.copytree(run, tmp_path_factory.mktemp("measured") / "run")
    assert main(["evaluate", str(folder), "--heads", "--reject-below", "0.9"]) == 0
    return folder


def result_of(folder):
    return json.loads((folder / "evaluation.json").read_text(), parse_constant=pytest.fail)


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def changed(run, folder, **fields):
    """A copy of a run with other settings."""
    shutil.copytree(run, folder)
    names = {name.replace("__", "."): value for name, value in fields.items()}
    (folder / "config.json").write_text(RunFolder(folder).config().override(names).to_json())
    return folder


# Crops are averaged as they come.


def images_of(*arrays, **options):
    config = DataConfig(image_size=28, **options)
    split = Split([str(i) for i in range(len(arrays))], np.zeros(len(arrays), np.int32), lambda index: arrays[index])
    return read_images(split, config, whole=True), config


def means(views):
    """An answer that depends on what is seen, and on where: its mean, and how dark its left half is."""
    return np.stack([views.mean(axis=(1, 2, 3)), views[:, :, :14].mean(axis=(1, 2, 3))], axis=1)


def random_images(count, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (*random.integers(30, 70, 2), 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("crops", [1, 10, 144])
def test_crops_of_a_plain_image_all_answer_alike(crops):
    plain = np.full((40, 56, 3), 51, np.uint8)
    found = mean_answers(Predictor("run", means), *images_of(plain), crops)
    np.testing.assert_allclose(found, [[-0.6, -0.6]], atol=1e-6)


def test_a_mirrored_image_gives_the_same_mean_over_ten_crops():
    # 64 × 96 becomes 32 × 48: every margin is even, so that crops and mirrored crops are the same pixels.
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    found = mean_answers(Predictor("run", means), *images_of(image, image[:, ::-1]), 10)
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)
    (one,) = mean_answers(Predictor("run", means), *images_of(image), 1)
    assert abs(one[1] - found[0][1]) > 1e-3


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 50), st.integers(1, 6))
def test_batches_of_any_size_give_the_same_answers(batch_size, count):
    images, config = images_of(*random_images(count))
    predictor = Predictor("run", means)
    expected = mean_answers(predictor, images, config, 10, batch_size=count * 10)
    found = mean_answers(predictor, images, config, 10, batch_size=batch_size)
    assert found.shape == (count, 2)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_answers_of_several_outputs_are_averaged_apart():
    images, config = images_of(*random_images(3))
    found = mean_answers(Predictor("run", lambda views: np.stack([means(views)] * 3, axis=1)), images, config, 10)
    assert found.shape == (3, 3, 2)
    np.testing.assert_allclose(found[:, 1], mean_answers(Predictor("run", means), images, config, 10))


def test_answers_that_are_no_numbers_are_refused():
    images, config = images_of(*random_images(1))
    diverged = Predictor("run", lambda views: np.full((len(views), 2), np.nan))
    with pytest.raises(RunError, match="diverged"):
        mean_answers(diverged, images, config, 1)


def test_progress_grows_to_the_number_of_images():
    images, config = images_of(*random_images(5))
    seen = []
    mean_answers(Predictor("run", means), images, config, 10, batch_size=7, on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 5
    assert len(seen) == math.ceil(50 / 7)


# A real run.


def test_the_evaluation_of_a_run_is_its_models(measured):
    result = result_of(measured / "evaluation")
    config = RunFolder(measured).config().data
    images = read_split(config, ("lying", "standing"), "test")
    ((inputs, *_),) = evaluation_batches(images, config, batch_size=12, outputs=(), classes=1).as_numpy_iterator()
    answers = open_run(measured).probabilities(inputs)
    assert result["top1"] == pytest.approx((answers.argmax(axis=1) == images.labels).mean())
    assert result["log_loss"] == pytest.approx(-np.log(answers[np.arange(12), images.labels]).mean(), abs=1e-5)
    rows = rows_of(measured / "evaluation" / "predictions.csv")
    assert [row["path"] for row in rows] == list(images.names)
    for row, answer, label in zip(rows, answers, images.labels, strict=True):
        names = ("lying", "standing")
        assert row["label"] == names[label]
        assert row["top1_label"] == names[answer.argmax()]
        assert row["answer"] == (names[answer.argmax()] if answer.max() >= 0.9 else "")
        assert float(row["top1_probability"]) == pytest.approx(answer.max(), abs=1e-5)
        assert float(row["top2_probability"]) == pytest.approx(answer.min(), abs=1e-5)


def test_an_evaluation_is_a_folder_with_pictures_and_a_page(measured):
    folder = measured / "evaluation"
    assert {path.name for path in folder.iterdir()} == {
        "confusion.png",
        "evaluation.json",
        "mistakes.html",
        "predictions.csv",
        "reliability.png",
    }
    for name in ("confusion.png", "reliability.png"):
        with Image.open(folder / name) as picture:
            assert picture.size[0] > 300
    result = result_of(folder)
    assert result["images"] == 12
    assert np.sum(result["confusion"]) == 12
    assert result["seconds"] > 0
    page = (folder / "mistakes.html").read_text()
    assert page.count("<img") == 12 - round(12 * result["top1"])
    assert "12 test images, 1 crop" in page


def test_the_heads_are_measured_on_request(measured):
    result = result_of(measured / "evaluation")
    assert list(result["heads"]) == ["main", "aux1", "aux2"]
    assert result["heads"]["main"] == pytest.approx({"top1": result["top1"], "log_loss": result["log_loss"]})
    for head in result["heads"].values():
        assert 0 <= head["top1"] <= 1
    names, predictor = open_heads(measured)
    views = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 3)).astype(np.float32)
    answers = predictor.probabilities(views)
    assert answers.shape == (3, len(names), 2)
    np.testing.assert_allclose(answers[:, 0], open_run(measured).probabilities(views), atol=1e-6)
    np.testing.assert_allclose(answers.sum(axis=2), 1, atol=1e-5)


def test_heads_of_a_run_without_are_refused_in_a_line(run, tmp_path, capsys):
    folder = changed(run, tmp_path / "run", model__auxiliary="false")
    assert main(["evaluate", str(folder), "--heads"]) == 2
    assert "without auxiliary heads; leave out --heads" in capsys.readouterr().err
    assert not (folder / "evaluation").exists()


def test_another_split_has_a_folder_of_its_own(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    result = evaluate(folder, "validation")
    assert result["images"] == 12
    best = json.loads((folder / "summary.json").read_text())["best"]
    assert result["top1"] == pytest.approx(best["val_main_top1"], abs=1e-6)
    assert result["top1"] > 0.8  # stripes are easy; chance gives a half
    assert result_of(folder / "evaluation_validation") == result
    assert not (folder / "evaluation").exists()


def test_a_run_without_a_finished_epoch_says_so(run, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "best.keras").unlink()
    with pytest.raises(RunError, match="no epoch has ended"):
        open_run(folder)
    assert main(["evaluate", str(folder)]) == 2
    assert "--resume" in capsys.readouterr().err


def test_a_missing_export_is_named(tmp_path):
    with pytest.raises(RunError, match="no SavedModel"):
        open_saved_model(tmp_path)
    with pytest.raises(RunError, match="no file"):
        open_tflite(tmp_path / "model.tflite")


def test_answers_of_several_batches_are_in_order():
    predictor = Predictor("run", lambda images: images * 2)
    batches = [np.arange(4.0).reshape(2, 2), np.arange(4.0, 6.0).reshape(1, 2)]
    assert predictor.answers(batches).tolist() == [[0, 2], [4, 6], [8, 10]]


# From here on a detector of stripes answers, which needs no building.


def test_labels_that_no_longer_fit_the_model_are_refused(run, stripes, tmp_path, detector):
    images = shutil.copytree(stripes, tmp_path / "images")
    (images / "lying").rename(images / "sleeping")
    folder = changed(run, tmp_path / "run", data__source=str(images))
    with pytest.raises(DataError, match=r"trained on lying, standing; .* now has sleeping, standing"):
        evaluate(folder)
    assert not (folder / "evaluation").exists()


def test_an_ensemble_of_a_run_with_itself_is_the_run(run, tmp_path, detector):
    one = evaluate(run, crops=10, output=tmp_path / "one")
    two = evaluate([run, run], crops=10, output=tmp_path / "two")
    for name in ("seconds", "images_per_second", "runs"):
        del one[name], two[name]
    assert one == two
    files = [(tmp_path / name / "predictions.csv").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]


def test_an_ensemble_is_the_mean_and_each_run_sees_images_by_its_own_settings(run, tmp_path, detector):
    other = changed(run, tmp_path / "run", data__crop_fraction=0.5, data__value_range="[0, 1]")
    results = {
        name: evaluate(runs, output=tmp_path / name) and rows_of(tmp_path / name / "predictions.csv")
        for name, runs in (("first", run), ("second", other), ("both", [run, other]))
    }

    def of_lying(name):
        return [
            float(row["top1_probability" if row["top1_label"] == "lying" else "top2_probability"])
            for row in results[name]
        ]

    first, second = np.asarray(of_lying("first")), np.asarray(of_lying("second"))
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_allclose(of_lying("both"), (first + second) / 2, atol=2e-6)


def test_several_runs_need_an_output_and_the_same_classes_and_images(run, tmp_path, detector, capsys):
    assert main(["evaluate", str(run), str(run)]) == 2
    assert "--output" in capsys.readouterr().err
    other = changed(run, tmp_path / "images", data__split_seed=5)
    with pytest.raises(DataError, match=r"different images, 12 and 12; give runs of the same data"):
        evaluate([run, other], output=tmp_path / "out")
    (other / "labels.txt").write_text("lying\nstanding\nleaning\n")
    with pytest.raises(RunError, match="different classes, lying, standing and lying, standing, leaning"):
        evaluate([run, other], output=tmp_path / "out")
    assert main(["evaluate"]) == 2
    assert "no run given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "evaluation"),
        ({"split": "validation"}, "evaluation_validation"),
        ({"crops": 10}, "evaluation_10crops"),
        ({"split": "train", "crops": 144}, "evaluation_train_144crops"),
        ({"data": "elsewhere/my photos"}, "evaluation_of_my photos"),
        ({"data": "validation", "crops": 10}, "evaluation_of_validation_10crops"),
        ({"data": "a_tfds_set", "split": "train"}, "evaluation_of_a_tfds_set_train"),
        ({"data": "a_tfds_set", "split": "validation", "crops": 10}, "evaluation_of_a_tfds_set_validation_10crops"),
        ({"data": "./others", "split": "train"}, "evaluation_of_others"),  # a folder has no splits
    ],
)
def test_the_folder_says_what_was_measured(options, name, tmp_path):
    assert evaluation_folder(tmp_path, **options) == tmp_path / name
    assert evaluation_folder([tmp_path, tmp_path], output="out", **options).name == "out"


def test_an_evaluation_replaces_an_earlier_one_and_nothing_else(run, tmp_path, detector, capsys):
    output = tmp_path / "output"
    output.mkdir()
    evaluate(run, output=output, predictions="parquet")
    assert (output / "predictions.parquet").exists()
    evaluate(run, output=output)
    assert (output / "predictions.csv").exists()
    assert not (output / "predictions.parquet").exists()
    holiday = tmp_path / "holiday"
    holiday.mkdir()
    (holiday / "beach.jpg").write_bytes(b"memories")
    assert main(["evaluate", str(run), "--output", str(holiday)]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert [path.name for path in holiday.iterdir()] == ["beach.jpg"]
    with pytest.raises(RunError, match="is a file"):
        evaluate(run, output=holiday / "beach.jpg")


def test_an_evaluation_of_other_images_of_the_same_name_is_kept(measured, stripes, tmp_path):
    one, other = tmp_path / "one" / "new", tmp_path / "other" / "new"
    for place in (one, other):
        shutil.copytree(stripes / "lying", place)
    shutil.copytree(measured, run := tmp_path / "run")
    evaluate(run, data=one)
    evaluate(run, data=one)
    with pytest.raises(RunError, match=f"evaluation_of_new' holds the evaluation of '{one}'; give --output"):
        evaluate(run, data=other)
    assert result_of(run / "evaluation_of_new")["data"] == str(one)
    evaluate(run, data=other, output=run / "evaluation_of_new")
    assert result_of(run / "evaluation_of_new")["data"] == str(other)


@pytest.mark.parametrize("place", ["file/eval", "file", "/proc/eval"])
def test_a_place_that_cannot_be_written_is_refused_before_tensorflow_is_loaded(
    place, run, tmp_path, monkeypatch, capsys
):
    (tmp_path / "file").touch()
    monkeypatch.setattr(runs, "load_tensorflow", pytest.fail)
    assert main(["evaluate", str(run), "--output", str(tmp_path / place)]) == 2
    said = capsys.readouterr().err
    assert "give --output another place" in said
    assert said.count("\n") == 1


def test_an_error_leaves_the_earlier_evaluation(run, tmp_path, detector, monkeypatch):
    output = tmp_path / "output"
    evaluate(run, output=output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}

    def fail(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(evaluation.pictures, "draw_reliability", fail)
    with pytest.raises(OSError, match="no space"):
        evaluate(run, output=output)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_progress_is_told_over_all_runs(run, tmp_path, detector):
    read, answered = [], []
    evaluate(
        [run, run],
        output=tmp_path / "out",
        on_images=lambda *numbers: read.append(numbers),
        on_progress=lambda *numbers: answered.append(numbers),
    )
    assert read == [(number, 12) for number in range(1, 13)]  # read once for both
    assert answered == [(12, 24), (24, 24)]


# Other images than the run's own.


def test_a_folder_of_some_of_the_classes_is_measured(run, stripes, tmp_path, detector, capsys):
    folder = tmp_path / "others"
    shutil.copytree(stripes / "standing", folder / "standing" / "deeper\nstill")
    (folder / "standing" / "broken.png").write_bytes(b"")
    (folder / "standing" / "folder.jpg").mkdir()
    (folder / "folder.png").mkdir()
    assert main(["evaluate", str(run), "--data", str(folder), "--output", str(tmp_path / "out")]) == 0
    result = result_of(tmp_path / "out")
    assert result["images"] == 40
    assert result["split"] is None
    assert result["data"] == str(folder)
    assert result["per_class"]["lying"]["images"] == 0
    assert result["top1"] == result["per_class"]["standing"]["recall"] > 0.9
    assert len(result["broken_images"]) == 2
    said = capsys.readouterr().out
    assert said.count("left out: ") == 2
    assert "40 " in said
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    assert {row["label"] for row in rows} == {"standing"}
    assert any("\n" in row["path"] for row in rows)


def test_a_folder_without_class_folders_is_answered(run, stripes, tmp_path, detector, capsys):
    folder = tmp_path / "found"
    shutil.copytree(stripes / "standing", folder / "holiday")
    shutil.copy(stripes / "lying" / "03.png", folder / "loose.png")
    (folder / "broken.jpg").write_text("text")
    words = ["--data", str(folder), "--output", str(tmp_path / "out"), "--predictions", "parquet", "--crops", "10"]
    assert main(["evaluate", str(run), *words, "--reject-below", "0.999"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"evaluation.json", "predictions.parquet"}
    result = result_of(tmp_path / "out")
    assert result["top1"] is result["per_class"] is result["confusion"] is None
    assert sum(result["answers"].values()) == result["images"] == 41
    assert result["answers"]["standing"] > 30
    table = pyarrow.parquet.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    assert list(table[0]) == [
        "path",
        "answer",
        *(f"top{n}_{kind}" for n in (1, 2) for kind in ("label", "probability")),
    ]
    for row in table:
        assert row["answer"] == (row["top1_label"] if row["top1_probability"] >= 0.999 else None)
        assert row["top1_probability"] + row["top2_probability"] == pytest.approx(1, abs=1e-6)
    answered = sum(row["answer"] is not None for row in table)
    assert result["rejection"] == {"below": 0.999, "answered": answered, "coverage": answered / 41}
    said = capsys.readouterr().out
    assert "without labels" in said
    assert "broken.jpg" in said


def test_a_folder_that_is_half_labelled_is_refused(run, stripes, tmp_path, detector, capsys):
    folder = tmp_path / "images"
    shutil.copytree(stripes, folder)
    (folder / "standing").rename(folder / "standin")
    assert main(["evaluate", str(run), "--data", str(folder)]) == 2
    assert "did you mean standing?" in capsys.readouterr().err
    (folder / "standin").rename(folder / "standing")
    shutil.copy(folder / "lying" / "00.png", folder / "loose.png")
    assert main(["evaluate", str(run), "--data", str(folder)]) == 2
    assert "lies beside the class folders" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--data", str(tmp_path / "missing")]) == 2
    assert "no folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["evaluate", str(run), "--data", str(tmp_path / "empty")]) == 2
    assert "no images" in capsys.readouterr().err


def test_heads_are_not_measured_without_labels(measured, stripes, tmp_path):
    with pytest.raises(DataError, match="no labels"):
        evaluate(measured, data=stripes / "lying", heads=True, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", [-0.1, 1.5, float("nan")])
def test_a_least_probability_that_is_none_is_refused(below, run, detector):
    with pytest.raises(DataError, match=r"reject_below is .*; it takes a probability from 0 to 1"):
        evaluate(run, reject_below=below)
