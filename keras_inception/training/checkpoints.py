"""The state of a training, saved so that a run killed at any moment goes on as if nothing had happened.

A state is one file: every variable of the network (weights, running metrics, the seed generators of dropout, which a
.keras file does not keep), of its optimizer (loss scale and averages among them), and notes: the place in the data and
all that callbacks remember.
"""

import io
import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from keras_inception.errors import DivergedError, RunError
from keras_inception.files import written_beside
from keras_inception.training.devices import is_chief
from keras_inception.training.model import TrainingModel
from keras_inception.training.replicas import OfEveryReplica, from_chief

_LOG = logging.getLogger(__name__)

# A kill during a save leaves the one before; a file that a disk has damaged leaves it too.
_KEPT = 2


class Checkpoints:
    """The states of a run, in a folder; only the chief writes and reads it.

    Args:
        folder: Where they lie.
        model: Compiled, with its optimizer built.
    """

    def __init__(self, folder: Path, model: TrainingModel):
        self._folder = folder
        self._strategy = model.distribute_strategy
        self._chief = is_chief(self._strategy)
        averages = [] if model.average is None else model.average.variables
        self._shared = [*model.weights, *model.optimizer.variables, *averages]
        running = [variable for metric in model.metrics for variable in metric.variables]
        known = {id(variable) for variable in [*self._shared, *running]}
        seeds = [variable for variable in model.variables if id(variable) not in known]
        self._running = OfEveryReplica(self._strategy, running)
        self._seeds = OfEveryReplica(self._strategy, seeds)

    def running(self) -> list[np.ndarray]:
        """Return the running metrics, as every replica has them."""
        return self._running.values()

    def give_running(self, values: list[np.ndarray]) -> None:
        """Put running metrics back."""
        self._running.give(values)

    def save(self, notes: dict[str, Any], running: list[np.ndarray] | None = None) -> None:
        """Save the state with notes, which are plain values; on several workers all must call.

        Args:
            notes: With "epoch" and "step".
            running: The running metrics; by default those of now.

        Raises:
            DivergedError: A value is not finite; nothing is written.
            RunError: The disk is full or cannot be written.
        """
        running = self.running() if running is None else running
        seeds = self._seeds.values()
        if not self._chief:
            return
        arrays = _named("shared", [variable.numpy() for variable in self._shared])
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise DivergedError("weights that are no numbers are not saved")
        arrays |= _named("running", running) | _named("seed", seeds)
        arrays["notes"] = np.frombuffer(json.dumps(notes).encode(), np.uint8)
        path = self._folder / f"{notes['epoch']:05}-{notes['step']:08}.npz"
        try:
            with written_beside(path) as beside:
                np.savez(beside, allow_pickle=False, **arrays)
        except OSError as error:
            raise RunError(
                f"the state cannot be saved in {str(self._folder)!r}: {error.strerror}; the one before is intact: make "
                f"room and go on with --resume"
            ) from None
        for old in self._saved()[:-_KEPT]:
            old.unlink(missing_ok=True)

    def restore(self) -> tuple[dict[str, Any], list[np.ndarray]] | None:
        """Put the newest readable state back; on several workers all must call.

        Returns:
            Its notes and its running metrics, which `give_running` puts back once an epoch has begun; None where there
            is no state.

        Raises:
            RunError: It is of another network, or of another number of replicas, or none that is there can be read.
        """
        content = from_chief(self._strategy, self._newest() if self._chief else None, self._chief)
        if content is None:
            return None
        with np.load(io.BytesIO(content)) as file:
            notes = json.loads(file["notes"].tobytes())
            shared, running, seeds = (_numbered(file, name) for name in ("shared", "running", "seed"))
        replicas = self._strategy.num_replicas_in_sync
        if any(len(rows) != replicas for rows in running):
            raise RunError(f"the run has been trained on {len(running[0])} devices; give as many, not {replicas}")
        if [array.shape for array in shared] != [tuple(variable.shape) for variable in self._shared]:
            raise RunError(f"the state in {str(self._folder)!r} is of another network; --overwrite to begin again")
        for variable, value in zip(self._shared, shared, strict=True):
            variable.assign(value)
        self._seeds.give(seeds)
        return notes, running

    def _saved(self) -> list[Path]:
        return sorted(self._folder.glob("*.npz"))

    def _newest(self) -> bytes | None:
        for path in reversed(self._saved()):
            try:
                content = path.read_bytes()
                with np.load(io.BytesIO(content)) as file:
                    for name in file.files:
                        file[name]
                return content
            except (zipfile.BadZipFile, ValueError, EOFError, KeyError, OSError) as error:
                _LOG.warning("the state %s cannot be read: %s", path, error)
        if self._saved():
            raise RunError(
                f"no state in {str(self._folder)!r} can be read; bring one back, or --overwrite to begin again"
            )
        return None


def _named(kind: str, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{kind}_{number:04}": array for number, array in enumerate(arrays)}


def _numbered(file: Any, kind: str) -> list[np.ndarray]:
    return [file[name] for name in sorted(file.files) if name.startswith(f"{kind}_")]
