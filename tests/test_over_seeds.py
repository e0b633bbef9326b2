"""Trainings over seeds, in place of each of which a run folder is written; real ones in test_analysis_ablation."""

import json
import sys
import time

import pytest

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
        (run / "config.json").write_text(run.with_suffix(".config.json").read_text())
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


def test_a_spread_of_one_is_its_mean_and_differences_have_a_sign():
    assert spread([0.5]) == "50.0"
    assert spread([0.01, 0.03], "+") == "+2.0 ± 1.4"
