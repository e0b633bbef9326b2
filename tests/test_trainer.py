"""Training: reproducible, in every precision, on broken images too, and what ends it."""

import errno
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_inception.cli import main
from keras_inception.config import RunConfig
from keras_inception.data.dataset import ImageDataset
from keras_inception.data.sources import load_dataset
from keras_inception.errors import ArchitectureError, ConfigError, RunError
from keras_inception.run_folder import RunFolder
from keras_inception.training import trainer
from keras_inception.training.devices import strategy
from keras_inception.training.session import Training, resolved


def train_process(*words) -> None:
    subprocess.run(
        [sys.executable, "-m", "keras_inception", "train", *map(str, words)], check=True, stdout=subprocess.DEVNULL
    )


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


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_the_last_state(stripes, tiny, tmp_path, capsys):
    words = ["train", "--data", str(stripes), "--run-dir", str(tmp_path / "r"), *tiny, "--learning-rate", "1e30"]
    assert main([*words, "--save-every", "1"]) == 1
    said = capsys.readouterr().err
    assert "the loss is " in said
    assert "learning rate" in said
    assert "lower --learning-rate" in said
    for path in (tmp_path / "r" / "checkpoints").glob("*.npz"):
        with np.load(path) as file:
            assert all(np.isfinite(file[name]).all() for name in file.files if name.startswith("shared"))


@pytest.mark.parametrize(
    ("size", "fits", "said"),
    [
        (8, 2, "2 fit: give --batch-size 2, or keep 8 with --set training.accumulation=4"),
        (50, 6, "6 fit: give --batch-size 6, or keep 50 with --set training.accumulation=10"),  # 9 do not divide 50
        (8, 0, "for any smaller batch"),
    ],
)
def test_too_little_memory_says_which_batch_would_fit(size, fits, said, stripes, tiny, tmp_path, capsys, monkeypatch):
    def too_large(batch_size):
        if batch_size > fits:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    monkeypatch.setattr(Training, "fit_epoch", lambda job, *given: too_large(size))
    monkeypatch.setattr(Training, "take_step", lambda job, batch_size: too_large(batch_size))
    words = ["train", "--data", str(stripes), "--run-dir", str(tmp_path / "r"), *tiny, "--batch-size", str(size)]
    assert main(words) == 1
    assert said in capsys.readouterr().err


def test_a_second_process_does_not_train_in_the_same_folder(stripes, tiny, tmp_path, capsys):
    folder = RunFolder(tmp_path / "r")
    with folder.claimed():
        assert main(["train", "--data", str(stripes), "--run-dir", str(folder.path), *tiny]) == 2
    assert "is being trained by process" in capsys.readouterr().err


def test_a_run_that_came_while_images_were_read_is_not_deleted(run, tmp_path):
    folder = tmp_path / "r"
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (30, 30, 3), dtype=np.uint8) for _ in range(20)]
    dataset = ImageDataset.from_arrays(images, ["a", "b"] * 10)
    config = RunFolder(run).config()

    def comes(done: int, total: int) -> None:
        if not folder.exists():
            shutil.copytree(run, folder)

    with pytest.raises(RunError, match="exists; give --resume"):
        trainer.train(config, folder, dataset=dataset, on_images=comes)
    assert RunFolder(folder).summary() == RunFolder(run).summary()
    assert (folder / "best.keras").read_bytes() == (run / "best.keras").read_bytes()


@pytest.mark.slow
def test_images_that_count_much_are_no_loss_that_has_exploded(run, tmp_path):
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (30, 30, 3), dtype=np.uint8) for _ in range(20)]
    config = RunFolder(run).config().override({"training.epochs": 1, "training.learning_rate": 1e-6})
    losses = []
    for name, weight in (("light", 1), ("heavy", 100)):
        dataset = ImageDataset.from_arrays(images, ["a", "b"] * 10, weights=[weight] * 20)
        losses.append(trainer.train(config, tmp_path / name, dataset=dataset)["last"]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.01)  # an epoch's figures are of images that count alike


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_end_is_said_in_one_line(stripes, tiny, tmp_path, capsys, monkeypatch):
    def full(*given, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trainer, "write_run_report", full)
    words = ["train", "--data", str(stripes), "--run-dir", str(tmp_path / "r"), *tiny, "--epochs", "1"]
    assert main(words) == 2
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.undo()
    assert main([*words, "--resume"]) == 0
    assert RunFolder(tmp_path / "r").state() == "finished"


def test_a_dry_run_times_single_steps(run):
    config = RunFolder(run).config().override({"training.steps_per_execution": 6})
    job = Training(config, load_dataset(config.data), strategy("cpu:1"), lambda done, total: None)
    assert len(job.measure(5)) == 5


