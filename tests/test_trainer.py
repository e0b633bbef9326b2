"""Training: reproducible, equal on one and two devices, resumable, in every precision, on broken images too."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_inception.cli import main
from keras_inception.config import RunConfig
from keras_inception.data.dataset import ImageDataset
from keras_inception.errors import ArchitectureError, ConfigError, RunError
from keras_inception.run_folder import RunFolder
from keras_inception.training import trainer
from keras_inception.training.checkpoints import newest_place
from keras_inception.training.session import Training, resolved


def train_process(*words) -> None:
    subprocess.run(
        [sys.executable, "-m", "keras_inception", "train", *map(str, words)], check=True, stdout=subprocess.DEVNULL
    )


SAME_WEIGHTS = Path(__file__).with_name("same_weights.py")


def trained_weights(path: Path, word: str, environment: dict | None = None) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, SAME_WEIGHTS, word, path], env=os.environ | (environment or {}))


@pytest.mark.slow
def test_two_devices_and_two_workers_give_the_weights_of_one_device(tmp_path):
    """With synchronised batch normalisation, clipping, averages, and last batches smaller than the devices."""
    for word in ("cpu:1", "cpu:2"):
        assert trained_weights(tmp_path / f"{word[-1]}.npz", word).wait() == 0
    ports = free_ports(2)
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    together = [
        trained_weights(
            tmp_path / f"worker{index}.npz",
            "auto",
            {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})},
        )
        for index in range(2)
    ]
    assert [process.wait() for process in together] == [0, 0]
    assert not (tmp_path / "worker1.npz").exists()
    one = np.load(tmp_path / "1.npz")
    assert len(one.files) > 400
    for other in ("2.npz", "worker0.npz"):
        for name, values in np.load(tmp_path / other).items():
            np.testing.assert_allclose(values, one[name], rtol=0, atol=1e-11, err_msg=f"{other} {name}")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


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


def started(folder: Path, *words) -> subprocess.Popen:
    """Train in a process of its own, which cannot come too late for logical devices or determinism."""
    command = [sys.executable, "-m", "keras_inception", "train", "--run-dir", folder, *words]
    return subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for_state(folder: Path, process: subprocess.Popen, after: tuple[int, int] = (0, 0)) -> None:
    """Return once a state later than `after` is saved, or the process has ended."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if (newest_place(folder / "checkpoints") or (0, 0)) > after:
            return
        time.sleep(0.02)  # polls a process that runs on its own clock


#: Everything that keeps a state of its own, at once.
EVERYTHING = (
    *("--epochs", "3", "--deterministic", "--save-every", "1", "--set", "data.brightness=0.2"),
    *("--set", "data.mixup=0.4", "--set", "data.cutmix=1", "--set", "data.random_erasing=0.3"),
    *("--set", "data.randaugment=2", "--set", "training.auxiliary_schedule=linear"),
)


def last_state(folder: Path) -> dict[str, np.ndarray]:
    """The newest state but for its notes, which hold times."""
    with np.load(max((folder / "checkpoints").glob("*.npz"))) as file:
        return {name: file[name] for name in file.files if name != "notes"}


def check_same(folder: Path, undisturbed: Path) -> None:
    for name in ("metrics.csv", "gradients.csv"):
        assert (folder / name).read_text() == (undisturbed / name).read_text(), name
    first, second = last_state(folder), last_state(undisturbed)
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)


