"""A network, its images and its devices, ready to be trained."""

import dataclasses
import functools
import logging
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_inception.config import WEIGHT_DECAYS, RunConfig, reference_rate
from keras_inception.data.dataset import TRAIN, VALIDATION, ImageDataset
from keras_inception.data.images import check_broken, read_images
from keras_inception.data.pipeline import evaluation_batches, training_batches
from keras_inception.errors import ConfigError
from keras_inception.googlenet import MAIN, GoogLeNet
from keras_inception.training.devices import in_precision, precision, workers
from keras_inception.training.finetuning import Freezing, body, take_weights
from keras_inception.training.memory import StepTimes, zeros
from keras_inception.training.model import TrainingModel
from keras_inception.training.optimizers import optimizer
from keras_inception.training.replicas import check_keras
from keras_inception.training.watch import guessing_loss

_LOG = logging.getLogger(__name__)


class Training:
    """A network, its images and its devices, ready to be trained.

    Args:
        config: As `resolved` returns it.
        dataset: What to train on.
        devices: From `strategy`.
        on_images: Called while images are read, with their number and that of all.

    Raises:
        ConfigError, DataError, ArchitectureError: As their messages say.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: ImageDataset,
        devices: tf.distribute.Strategy,
        on_images: Callable[[int, int], None],
    ):
        training = config.training
        check_batch(training.batch_size, len(dataset.splits[TRAIN]))
        _check_parts(training.batch_size, training.accumulation, devices.num_replicas_in_sync)
        check_keras(devices.num_replicas_in_sync)
        _check_kernels(training.onednn)
        if training.deterministic:
            tf.config.experimental.enable_op_determinism()
        self.config, self.dataset, self.devices = config, dataset, devices
        self.worker, self.workers = workers(devices)
        self.precision = precision(training.precision, devices)
        table = config.model.table()
        with devices.scope():
            network = build(config, len(dataset.classes), self.precision)
            if config.model.start_from is not None:
                take_weights(network, config.model.start_from, table, dataset.classes)
        self.images = {
            TRAIN: read_images(dataset.splits[TRAIN], config.data, on_images, whole=config.data.random_crop),
            VALIDATION: read_images(dataset.splits[VALIDATION], config.data, on_images),
        }
        check_broken(self.images.values(), config.data.max_broken)
        check_batch(training.batch_size, len(self.images[TRAIN]))
        self.steps = len(self.images[TRAIN]) // training.batch_size
        with devices.scope():
            self.model = TrainingModel(network, table, training, steps=self.steps, top5=len(dataset.classes) > 5)
            made = optimizer(training, self.steps, self.precision)
            made.build(self.model.trainable_variables)
            getattr(made, "inner_optimizer", made).slow_down(body(network, table), training.body_rate)
            self.model.compile(
                made,
                jit_compile=False,  # XLA is slower on the CPU and does not work under several replicas
                steps_per_execution=training.steps_per_execution,
                auto_scale_loss=False,
            )
        with tf.device("CPU:0"):
            self._first_step, self._end_step = (tf.Variable(0, trainable=False, dtype=tf.int64) for _ in range(2))
        self.freezing = Freezing(network, table, training.freeze_until, training.freeze_epochs)

    def fit_epoch(self, epoch: int, step: int, callbacks: keras.callbacks.CallbackList) -> None:
        """Train an epoch from a step of it on, and measure on validation."""
        if self.freezing.set(epoch):
            self.model.make_train_function(force=True)
        if step == self.steps:  # all steps were taken; the evaluation was not ended
            callbacks.on_train_begin()
            callbacks.on_epoch_begin(epoch)
            logs = self.model.get_metrics_result()
            measured = self.model.evaluate(
                self._validation, steps=self._validation_steps, callbacks=callbacks, return_dict=True, verbose=0
            )
            callbacks.on_epoch_end(epoch, logs | {f"val_{name}": value for name, value in measured.items()})
            callbacks.on_train_end()
            return
        self._enter(epoch, step)
        self.model.fit(
            self._batches,
            steps_per_epoch=self.steps - step,
            validation_data=self._validation,
            validation_steps=self._validation_steps,
            initial_epoch=epoch,
            epochs=epoch + 1,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )

    def measure(self, count: int) -> list[float]:
        """Return the seconds of `count` steps after two to warm up; the weights change."""
        times = StepTimes()
        self.model.steps_per_execution = 1  # else what is timed is several steps
        steps = min(count + 2, self.steps)
        self._enter(0, self.steps - steps)
        self.model.fit(self._batches, steps_per_epoch=steps, callbacks=[times], shuffle=False, verbose=0)
        return times.seconds[2:] or times.seconds

    def take_step(self, batch_size: int) -> None:
        """Take a step on images of nothing, to see whether it fits into memory; the weights change."""
        self.model.fit(zeros(self.model, batch_size), shuffle=False, verbose=0)

    def first_views(self) -> np.ndarray:
        """Return the images of the first batch as the network sees them, uint8 `(images, size, size, channels)`."""
        low, high = map(np.asarray, self.config.data.value_range)
        self._enter(0, 0)
        images = next(iter(self._own_batches))[0].numpy()
        return np.clip((images - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)

    def learning_rate(self) -> float:
        """Return the learning rate of the next step."""
        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def guessing_loss(self) -> float:
        """Return the loss of a head that answers with the shares of the classes."""
        labels, smoothing = self.images[TRAIN].labels, self.config.training.label_smoothing
        return guessing_loss(labels, len(self.dataset.classes), smoothing)

    def heaviest_batch(self) -> float:
        """Return the mean weight of a batch of the training images that count most."""
        images, of_classes = self.images[TRAIN], self._class_weights()
        weights = images.weights if of_classes is None else images.weights * of_classes[images.labels]
        return float(np.sort(weights)[-self.config.training.batch_size :].mean())

    def plain_model(self) -> keras.Model:
        """Return the network without what only training needs; it shares the weights."""
        return keras.Model(self.model.input, self.model.output, name=self.model.name)

    def _enter(self, epoch: int, step: int) -> None:
        """Let the batches be those of an epoch from a step of it on."""
        self._first_step.assign(epoch * self.steps + step)
        self._end_step.assign((epoch + 1) * self.steps)

    @functools.cached_property
    def _batches(self) -> Any:
        """What an epoch trains on, on this worker."""
        return self._distributed(self._own_batches)

    @property
    def _validation_steps(self) -> int:
        return -(-len(self.images[VALIDATION]) // self.config.training.batch_size)

    @property
    def _replicas(self) -> int:
        return self.devices.num_replicas_in_sync // self.workers

    @functools.cached_property
    def _own_batches(self) -> tf.data.Dataset:
        training = self.config.training
        return training_batches(
            self.images[TRAIN],
            self.config.data,
            batch_size=training.batch_size,
            seed=training.seed,
            outputs=list(self.model.output),
            classes=len(self.dataset.classes),
            class_weights=self._class_weights(),
            first_step=self._first_step,
            end_step=self._end_step,
            worker=self.worker,
            workers=self.workers,
            replicas=self._replicas,
        )

    @functools.cached_property
    def _validation(self) -> Any:
        return self._distributed(
            evaluation_batches(
                self.images[VALIDATION],
                self.config.data,
                batch_size=self.config.training.batch_size,
                outputs=list(self.model.output),
                classes=len(self.dataset.classes),
                remainder="pad",
                worker=self.worker,
                workers=self.workers,
                replicas=self._replicas,
            )
        )

    def _distributed(self, batches: tf.data.Dataset) -> Any:
        if self.devices.num_replicas_in_sync == 1:
            return batches
        return self.devices.distribute_datasets_from_function(lambda context: batches)

    def _class_weights(self) -> np.ndarray | None:
        if self.config.training.class_weights == "none":
            return None
        labels = self.images[TRAIN].labels
        counts = np.bincount(labels, minlength=len(self.dataset.classes))
        return (len(labels) / (len(counts) * np.maximum(counts, 1))).astype(np.float32)


def resolved(config: RunConfig) -> RunConfig:
    """Return `config` with what depends on other fields filled in: the image's size, the rates and the weight decay."""
    training, table = config.training, config.model.table()
    reference = training.reference_rate or reference_rate(training.optimizer, table.batch_normalization)
    rate = training.learning_rate or reference * training.batch_size / training.reference_batch
    decay = WEIGHT_DECAYS[training.optimizer] if training.weight_decay is None else training.weight_decay
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, image_size=config.data.image_size or table.image_size),
        training=dataclasses.replace(training, reference_rate=reference, learning_rate=rate, weight_decay=decay),
    )


