"""What a training takes before it is begun: the time of a step, the memory, and the largest batch that fits."""

import resource
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_inception.data.parallel import untuned


class StepTimes(keras.callbacks.Callback):
    """Note how long every training step takes, in seconds."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_train_batch_begin(self, batch, logs=None):
        self._begun = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds.append(time.perf_counter() - self._begun)


def largest_batch(step: Callable[[int], None], batch_size: int, smallest: int) -> int | None:
    """Return the first half, quarter, … of a batch with which a step does not run out of memory; None if none does.

    Args:
        step: Takes a step with so many images.
        batch_size: With which it ran out of memory.
        smallest: What every batch must be a multiple of.
    """
    size = batch_size // 2 // smallest * smallest
    while size:
        try:
            step(size)
            return size
        except tf.errors.ResourceExhaustedError:
            size = size // 2 // smallest * smallest
    return None


def peak_memory() -> dict[str, int]:
    """Return the most memory taken so far, in bytes: of the process, and of every GPU that TensorFlow uses."""
    gpus = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices("GPU")]
    of_gpus = {name: tf.config.experimental.get_memory_info(name)["peak"] for name in gpus}
    return {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, **of_gpus}


def zeros(model: keras.Model, batch_size: int) -> tf.data.Dataset:
    """Return one batch of nothing, of the shape that a `TrainingModel` takes."""
    labels = {name: np.zeros((batch_size, output.shape[-1]), np.float32) for name, output in model.output.items()}
    images = np.zeros((batch_size, *model.input_shape[1:]), np.float32)
    return untuned(tf.data.Dataset.from_tensors((images, labels, np.ones(batch_size, np.float32))))
