"""The training of a run, from its configuration to the files in its folder."""

import contextlib
import dataclasses
import errno
import functools
import importlib.metadata
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_inception.config import RunConfig
from keras_inception.data.dataset import VALIDATION, ImageDataset
from keras_inception.data.images import lost_image
from keras_inception.data.pipeline import evaluation_batches, evaluation_views
from keras_inception.data.sources import load_dataset
from keras_inception.errors import DataError, DivergedError, RunError, TrainingError
from keras_inception.files import write_json, write_text
from keras_inception.googlenet import inference_model
from keras_inception.predictor import open_run
from keras_inception.report import pictures
from keras_inception.report.run import write_run_report
from keras_inception.run_folder import RunFolder
from keras_inception.runs import flat
from keras_inception.training.checkpoints import Checkpoints
from keras_inception.training.devices import is_chief, strategy, workers
from keras_inception.training.history import History
from keras_inception.training.keeper import Keeper, SaveEvery, StopInTest
from keras_inception.training.memory import largest_batch, peak_memory
from keras_inception.training.session import Training, resolved
from keras_inception.training.tensorboard import TensorBoardLog
from keras_inception.training.watch import Divergence

_LOG = logging.getLogger(__name__)

#: What a caller may add: from steps per epoch, batch size and the first epoch and step to Keras callbacks.
CallbackFactory = Callable[[int, int, int, int], list[keras.callbacks.Callback]]

_PACKAGES = ("keras-inception", "tensorflow", "keras", "tensorflow-datasets", "numpy", "pillow", "ai-edge-litert")

# Steps between two points of TensorBoard's curves, and images in its grids.
_LOG_EVERY = 10
_GRID = 36

# What TensorFlow raises where another worker has gone.
_LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