@pytest.mark.parametrize(
    ("devices", "kills"),
    [
        ("cpu:1", 1),
        pytest.param("cpu:1", 12, marks=pytest.mark.slow),
        pytest.param("cpu:2", 3, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_ends_with_the_bits_of_an_undisturbed_one(devices, kills, stripes, tiny, tmp_path):
    words = ("--data", stripes, *tiny, *EVERYTHING, "--devices", devices, "--resume")
    whole = started(tmp_path / "whole", *words)
    _, said = whole.communicate()
    assert whole.returncode == 0, said[-2000:]
    random = np.random.default_rng(0)
    killed = tmp_path / "killed"
    for _ in range(kills):
        process = started(killed, *words)
        wait_for_state(killed, process, newest_place(killed / "checkpoints") or (0, 0))
        time.sleep(random.uniform(0, 0.5))  # wherever it is then, in the middle of a save or not
        process.kill()
        process.communicate()
    ended = started(killed, *words)
    _, said = ended.communicate()
    assert ended.returncode == 0, said[-2000:]
    check_same(killed, tmp_path / "whole")


def test_a_run_that_is_asked_to_stop_saves_says_so_and_goes_on(stripes, tiny, tmp_path):
    words = ("--data", stripes, *tiny, "--epochs", "40", "--save-every", "1", "--resume")
    folder = tmp_path / "r"
    process = started(folder, *words)
    wait_for_state(folder, process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 143
    (line,) = [line for line in said.splitlines() if "SIGTERM" in line]
    epoch, step = newest_place(folder / "checkpoints")
    assert f"saved after {epoch} epochs and {step} steps" in line
    assert "--resume goes on" in line
    assert RunFolder(folder).state() == "stopped"
    rows = RunFolder(folder).metrics() if epoch else []
    more = ["train", "--run-dir", str(folder), *map(str, words), "--epochs", str(epoch + 1)]
    assert main(more) == 0
    assert RunFolder(folder).metrics()[: len(rows)] == rows
    assert [row["epoch"] for row in RunFolder(folder).metrics()] == list(range(1, epoch + 2))
    assert RunFolder(folder).state() == "finished"


def test_a_finished_run_says_so_and_more_epochs_go_on(run, tiny, stripes, tmp_path, caplog):
    folder = tmp_path / "r"
    shutil.copytree(run, folder)
    words = ["train", "--data", str(stripes), "--run-dir", str(folder), *tiny, "--resume"]
    assert main(words) == 0
    assert "has finished all its 8 epochs" in caplog.text
    assert main([*words, "--epochs", "9"]) == 0
    rows = RunFolder(folder).metrics()
    assert rows[:8] == RunFolder(run).metrics()
    assert [row["epoch"] for row in rows] == list(range(1, 10))
    assert main([*words, "--epochs", "7"]) == 2


def test_a_broken_newest_state_gives_way_to_the_one_before(run, tiny, stripes, tmp_path, caplog):
    folder = tmp_path / "r"
    shutil.copytree(run, folder)
    newest = max((folder / "checkpoints").glob("*.npz"))
    content = newest.read_bytes()
    newest.write_bytes(content[: len(content) // 2])
    assert main(["train", "--data", str(stripes), "--run-dir", str(folder), *tiny, "--resume", "--epochs", "9"]) == 0
    assert "cannot be read" in caplog.text
    assert [row["epoch"] for row in RunFolder(folder).metrics()] == list(range(1, 10))


def test_a_full_disk_leaves_the_state_before(stripes, tiny, tmp_path, capsys, monkeypatch):
    saved = np.savez

    def full(file, **arrays):
        if RunFolder(tmp_path / "r").metrics()[1:]:
            Path(file).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        saved(file, **arrays)

    monkeypatch.setattr(np, "savez", full)
    words = ["train", "--data", str(stripes), "--run-dir", str(tmp_path / "r"), *tiny, "--resume", "--epochs", "3"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "--resume" in said
    assert newest_place(tmp_path / "r" / "checkpoints") == (1, 0)
    monkeypatch.undo()
    assert main(words) == 0
    assert len(RunFolder(tmp_path / "r").metrics()) == 3


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
    ("fits", "said"),
    [(2, "2 fit: give --batch-size 2, or keep 8 with --set training.accumulation=4"), (0, "for any smaller batch")],
)
def test_too_little_memory_says_which_batch_would_fit(fits, said, stripes, tiny, tmp_path, capsys, monkeypatch):
    def too_large(batch_size):
        if batch_size > fits:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    monkeypatch.setattr(Training, "fit_epoch", lambda job, *given: too_large(8))
    monkeypatch.setattr(Training, "take_step", lambda job, batch_size: too_large(batch_size))
    assert main(["train", "--data", str(stripes), "--run-dir", str(tmp_path / "r"), *tiny]) == 1
    assert said in capsys.readouterr().err


def test_a_second_process_does_not_train_in_the_same_folder(stripes, tiny, tmp_path, capsys):
    folder = RunFolder(tmp_path / "r")
    with folder.claimed():
        assert main(["train", "--data", str(stripes), "--run-dir", str(folder.path), *tiny]) == 2
    assert "is being trained by process" in capsys.readouterr().err


def test_a_dry_run_measures_and_writes_nothing(stripes, tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--data", str(stripes), *tiny, "--dry-run"]) == 0
    said = capsys.readouterr().out
    for words in ("7 steps per epoch, 8 epochs", "s per step", "GiB", "nothing was written"):
        assert words in said
    assert not list(tmp_path.iterdir())


def test_fine_tuning_begins_with_the_weights_and_holds_the_rows_asked_for(run, tmp_path, capsys):
    """On other classes: the classifiers are new, all below them is that of the run."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (30, 30, 3), dtype=np.uint8) for _ in range(60)]
    dataset = ImageDataset.from_arrays(images, ["a", "b", "c"] * 20)
    config = RunConfig.of_recipe("finetune").override(
        {
            "model.architecture": "googlenet-small",
            "model.width": 0.0625,
            "data.image_size": 28,
            "model.start_from": str(run),
            "training.freeze_until": "3b",
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
        trainer.train(config.override({"model.width": 0.125}), tmp_path / "no", dataset=dataset)
    assert not (tmp_path / "no").exists()


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
        "learning_rate",
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


def test_what_the_architecture_decides_is_filled_in():
    def fill(**values):
        config = resolved(RunConfig().override(values))
        return config.data.image_size, config.training.learning_rate

    assert fill() == (224, 0.0125)
    assert fill(**{"model.architecture": "googlenet-small"}) == (32, 0.0125)
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