def test_a_run_is_begun_from_when_its_table_is_gone(run, stripes, tmp_path):
    folder = shutil.copytree(run, tmp_path / "r")
    gone = {"model.architecture": str(tmp_path / "table.json"), "model.width": 0.5}
    (folder / "config.json").write_text(RunFolder(run).config().override(gone).to_json())
    words = ["train", "--data", str(stripes), "--image-size", "28", "--batch-size", "8", "--epochs", "1"]
    assert main([*words, "--recipe", "finetune", "--from", str(folder), "--dry-run"]) == 0


def test_a_configuration_that_is_no_text_ends_in_one_line(tmp_path, capsys):
    (tmp_path / "c.json").write_bytes(b"\xff\xfe\x00")
    assert main(["train", "--config", str(tmp_path / "c.json"), "--run-dir", str(tmp_path / "r")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "c.json' cannot be read" in line


def test_a_dry_run_measures_and_writes_nothing(stripes, tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--data", str(stripes), *tiny, "--dry-run"]) == 0
    said = capsys.readouterr().out
    for words in ("7 steps per epoch, 4 epochs", "s per step", "GiB", "nothing was written"):
        assert words in said
    assert not list(tmp_path.iterdir())


def test_fine_tuning_begins_with_the_weights_and_holds_the_rows_asked_for(run, tmp_path):
    """On other classes: the classifiers are new, all below them is that of the run."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (30, 30, 3), dtype=np.uint8) for _ in range(60)]
    dataset = ImageDataset.from_arrays(images, ["a", "b", "c"] * 20)
    config = RunConfig.of_recipe("finetune").override(
        {
            "model.architecture": RunFolder(run).config().model.architecture,
            "model.start_from": str(run),
            "training.freeze_until": "3a",
            "training.freeze_epochs": 1,
            "training.epochs": 1,
            "training.batch_size": 8,
            "training.learning_rate": 0.5,
            "training.average": 0,
        }
    )
    trainer.train(config, tmp_path / "held", dataset=dataset)
    before = keras.saving.load_model(run / "best.keras", compile=False)
    after = keras.saving.load_model(tmp_path / "held" / "best.keras", compile=False)
    assert after.output["main"].shape == (None, 3)
    for layer in before.layers:
        now = after.get_layer(layer.name).get_weights()
        held = layer.name.startswith(("conv", "inception_3"))
        if held:
            for old, new in zip(layer.get_weights(), now, strict=True):
                np.testing.assert_array_equal(new, old, err_msg=layer.name)
    moved = [layer for layer in before.layers if layer.name == "inception_4a_1x1"]
    assert not np.array_equal(moved[0].get_weights()[0], after.get_layer("inception_4a_1x1").get_weights()[0])
    with pytest.raises(ArchitectureError, match="unknown row"):
        trainer.train(config.override({"training.freeze_until": "9z"}), tmp_path / "no", dataset=dataset)
    with pytest.raises(ArchitectureError, match="give the architecture, width"):
        trainer.train(config.override({"model.width": 2.0}), tmp_path / "no", dataset=dataset)
    assert not (tmp_path / "no").exists()


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


@pytest.mark.slow
def test_a_run_without_heads_logs_the_main_output_alone(stripes, tiny, tmp_path):
    words = ["train", "--data", str(stripes), "--run-dir", str(tmp_path / "r"), *tiny, "--set", "model.auxiliary=false"]
    assert main([*words, "--epochs", "1"]) == 0
    assert set(RunFolder(tmp_path / "r").metrics()[0]) == {
        "epoch",
        "learning_rate",
        "loss",
        "main_loss",
        "main_top1",
        "val_loss",
        "val_main_loss",
        "val_main_top1",
    }


def test_a_table_without_heads_trains_as_it_is(stripes, tmp_path):
    words = ["--architecture", "nin", "--width", "0.05", "--image-size", "8", "--epochs", "1", "--batch-size", "8"]
    assert main(["train", "--data", str(stripes), "--run-dir", str(tmp_path / "r"), *words]) == 0
    (row,) = RunFolder(tmp_path / "r").metrics()
    assert "val_main_top1" in row
    assert not any("aux" in name for name in row)


@pytest.mark.slow
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


def test_what_the_architecture_decides_is_filled_in():
    def fill(**values):
        config = resolved(RunConfig().override(values))
        return config.data.image_size, config.training.learning_rate

    assert fill() == (224, pytest.approx(0.045))  # BN-x30's
    assert fill(**{"model.architecture": "googlenet"}) == (224, pytest.approx(0.01))  # BVLC's
    assert fill(**{"model.architecture": "googlenet-small"}) == (32, pytest.approx(0.045))
    assert fill(**{"training.optimizer": "adamw"}) == (224, pytest.approx(2.5e-4 / 8))
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
