"""The exports answer like the trained model, without Keras, without TensorFlow, without the auxiliary heads."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from keras_inception.architecture import GOOGLENET, GOOGLENET_BN, NIN, Architecture, Conv, FullyConnected, Inception
from keras_inception.card import Card, read_card
from keras_inception.cli import main
from keras_inception.config import DataConfig
from keras_inception.data.pipeline import network_input
from keras_inception.errors import ExportError, RunError
from keras_inception.evaluation.predict import predict
from keras_inception.export import answering, export as exporting
from keras_inception.export.export import export
from keras_inception.export.manifest import verify
from keras_inception.export.proof import Thresholds
from keras_inception.export.saved_model import write_saved_model
from keras_inception.export.tflite import check_operations, expected_operations, operations, write_tflite
from keras_inception.googlenet import GoogLeNet
from keras_inception.predictor import open_model, open_run

# Of twelve test images, which is what the tiny run has, one is 8%.
LENIENT = ("--agreement", "0.8", "--accuracy-loss", "0.2")
FILES = ("saved_model/1", "model.tflite", "model_float16.tflite", "model_int8.tflite", "model.onnx", "model.keras")


@pytest.fixture(scope="module", autouse=True)
def _one_core():
    """A file answers in one process in place of two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answering.os, "cpu_count", lambda: 1)
        yield


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """A copy of the run with its exports, made through the command line."""
    folder = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(run, folder)
    words = ["--to", "saved_model,tflite,onnx,keras", "--quantize", "float16,int8", *LENIENT]
    assert main(["export", str(folder), *words]) == 0
    return folder


@pytest.fixture(scope="module")
def report(exported):
    return json.loads((exported / "export" / "report.json").read_text())


@pytest.fixture(scope="module")
def signatures(exported):
    import tensorflow as tf

    return tf.saved_model.load(exported / "export" / "saved_model" / "1").signatures


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).uniform(-1, 1, (5, 28, 28, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(exported, images):
    return open_run(exported).probabilities(images)


def test_the_files_stand_where_servers_look_for_them(exported):
    files = {str(path.relative_to(exported / "export")) for path in (exported / "export").rglob("*") if path.is_file()}
    assert {"saved_model/1/saved_model.pb", *FILES[1:], "labels.txt", "report.json", "report.html"} <= files
    assert (exported / "export" / "labels.txt").read_text() == (exported / "labels.txt").read_text()
    assert verify(exported / "export")["provenance"]["checkpoint"] == "best.keras"


def test_the_report_says_how_every_file_answers(report, exported):
    assert (report["images"], report["of"]) == (12, "test images")
    assert [proof["file"] for proof in report["files"]] == list(FILES)
    rows = {proof["file"]: proof for proof in report["files"]}
    assert report["reference"]["top1"] > 0.8  # stripes are easy; chance gives a half
    for name in ("saved_model/1", "model.tflite", "model.onnx", "model.keras"):
        assert rows[name]["largest_difference"] <= 1e-4
        assert rows[name]["top1"] == report["reference"]["top1"]
    assert 0 < rows["model_float16.tflite"]["largest_difference"] <= 2e-3
    assert rows["model_int8.tflite"]["bytes"] < rows["model.tflite"]["bytes"]
    for row in (report["reference"], *report["files"]):
        assert not row["misses"]
        assert [(time["threads"], time["batch"]) for time in row["latency_ms"]] == [(1, 1), (1, 8)]
        assert all(0 < time["median"] <= time["p95"] for time in row["latency_ms"])
    page = (exported / "export" / "report.html").read_text()
    assert all(name in page for name in FILES)


@pytest.mark.parametrize("name", FILES)
def test_every_file_holds_its_labels_and_its_preprocessing(exported, name):
    card, of_run = read_card(exported / "export" / name), read_card(exported)
    assert card.labels == of_run.labels
    assert (card.data.image_size, card.data.value_range) == (28, (-1.0, 1.0))
    assert str(of_run.data.source) not in card.to_json()


def test_whole_files_are_classified_as_predict_does(exported, signatures, stripes, tmp_path):
    import tensorflow as tf

    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(stripes / "lying" / "01.png").resize((90, 50)).save(turned, exif=exif)
    paths = [stripes / "lying" / "00.png", turned, stripes / "standing" / "03.png"]
    answers = predict(exported, [str(path) for path in paths])
    contents = [paths[0].read_bytes(), b"no image", *(path.read_bytes() for path in paths[1:])]
    found = signatures["classify_bytes"](image_bytes=tf.constant(contents))
    assert found["decoded"].numpy().tolist() == [True, False, True, True]
    assert found["labels"].numpy()[1].tolist() == [b"", b""]
    assert not found["probabilities"].numpy()[1].any()
    for place, answer in zip((0, 2, 3), answers, strict=True):
        assert [label.decode() for label in found["labels"].numpy()[place]] == [label for label, _ in answer.top]
        np.testing.assert_allclose(found["scores"].numpy()[place], [p for _, p in answer.top], atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 4), st.integers(1, 80), st.integers(1, 80))
def test_images_of_any_size_and_number_are_classified(exported, signatures, batch, height, width):
    import tensorflow as tf

    pixels = np.random.default_rng(height).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
    found = signatures["classify_images"](images=tf.constant(pixels))
    assert found["probabilities"].shape == (batch, 2)
    inputs = [network_input(image, read_card(exported).data) for image in pixels]
    if inputs:
        expected = signatures["serving_default"](image=tf.constant(np.stack(inputs)))["probabilities"]
        np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)


