"""Training: reproducible, equal on one and two devices, resumable, in every precision, on broken images too."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from keras_inception.cli import main
from keras_inception.config import RunConfig
from keras_inception.errors import ArchitectureError, ConfigError, RunError
from keras_inception.run_folder import RunFolder
from keras_inception.training import trainer


def train_process(*words) -> None:
    subprocess.run(
        [sys.executable, "-m", "keras_inception", "train", *map(str, words)], check=True, stdout=subprocess.DEVNULL
    )


# In float64, so that the order of sums, which differs, is not blown up by training itself.
TRAIN_IN_FLOAT64 = """
import sys
import keras, numpy as np
from keras_inception.config import RunConfig
from keras_inception.data.pipeline import read_images, training_batches
from keras_inception.data.sources import load_dataset
from keras_inception.googlenet import GoogLeNet
from keras_inception.training.devices import strategy
from keras_inception.training.trainer import compile_model

devices, source, weights = sys.argv[1:]
config = RunConfig().override({
    "data.source": source, "data.image_size": 28, "training.learning_rate": 0.02, "training.warmup_epochs": 0,
    "model.architecture": "googlenet-small", "model.width": 0.0625, "model.dropout": 0, "model.auxiliary_dropout": 0,
})
with strategy(devices).scope():
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy("float64")
    model = GoogLeNet(architecture=config.model.table(), input_shape=(28, 28, 3), classes=2, auxiliary=True)
    compile_model(model, config.training, steps=7, classes=2)
