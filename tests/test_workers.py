"""Several workers, as processes on this machine: who writes, what happens when one is killed, and how they go on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from processes import free_ports, last_state, newest_place, wait_for_state

from keras_inception.run_folder import RunFolder

pytestmark = pytest.mark.slow

LAUNCH = Path(__file__).parent.parent / "tools" / "launch"
TRAIN = (sys.executable, "-m", "keras_inception", "train")
# One state after every step, and three epochs of seven.
OFTEN = ("--epochs", "3", "--save-every", "1", "--resume")


def started(folder: Path, *words) -> list[subprocess.Popen]:
    """Two workers, each in a folder of its own, where its run would be."""
    workers = ",".join(f"127.0.0.1:{port}" for port in free_ports(2))
    together = []
    for index in range(2):
        own = folder / f"worker{index}"
        own.mkdir(parents=True, exist_ok=True)
        command = [*TRAIN, "--run-dir", "run", *words, "--workers", workers, "--task-index", index]
        together.append(
            subprocess.Popen(
                [*map(str, command)],
                cwd=own,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return together


def ended(processes: list[subprocess.Popen]) -> list[str]:
    said = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    return said


SAME_WEIGHTS = Path(__file__).with_name("same_weights.py")


def trained_weights(path: Path, word: str, environment: dict | None = None) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, SAME_WEIGHTS, word, path], env=os.environ | (environment or {}))


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


KERAS_ALONE = """
import keras, numpy as np, tensorflow as tf

with tf.distribute.MultiWorkerMirroredStrategy().scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
ones = tf.data.Dataset.from_tensor_slices((np.ones((8, 4), np.float32), np.ones((8, 2), np.float32)))
model.fit(ones.batch(4), verbose=0)
"""


def test_keras_alone_cannot_train_on_several_workers():
    """Once it can, training/replicas.py has a fault less to mend."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    together = [
        subprocess.Popen(
            [sys.executable, "-c", KERAS_ALONE],
            env=os.environ
            | {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})},
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for process in together:
        _, said = process.communicate(timeout=300)
        assert process.returncode != 0
        assert "PerReplica" in said


@pytest.fixture(scope="module")
def undisturbed(stripes, tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    ended(started(folder, "--data", stripes, *tiny, *OFTEN))
    return folder


def check_same(run: Path, other: Path) -> None:
    first, second = last_state(run), last_state(other)
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], rtol=0, atol=1e-5, err_msg=name)
    rows = RunFolder(run).metrics()
    assert len(rows) == 3
    for row, of_other in zip(rows, RunFolder(other).metrics(), strict=True):
        assert row == pytest.approx(of_other, abs=1e-4)


def test_the_chief_alone_writes(undisturbed):
    assert RunFolder(undisturbed / "worker0" / "run").state() == "finished"
    assert list((undisturbed / "worker1").iterdir()) == []


def test_where_the_chief_refuses_the_other_ends_too_in_one_line(stripes, tiny, tmp_path):
    (tmp_path / "worker0" / "run").mkdir(parents=True)
    (tmp_path / "worker0" / "run" / "mine.txt").write_text("not a run")
    chief, other = started(tmp_path, "--data", stripes, *tiny)
    _, refused = chief.communicate(timeout=300)
    _, said = other.communicate(timeout=300)
    assert (chief.returncode, other.returncode) == (2, 1)
    assert "give --resume" in refused.splitlines()[-1]
    assert "another worker has ended" in said.splitlines()[-1]
    assert "Traceback" not in said


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_worker_stops_the_other_and_the_same_command_goes_on(killed, undisturbed, stripes, tiny, tmp_path):
    words = ("--data", stripes, *tiny, *OFTEN)
    processes = started(tmp_path, *words)
    run = tmp_path / "worker0" / "run"
    wait_for_state(run, processes[0], after=(1, 1))
    processes[killed].kill()
    left = processes[1 - killed]
    _, said = left.communicate(timeout=120)
    processes[killed].communicate()
    assert left.returncode == 1, said
    assert "Traceback" not in said
    assert [line for line in said.splitlines() if "another worker is lost" in line and "--resume" in line]
    assert newest_place(run / "checkpoints") >= (1, 2)
    ended(started(tmp_path, *words))
    check_same(run, undisturbed / "worker0" / "run")


def test_a_signal_to_one_worker_stops_all_at_the_same_step(undisturbed, stripes, tiny, tmp_path):
    words = ("--data", stripes, *tiny, *OFTEN)
    processes = started(tmp_path, *words)
    run = tmp_path / "worker0" / "run"
    wait_for_state(run, processes[0], after=(1, 0))
    processes[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [143, 143], said
    epoch, step = newest_place(run / "checkpoints")
    assert all(f"saved after {epoch} epochs and {step} steps" in text for text in said)
    ended(started(tmp_path, *words))
    check_same(run, undisturbed / "worker0" / "run")


def test_launch_starts_all_again_when_one_is_killed(undisturbed, stripes, tiny, tmp_path):
    command = [*TRAIN, "--run-dir", tmp_path / "run", "--data", stripes, *tiny, *OFTEN]
    launcher = subprocess.Popen(
        [*map(str, [sys.executable, LAUNCH, "--workers", 2, "--restarts", 1, *command])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_state(tmp_path / "run", launcher, after=(1, 0))
    psutil.Process(launcher.pid).children()[1].kill()
    _, said = launcher.communicate(timeout=600)
    assert launcher.returncode == 0, said
    assert "tools/launch: restart 1 of 1" in said
    check_same(tmp_path / "run", undisturbed / "worker0" / "run")
