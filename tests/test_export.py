"""The exports answer like the trained model, without Keras, without TensorFlow, without the auxiliary heads."""

import json
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from keras_inception.cli import main
from keras_inception.export import export as export_module
from keras_inception.export.export import export, write_saved_model, write_tflite
from keras_inception.googlenet import GoogLeNet
from keras_inception.predictor import open_run


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """A copy of the run with its exports, made through the command line."""
    folder = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(run, folder)
    assert main(["export", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).uniform(-1, 1, (5, 28, 28, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(exported, images):
    return open_run(exported).probabilities(images)


def test_the_files_stand_where_servers_look_for_them(exported):
    files = {str(path.relative_to(exported / "export")) for path in (exported / "export").rglob("*") if path.is_file()}
    assert {"saved_model/1/saved_model.pb", "model.tflite", "labels.txt", "parity.json"} <= files
    assert (exported / "export" / "labels.txt").read_text() == (exported / "labels.txt").read_text()


def test_the_largest_difference_is_recorded(exported):
    parity = json.loads((exported / "export" / "parity.json").read_text())
    assert parity["images"] == 12
    for kind in ("saved_model", "tflite"):
        assert 0 <= parity[kind]["largest_difference"] <= 1e-4
        assert parity[kind]["same_top1"] == 1


def test_the_saved_model_runs_where_importing_keras_fails(exported, images, expected, tmp_path):
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys\nsys.modules['keras'] = None\n"
        "import numpy as np, tensorflow as tf\n"
        "serve = tf.saved_model.load(sys.argv[1]).signatures['serving_default']\n"
        "np.save(sys.argv[3], serve(image=tf.constant(np.load(sys.argv[2])))['probabilities'].numpy())\n"
    )
    saved_model = exported / "export" / "saved_model" / "1"
    words = [sys.executable, "-c", code, saved_model, tmp_path / "images.npy", tmp_path / "answers.npy"]
    subprocess.run(list(map(str, words)), check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "answers.npy"), expected, atol=1e-5)


def test_the_tflite_file_runs_by_litert_without_tensorflow(exported, images, expected, tmp_path):
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys\nsys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "import numpy as np\n"
        "from ai_edge_litert.interpreter import Interpreter\n"
        "run = Interpreter(model_path=sys.argv[1]).get_signature_runner()\n"
        "np.save(sys.argv[3], run(image=np.load(sys.argv[2]))['probabilities'])\n"
    )
    words = [sys.executable, "-c", code, exported / "export" / "model.tflite", tmp_path / "images.npy"]
    subprocess.run(list(map(str, [*words, tmp_path / "answers.npy"])), check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "answers.npy"), expected, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_exports_take_any_batch(exported, images, expected, batch):
    from keras_inception.predictor import open_saved_model, open_tflite

    for predictor in (
        open_saved_model(exported / "export" / "saved_model" / "1"),
        open_tflite(exported / "export" / "model.tflite"),
    ):
        np.testing.assert_allclose(predictor.probabilities(images[:batch]), expected[:batch], atol=1e-5)


def test_no_parameter_of_a_head_is_exported(exported):
    import tensorflow as tf

    names = [
        name
        for name, _ in tf.train.list_variables(
            str(exported / "export" / "saved_model" / "1" / "variables" / "variables")
        )
    ]
    assert names
    bytes_of_weights = (exported / "export" / "model.tflite").stat().st_size
    parameters = json.loads((exported / "summary.json").read_text())
    assert parameters["parameters"] < parameters["parameters_in_training"]
    classifier = GoogLeNet(architecture="googlenet-small", input_shape=(28, 28, 3), classes=2)
    assert not any("aux" in layer.name for layer in classifier.layers)
    assert b"aux" not in (exported / "export" / "model.tflite").read_bytes()
    assert bytes_of_weights < 4 * parameters["parameters"] + 100_000


def test_tflite_has_the_operations_of_table_1_and_no_others(tmp_path):
    """57 convolutions, 9 concatenations, 13 max pools; batch normalisation folded into the convolutions."""
    from ai_edge_litert.interpreter import Interpreter

    from keras_inception.architecture import GOOGLENET_BN

    model = GoogLeNet(architecture=GOOGLENET_BN.scaled(1 / 16), input_shape=(64, 64, 3), classes=5)
    write_saved_model(model, tmp_path / "saved_model")
    write_tflite(tmp_path / "saved_model", tmp_path / "model.tflite")
    interpreter = Interpreter(model_path=str(tmp_path / "model.tflite"))
    operations = Counter(row["op_name"] for row in interpreter._get_ops_details() if row["op_name"] != "DELEGATE")
    assert operations == {
        "PAD": 1,
        "CONV_2D": 57,
        "CONCATENATION": 9,
        "MAX_POOL_2D": 13,
        "MEAN": 1,
        "FULLY_CONNECTED": 1,
        "SOFTMAX": 1,
    }


def test_an_export_that_disagrees_fails_and_leaves_the_previous_one(exported, monkeypatch, capsys):
    before = (exported / "export" / "parity.json").read_text()
    names = sorted(path.name for path in exported.iterdir())
    monkeypatch.setattr(export_module, "TOLERANCE", -1.0)
    assert main(["export", str(exported)]) == 1
    assert "differs from the trained model" in capsys.readouterr().err
    assert (exported / "export" / "parity.json").read_text() == before
    assert sorted(path.name for path in exported.iterdir()) == names


@pytest.mark.slow
def test_a_run_of_mixed_precision_is_exported_in_float32(stripes, tiny, tmp_path):
    words = ["--data", str(stripes), "--run-dir", str(tmp_path / "r"), *tiny, "--epochs", "1"]
    assert main(["train", *words, "--precision", "mixed_bfloat16"]) == 0
    result = export(tmp_path / "r")
    assert result["tflite"]["largest_difference"] <= 1e-4


def test_an_lrn_network_is_exported_with_a_builtin_operation(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    from keras_inception.architecture import GOOGLENET

    model = GoogLeNet(architecture=GOOGLENET.scaled(1 / 16), input_shape=(64, 64, 3), classes=5)
    write_saved_model(model, tmp_path / "saved_model")
    write_tflite(tmp_path / "saved_model", tmp_path / "model.tflite")
    interpreter = Interpreter(model_path=str(tmp_path / "model.tflite"))
    operations = Counter(row["op_name"] for row in interpreter._get_ops_details())
    assert operations["LOCAL_RESPONSE_NORMALIZATION"] == 2
    image = np.random.default_rng(1).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    answers = interpreter.get_signature_runner()(image=image)["probabilities"]
    np.testing.assert_allclose(answers, model.predict_on_batch(image), atol=1e-5)
