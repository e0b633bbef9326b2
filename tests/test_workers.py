"""Several workers, as processes on this machine: who writes, what happens when one is killed, and how they go on."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from keras_inception.run_folder import RunFolder
from keras_inception.training.checkpoints import newest_place

pytestmark = pytest.mark.slow

LAUNCH = Path(__file__).parent.parent / "tools" / "launch"
TRAIN = (sys.executable, "-m", "keras_inception", "train")
# One state after every step, and three epochs of seven.
OFTEN = ("--epochs", "3", "--save-every", "1", "--resume")


def addresses() -> str:
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    found = ",".join(f"127.0.0.1:{one.getsockname()[1]}" for one in sockets)
    for one in sockets:
        one.close()
    return found


def started(folder: Path, *words) -> list[subprocess.Popen]:
    """Two workers, each in a folder of its own, where its run would be."""
    workers = addresses()
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


def wait_for_place(checkpoints: Path, place: tuple[int, int], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if (newest_place(checkpoints) or (0, 0)) >= place:
            return
        time.sleep(0.02)  # polls a process that runs on its own clock
    raise AssertionError(f"no state {place}: {process.communicate()[1][-2000:]}")


def ended(processes: list[subprocess.Popen]) -> list[str]:
    said = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    return said


def last_state(run: Path) -> dict[str, np.ndarray]:
    with np.load(max((run / "checkpoints").glob("*.npz"))) as file:
        return {name: file[name] for name in file.files if name != "notes"}


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


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_worker_stops_the_other_and_the_same_command_goes_on(killed, undisturbed, stripes, tiny, tmp_path):
    words = ("--data", stripes, *tiny, *OFTEN)
    processes = started(tmp_path, *words)
    run = tmp_path / "worker0" / "run"
    wait_for_place(run / "checkpoints", (1, 2), processes[0])
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
    wait_for_place(run / "checkpoints", (1, 1), processes[0])
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
    wait_for_place(tmp_path / "run" / "checkpoints", (1, 1), launcher)
    psutil.Process(launcher.pid).children()[1].kill()
    _, said = launcher.communicate(timeout=600)
    assert launcher.returncode == 0, said
    assert "tools/launch: restart 1 of 1" in said
    check_same(tmp_path / "run", undisturbed / "worker0" / "run")
