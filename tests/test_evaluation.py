"""Figures against scikit-learn's definitions computed by hand, and labels that do not fit."""

import json
import shutil

import numpy as np
import pytest

from keras_inception.cli import main
from keras_inception.data.decode import decode
from keras_inception.data.pipeline import network_input
from keras_inception.errors import DataError, RunError
from keras_inception.evaluation.evaluate import evaluate
from keras_inception.evaluation.predict import predict
from keras_inception.predictor import Predictor, open_run, open_saved_model, open_tflite
from keras_inception.run_folder import RunFolder


def test_labels_that_no_longer_fit_the_model_are_refused(run, stripes, tmp_path):
    images, folder = tmp_path / "images", tmp_path / "run"
    shutil.copytree(stripes, images)
    shutil.copytree(run, folder)
    (images / "lying").rename(images / "sleeping")
    config = RunFolder(folder).config().override({"data.source": str(images)})
    (folder / "config.json").write_text(config.to_json())
    with pytest.raises(DataError, match=r"trained on lying, standing; .* now has sleeping, standing"):
        evaluate(folder)
    assert not (folder / "evaluation.json").exists()


def test_another_split_is_written_beside_the_tests_figures(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    result = evaluate(folder, "validation")
    assert result["images"] == 12
    best = json.loads((folder / "summary.json").read_text())["best"]
    assert result["top1"] == pytest.approx(best["val_main_top1"], abs=1e-6)
    assert json.loads((folder / "evaluation_validation.json").read_text())["split"] == "validation"


def test_predict_answers_as_the_model_does_on_the_same_pixels(run, stripes):
    path = stripes / "standing" / "07.png"
    (prediction,) = predict(run, [str(path)], top=2)
    config = RunFolder(run).config().data
    row = open_run(run).probabilities(network_input(decode(path, 3), config)[None])[0]
    assert dict(prediction.top) == pytest.approx({"lying": row[0], "standing": row[1]}, abs=1e-6)
    assert prediction.top[0][1] >= prediction.top[1][1]


def test_a_run_without_a_finished_epoch_says_so(run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "best.keras").unlink()
    with pytest.raises(RunError, match="no epoch has ended"):
        open_run(folder)
    assert main(["evaluate", str(folder)]) == 2
    assert "--resume" in capsys.readouterr().err


def test_answers_of_several_batches_are_in_order():
    predictor = Predictor("keras", lambda images: images * 2)
    batches = [np.arange(4.0).reshape(2, 2), np.arange(4.0, 6.0).reshape(1, 2)]
    assert predictor.answers(batches).tolist() == [[0, 2], [4, 6], [8, 10]]


def test_a_missing_export_is_named(tmp_path):
    with pytest.raises(RunError, match="no SavedModel"):
        open_saved_model(tmp_path)
    with pytest.raises(RunError, match="no TFLite file"):
        open_tflite(tmp_path / "model.tflite")
