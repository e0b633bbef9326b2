"""What TensorBoard shows of a run: one history, also of a run that was killed and goes on."""

import os
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_inception.training.model import GRADIENT_NORM, STEP_LOSS

_VALIDATION = "val_"
_CLOCK_SECONDS = 10  # by which the clocks of two machines may differ
_COLUMNS = 8  # of a grid of images
_GAP = 2  # px between them


class TensorBoardLog(keras.callbacks.Callback):
    """Log losses, metrics and the state of the optimizer over steps; a step is one that the optimizer has taken.

    While an epoch lasts, under `step/`: the step's loss, the learning rate of the next one, images per second and, in
    float16, the loss scale and how many steps were skipped. When it ends: `train/`, `validation/` and `gradient_norm/`.

    Args:
        folder: Where event files lie; it is made.
        every: Steps between two points.
        batch_size: Images per step.
        place: What `place` returned when the state was saved from which the training goes on; what was logged later
            goes. None begins anew: all that was logged before goes.
    """

    def __init__(self, folder: Path, *, every: int, batch_size: int, place: dict[str, int] | None):
        super().__init__()
        self._folder = folder
        self._every = every
        self._batch_size = batch_size
        folder.mkdir(parents=True, exist_ok=True)
        _cut_back(folder, place or {})
        _wait_for_a_later_name(folder)
        self._writer = tf.summary.create_file_writer(str(folder))

    def place(self) -> dict[str, int]:
        """Bring everything to the disk; return the length of every event file, in bytes."""
        self._writer.flush()
        lengths = {}
        for path in _event_files(self._folder):
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
            lengths[path.name] = path.stat().st_size
        return lengths

    def write_images(self, name: str, images: np.ndarray, step: int) -> None:
        """Log images as one, side by side.

        Args:
            name: What they are.
            images: uint8 `(images, height, width, channels)`; at least one.
            step: When they were seen.
        """
        with self._writer.as_default(step):
            tf.summary.image(name, grid(images)[None])

    def close(self) -> None:
        """Bring everything to the disk; nothing can be logged any more."""
        self._writer.close()

    def on_train_begin(self, logs=None):
        self._logged = self._step()

    def on_epoch_begin(self, epoch, logs=None):
        self._restart_clock(self._step())

    def on_train_batch_end(self, batch, logs=None):
        step = self._step()
        # Not a remainder: several steps may pass between two calls. A resumed run logs where an undisturbed one does.
        if step // self._every == self._logged // self._every:
            return
        self._logged = step
        optimizer = self.model.optimizer
        values = {
            "loss": logs[STEP_LOSS],
            "learning_rate": keras.ops.convert_to_numpy(optimizer.learning_rate),
            "images_per_second": (step - self._begun_at) * self._batch_size / (time.monotonic() - self._begun),
        }
        if hasattr(optimizer, "dynamic_scale"):
            values["loss_scale"] = optimizer.dynamic_scale.value.numpy()
        if hasattr(optimizer, "skipped"):
            values["skipped_steps"] = optimizer.skipped.value.numpy()
        self._write({f"step/{name}": value for name, value in values.items()}, step)
        self._restart_clock(step)

    def on_epoch_end(self, epoch, logs=None):
        self._write({tag: value for name, value in logs.items() if (tag := _tag(name))}, self._step())

    def on_train_end(self, logs=None):
        self._writer.flush()

    def _step(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def _restart_clock(self, step: int) -> None:
        self._begun, self._begun_at = time.monotonic(), step

    def _write(self, values: dict[str, float], step: int) -> None:
        with self._writer.as_default(step):
            for tag, value in values.items():
                tf.summary.scalar(tag, float(value))


def grid(images: np.ndarray) -> np.ndarray:
    """Return images side by side, in rows of at most 8, on white.

    Args:
        images: uint8 `(images, height, width, channels)`.

    Returns:
        uint8 `(height, width, channels)`.
    """
    columns = min(_COLUMNS, len(images))
    empty = -len(images) % columns
    padded = np.pad(images, ((0, empty), (0, _GAP), (0, _GAP), (0, 0)), constant_values=255)
    _, height, width, channels = padded.shape
    rows = padded.reshape(-1, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return rows.reshape(-1, columns * width, channels)[:-_GAP, :-_GAP]


def _tag(name: str) -> str | None:
    """Return what a name in the logs of an epoch is in TensorBoard; None is left out."""
    group, name = ("validation", name.removeprefix(_VALIDATION)) if name.startswith(_VALIDATION) else ("train", name)
    if name == STEP_LOSS:
        return None
    if not name.startswith(GRADIENT_NORM):
        return f"{group}/{name}"
    return f"gradient_norm/{name.removeprefix(GRADIENT_NORM)}" if group == "train" else None


def _event_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("events.out.tfevents.*"))


def _cut_back(folder: Path, place: dict[str, int]) -> None:
    """Cut event files to the lengths of `place`, and delete those that are not in it."""
    for path in _event_files(folder):
        if path.name not in place:
            path.unlink()
        elif path.stat().st_size > place[path.name]:
            os.truncate(path, place[path.name])


def _wait_for_a_later_name(folder: Path) -> None:
    """Wait until a new event file comes after the others: they are read in the order of their names.

    A name begins with the second in which the file was made.
    """
    newest = max((int(path.name.split(".")[3]) for path in _event_files(folder)), default=0)
    ahead = newest + 1 - time.time()
    if 0 < ahead < _CLOCK_SECONDS:
        time.sleep(ahead)