@pytest.mark.slow
def test_no_images_get_no_answers_also_by_onednn(exported):
    code = (
        "import sys, tensorflow as tf\n"
        "signatures = tf.saved_model.load(sys.argv[1]).signatures\n"
        "assert signatures['classify_images'](images=tf.zeros((0, 9, 9, 3), tf.uint8))['labels'].shape == (0, 2)\n"
        "assert signatures['classify_bytes'](image_bytes=tf.zeros((0,), tf.string))['decoded'].shape == (0,)\n"
    )
    words = [sys.executable, "-c", code, str(exported / "export" / "saved_model" / "1")]
    done = subprocess.run(
        words, env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


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


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("batch", [1, 3])
def test_exports_take_any_batch(exported, images, expected, name, batch):
    answers = open_model(exported / "export" / name).probabilities(images[:batch])
    allowed = {"model_float16.tflite": 5e-3, "model_int8.tflite": 0.2}.get(name, 1e-5)
    np.testing.assert_allclose(answers, expected[:batch], atol=allowed)


def test_predict_from_a_tflite_file_imports_no_tensorflow(exported, stripes):
    code = (
        "import sys\nsys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "from keras_inception.cli import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    words = ["predict", str(exported / "export" / "model.tflite"), str(stripes / "lying"), "--json"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    answers = predict(exported, [str(stripes / "lying")])
    assert [row["answer"] for row in found] == [answer.answer for answer in answers]
    for row, answer in zip(found, answers, strict=True):
        # Pixels may differ by a level where they are rounded.
        assert row["top"][0]["probability"] == pytest.approx(answer.top[0][1], abs=0.02)


def test_an_exported_file_is_evaluated_on_a_folder(exported, stripes, tmp_path, capsys):
    file = exported / "export" / "model.tflite"
    assert main(["evaluate", str(file), "--data", str(stripes), "--output", str(tmp_path / "e")]) == 0
    assert main(["evaluate", str(exported), "--data", str(stripes), "--output", str(tmp_path / "r")]) == 0
    first, second = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in "er")
    assert (first["images"], first["top1"]) == (80, second["top1"])
    assert first["log_loss"] == pytest.approx(second["log_loss"], abs=1e-4)
    capsys.readouterr()
    assert main(["evaluate", str(file), "--output", str(tmp_path / "e")]) == 2
    assert "give --data a folder" in capsys.readouterr().err
    assert main(["evaluate", str(file), "--data", str(stripes)]) == 2
    assert "give --output a folder" in capsys.readouterr().err


def test_the_int8_file_takes_the_pixels_as_they_are(exported, stripes):
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(exported / "export" / "model_int8.tflite")).get_signature_runner()
    (details,) = run.get_input_details().values()
    scale, zero = details["quantization"]
    assert details["dtype"] == np.uint8
    assert scale == pytest.approx(2 / 255, rel=1e-3)
    assert zero in (127, 128)


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


def converted(table, folder):
    """A network as a TFLite file."""
    keras.utils.set_random_seed(1)
    model = GoogLeNet(architecture=table, input_shape=(64, 64, 3), classes=5)
    card = Card(folder, "tiny", tuple("abcde"), DataConfig(image_size=64))
    write_saved_model(model, card, folder / "saved_model")
    write_tflite(folder / "saved_model", card, folder / "model.tflite")
    return model, folder / "model.tflite"


@pytest.mark.slow
def test_tflite_has_the_operations_of_table_1_and_no_others(tmp_path):
    """57 convolutions, 9 concatenations, 13 max pools; batch normalisation folded into the convolutions."""
    _, path = converted(GOOGLENET_BN.scaled(1 / 16), tmp_path)
    table = Counter(CONV_2D=57, CONCATENATION=9, MAX_POOL_2D=13, MEAN=1, FULLY_CONNECTED=1, SOFTMAX=1)
    assert expected_operations(GOOGLENET_BN) == table
    assert operations(path) == table + Counter(PAD=1)


@pytest.mark.slow
def test_naive_modules_and_fully_connected_layers_are_exported(tmp_path):
    rows = (Conv("conv1", 4, 3, stride=4), Inception("3a", 4, 0, 4, 2, 4, 0), FullyConnected("fc", 6))
    table = Architecture("naive", rows, batch_normalization=True)
    model, path = converted(table, tmp_path)
    check_operations(operations(path), table, "model.tflite")
    image = np.random.default_rng(1).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(open_model(path).probabilities(image), model.predict_on_batch(image), atol=1e-5)


@pytest.mark.slow
def test_an_lrn_network_is_exported_with_a_builtin_operation(tmp_path):
    model, path = converted(GOOGLENET.scaled(1 / 16), tmp_path)
    assert operations(path)["LOCAL_RESPONSE_NORMALIZATION"] == 2
    image = np.random.default_rng(1).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(open_model(path).probabilities(image), model.predict_on_batch(image), atol=1e-5)


@pytest.mark.slow
def test_network_in_network_is_exported_with_its_9_layers(tmp_path):
    model, path = converted(NIN.scaled(1 / 16), tmp_path)
    assert expected_operations(NIN) == Counter(CONV_2D=8, MAX_POOL_2D=2, MEAN=1, FULLY_CONNECTED=1, SOFTMAX=1)
    assert operations(path) == expected_operations(NIN)
    image = np.random.default_rng(1).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(open_model(path).probabilities(image), model.predict_on_batch(image), atol=1e-5)


def test_a_graph_with_something_else_in_it_is_refused():
    found = expected_operations(GOOGLENET_BN) + Counter(MUL=2)
    with pytest.raises(ExportError, match="2 MUL in place of 0"):
        check_operations(found, GOOGLENET_BN, "model.tflite")


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        ".export-*",
        *(
            f".export-*/new/{name}"
            for name in ("saved_model/1/saved_model.pb", "model.tflite", "model.onnx", "report.json", "manifest.json")
        ),
    ],
)
def test_a_killed_export_leaves_a_whole_one(exported, tmp_path, moment):
    folder = shutil.copytree(exported, tmp_path / "run")
    words = [sys.executable, "-m", "keras_inception", "export", str(folder), "--to", "saved_model,tflite,onnx"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(folder.glob(moment)) and process.poll() is None:
        time.sleep(0.001)  # the folder is asked again until the export has come so far
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert verify(folder / "export")
    # After the last of its files the new one may be in place.
    assert (folder / "export" / "model.keras").exists() or moment.endswith(("report.json", "manifest.json"))


@pytest.mark.slow
def test_saved_model_cli_shows_and_runs_every_signature(exported, images, expected, stripes, tmp_path):
    """The program that comes with TensorFlow; it knows nothing of this package."""
    program = [str(Path(sys.executable).parent / "saved_model_cli")]
    folder = ["--dir", str(exported / "export" / "saved_model" / "1")]
    shown = subprocess.run([*program, "show", *folder, "--all"], capture_output=True, text=True, check=True).stdout
    assert "inputs['image_bytes'] tensor_info:\n        dtype: DT_STRING\n        shape: (-1)" in shown
    photo = next(stripes.rglob("*.png"))
    with Image.open(photo) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    given = {
        "serving_default": ("image", images),
        "classify_images": ("images", pixels[None]),
        "classify_bytes": ("image_bytes", np.array([photo.read_bytes(), b"broken"])),
    }
    found = {}
    for signature, (name, value) in given.items():
        np.save(tmp_path / f"{signature}.npy", value)
        words = ["--tag_set", "serve", "--signature_def", signature, "--outdir", str(tmp_path / signature)]
        words += ["--inputs", f"{name}={tmp_path / signature}.npy"]
        subprocess.run([*program, "run", *folder, *words], capture_output=True, check=True)
        found[signature] = np.load(tmp_path / signature / "probabilities.npy")
    np.testing.assert_allclose(found["serving_default"], expected, atol=1e-4)
    np.testing.assert_allclose(found["classify_bytes"][:1], found["classify_images"], atol=1e-6)
    assert np.load(tmp_path / "classify_bytes" / "decoded.npy").tolist() == [True, False]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "savedmodel"], "did you mean saved_model"),
        (["--to", ","], "no format"),
        (["--quantize", "int4"], "unknown precision 'int4'"),
        (["--to", "onnx", "--quantize", "int8"], "add tflite to --to"),
    ],
)
def test_what_contradicts_itself_is_said_in_one_line(run, words, said, capsys):
    assert main(["export", str(run), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_no_run_is_named(capsys):
    assert main(["export"]) == 2
    assert "no run given" in capsys.readouterr().err


def test_int16x8_of_a_network_with_lrn_is_refused_with_the_reason(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "architecture.json").write_text(GOOGLENET.to_json())
    with pytest.raises(RunError, match="no 16-bit form of local response normalisation"):
        export(folder, quantize=["int16x8"])


@pytest.mark.slow
def test_where_int8_misses_the_remedies_are_tried_in_order_and_measured(exported, tmp_path, caplog):
    folder = shutil.copytree(exported, tmp_path / "run")
    with caplog.at_level("INFO", "keras_inception.export"), pytest.raises(ExportError) as caught:
        export(folder, to=["tflite"], quantize=["int8"], thresholds=Thresholds(agreement=1.01))
    assert "model_int16x8.tflite: 100.0% of the answers" in str(caught.value)
    tried = [message for message in caplog.messages if message.startswith("model_int8.tflite")]
    said = ["uint8 in and out", "uint8 in and out", "float32 in and out", "in float: "]
    assert len(tried) == len(said)
    for message, words in zip(tried, said, strict=True):
        assert words in message
        assert "less than 101.0%" in message


@pytest.fixture
def made(monkeypatch):
    """What TFLite files were made from, in order; they are made at once, and int8 never answers like the model."""
    log = []

    def write(source, card, path, precision, *, examples, interface="float32", in_float=0):
        path.write_bytes(b"a model")
        log.append((precision, 0 if examples is None else len(examples), interface, in_float))
        return ()

    def answers(path, pixels):
        lying, standing = (0.1, 0.9) if "int8" in path.name else (0.9, 0.1)
        probabilities = np.tile(np.float32([lying, standing]), (len(np.load(pixels)), 1))
        return answering.Answers(probabilities, {(1, 1): (1.0, 1.0)})

    monkeypatch.setattr(exporting, "write_tflite", write)
    monkeypatch.setattr(exporting, "answers_of", answers)
    monkeypatch.setattr(exporting._House, "_source", lambda house: house.scratch)
    monkeypatch.setattr(exporting._House, "_examples", lambda house, count: np.zeros(count))
    monkeypatch.setattr(exporting._House, "_graph", lambda house, path: "")
    return log


def test_an_export_that_disagrees_fails_and_leaves_the_previous_one(exported, made, capsys):
    before = (exported / "export" / "report.json").read_text()
    names = sorted(path.name for path in exported.iterdir())
    assert main(["export", str(exported), "--to", "tflite", "--tolerance", "-1"]) == 1
    said = capsys.readouterr().err
    assert "model.tflite: a probability differs by" in said
    assert ".png" in said  # the images that differ most are named
    assert (exported / "export" / "report.json").read_text() == before
    assert sorted(path.name for path in exported.iterdir()) == names


@pytest.mark.parametrize("asked", [["int8"], ["int8", "int16x8"], ["int16x8", "int8"]])
def test_int16x8_takes_the_place_of_int8_once_whatever_is_asked_for_first(asked, run, made, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    result = export(folder, to=["tflite"], quantize=asked)
    assert [proof["file"] for proof in result["files"]] == ["model.tflite", "model_int16x8.tflite"]
    assert [proof["file"] for proof in result["attempts"]] == ["model_int8.tflite"] * 4
    assert not (folder / "export" / "model_int8.tflite").exists()
    assert [precision for precision, *_ in made].count("int16x8") == 1


@pytest.mark.parametrize(
    ("interface", "expected"),
    [
        ("uint8", [(100, "uint8", 0), (500, "uint8", 0), (500, "float32", 0), (500, "float32", 6)]),
        ("float32", [(100, "float32", 0), (500, "float32", 0), (500, "float32", 6)]),
    ],
)
def test_nothing_is_tried_twice(interface, expected, run, made, tmp_path):
    export(shutil.copytree(run, tmp_path / "run"), to=["tflite"], quantize=["int8"], interface=interface)
    assert [how for precision, *how in made if precision == "int8"] == [list(how) for how in expected]


@pytest.mark.slow
def test_one_thread_is_one_between_operations_too(run, tmp_path):
    np.save(tmp_path / "pixels.npy", np.zeros((2, 28, 28, 3), np.uint8))
    paths = {"path": str(run), "pixels": str(tmp_path / "pixels.npy"), "output": str(tmp_path / "answers.npz")}
    code = (
        "import json, sys\nfrom keras_inception.export.answering import _answer\n"
        "_answer(json.loads(sys.argv[1]))\nfrom tensorflow.config import threading\n"
        "print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())\n"
    )
    words = [sys.executable, "-c", code, json.dumps({**paths, "threads": 1})]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1"], done.stderr


@pytest.mark.slow
def test_a_run_of_mixed_precision_is_exported_in_float32(stripes, tiny, tmp_path):
    words = ["--data", str(stripes), "--run-dir", str(tmp_path / "r"), *tiny, "--epochs", "1"]
    assert main(["train", *words, "--precision", "mixed_bfloat16"]) == 0
    result = export(tmp_path / "r", verify_with=stripes / "lying")
    assert result["images"] == 40
    assert result["reference"]["top1"] is None
    assert all(proof["largest_difference"] <= 1e-4 for proof in result["files"])


@pytest.mark.slow
def test_int8_of_a_network_with_lrn_leaves_an_island_in_float(tmp_path):
    converted(GOOGLENET.scaled(1 / 16), tmp_path)
    examples = np.random.default_rng(1).uniform(-1, 1, (8, 64, 64, 3)).astype(np.float32)
    path = tmp_path / "model_int8.tflite"
    write_tflite(tmp_path / "saved_model", read_card(tmp_path / "model.tflite"), path, "int8", examples=examples)
    found = operations(path)
    assert found["LOCAL_RESPONSE_NORMALIZATION"] == 2
    assert found["DEQUANTIZE"] >= 2
    assert open_model(path).probabilities(examples).shape == (8, 5)