images = read_images(load_dataset(config.data).splits["train"], config.data)
batches = training_batches(images, config.data, batch_size=8, seed=1, outputs=list(model.output))
model.fit(batches, steps_per_epoch=7, verbose=0)
np.savez(weights, **{weight.path.replace("/", "."): weight.numpy() for weight in model.weights})
"""


@pytest.mark.slow
def test_two_logical_cpus_give_what_one_device_gives(stripes, tmp_path):
    """Seven steps with batch normalisation, which is synchronised, weight decay, momentum and both heads."""
    for devices in ("cpu:1", "cpu:2"):
        words = [sys.executable, "-c", TRAIN_IN_FLOAT64, devices, str(stripes), str(tmp_path / devices[-1])]
        subprocess.run(words, check=True)
    one, two = (np.load(tmp_path / f"{count}.npz") for count in (1, 2))
    assert len(one.files) > 200
    for name in one.files:
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-9, err_msg=name)


@pytest.mark.slow
def test_a_last_validation_batch_smaller_than_the_replicas_is_counted_right(stripes, tiny, tmp_path):
    """23 validation images in batches of 22: the last holds one, so one of two devices gets none."""
    # So low a rate that what is compared is the validation and not the training.
    nearly_still = ("--learning-rate", "1e-9", "--set", "model.dropout=0", "--set", "model.auxiliary_dropout=0")
    images = tmp_path / "images"
    shutil.copytree(stripes, images)
    shutil.copy(images / "lying" / "00.png", images / "lying" / "more.png")
    words = ("--data", images, *tiny, *nearly_still, "--epochs", 1, "--batch-size", 22)
    shares = ("--set", "data.validation_fraction=0.282")  # 12 of 41 and 11 of 40
    train_process(*words, *shares, "--run-dir", tmp_path / "one", "--devices", "cpu:1")
    train_process(*words, *shares, "--run-dir", tmp_path / "two", "--devices", "cpu:2")
    one, two = (RunFolder(tmp_path / name).metrics()[0] for name in ("one", "two"))
    assert json.loads((tmp_path / "two" / "summary.json").read_text())["images"]["validation"] % 22 == 1
    assert two == pytest.approx(one, rel=1e-3)


def test_the_configuration_of_a_run_gives_the_same_run_again(run, tmp_path):
    again = tmp_path / "again"
    assert main(["train", "--config", str(run / "config.json"), "--run-dir", str(again)]) == 0
    assert RunFolder(again).config() == RunFolder(run).config()
    assert RunFolder(again).metrics()[0] == pytest.approx(RunFolder(run).metrics()[0], abs=1e-3)


def test_a_killed_run_goes_on_after_its_last_epoch(stripes, tiny, tmp_path):
    folder = tmp_path / "killed"
    words = ("train", "--data", str(stripes), "--run-dir", str(folder), *tiny, "--epochs", "40")
    process = subprocess.Popen([sys.executable, "-m", "keras_inception", *words], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(RunFolder(folder).metrics()) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)  # polls a process that runs on its own clock
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    seen = RunFolder(folder).metrics()
    assert 2 <= len(seen) < 40
    assert main([*words, "--resume", "--epochs", str(len(seen) + 1)]) == 0
    rows = RunFolder(folder).metrics()
    assert [row["epoch"] for row in rows] == list(range(1, len(seen) + 2))
    assert rows[: len(seen) - 1] == seen[:-1]
    saved = keras.saving.load_model(folder / "last.keras")
    assert int(saved.optimizer.iterations) == 7 * len(rows)
    # A finished run has nothing to go on with.
    assert main([*words, "--resume", "--epochs", str(len(rows))]) == 0
    assert RunFolder(folder).metrics() == rows


def test_resume_without_a_run_begins_and_with_another_configuration_is_refused(run, stripes, tiny, tmp_path, capsys):
    words = ["--data", str(stripes), "--run-dir", str(tmp_path / "new"), *tiny, "--epochs", "1", "--resume"]
    assert main(["train", *words]) == 0
    capsys.readouterr()
    assert main(["train", *words, "--learning-rate", "0.5"]) == 2
    said = capsys.readouterr().err
    assert "training.learning_rate = 0.02" in said
    assert "0.5" in said


@pytest.mark.parametrize("precision", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
def test_mixed_precision_trains_with_float32_outputs_and_variables(precision, stripes, tiny, tmp_path):
    words = ["train", "--data", str(stripes), "--run-dir", str(tmp_path / "r"), *tiny, "--precision", precision]
    assert main([*words, "--epochs", "2"]) == 0
    rows = RunFolder(tmp_path / "r").metrics()
    assert rows[-1]["loss"] < rows[0]["loss"]
    model = keras.saving.load_model(tmp_path / "r" / "last.keras", compile=False)
    assert model.get_layer("inception_4a_3x3").compute_dtype == precision.removeprefix("mixed_")
    assert {str(weight.dtype) for weight in model.trainable_weights} == {"float32"}
    assert {str(output.dtype) for output in model.output.values()} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_a_run_without_heads_logs_the_main_output_alone(stripes, tiny, tmp_path):
    words = ["train", "--data", str(stripes), "--run-dir", str(tmp_path / "r"), *tiny, "--set", "model.auxiliary=false"]
    assert main([*words, "--epochs", "1"]) == 0
    assert set(RunFolder(tmp_path / "r").metrics()[0]) == {
        "epoch",
        "loss",
        "main_loss",
        "main_top1",
        "val_loss",
        "val_main_loss",
        "val_main_top1",
    }


def test_images_that_cannot_be_decoded_are_left_out_and_named(stripes, tiny, tmp_path, capsys):
    images = tmp_path / "images"
    shutil.copytree(stripes, images)
    for name in ("a", "b", "c"):
        (images / "lying" / f"{name}.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    words = ["train", "--data", str(images), "--run-dir", str(tmp_path / "r"), *tiny, "--epochs", "1"]
    assert main(words) == 2
    assert "more than data.max_broken 1.0%" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
    assert main([*words, "--max-broken", "0.05"]) == 0
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert 1 <= len(summary["broken_images"]) <= 3
    assert all(".jpg cannot be decoded: " in line for line in summary["broken_images"])
    assert sum(summary["images"].values()) + len(summary["broken_images"]) <= 83


def test_losses_are_weighted_as_the_paper_says(run):
    for row in RunFolder(run).metrics():
        heads = row["aux1_loss"] + row["aux2_loss"]
        assert row["loss"] == pytest.approx(row["main_loss"] + 0.3 * heads, rel=1e-4)


def test_the_rate_warms_up_and_falls_to_zero_along_a_cosine():
    config = RunConfig().override({"training.epochs": 10, "training.learning_rate": 0.4}).training
    rate = trainer._optimizer(config, steps=5)._learning_rate
    values = np.array([float(rate(step)) for step in range(51)])
    assert values[0] == 0
    assert values[5] == pytest.approx(0.4, rel=1e-6)
    middle = 5 + 45 / 2
    assert np.interp(middle, range(51), values) == pytest.approx(0.2, rel=1e-2)
    assert values[50] == pytest.approx(0, abs=1e-7)
    assert np.all(np.diff(values[:6]) > 0)
    assert np.all(np.diff(values[5:]) < 0)


def test_weight_decay_leaves_biases_and_normalisation_alone():
    model = trainer.build(
        RunConfig().override({"model.architecture": "googlenet-small", "model.width": 0.05, "data.image_size": 28}), 2
    )
    trainer.compile_model(model, RunConfig().override({"training.learning_rate": 0.1}).training, 5, 2)
    model.optimizer.build(model.trainable_variables)
    decayed = {v.name for v in model.trainable_variables if model.optimizer._use_weight_decay(v)}
    assert decayed == {"kernel"}


def test_what_the_architecture_decides_is_filled_in():
    def fill(**values):
        config = trainer.resolved(RunConfig().override(values))
        return config.data.image_size, config.training.learning_rate

    assert fill() == (224, 0.1)
    assert fill(**{"model.architecture": "googlenet"}) == (224, 0.01)
    assert fill(**{"model.architecture": "googlenet-small"}) == (32, 0.1)
    assert fill(**{"data.image_size": 96, "training.learning_rate": 0.3}) == (96, 0.3)


def test_library_errors_are_of_one_family_and_nothing_is_written(tmp_path):
    config = RunConfig().override({"data.source": "digits", "model.architecture": "googlenet-small"})
    for wrong, error in (
        ({"data.image_size": 16}, ArchitectureError),
        ({"training.batch_size": 10_000}, ConfigError),
    ):
        with pytest.raises(error):
            trainer.train(config.override(wrong), tmp_path / "r")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError):
        trainer.train(config, tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "r").exists()
