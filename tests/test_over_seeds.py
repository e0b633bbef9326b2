"""Trainings over seeds, in place of each of which a run folder is written; real ones in test_analysis_ablation."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from processes import wait_until

from keras_inception.config import RunConfig
from keras_inception.errors import TrainingError
from keras_inception.evaluation import over_seeds
from keras_inception.evaluation.over_seeds import spread, top1, train_in_process, trained_over_seeds

CONFIGS = {name: RunConfig().override({"training.epochs": 2, "data.source": name}) for name in ("a", "b")}


@pytest.fixture
def done(monkeypatch):
    """What was trained and measured, in order."""
    log = []

    def train(run):
        log.append(f"train {run.name}")
        run.mkdir(parents=True)
        (run / "config.json").write_text(Path(f"{run}.config.json").read_text())
        seed = RunConfig.from_json((run / "config.json").read_text()).training.seed
        (run / "summary.json").write_text(json.dumps({"best": {"val_main_top1": seed / 10}, "last": {"epoch": 2}}))

    def evaluate(run, split):
        log.append(f"{split} {run.name}")
        (run / ("evaluation" if split == "test" else f"evaluation_{split}")).mkdir()
        target = over_seeds.evaluation_folder(run, split) / "evaluation.json"
        target.write_text(json.dumps({"top1": {"test": 0.25, "train": 0.75}[split]}))

    monkeypatch.setattr(over_seeds, "train_in_process", train)
    monkeypatch.setattr(over_seeds, "evaluate", evaluate)
    return log


def test_all_are_trained_with_the_first_seed_first_and_measured_where_asked(done, tmp_path):
    found = list(trained_over_seeds(CONFIGS, tmp_path, seeds=(4, 7), splits=("train", "test")))
    assert [(name, seed) for name, seed, _ in found] == [("a", 4), ("b", 4), ("a", 7), ("b", 7)]
    assert done[:4] == ["train a-seed4", "train a-seed4", "test a-seed4", "train b-seed4"]
    run = found[-1][2]
    config = RunConfig.from_json((run / "config.json").read_text())
    assert (config.data.source, config.training.seed, config.name) == ("b", 7, "b, seed 7")
    assert [top1(run, split) for split in ("train", "validation", "test")] == [0.75, 0.7, 0.25]


def test_what_is_done_is_not_repeated_and_what_is_missing_is_done(done, tmp_path):
    first = list(trained_over_seeds(CONFIGS, tmp_path, seeds=(1,)))
    done.clear()
    (tmp_path / "b-seed1" / "evaluation" / "evaluation.json").unlink()
    (tmp_path / "b-seed1" / "evaluation").rmdir()
    assert list(trained_over_seeds(CONFIGS, tmp_path, seeds=(1,))) == first
    assert done == ["test b-seed1"]


def test_after_the_deadline_no_training_begins_and_what_is_done_is_yielded(done, tmp_path):
    list(trained_over_seeds({"b": CONFIGS["b"]}, tmp_path, seeds=(2,)))
    done.clear()
    found = trained_over_seeds(CONFIGS, tmp_path, seeds=(1, 2), deadline=time.monotonic() - 1)
    assert [(name, seed) for name, seed, _ in found] == [("b", 2)]
    assert done == []


def test_a_training_that_fails_names_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(TrainingError, match=r"ended with status 1; '.*a-seed1\.log' says why"):
        train_in_process(tmp_path / "a-seed1")


def test_names_with_a_point_have_files_of_their_own(done, tmp_path, monkeypatch):
    configs = {f"uniform{size}": CONFIGS["a"] for size in (0.8, 0.9)}
    runs = [run for _, _, run in trained_over_seeds(configs, tmp_path, seeds=(1, 2))]
    assert {path.name for path in tmp_path.glob("*.json")} == {f"{run.name}.config.json" for run in runs}
    monkeypatch.undo()
    monkeypatch.setattr(sys, "executable", "/bin/true")
    for run in runs:
        train_in_process(run)
    assert {path.name for path in tmp_path.glob("*.log")} == {f"{run.name}.log" for run in runs}


PARENT = """
import sys, types
from pathlib import Path
sys.modules["keras_inception.evaluation.evaluate"] = types.SimpleNamespace(evaluate=None, evaluation_folder=None)
from keras_inception.evaluation.over_seeds import train_in_process
sys.executable = sys.argv[1]
train_in_process(Path(sys.argv[2]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends a process with its parent")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_ends_with_the_process_that_started_it(tmp_path, number):
    training = tmp_path / "training"
    training.write_text('#!/bin/sh\necho $$ > "${0%training}begun" && mv "${0%training}begun" "${0%training}process"\n')
    with open(training, "a") as script:
        script.write("exec sleep 600\n")
    training.chmod(0o755)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(training), str(tmp_path / "run")])
    wait_until((tmp_path / "process").exists, parent)
    child = psutil.Process(int((tmp_path / "process").read_text()))
    parent.send_signal(number)
    assert parent.wait() == -number
    gone, _ = psutil.wait_procs([child], timeout=10)
    assert gone == [child]


def test_a_spread_of_one_is_its_mean_and_differences_have_a_sign():
    assert spread([0.5]) == "50.0"
    assert spread([0.01, 0.03], "+") == "+2.0 ± 1.4"
