"""Train some steps on any number of devices or workers and save the weights: run as a program, in float64.

In float64, so that the order of sums, which differs, is not blown up by training itself. Arguments: the devices, and
the file to write; several workers are those of TF_CONFIG.
"""

import sys

import keras
import numpy as np
import tensorflow as tf

from keras_inception.config import RunConfig
from keras_inception.googlenet import GoogLeNet
from keras_inception.training.devices import is_chief, strategy, workers
from keras_inception.training.model import TrainingModel
from keras_inception.training.optimizers import optimizer
from keras_inception.training.session import resolved

BATCHES = (8, 8, 8, 3, 1)  # the last is smaller than two devices
RANDOM = np.random.default_rng(0)
CONFIG = resolved(
    RunConfig().override(
        {
            "training.learning_rate": 0.02,
            "training.clip_norm": 1.0,
            "training.average": 0.9,
            "model.architecture": "googlenet-small",
            "model.width": 0.0625,
            "model.dropout": 0,
            "model.auxiliary_dropout": 0,
        }
    )
)


def parts(devices: tf.distribute.Strategy):
    """Yield what this worker's devices get, in their order: every batch is divided over all."""
    worker, count = workers(devices)
    local = devices.num_replicas_in_sync // count
    for size in BATCHES:
        images = RANDOM.normal(size=(size, 28, 28, 3))
        labels = np.eye(2)[RANDOM.integers(0, 2, size)]
        divided = np.array_split(np.arange(size), devices.num_replicas_in_sync)
        for places in divided[worker * local : (worker + 1) * local]:
            yield (
                images[places],
                dict.fromkeys(("main", "aux1", "aux2"), labels[places]),
                np.ones(len(places), np.float32),
            )


def main(word: str, path: str) -> None:
    devices = strategy(word)
    with devices.scope():
        keras.utils.set_random_seed(1)
        keras.config.set_dtype_policy("float64")
        table = CONFIG.model.table()
        network = GoogLeNet(architecture=table, input_shape=(28, 28, 3), classes=2, auxiliary=True)
        model = TrainingModel(network, table, CONFIG.training, steps=len(BATCHES), top5=False)
        made = optimizer(CONFIG.training, len(BATCHES), "float64")
        made.build(model.trainable_variables)
        model.compile(made, jit_compile=False, auto_scale_loss=False)
    labels = tf.TensorSpec((None, 2), tf.float64)
    spec = (
        tf.TensorSpec((None, 28, 28, 3), tf.float64),
        dict.fromkeys(("main", "aux1", "aux2"), labels),
        tf.TensorSpec((None,), tf.float32),
    )
    batches = tf.data.Dataset.from_generator(lambda: parts(devices), output_signature=spec)
    if devices.num_replicas_in_sync > 1:
        batches = devices.distribute_datasets_from_function(lambda context, made=batches: made)
    model.fit(batches, steps_per_epoch=len(BATCHES), shuffle=False, verbose=0)
    if is_chief(devices):
        both = [*model.weights, *model.average.variables]
        np.savez(path, *[variable.numpy() for variable in both])


if __name__ == "__main__":
    main(*sys.argv[1:])
