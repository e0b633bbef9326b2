"""The run folder: it gives back what was written, is trained by one process alone, and never deletes what is no run."""

import json
import math
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from keras_inception.architecture import get_architecture
from keras_inception.config import RunConfig
from keras_inception.errors import ConfigError, RunError
from keras_inception.files import write_json
from keras_inception.run_folder import RunFolder

CONFIG = RunConfig().override({"name": "mine", "training.epochs": 2})
TABLE = get_architecture("googlenet-small").scaled(0.25)
CLASSES = ("a class", "größe", "猫")


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture
def run(folder):
    folder.start(CONFIG, TABLE, CLASSES)
    return folder


def refusal(function):
    with pytest.raises(RunError) as caught:
        function()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_gives_back_what_it_was_started_with(run):
    assert run.config() == CONFIG
    assert run.architecture() == TABLE
    assert run.labels() == CLASSES
    assert run.metrics() == []


def test_labels_are_one_per_line(run):
    assert run.labels_txt.read_text(encoding="utf-8").split("\n") == [*CLASSES, ""]


# What a folder may be called, except for line breaks.
FOLDER_NAMES = st.text(st.characters(exclude_characters="/\0\n\r", exclude_categories=["Cs"]), min_size=1, max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(st.lists(FOLDER_NAMES, min_size=1, max_size=4, unique=True))
@pytest.mark.usefixtures("run")
def test_labels_come_back_whatever_the_classes_are_called(folder, names):
    folder.start(CONFIG, TABLE, tuple(names))
    assert folder.labels() == tuple(names)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(), st.floats()), min_size=1, max_size=4))
def test_metrics_come_back_to_the_last_bit(folder, values):
    rows = [{"epoch": float(epoch), "loss": loss, "top1": top1} for epoch, (loss, top1) in enumerate(values)]
    folder.write_metrics(rows)
    back = folder.metrics()
    assert [list(row) for row in back] == [["epoch", "loss", "top1"]] * len(rows)
    for row, expected in zip(back, rows, strict=True):
        assert all(row[k] == expected[k] or (math.isnan(row[k]) and math.isnan(expected[k])) for k in expected)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("exists", [False, True])
def test_a_missing_or_empty_folder_is_free(folder, exists, resume, overwrite):
    if exists:
        folder.path.mkdir()
    if resume and overwrite:
        assert "--resume" in refusal(lambda: folder.check_new(resume=True, overwrite=True))
    else:
        folder.check_new(resume=resume, overwrite=overwrite)
    assert folder.path.exists() == exists


def test_a_folder_with_a_run_is_refused(run):
    message = refusal(lambda: run.check_new(resume=False, overwrite=False))
    assert repr(str(run.path)) in message
    assert "--resume" in message
    assert "--overwrite" in message


def test_a_run_can_be_resumed_or_overwritten_but_not_both(run):
    run.check_new(resume=True, overwrite=False)
    run.check_new(resume=False, overwrite=True)
    refusal(lambda: run.check_new(resume=True, overwrite=True))
    assert run.config() == CONFIG


@pytest.mark.parametrize("options", [{"resume": True}, {"overwrite": True}, {}])
def test_a_file_is_no_run_folder(tmp_path, options):
    path = tmp_path / "file"
    path.write_text("mine")
    options = {"resume": False, "overwrite": False} | options
    assert "is a file" in refusal(lambda: RunFolder(path).check_new(**options))
    assert path.read_text() == "mine"


@pytest.mark.parametrize("options", [{"resume": True}, {"overwrite": True}, {}])
@pytest.mark.parametrize("name", ["thesis.tex", ".hidden", "best.keras"])
def test_a_folder_with_something_else_is_refused_and_kept(folder, name, options):
    folder.path.mkdir()
    (folder.path / name).write_text("mine")
    options = {"resume": False, "overwrite": False} | options
    assert repr(str(folder.path)) in refusal(lambda: folder.check_new(**options))
    assert (folder.path / name).read_text() == "mine"


@pytest.mark.parametrize("options", [{"resume": True}, {"overwrite": True}])
def test_another_programs_config_json_makes_no_run(folder, options):
    # Downloaded language models, for one, are folders with a config.json.
    folder.path.mkdir()
    (folder.path / "config.json").write_text('{"model_type": "bert"}')
    (folder.path / "model.safetensors").write_text("weights")
    options = {"resume": False, "overwrite": False} | options
    refusal(lambda: folder.check_new(**options))


# Begins a run, and is killed by itself when it brings a file to the disk or renames one for the n-th time.
STARTER = """
import itertools, os, signal, sys
from pathlib import Path
from keras_inception.architecture import get_architecture
from keras_inception.config import RunConfig
from keras_inception.run_folder import RunFolder
calls = itertools.count(1)
def deadly(function):
    def called(*words):
        if next(calls) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*words)
    return called
os.fsync, os.replace = deadly(os.fsync), deadly(os.replace)
RunFolder(Path(sys.argv[1])).start(RunConfig(), get_architecture("googlenet"), ("a", "b"))
"""


@pytest.mark.parametrize("when", range(1, 7))
@pytest.mark.parametrize("options", [{"resume": True}, {"overwrite": True}])
def test_a_run_that_is_killed_while_it_begins_can_be_begun_again(when, options, folder):
    killed = subprocess.run([sys.executable, "-c", STARTER, str(folder.path), str(when)])
    assert killed.returncode == -signal.SIGKILL
    assert not folder.is_begun()
    folder.check_new(**{"resume": False, "overwrite": False} | options)
    folder.start(CONFIG, TABLE, CLASSES)
    assert folder.is_begun()
    assert sorted(file.name for file in folder.path.iterdir()) == ["architecture.json", "config.json", "labels.txt"]