def build(config: RunConfig, classes: int, policy: str = "float32") -> keras.Model:
    """Build the network of `config`, with a dictionary of outputs, from its seed.

    Args:
        config: As `resolved` returns it.
        classes: Number of classes.
        policy: Its precision.

    Raises:
        ArchitectureError: The image is too small.
    """
    keras.utils.set_random_seed(config.training.seed)
    with in_precision(policy):
        model = GoogLeNet(
            architecture=config.model.table(),
            input_shape=(config.data.image_size, config.data.image_size, config.data.channels),
            classes=classes,
            auxiliary=config.model.heads,
        )
        return model if config.model.heads else keras.Model(model.input, {MAIN: model.output}, name=model.name)


def check_batch(batch_size: int, images: int) -> None:
    """Refuse a batch that is larger than all training images together."""
    if batch_size > images:
        raise ConfigError(f"training.batch_size is {batch_size}, larger than the {images} training images; lower it")


def _check_kernels(onednn: bool | None) -> None:
    """Log a line where TensorFlow was loaded with other kernels than the configuration has: last digits differ."""
    wanted, found = str(int(bool(onednn))), os.environ.get("TF_ENABLE_ONEDNN_OPTS")
    if onednn is not None and found != wanted:
        _LOG.warning(
            "training.onednn is %s, but TF_ENABLE_ONEDNN_OPTS was %s when TensorFlow was loaded: last digits differ",
            onednn,
            found or "not set",
        )


def _check_parts(batch_size: int, accumulation: int, replicas: int) -> None:
    if batch_size % (accumulation * replicas):
        raise ConfigError(
            f"training.batch_size is {batch_size}; on {replicas} devices in {accumulation} parts it takes a multiple "
            f"of {accumulation * replicas}"
        )
