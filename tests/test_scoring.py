"""Networks are scored in other processes: by inherited weights, and from scratch; and searches are really killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest

from keras_inception.architecture import Architecture
from keras_inception.cli import main
from keras_inception.config import RunConfig
from keras_inception.errors import ConfigError, DivergedError
from keras_inception.predictor import open_keras
from keras_inception.tuning import scoring
from keras_inception.tuning.config import SearchConfig
from keras_inception.tuning.folder import SearchFolder
from keras_inception.tuning.front import GIVEN
from keras_inception.tuning.scoring import FromScratch, Inherited
from keras_inception.tuning.search import tune

TABLE = str(Path(__file__).with_name("tiny.json"))
IMAGES = 12  # for validation


@pytest.fixture
def config(stripes):
    run = RunConfig().override(
        {
            "data.source": str(stripes),
            "data.random_crop": False,
            "data.image_size": 28,
            "model.architecture": TABLE,
            "training.batch_size": 8,
            "training.learning_rate": 0.05,
            "training.epochs": 2,
            "training.seed": 3,
        }
    )
    return SearchConfig(run=run, budget="multiply_adds=0.6x", oracle="random", trials=3, supernet_epochs=4)


@pytest.fixture
def folder(config, tmp_path):
    made = SearchFolder(tmp_path / "search")
    made.begin(config, resume=False, overwrite=False)
    return made


def defaults(config):
    return config.space().defaults()


class StoppedError(Exception):
    pass


def weights(scorer):
    return scorer.supernet.network.get_weights()


def test_a_network_scores_with_the_weights_of_the_shared_one(config, folder, tmp_path):
    said = []
    scorer = Inherited(config, folder, lambda **values: said.append(values))
    assert scorer.score(GIVEN, None)[1] == IMAGES
    assert [values["epoch"] for values in said if "epoch" in values] == [1, 2, 3, 4]
    right, images = scorer.score(0, defaults(config))
    assert images == IMAGES
    assert right > IMAGES // 2
    scorer.keep(0, defaults(config), tmp_path / "weights.keras")
    assert open_keras(tmp_path / "weights.keras").probabilities(np.zeros((1, 28, 28, 3), np.float32)).shape == (1, 2)
    # What is kept answers as what was scored.
    labels = scorer._images["validation"].labels
    answers = keras.models.load_model(tmp_path / "weights.keras").predict(
        np.concatenate(list(scorer._batches["validation"].as_numpy_iterator())), verbose=0
    )
    assert int((answers.argmax(axis=1) == labels).sum()) == right


@pytest.mark.slow
def test_the_shared_network_goes_on_from_its_last_epoch_with_the_same_bits(config, folder, tmp_path):
    other = SearchFolder(tmp_path / "other")
    other.begin(config, resume=False, overwrite=False)
    undisturbed = weights(Inherited(config, other, lambda **values: None))

    def stop(**values):
        if values.get("epoch") == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        Inherited(config, folder, stop)
    epochs = []
    again = weights(Inherited(config, folder, lambda **values: epochs.append(values.get("epoch"))))
    assert [epoch for epoch in epochs if epoch] == [3, 4]
    for one, two in zip(undisturbed, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert [epoch["epoch"] for epoch in folder.supernet_epochs()] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["_save", "write_json"])
def test_a_shared_network_killed_between_its_two_files_is_whole_in_the_end(config, folder, monkeypatch, lost):
    class Killed(BaseException):
        pass

    def die(*arguments):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(scoring, lost, die)
        with pytest.raises(Killed):
            Inherited(config, folder, lambda **values: None)
    Inherited(config, folder, lambda **values: None)
    assert folder.trained_epochs() == config.supernet_epochs
    assert [epoch["epoch"] for epoch in folder.supernet_epochs()] == list(range(1, config.supernet_epochs + 1))
    folder.await_chief(config)  # a worker waits no longer


@pytest.mark.slow
def test_from_scratch_every_trial_is_a_run_with_what_was_drawn(stripes, folder, config):
    config = SearchConfig(
        **vars(config) | {"from_scratch": True, "search": ("depth", "dropout", "head_weight", "learning_rate")}
    )
    drawn = defaults(config) | {"dropout": 0.2, "head_weight": 0.1, "rate_factor": 2.0}
    right, images = FromScratch(config, folder, lambda **values: None).score(7, drawn)
    assert images == IMAGES
    run = RunConfig.from_json((folder.run(7) / "config.json").read_text())
    assert run.training.loss_weights == (1.0, 0.1, 0.1)
    assert run.training.learning_rate == pytest.approx(0.1)
    assert run.model.table().dropout == 0.2
    assert run.model.table() == Architecture.from_json((folder.run(7) / "architecture.json").read_text())
    best = json.loads((folder.run(7) / "summary.json").read_text())["best"]["val_main_top1"]
    assert right == round(best * images)


WORDS = (
    *("--architecture", TABLE, "--image-size", "28", "--batch-size", "8", "--learning-rate", "0.05", "--seed", "3"),
    *("--set", "data.random_crop=false"),
)


@pytest.mark.slow
def test_hyperband_trains_good_trials_longer(stripes, tmp_path):
    folder = tmp_path / "search"
    words = ["--oracle", "hyperband", "--from-scratch", "--epochs", "3", "--trials", "5", *WORDS]
    assert main(["tune", "--data", str(stripes), "--search-dir", str(folder), *words]) == 0
    trials = SearchFolder(folder).trials()
    epochs = [int(trial.values["tuner/epochs"]) for trial in trials]
    assert min(epochs) < max(epochs)
    longer = next(trial for trial in trials if "tuner/trial_id" in trial.values)
    run = RunConfig.from_json((SearchFolder(folder).run(longer.number) / "config.json").read_text())
    assert run.model.start_from == str(SearchFolder(folder).run(int(longer.values["tuner/trial_id"])))


@pytest.mark.slow
def test_a_search_that_is_killed_at_any_moment_goes_on(stripes, tmp_path):
    """SIGKILL to the search, at moments drawn at random; its scoring process ends by itself."""
    folder, dice = tmp_path / "search", random.Random(2)
    words = [sys.executable, "-m", "keras_inception", "tune", "--data", str(stripes), "--search-dir", str(folder)]
    words += ["--budget", "multiply_adds=0.6x", "--trials", "8", "--supernet-epochs", "2", "--resume", *WORDS]
    scored: dict[int, float] = {}
    for _ in range(4):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        children = []
        for _ in range(int(dice.uniform(80, 300))):
            children = psutil.Process(process.pid).children() if process.poll() is None else children
            time.sleep(0.1)  # the moment
        process.send_signal(signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive
        before, scored = scored, {t.number: t.seconds for t in SearchFolder(folder).trials() if t.state == "scored"}
        assert before.items() <= scored.items()  # nothing that was scored is scored again
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    trials = SearchFolder(folder).trials()
    assert [(trial.number, trial.state) for trial in trials] == [(number, "scored") for number in range(8)]
    assert scored.items() <= {trial.number: trial.seconds for trial in trials}.items()
    assert (folder / "best" / "weights.keras").exists()


LAUNCH = str(Path(__file__).parent.parent / "tools" / "launch")


@pytest.mark.slow
def test_a_chief_and_two_workers_share_the_trials_and_survive_a_killed_worker(stripes, tmp_path):
    """keras-tuner's chief would wait for ever for the worker that was killed; the launcher starts all again."""
    folder = SearchFolder(tmp_path / "search")
    words = ["--data", str(stripes), "--search-dir", str(folder.path), "--resume", *WORDS]
    words += ["--budget", "multiply_adds=0.6x", "--trials", "8", "--supernet-epochs", "2", "--oracle", "evolution"]
    launch = [sys.executable, LAUNCH, "--chief", "--workers", "2", "--restarts", "2", "--grace", "5"]
    process = subprocess.Popen(
        [*launch, sys.executable, "-m", "keras_inception", "tune", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while sum(trial.state == "scored" for trial in folder.trials()) < 2 and process.poll() is None:
        time.sleep(0.1)  # polls processes that run on their own clock
    worker = next(
        child
        for child in psutil.Process(process.pid).children()
        if child.environ().get("KERASTUNER_TUNER_ID") == "worker1"
    )
    before = {trial.number: trial.seconds for trial in folder.trials() if trial.state == "scored"}
    worker.kill()
    out, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    assert "worker 1 was ended by SIGKILL" in error
    assert "restart 1 of 2" in error
    trials = folder.trials()
    assert [(trial.number, trial.state) for trial in trials] == [(number, "scored") for number in range(8)]
    assert before.items() <= {trial.number: trial.seconds for trial in trials}.items()
    counts = [int(line.split()[-2]) for line in out.splitlines() if line.startswith("[worker")]
    assert len(counts) == 2
    assert sum(counts) <= 8 - len(before)
    assert min(counts) > 0
    assert "best is trial" in out
    assert (folder.best / "weights.keras").exists()


@pytest.mark.slow
def test_a_trial_whose_process_is_killed_is_recorded_and_the_search_goes_on(config, tmp_path):
    def on_event(kind, values):
        if kind == "begun" and values["trial"].number == 1:
            for child in psutil.Process(os.getpid()).children():
                if "keras_inception.tuning.scoring" in child.cmdline():
                    child.kill()

    trials = tune(config, tmp_path / "search", on_event=on_event)["trials"]
    assert [trial.state for trial in trials] == ["scored", "failed", "scored"]
    assert "its process was killed" in trials[1].message


def test_a_shared_network_that_diverges_says_so_and_is_not_kept(config, folder):
    hot = SearchConfig(**vars(config) | {"run": config.run.override({"training.learning_rate": 1e30})})
    with pytest.raises(DivergedError, match=r"is no number in epoch 1; begin again with a lower --learning-rate"):
        Inherited(hot, folder, lambda **values: None)
    assert not folder.supernet.exists()


def test_fewer_images_than_a_batch_train_no_shared_network(config, folder):
    large = SearchConfig(**vars(config) | {"run": config.run.override({"training.batch_size": 100})})
    with pytest.raises(ConfigError, match=r"training\.batch_size is 100, larger than the 56 training images; lower it"):
        Inherited(large, folder, lambda **values: None)
    assert not folder.supernet.exists()
