"""When the state of a training is saved, and how it leaves at once when it is asked to."""

import contextlib
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_inception.errors import ConfigError, StoppedError
from keras_inception.training.checkpoints import Checkpoints
from keras_inception.training.devices import is_chief, workers

_SECONDS = {"s": 1, "m": 60, "h": 3600}

# What a worker asks of all. The sum over all replicas tells one from the other.
_SAVE, _STOP = 1, 1_000_000


@dataclass(frozen=True)
class SaveEvery:
    """How often a state is saved within an epoch; at its end it always is.

    Args:
        steps: After so many steps, or None.
        seconds: After so many seconds, or None.
    """

    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> "SaveEvery":
        """Read "500" as steps, and "90s", "10m" or "1h" as time.

        Raises:
            ConfigError: It is of another form, or nothing.
        """
        if not (form := re.fullmatch(r"(\d+)([smh]?)", text)) or not int(form[1]):
            raise ConfigError(f"save-every is {text!r}; it takes steps, as in 500, or a time: 90s, 10m, 1h")
        count, unit = int(form[1]), form[2]
        return cls(seconds=count * _SECONDS[unit]) if unit else cls(steps=count)


class Keeper(keras.callbacks.Callback):
    """Save the state when it is due, at the end of every epoch, and when SIGTERM or SIGINT asks to leave.

    Comes last among the callbacks: what the others remember is saved with it. Several workers agree on the step at
    which all save or leave, through a number that travels with the gradients.

    Args:
        checkpoints: Where to.
        every: How often.
        steps: Steps per epoch.
        notes: Makes what is remembered beside the variables.
    """

    def __init__(self, checkpoints: Checkpoints, every: SaveEvery, steps: int, notes: Callable[[], dict[str, Any]]):
        super().__init__()
        self._checkpoints = checkpoints
        self._every = every
        self._steps = steps
        self._notes = notes
        self._signal: int | None = None
        self._saved_at = time.monotonic()
        self._first_step = 0
        self._running: list[np.ndarray] | None = None
        self.place: tuple[int, int] | None = None

    def begin_at(self, epoch: int, step: int, running: list[np.ndarray] | None) -> None:
        """Say where the next fit begins, and with which running metrics."""
        self._epoch, self._first_step, self._running = epoch, step, running

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Note SIGTERM and SIGINT, which end the training after the step it is in, in place of what they do else."""

        def note(number: int, frame: Any) -> None:
            self._signal = number

        if threading.current_thread() is not threading.main_thread():  # Python gives signals to no other
            yield
            return
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_epoch_begin(self, epoch, logs=None):
        if self._running is not None:
            self._checkpoints.give_running(self._running)
            self._running = None

    def on_train_batch_begin(self, batch, logs=None):
        if self._signal is not None:
            self.model.requests.make(_STOP)
        elif self._alone or is_chief(self.model.distribute_strategy):
            self.model.requests.make(_SAVE if self._time_is_up() else 0)

    def on_train_batch_end(self, batch, logs=None):
        step = min(self._first_step + batch + 1, self._steps)
        asked = self.model.requests.made()
        # At the end of an epoch the state is saved after the evaluation.
        if asked >= _STOP or (step < self._steps and (asked or self._steps_are_up(step))):
            self._save(self._epoch, step)
        if asked >= _STOP:
            raise self.stopped()

    def on_test_begin(self, logs=None):
        self._before_test = self._checkpoints.running()

    def on_test_batch_end(self, batch, logs=None):
        # Several workers cannot agree in the middle of an evaluation; they leave after the next step.
        if self._signal is not None and self._alone:
            raise StopInTest

    def on_epoch_end(self, epoch, logs=None):
        self._save(epoch + 1, 0)
        if self._signal is not None and self._alone:
            raise self.stopped()

    def leave_test(self) -> StoppedError:
        """Save what was before the evaluation that a signal ended; return what is to be raised."""
        self._save(self._epoch, self._steps, self._before_test)
        return self.stopped()

    def stopped(self) -> StoppedError:
        """Return what says where the training stopped and how it goes on."""
        number = self._signal or signal.SIGTERM
        epoch, step = self.place or (0, 0)
        return StoppedError(
            f"stopped by {signal.Signals(number).name}; saved after {epoch} epochs and {step} steps: the same command "
            f"with --resume goes on",
            number,
        )

    @property
    def _alone(self) -> bool:
        return workers(self.model.distribute_strategy)[1] == 1

    def _time_is_up(self) -> bool:
        return self._every.seconds is not None and time.monotonic() - self._saved_at >= self._every.seconds

    def _steps_are_up(self, step: int) -> bool:
        if self._every.steps is None:
            return False
        before = step - self.model.steps_per_execution
        return step // self._every.steps > before // self._every.steps

    def _save(self, epoch: int, step: int, running: list[np.ndarray] | None = None) -> None:
        self._checkpoints.save({"epoch": epoch, "step": step, **self._notes()}, running)
        self.place = epoch, step
        self._saved_at = time.monotonic()


class StopInTest(Exception):  # noqa: N818 - it is no error
    """An evaluation ends because a signal came."""
