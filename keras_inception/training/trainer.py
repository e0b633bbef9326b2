"""The training of a run, from its configuration to the files in its folder."""

import dataclasses
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_inception.config import RunConfig, TrainingConfig
from keras_inception.data.dataset import TRAIN, VALIDATION, ImageDataset
from keras_inception.data.pipeline import (
    Images,
    check_broken,
    evaluation_batches,
    lost_image,
    read_images,
    training_batches,
)
from keras_inception.data.sources import load_dataset
from keras_inception.errors import ConfigError, DataError, RunError
from keras_inception.files import write_json
from keras_inception.googlenet import MAIN, GoogLeNet, copy_weights, inference_model
from keras_inception.report import pictures
from keras_inception.run_folder import RunFolder
from keras_inception.training.devices import strategy

# A head's loss as a metric over images. Keras's own figure of that loss is a mean over batches, wrong where the last
# validation batch is smaller, and is not there at all with a single output; the metric takes its place in metrics.csv.
_CROSS_ENTROPY = "cross_entropy"

#: What a caller may add: from steps per epoch, batch size and first epoch to Keras callbacks.
CallbackFactory = Callable[[int, int, int], list[keras.callbacks.Callback]]

_PACKAGES = ("keras-inception", "tensorflow", "keras", "tensorflow-datasets", "numpy", "pillow", "ai-edge-litert")


def train(
    config: RunConfig,
    run_dir: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    dataset: ImageDataset | None = None,
    callbacks: CallbackFactory = lambda steps, batch_size, first_epoch: [],
    on_images: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Train a network and leave everything about it in `run_dir`.

    Args:
        config: What to train on what.
        run_dir: The run's folder; it is made.
        resume: Go on from the last finished epoch of the run that is there; without one, begin.
        overwrite: Delete the run that is there.
        dataset: What to train on, such as `ImageDataset.from_arrays`; by default what `config.data.source` names.
        callbacks: Makes further Keras callbacks, such as a progress display.
        on_images: Called while images are read, with their number and that of all.

    Returns:
        The summary that is also written to summary.json.

    Raises:
        ConfigError, DataError, DeviceError, ArchitectureError, RunError: As their messages say; nothing is written
            then.
    """
    folder = RunFolder(Path(run_dir))
    folder.check_new(resume=resume, overwrite=overwrite)
    config = resolved(config)
    dataset = dataset or load_dataset(config.data)
    _check_batch(config.training.batch_size, len(dataset.splits[TRAIN]))
    devices = strategy(config.training.devices)
    _check_replicas(config.training.batch_size, devices.num_replicas_in_sync)
    with devices.scope():
        model = build(config, len(dataset.classes))

    resume = resume and folder.last_keras.exists()
    if resume:
        _check_same_run(folder, config, dataset)

    images = {
        TRAIN: read_images(dataset.splits[TRAIN], config.data, on_images, whole=config.data.random_crop),
        VALIDATION: read_images(dataset.splits[VALIDATION], config.data, on_images),
    }
    check_broken(images.values(), config.data.max_broken)
    _check_batch(config.training.batch_size, len(images[TRAIN]))
    steps = len(images[TRAIN]) // config.training.batch_size
    with devices.scope():
        compile_model(model, config.training, steps, len(dataset.classes))
        first_epoch = _restore(model, folder.last_keras, steps) if resume else 0
    if not resume:
        folder.start(config, config.model.table(), dataset.classes)
        write_json(folder.data_json, description(dataset))
    write_json(folder.environment_json, environment(devices.num_replicas_in_sync))

    history = _History(folder, folder.metrics()[:first_epoch])
    extra = callbacks(steps, config.training.batch_size, first_epoch)
    begun = time.monotonic()
    tensorboard = keras.callbacks.TensorBoard(folder.tensorboard, write_graph=False)
    _fit(model, images, config, first_epoch, [history, tensorboard, *extra])
    pictures.draw_curves(folder.metrics(), folder.curves_png, title=config.name)
    summary = {
        "name": config.name,
        "architecture": model.name,
        "parameters": inference_model(model).count_params(),
        "parameters_in_training": model.count_params(),
        "classes": len(dataset.classes),
        "images": {name: len(split) for name, split in images.items()},
        "broken_images": [line for split in images.values() for line in split.broken],
        "steps_per_epoch": steps,
        "training_seconds": round(time.monotonic() - begun, 1),
        "best": history.best(),
        "last": history.rows[-1],
    }
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


def resolved(config: RunConfig) -> RunConfig:
    """Return `config` with what depends on the architecture filled in: the image's size and the learning rate."""
    table = config.model.table()
    size = config.data.image_size or table.image_size
    rate = config.training.learning_rate or (0.1 if table.batch_normalization else 0.01)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, image_size=size),
        training=dataclasses.replace(config.training, learning_rate=rate),
    )


