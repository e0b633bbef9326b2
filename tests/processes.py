"""Trainings as processes of their own, which are waited for and killed."""

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for_state(run: Path, process: subprocess.Popen, after: tuple[int, int] = (0, 0)) -> None:
    """Return once a state later than `after` is saved, or the process has ended."""
    wait_until(lambda: (newest_place(run / "checkpoints") or (0, 0)) > after, process)


def wait_until(reached: Callable[[], bool], process: subprocess.Popen) -> None:
    """Return once a process has come so far, or has ended; after five minutes in any case."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None and not reached():
        time.sleep(0.02)  # polls a process that runs on its own clock


def newest_place(folder: Path) -> tuple[int, int] | None:
    """Return epoch and step of the newest state in a folder, by its name; None where there is none."""
    names = sorted(path.stem for path in folder.glob("*.npz"))
    if not names:
        return None
    epoch, step = names[-1].split("-")
    return int(epoch), int(step)


def last_state(run: Path) -> dict[str, np.ndarray]:
    """The newest state but for its notes, which hold times."""
    with np.load(max((run / "checkpoints").glob("*.npz"))) as file:
        return {name: file[name] for name in file.files if name != "notes"}
