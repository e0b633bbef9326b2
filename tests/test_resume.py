"""Runs that are killed, stopped or damaged, and go on as if nothing had happened."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import last_state, newest_place, wait_for_state

from keras_inception.cli import main
from keras_inception.run_folder import RunFolder
from keras_inception.training.keeper import Keeper


def started(folder: Path, *words) -> subprocess.Popen:
    """Train in a process of its own, which cannot come too late for logical devices or determinism."""
    command = [sys.executable, "-m", "keras_inception", "train", "--run-dir", folder, *words]
    return subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


#: Everything that keeps a state of its own, at once.
EVERYTHING = (
    *("--deterministic", "--save-every", "1", "--set", "data.brightness=0.2"),
    *("--set", "data.mixup=0.4", "--set", "data.cutmix=1", "--set", "data.random_erasing=0.3"),
    *("--set", "data.randaugment=2", "--set", "training.auxiliary_schedule=linear"),
)


def check_same(folder: Path, undisturbed: Path) -> None:
    for name in ("metrics.csv", "gradients.csv"):
        assert (folder / name).read_text() == (undisturbed / name).read_text(), name
    first, second = last_state(folder), last_state(undisturbed)
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "kills", "epochs"), [("cpu:1", 12, 3), ("cpu:2", 3, 3)])
def test_a_killed_run_ends_with_the_bits_of_an_undisturbed_one(devices, kills, epochs, stripes, tiny, tmp_path):
    words = ("--data", stripes, *tiny, "--epochs", epochs, *EVERYTHING, "--devices", devices, "--resume")
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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("moment", "place"),
    [pytest.param("on_test_batch_end", (0, 7), marks=pytest.mark.slow), ("on_epoch_end", (1, 0))],
)
def test_a_run_that_is_asked_to_stop_while_and_after_it_is_measured_goes_on_there(
    moment, place, run, tmp_path, capsys, monkeypatch
):
    """And the configuration of a run gives the same run again."""

    def asked(keeper, number, logs=None):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        unasked(keeper, number, logs)

    unasked = getattr(Keeper, moment)
    monkeypatch.setattr(Keeper, moment, asked)
    folder = tmp_path / "r"
    words = ["train", "--config", str(run / "config.json"), "--run-dir", str(folder), "--resume"]
    assert main(words) == 143
    assert f"saved after {place[0]} epochs and {place[1]} steps" in capsys.readouterr().err
    assert newest_place(folder / "checkpoints") == place
    monkeypatch.undo()
    assert main(words) == 0
    check_same(folder, run)
    assert RunFolder(folder).config() == RunFolder(run).config()


def test_a_finished_run_says_so_and_more_epochs_go_on(run, tiny, stripes, tmp_path, caplog):
    folder = tmp_path / "r"
    shutil.copytree(run, folder)
    words = ["train", "--data", str(stripes), "--run-dir", str(folder), *tiny, "--resume"]
    assert main(words) == 0
    assert "has finished all its 4 epochs" in caplog.text
    assert main([*words, "--epochs", "5"]) == 0
    rows = RunFolder(folder).metrics()
    assert rows[:4] == RunFolder(run).metrics()
    assert [row["epoch"] for row in rows] == list(range(1, 6))
    assert main([*words, "--epochs", "3"]) == 2


def test_a_broken_newest_state_gives_way_to_the_one_before(run, tiny, stripes, tmp_path, caplog):
    folder = tmp_path / "r"
    shutil.copytree(run, folder)
    newest = max((folder / "checkpoints").glob("*.npz"))
    content = newest.read_bytes()
    newest.write_bytes(content[: len(content) // 2])
    assert main(["train", "--data", str(stripes), "--run-dir", str(folder), *tiny, "--resume", "--epochs", "5"]) == 0
    assert "cannot be read" in caplog.text
    assert [row["epoch"] for row in RunFolder(folder).metrics()] == list(range(1, 6))


@pytest.mark.parametrize("lost", ["all states are damaged", "the states are deleted"])
def test_a_run_without_a_state_to_go_on_from_is_left_as_it_is(lost, run, tiny, stripes, tmp_path, capsys):
    folder = tmp_path / "r"
    shutil.copytree(run, folder)
    if lost == "the states are deleted":
        shutil.rmtree(folder / "checkpoints")
    for state in (folder / "checkpoints").glob("*.npz"):
        state.write_bytes(state.read_bytes()[:1000])
    (folder / "note.txt").write_text("mine")
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"}
    words = ["train", "--data", str(stripes), "--run-dir", str(folder), *tiny, "--resume"]
    assert main([*words, "--epochs", "5"]) == 2
    assert str(folder / "checkpoints") in capsys.readouterr().err.splitlines()[-1]
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
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


def test_resume_with_another_configuration_is_refused(run, stripes, tiny, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "r")
    words = ["--data", str(stripes), "--run-dir", str(folder), *tiny, "--resume"]
    assert main(["train", *words, "--learning-rate", "0.5"]) == 2
    said = capsys.readouterr().err
    assert "training.learning_rate = 0.02" in said
    assert "0.5" in said


@pytest.mark.slow
@pytest.mark.parametrize("written", [(), ("architecture.json",), ("architecture.json", "labels.txt", "data.json")])
def test_a_run_killed_before_its_first_state_begins_again(written, run, stripes, tiny, tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    for name in ("config.json", *written):
        shutil.copy(run / name, folder / name)
    assert main(["train", "--data", str(stripes), "--run-dir", str(folder), *tiny, "--resume", "--epochs", "4"]) == 0
    assert RunFolder(folder).architecture() == RunFolder(run).architecture()
    assert len(RunFolder(folder).metrics()) == 4


def test_resume_with_another_architecture_in_the_same_file_is_refused(run, stripes, tiny, tmp_path, capsys):
    folder = tmp_path / "r"
    shutil.copytree(run, folder)
    table = folder / "architecture.json"
    table.write_text(table.read_text().replace('"filters": 4', '"filters": 5', 1))
    assert main(["train", "--data", str(stripes), "--run-dir", str(folder), *tiny, "--resume"]) == 2
    assert "tiny.json has changed since the run" in capsys.readouterr().err