def build(config: RunConfig, classes: int) -> keras.Model:
    """Build the network of `config`, with a dictionary of outputs, in its precision and from its seed.

    Raises:
        ArchitectureError: The image is too small.
    """
    keras.utils.set_random_seed(config.training.seed)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.training.precision)
    try:
        model = GoogLeNet(
            architecture=config.model.table(),
            input_shape=(config.data.image_size, config.data.image_size, config.data.channels),
            classes=classes,
            auxiliary=config.model.auxiliary,
        )
        return model if config.model.auxiliary else keras.Model(model.input, {MAIN: model.output}, name=model.name)
    finally:
        keras.config.set_dtype_policy(before)


def compile_model(model: keras.Model, config: TrainingConfig, steps: int, classes: int) -> None:
    """Compile `model` with the losses, metrics and optimizer of `config`.

    Args:
        model: With a dictionary of outputs; each gets the same loss and metrics.
        config: Rate, schedule and weights.
        steps: Steps per epoch.
        classes: Number of classes; top-5 is logged where there are more than 5.
    """
    names = list(model.output)
    weights = dict(zip((MAIN, "aux1", "aux2"), config.loss_weights, strict=True))
    model.compile(
        optimizer=_optimizer(config, steps),
        loss={name: keras.losses.SparseCategoricalCrossentropy() for name in names},
        loss_weights={name: weights[name] for name in names},
        metrics={name: _metrics(classes, prefix="" if len(names) > 1 else f"{name}_") for name in names},
        jit_compile=False,  # XLA is slower on the CPU and does not work under several replicas
    )