def train(
    config: RunConfig,
    run_dir: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    save_every: str = "10m",
    dataset: ImageDataset | None = None,
    callbacks: CallbackFactory = lambda steps, batch_size, epoch, step: [],
    on_images: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Train a network and leave everything about it in `run_dir`.

    With several workers, each calls this with the same arguments, and the chief alone reads and writes `run_dir`.
    SIGTERM and SIGINT save the state and end the training, if this is called from the main thread.

    Args:
        config: What to train on what.
        run_dir: The run's folder; it is made.
        resume: Go on from the last saved state of the run that is there; without one, begin.
        overwrite: Delete the run that is there.
        save_every: How often the state is saved within an epoch: steps ("500") or time ("90s", "10m", "1h").
        dataset: What to train on, such as `ImageDataset.from_arrays`; by default what `config.data.source` names.
        callbacks: Makes further Keras callbacks, such as a progress display; `fit` is called once for every epoch.
        on_images: Called while images are read, with their number and that of all.

    Returns:
        The summary that is also written to summary.json.

    Raises:
        ConfigError, DataError, DeviceError, ArchitectureError, RunError: As their messages say; if it is before the
            first step, nothing is written.
        DivergedError: The loss is no number any more.
        StoppedError: A signal came.
        TrainingError: Memory is too small, or another worker is lost.
    """
    folder = RunFolder(Path(run_dir))
    every = SaveEvery.parse(save_every)
    config = resolved(config)
    devices = strategy(config.training.devices)
    chief = is_chief(devices)
    if chief:
        _check_folder(folder, config, resume, overwrite)
        if resume and folder.state() == "finished" and folder.config().training.epochs == config.training.epochs:
            _LOG.info("%s has finished all its %s epochs; more --epochs go on", folder.path, config.training.epochs)
            return folder.summary()
        if resume and folder.summary_json.exists() and not any(folder.checkpoints.glob("[!.]*")):
            raise RunError(
                f"the run in {str(folder.path)!r} has ended, and {str(folder.checkpoints)!r} holds no state to go on "
                f"from; give --from {str(folder.path)!r} and another --run-dir to begin with its weights"
            )
    dataset = dataset or load_dataset(config.data)
    if chief and resume and folder.is_begun():
        _check_same_data(folder, dataset)
    with _together(devices):
        job = Training(config, dataset, devices, on_images)
        with folder.claimed() if chief else contextlib.nullcontext():
            if chief:  # another process may have trained here while images were read
                _check_folder(folder, config, resume, overwrite)
            return _train(job, folder, every, resume, callbacks)


def dry_run(
    config: RunConfig,
    *,
    dataset: ImageDataset | None = None,
    steps: int = 5,
    on_images: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure what a training will take, by a few steps of it; nothing is written.

    Args:
        config: As for `train`.
        dataset: As for `train`.
        steps: How many are timed, after two to warm up.
        on_images: As for `train`.

    Returns:
        Steps per epoch, seconds per step (median) and per epoch (without validation), seconds in all, images per
        second, the learning rate and precision that are used, parameters, and the most memory taken, in bytes.
    """
    config = resolved(config)
    devices = strategy(config.training.devices)
    job = Training(config, dataset or load_dataset(config.data), devices, on_images)
    try:
        seconds = float(np.median(job.measure(steps)))
    except tf.errors.ResourceExhaustedError:
        raise _out_of_memory(job) from None
    return {
        "images": {name: len(split) for name, split in job.images.items()},
        "steps_per_epoch": job.steps,
        "seconds_per_step": seconds,
        "seconds_per_epoch": seconds * job.steps,
        "seconds": seconds * job.steps * config.training.epochs,
        "images_per_second": config.training.batch_size / seconds,
        "learning_rate": config.training.learning_rate,
        "precision": job.precision,
        "replicas": devices.num_replicas_in_sync,
        "parameters_in_training": job.model.count_params(),
        "peak_memory": peak_memory(),
    }


def _train(
    job: Training, folder: RunFolder, every: SaveEvery, resume: bool, callbacks: CallbackFactory
) -> dict[str, Any]:
    config, model = job.config, job.model
    chief = job.worker == 0
    checkpoints = Checkpoints(folder.checkpoints, model)
    restored = checkpoints.restore() if resume else None
    notes, running = restored or ({"epoch": 0, "step": 0, "rows": [], "tensorboard": None, "seconds": 0.0}, None)
    if restored is None and chief:
        folder.start(config, config.model.table(), job.dataset.classes)
        write_json(folder.data_json, description(job.dataset))
    elif chief:
        write_text(folder.config_json, config.to_json())  # more epochs
    begun = time.monotonic() - notes["seconds"]

    guessing = job.guessing_loss() * sum(config.training.loss_weights) * job.heaviest_batch()
    watching: list[keras.callbacks.Callback] = [Divergence(guessing)]
    history = History(job, folder, notes["rows"])
    tensorboard = None
    if chief:
        write_json(folder.environment_json, environment(job))
        tensorboard = TensorBoardLog(
            folder.tensorboard, every=_LOG_EVERY, batch_size=config.training.batch_size, place=notes["tensorboard"]
        )
        watching += [
            history,
            tensorboard,
            *callbacks(job.steps, config.training.batch_size, notes["epoch"], notes["step"]),
        ]
        if restored is None:
            tensorboard.write_images("training", job.first_views()[:_GRID], 0)
    _log_rate(config)

    def remembered() -> dict[str, Any]:
        return {
            "rows": history.rows,
            "tensorboard": tensorboard.place() if tensorboard else None,
            "seconds": time.monotonic() - begun,
        }

    keeper = Keeper(checkpoints, every, job.steps, remembered)
    together = keras.callbacks.CallbackList(
        [*watching, keeper], add_history=True, model=model, epochs=config.training.epochs, steps=job.steps
    )
    with keeper.listening(), _explained(job, folder, keeper):
        step = notes["step"]
        if step == 0:  # what was running when the state was saved is of the evaluation before
            running = None
        for epoch in range(notes["epoch"], config.training.epochs):
            keeper.begin_at(epoch, step, running)
            job.fit_epoch(epoch, step, together)
            step, running = 0, None
    if tensorboard is None:
        return {}
    with _explained(job, folder, keeper):
        return _finish(job, folder, history, tensorboard, time.monotonic() - begun)


def _finish(
    job: Training, folder: RunFolder, history: "History", tensorboard: TensorBoardLog, seconds: float
) -> dict[str, Any]:
    """Write what is known when all epochs have been trained; the summary comes last, and says that all is there."""
    history.save_last()
    validation, labels = job.images[VALIDATION], job.images[VALIDATION].labels
    answers = _answers(folder, job)
    views = functools.partial(evaluation_views, validation, job.config.data)
    wrong = np.flatnonzero(answers.argmax(axis=1) != labels)
    if len(wrong):
        tensorboard.write_images("wrong", views(wrong[:_GRID]), job.steps * job.config.training.epochs)
    tensorboard.close()
    pictures.draw_curves(history.rows, folder.curves_png, title=job.config.name)
    skipped = getattr(job.model.optimizer, "skipped", None)
    summary = {
        "name": job.config.name,
        "architecture": job.model.name,
        "recipe": job.config.training.recipe,
        "learning_rate": job.config.training.learning_rate,
        "precision": job.precision,
        "parameters": inference_model(job.plain_model()).count_params(),
        "parameters_in_training": job.plain_model().count_params(),
        "classes": len(job.dataset.classes),
        "images": {name: len(split) for name, split in job.images.items()},
        "broken_images": [line for split in job.images.values() for line in split.broken],
        "steps_per_epoch": job.steps,
        "skipped_steps": 0 if skipped is None else int(skipped.numpy()),
        "training_seconds": round(seconds, 1),
        "best": history.best(),
        "last": history.last(),
    }
    write_run_report(folder, answers=answers, labels=labels, views=views, names=validation.names)
    write_json(folder.summary_json, summary)
    return summary


def description(dataset: ImageDataset) -> dict[str, Any]:
    """Return what a run was trained on: the data set's name, provenance, counts and fingerprint."""
    return {
        "name": dataset.name,
        "provenance": dict(dataset.provenance),
        "images": dataset.counts(),
        "fingerprint": dataset.fingerprint(),
    }


def environment(job: Training) -> dict[str, Any]:
    """Return what a run depends on beside its configuration: versions, machine, devices and precision."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "replicas": job.devices.num_replicas_in_sync,
        "workers": job.workers,
        "precision": job.precision,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "TensorFlow's default"),
        "devices": [device.name for device in tf.config.list_logical_devices()],
    }


@contextlib.contextmanager
def _together(devices: tf.distribute.Strategy) -> Iterator[None]:
    """Turn the end of another worker while nothing is trained, as of a chief that refuses, into one line."""
    try:
        yield
    except _LOST_WORKER as error:
        if workers(devices)[1] == 1:
            raise
        raise TrainingError(
            f"another worker has ended ({_first_words(error)}) and says why; start all workers again"
        ) from None


def _first_words(error: tf.errors.OpError) -> str:
    return error.message.splitlines()[0][:120]


@contextlib.contextmanager
def _explained(job: Training, folder: RunFolder, keeper: Keeper) -> Iterator[None]:
    """Turn what can end a training into one line that says what is left and what to do."""
    try:
        yield
    except StopInTest:
        raise keeper.leave_test() from None
    except DivergedError as error:
        raise DivergedError(
            f"{error}; {_left(folder, keeper)}; begin again with a lower --learning-rate, a longer warm-up "
            f"(training.warmup_epochs) or clipped gradients (--set training.clip_norm=1)"
        ) from None
    except tf.errors.ResourceExhaustedError:
        raise _out_of_memory(job) from None
    except tf.errors.OpError as error:
        if lost := lost_image(error):
            raise DataError(f"{lost}; it could be read when training began: bring it back and --resume") from None
        if job.workers > 1 and isinstance(error, _LOST_WORKER):
            raise TrainingError(
                f"another worker is lost ({_first_words(error)}); {_left(folder, keeper)}: start the "
                f"same command with --resume on all workers"
            ) from None
        raise
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise RunError(
            f"{error.strerror} in {str(folder.path)!r}; {_left(folder, keeper)}: make room and --resume"
        ) from None


def _left(folder: RunFolder, keeper: Keeper) -> str:
    if (place := keeper.place) is None:
        return "no state has been saved since this command began"
    return f"the state after {place[0]} epochs and {place[1]} steps is kept in {str(folder.checkpoints)!r}"


def _out_of_memory(job: Training) -> TrainingError:
    size, training = job.config.training.batch_size, job.config.training
    fits = largest_batch(job.take_step, size, job.devices.num_replicas_in_sync * training.accumulation)
    if fits is None:
        return TrainingError(
            f"memory is too small for {size} images a step, and for any smaller batch; lower --image-size or --width"
        )
    parts = _parts_that_fit(size, fits, training.accumulation, job.devices.num_replicas_in_sync)
    return TrainingError(
        f"memory is too small for training.batch_size {size}; {fits} fit: give --batch-size {fits}, or keep {size} "
        f"with --set training.accumulation={parts}"
    )


def _parts_that_fit(size: int, fits: int, accumulation: int, replicas: int) -> int:
    """Return the fewest parts of a batch of `size` that are no larger than those of one of `fits`, and alike.

    >>> _parts_that_fit(100, fits=12, accumulation=1, replicas=1)
    10
    """
    fewest = -(-size * accumulation // fits)
    return next(parts for parts in range(fewest, size + 1) if size % (parts * replicas) == 0)


def _answers(folder: RunFolder, job: Training) -> np.ndarray:
    """Return the best model's probabilities of the validation images."""
    config = job.config
    batches = evaluation_batches(
        job.images[VALIDATION], config.data, batch_size=config.training.batch_size, outputs=(), classes=1
    )
    return open_run(folder.path).answers(batch[0] for batch in batches.as_numpy_iterator())


def _log_rate(config: RunConfig) -> None:
    training = config.training
    _LOG.info(
        "recipe %s: peak learning rate %.4g for batches of %s (%.4g for %s by linear scaling)",
        training.recipe,
        training.learning_rate,
        training.batch_size,
        training.reference_rate,
        training.reference_batch,
    )


def _check_folder(folder: RunFolder, config: RunConfig, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that would lose something, and one to go on with whose run is another."""
    folder.check_new(resume=resume, overwrite=overwrite)
    if resume and folder.config_json.exists():
        _check_same_config(folder, config)


def _check_same_config(folder: RunFolder, config: RunConfig) -> None:
    """Refuse to resume a run with another configuration; only the number of epochs may grow."""
    old, new = (flat(dataclasses.asdict(of)) for of in (folder.config(), config))
    for field in sorted(new.keys() - {"name", "training.epochs"}):
        if old.get(field) != new[field]:
            raise RunError(
                f"the run in {str(folder.path)!r} was started with {field} = {old.get(field)!r}, not {new[field]!r}; "
                f"give the same, or --overwrite to begin again"
            )
    if folder.is_begun() and folder.architecture() != config.model.table():
        raise RunError(
            f"{config.model.architecture} has changed since the run in {str(folder.path)!r} began; bring it back, or "
            f"--overwrite to begin again"
        )
    seen = len(folder.metrics())
    if config.training.epochs < seen:
        raise RunError(
            f"the run in {str(folder.path)!r} has trained {seen} epochs; --epochs {config.training.epochs} is less"
        )


def _check_same_data(folder: RunFolder, dataset: ImageDataset) -> None:
    if folder.labels() != dataset.classes:
        raise DataError(
            f"the run in {str(folder.path)!r} knows the classes {', '.join(folder.labels())}; "
            f"{dataset.name} now has {', '.join(dataset.classes)}"
        )
    if folder.data_json.exists() and folder.data()["fingerprint"] != dataset.fingerprint():
        raise DataError(
            f"{dataset.name} has changed since the run in {str(folder.path)!r} began: other images, labels or splits; "
            f"bring them back, or --overwrite to begin again"
        )
