"""The process that scores networks, as the search sees it."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras_inception.errors import TrainingError
from keras_inception.tuning.config import SearchConfig
from keras_inception.tuning.folder import SearchFolder
from keras_inception.tuning.front import GIVEN, Trial

#: What a search says while it runs: a kind, "images", "epoch", "begun", "ended" or "doing", and what belongs to it.
OnEvent = Callable[[str, dict[str, Any]], None]


class TrialFailedError(Exception):
    """A network could not be scored; the search goes on."""


class Scorer:
    """The process that scores networks; started when it is needed, and anew after it has died.

    Args:
        folder: Of the search.
        config: Whether every trial has a process of its own.
        on_event: Told what the process says before it has scored.
    """

    def __init__(self, folder: SearchFolder, config: SearchConfig, on_event: OnEvent):
        self._folder, self._config, self._on_event = folder, config, on_event
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *raised: object) -> None:
        self.end()

    def score(self, trial: Trial) -> dict[str, Any]:
        """Return how many images of how many a network answers right, and the seconds it took.

        Raises:
            TrialFailedError: It could not be scored.
        """
        return self._ask(_task(trial), "right")

    def keep(self, trial: Trial, path: Path) -> None:
        """Write the weights that a network was scored with as a .keras file."""
        self._ask(_task(trial) | {"keep": str(path)}, "kept")

    def prepare(self) -> None:
        """Train the shared network, or what is left of it, where there is one.

        Raises:
            TrainingError: It could not be trained.
        """
        if self._folder.is_trained(self._config):
            return
        try:
            self._ask({"prepare": True}, "prepared")
        except TrialFailedError as error:
            raise TrainingError(f"the shared network could not be trained: {error}") from None

    def end(self) -> None:
        """End the process, which gives its memory back."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()  # closes the pipes and waits
            self._process = None

    def _ask(self, task: Mapping[str, Any], answer: str) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has died; what it said of it is read below
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            said = json.loads(line)
            if answer in said:
                if self._config.from_scratch:
                    self.end()
                return said
            if "error" in said:
                self.end()
                raise TrialFailedError(said["error"])
            self._on_event("images" if "images" in said else "epoch", said)
        status = process.wait()
        self.end()
        raise TrialFailedError(_explained(status, self._folder.log))

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is None:
            words = [sys.executable, "-m", "keras_inception.tuning.scoring", str(self._folder.path)]
            with open(self._folder.log, "a") as log:
                self._process = subprocess.Popen(
                    words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
                )
        return self._process


def _task(trial: Trial) -> dict[str, Any]:
    return {"number": trial.number, "values": None if trial.number == GIVEN else dict(trial.values)}


def _explained(status: int, log: Path) -> str:
    if status == -9:
        return "its process was killed, as Linux does where memory is too small"
    if status < 0:
        return f"its process ended by signal {-status}"
    lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"its process ended with status {status}"