def environment(replicas: int) -> dict[str, Any]:
    """Return what a run depends on beside its configuration: versions, machine and devices."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "replicas": replicas,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "TensorFlow's default"),
        "devices": [device.name for device in tf.config.list_logical_devices()],
    }


def _metrics(classes: int, prefix: str) -> list[keras.metrics.Metric]:
    # Keras puts the name of the output in front, but not where there is one output only.
    metrics = [
        keras.metrics.SparseCategoricalCrossentropy(name=f"{prefix}{_CROSS_ENTROPY}"),
        keras.metrics.SparseCategoricalAccuracy(name=f"{prefix}top1"),
    ]
    if classes > 5:
        metrics.append(keras.metrics.SparseTopKCategoricalAccuracy(5, name=f"{prefix}top5"))
    return metrics


def _optimizer(config: TrainingConfig, steps: int) -> keras.optimizers.Optimizer:
    warmup_steps = min(round(config.warmup_epochs * steps), config.epochs * steps - 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else config.learning_rate,
        decay_steps=config.epochs * steps - warmup_steps,
        warmup_target=config.learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    # Keras decays by rate · decay without passing through the momentum; divided so that it equals the L2 penalty of
    # Caffe and PyTorch, which do.
    decay = config.weight_decay / (1 - config.momentum)
    optimizer = keras.optimizers.SGD(schedule, momentum=config.momentum, weight_decay=decay or None)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _fit(
    model: keras.Model,
    images: dict[str, Images],
    config: RunConfig,
    first_epoch: int,
    callbacks: list[keras.callbacks.Callback],
) -> None:
    batch_size, outputs = config.training.batch_size, list(model.output)
    steps = len(images[TRAIN]) // batch_size
    batches = training_batches(
        images[TRAIN],
        config.data,
        batch_size=batch_size,
        seed=config.training.seed,
        outputs=outputs,
        first_step=first_epoch * steps,
    )
    try:
        model.fit(
            batches,
            steps_per_epoch=steps,
            validation_data=evaluation_batches(images[VALIDATION], config.data, batch_size=batch_size, outputs=outputs),
            epochs=config.training.epochs,
            initial_epoch=first_epoch,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )
    except tf.errors.OpError as error:
        if lost := lost_image(error):
            raise DataError(f"{lost}; it could be read when training began: bring it back and --resume") from None
        raise


def _check_batch(batch_size: int, images: int) -> None:
    if batch_size > images:
        raise ConfigError(f"training.batch_size is {batch_size}, larger than the {images} training images; lower it")


def _check_replicas(batch_size: int, replicas: int) -> None:
    # Keras 3.15 adds up the replicas' first batches to learn their shape, so they must be of one size.
    if batch_size % replicas:
        raise ConfigError(
            f"training.batch_size is {batch_size}; on {replicas} devices it takes a multiple of {replicas}"
        )


def _check_same_run(folder: RunFolder, config: RunConfig, dataset: ImageDataset) -> None:
    """Refuse to resume a run with another configuration; only the number of epochs may change."""
    old, new = _flat(folder.config()), _flat(config)
    for field in sorted(new.keys() - {"name", "training.epochs"}):
        if old.get(field) != new[field]:
            raise RunError(
                f"the run in {str(folder.path)!r} was started with {field} = {old.get(field)!r}, not {new[field]!r}; "
                f"give the same, or --overwrite to begin again"
            )
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


def _flat(config: RunConfig) -> dict[str, Any]:
    tree = dataclasses.asdict(config)
    fields = {f"{key}.{field}": item for key in ("data", "model", "training") for field, item in tree[key].items()}
    return {"name": config.name, **fields}


def _restore(model: keras.Model, path: Path, steps: int) -> int:
    """Take weights and the optimizer's state from the model saved at `path`; return how many epochs it has seen."""
    saved = keras.saving.load_model(path)
    copy_weights(saved, model)
    model.optimizer.build(model.trainable_variables)
    for variable, value in zip(model.optimizer.variables, saved.optimizer.variables, strict=True):
        variable.assign(value.numpy())
    return int(model.optimizer.iterations.numpy()) // steps


class _History(keras.callbacks.Callback):
    """After every epoch write the metrics, the best model so far and the last, in this order.

    A run killed in between has a row too many, which `train` drops when it resumes from the last model.
    """

    def __init__(self, folder: RunFolder, rows: list[dict[str, float]]):
        super().__init__()
        self._folder = folder
        self.rows = rows

    def best(self) -> dict[str, float]:
        """Return the first row with the highest top-1 of the main head on validation."""
        return max(self.rows, key=lambda row: row["val_main_top1"])

    def on_epoch_end(self, epoch, logs=None):
        values = {name: float(value) for name, value in logs.items()}
        for name in [name for name in values if name.endswith(_CROSS_ENTROPY)]:
            values[name.replace(_CROSS_ENTROPY, "loss")] = values.pop(name)
        self.rows.append({"epoch": epoch + 1, **values})
        self._folder.write_metrics(self.rows)
        if self.best() is self.rows[-1]:
            self._folder.save_model(self.model, self._folder.best_keras)
        self._folder.save_model(self.model, self._folder.last_keras)