def test_a_start_deletes_what_an_earlier_run_left(run):
    run.write_metrics([{"epoch": 1.0, "loss": 2.0}])
    run.tensorboard.mkdir()
    run.checkpoints.mkdir()
    run.start(CONFIG, TABLE, ("x", "y"))
    assert run.metrics() == []
    assert sorted(file.name for file in run.path.iterdir()) == ["architecture.json", "config.json", "labels.txt"]
    assert run.labels() == ("x", "y")


def test_a_run_folder_may_be_a_link_to_a_larger_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "run").symlink_to(disk)
    folder = RunFolder(tmp_path / "run")
    folder.check_new(resume=False, overwrite=False)
    folder.start(CONFIG, TABLE, CLASSES)
    assert folder.path.is_symlink()
    assert RunFolder(disk).config() == CONFIG
    folder.write_metrics([{"epoch": 1.0}])
    folder.start(CONFIG, TABLE, CLASSES)
    assert not RunFolder(disk).metrics()


def test_a_run_folder_may_be_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    inode = os.stat(".").st_ino
    RunFolder(tmp_path.__class__(".")).start(CONFIG, TABLE, CLASSES)
    assert (tmp_path / "here").stat().st_ino == inode
    assert RunFolder(tmp_path / "here").config() == CONFIG


@pytest.mark.parametrize("what", ["config", "architecture", "labels"])
def test_a_missing_folder_is_named_with_the_remedy(folder, what):
    message = refusal(getattr(folder, what))
    assert repr(str(folder.path)) in message
    assert "train --run-dir" in message


@pytest.mark.parametrize(
    ("what", "file"), [("config", "config.json"), ("architecture", "architecture.json"), ("labels", "labels.txt")]
)
def test_a_missing_file_is_named(run, what, file):
    (run.path / file).unlink()
    message = refusal(getattr(run, what))
    assert repr(str(run.path)) in message
    assert f"{file} is missing" in message


def test_a_file_in_place_of_the_folder_is_no_run(tmp_path):
    (tmp_path / "file").write_text("")
    assert "no run folder" in refusal(RunFolder(tmp_path / "file").config)


# ---------------------------------------------------------------------------------------------------------------------
# Who trains in it
# ---------------------------------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from keras_inception.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).claimed():
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(folder):
    """A process that trains in the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_folder_is_trained_by_one_process_alone_until_it_is_killed(run, holder):
    message = refusal(lambda: run.claimed().__enter__())
    assert f"process {holder.pid}" in message
    assert repr(str(run.path)) in message
    assert run.state() == "running"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert run.state() == "stopped"
    with run.claimed():
        assert run.lock.read_text() == str(os.getpid())


def test_a_claim_makes_the_folder_and_ends_with_an_error_too(folder):
    def train():
        with folder.claimed():
            assert folder.state() == "running"
            refusal(lambda: folder.claimed().__enter__())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert folder.state() == "empty"
    folder.check_new(resume=False, overwrite=False)  # only the lock is left


def test_a_start_keeps_the_claim(run):
    with run.claimed():
        inode = run.lock.stat().st_ino
        run.start(CONFIG, TABLE, CLASSES)
        assert run.lock.stat().st_ino == inode
        refusal(lambda: run.claimed().__enter__())


def test_processes_that_are_started_do_not_keep_the_claim(run):
    code = "print('up', flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with run.claimed():
        child = subprocess.Popen([sys.executable, "-c", code], text=True, close_fds=False, **pipes)
        assert child.stdout.readline() == "up\n"
    assert run.state() == "stopped"
    child.communicate("\n")


def test_a_look_does_not_stop_a_training(run):
    import fcntl

    run.lock.touch()
    with open(run.lock) as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        refusal(lambda: run.claimed().__enter__())
    with run.claimed():
        assert run.state() == "running"


def test_a_file_or_a_locked_disk_is_refused_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    assert "cannot be written" in refusal(lambda: RunFolder(tmp_path / "file").claimed().__enter__())
    assert (tmp_path / "file").read_text() == "mine"

    def read_only(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    assert "Read-only file system" in refusal(lambda: RunFolder(tmp_path / "run").claimed().__enter__())


def test_the_state_of_a_run_follows_its_files(folder):
    assert folder.state() == "empty"
    folder.start(CONFIG, TABLE, CLASSES)  # two epochs
    assert folder.state() == "stopped"
    write_json(folder.summary_json, {"last": {"epoch": 2.0}})
    assert folder.state() == "finished"
    longer = CONFIG.override({"training.epochs": 3})
    folder.config_json.write_text(longer.to_json())
    assert folder.state() == "stopped"
    folder.config_json.write_text("{}x")
    with pytest.raises(ConfigError):
        folder.state()
    with folder.claimed():
        assert folder.state() == "running"


def test_summary_environment_and_gradients_come_back(run):
    write_json(run.summary_json, {"parameters": 3})
    write_json(run.environment_json, {"python": "3.11"})
    assert run.summary() == json.loads(run.summary_json.read_text()) == {"parameters": 3}
    assert run.environment() == {"python": "3.11"}
    assert run.gradients() == []
    rows = [{"epoch": 1.0, "conv1": 0.125}, {"epoch": 2.0, "conv1": 1e-30}]
    run.write_gradients(rows)
    assert run.gradients() == rows
    assert run.gradients_csv.read_text() == "epoch,conv1\n1.0,0.125\n2.0,1e-30\n"
