"""What Keras does on two replicas, and what this project does: run as a program, it prints both as JSON.

A process of its own, since logical devices must be asked for before TensorFlow runs, and oneDNN before it is imported.
The network is two convolutions and a classifier on 4×4 px, so that every figure can be followed; with one, whose inputs
are zeros in a blank image, its gradients would be zeros too.
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_inception.architecture import Architecture, Conv
from keras_inception.config import RunConfig
from keras_inception.googlenet import GoogLeNet
from keras_inception.training.devices import strategy
from keras_inception.training.model import TrainingModel
from keras_inception.training.optimizers import optimizer

TABLE = Architecture("tiny", rows=(Conv("conv1", 4, kernel=3), Conv("conv2", 4, kernel=3)), image_size=4)
STEPS = 3
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(24, 4, 4, 3)).astype(np.float32)
LABELS = RANDOM.integers(0, 3, 24)
ONE = tf.distribute.get_strategy()


def network(policy: str = "float32", batch_normalization: bool = False) -> keras.Model:
    """Build the network, always with the same weights."""
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(policy)
    table = TABLE.with_normalization("batch") if batch_normalization else TABLE
    made = GoogLeNet(architecture=table, input_shape=(4, 4, 3), classes=3, dropout=0)
    keras.config.set_dtype_policy("float32")
    return made


def weights(model: keras.Model) -> list:
    return np.concatenate([weight.numpy().astype(np.float64).ravel() for weight in model.weights]).tolist()


def batches(images: np.ndarray, size: int, ours: bool) -> tf.data.Dataset:
    labels = np.eye(3, dtype=np.float32)[LABELS[: len(images)]]
    parts = (images, {"main": labels}, np.ones(len(images), np.float32)) if ours else (images, labels)
    return tf.data.Dataset.from_tensor_slices(parts).batch(size)


def keras_alone(devices, images, size, policy="float32", made=None, steps_per_execution=1, normalize=False) -> list:
    """Train an epoch with Keras as it is; return the weights."""
    with devices.scope():
        model = network(policy, normalize)
        model.compile(
            made() if made else keras.optimizers.SGD(0.1),
            keras.losses.CategoricalCrossentropy(),
            jit_compile=False,
            steps_per_execution=steps_per_execution,
        )
    model.fit(batches(images, size, ours=False), shuffle=False, verbose=0)
    return weights(model)


def ours(devices, images, size, policy="float32", normalize=False, steps_per_execution=1, **fields):
    """Train an epoch as this project does; return the model."""
    config = (
        RunConfig()
        .override(
            {
                "training.learning_rate": 0.1,
                "training.warmup_epochs": 0,
                "training.schedule": "exponential",
                "training.momentum": 0,
                "training.nesterov": False,
                "training.weight_decay": 0,
                "training.label_smoothing": 0,
                "training.average": 0,
                **{f"training.{name}": value for name, value in fields.items()},
            }
        )
        .training
    )
    with devices.scope():
        plain = network(policy, normalize)
        model = TrainingModel(keras.Model(plain.input, {"main": plain.output}), TABLE, config, steps=STEPS, top5=False)
        made = optimizer(config, STEPS, policy)
        made.build(model.trainable_variables)
        model.compile(made, jit_compile=False, steps_per_execution=steps_per_execution, auto_scale_loss=False)
    model.fit(batches(images, size, ours=True), shuffle=False, verbose=0)
    return model


def raised(function) -> str:
    try:
        function()
    except Exception as error:  # whatever Keras and TensorFlow raise is what is looked for
        return f"{type(error).__name__}: {error}"
    return ""


def overflowing() -> np.ndarray:
    """Images of which, in a batch of 8 on two replicas, those of the second overflow float16."""
    images = IMAGES[:8].copy()
    images[4:] *= 3e4
    return images


def results() -> dict:
    two = strategy("cpu:2")
    collective = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    clipped = lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.1)  # noqa: E731
    accumulated = lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)  # noqa: E731
    loss_scale = lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))  # noqa: E731
    normalized = ours(two, IMAGES, 8, normalize=True)
    overflow = ours(two, overflowing(), 8, policy="mixed_float16")
    return {
        "clipping": {
            "keras on one": keras_alone(ONE, IMAGES, 8, made=clipped),
            "keras on two": keras_alone(two, IMAGES, 8, made=clipped),
            "ours on one": weights(ours(ONE, IMAGES, 8, clip_norm=0.1)),
            "ours on two": weights(ours(two, IMAGES, 8, clip_norm=0.1)),
        },
        "ragged": {
            "keras on one": keras_alone(ONE, IMAGES[:19], 8),
            "keras on two": keras_alone(two, IMAGES[:19], 8),
            "ours on one": weights(ours(ONE, IMAGES[:19], 8)),
            "ours on two": weights(ours(two, IMAGES[:19], 8)),
            "ours on two, one image": weights(ours(two, IMAGES[:17], 8, average=0.5)),
            "ours on one, one image": weights(ours(ONE, IMAGES[:17], 8, average=0.5)),
        },
        "ragged first": {
            "keras": raised(lambda: keras_alone(two, IMAGES[:3], 8)),
            "ours on one": weights(ours(ONE, IMAGES[:3], 8)),
            "ours on two": weights(ours(two, IMAGES[:3], 8)),
        },
        "overflow": {
            "start": weights(network("mixed_float16")),
            "keras on two": keras_alone(two, overflowing(), 8, policy="mixed_float16", made=loss_scale),
            "ours on two": weights(overflow),
            "skipped": int(overflow.optimizer.skipped.numpy()),
            "scale": float(overflow.optimizer.dynamic_scale.numpy()),
        },
        "accumulation": {
            "keras": raised(lambda: keras_alone(two, IMAGES, 4, made=accumulated)),
            "ours in one": weights(ours(ONE, IMAGES, 8)),
            "ours in two": weights(ours(two, IMAGES, 8, accumulation=2)),
        },
        "steps per execution": {
            "keras": raised(lambda: keras_alone(collective, IMAGES, 8, steps_per_execution=3)),
            "ours one by one": weights(ours(two, IMAGES, 8)),
            "ours at once": weights(ours(two, IMAGES, 8, steps_per_execution=3)),
        },
        "batch normalisation": {
            "keras": _plain_normalization(two),
            "ours": [
                value.numpy().tolist()
                for value in two.experimental_local_results(normalized.get_layer("conv1_bn").moving_mean.value)
            ],
            "ours on one": ours(ONE, IMAGES, 8, normalize=True).get_layer("conv1_bn").moving_mean.numpy().tolist(),
            "all of one": weights(ours(ONE, IMAGES, 8, normalize=True)),
            "all of two": weights(normalized),
        },
        "no images": {
            "a convolution's shape": tf.nn.conv2d(
                tf.zeros((0, 4, 4, 3)), tf.ones((3, 3, 3, 5)), 1, "SAME"
            ).shape.as_list(),
            "ours on one": weights(ours(ONE, IMAGES[:17], 8, normalize=True)),
            "ours on two": weights(ours(two, IMAGES[:17], 8, normalize=True)),
        },
    }


def _plain_normalization(two) -> list:
    """What each replica holds after Keras's batch normalisation as it is by default."""
    with two.scope():
        keras.utils.set_random_seed(1)
        image = keras.Input((4, 4, 3))
        x = keras.layers.BatchNormalization(name="bn")(image)
        model = keras.Model(image, keras.layers.Dense(3, "softmax")(keras.layers.Flatten()(x)))
        model.compile("sgd", "categorical_crossentropy", jit_compile=False)
    model.fit(batches(IMAGES, 8, ours=False), shuffle=False, verbose=0)
    moving = model.get_layer("bn").moving_mean.value
    return [value.numpy().tolist() for value in two.experimental_local_results(moving)]


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(results(), file)
