"""A SavedModel with all a server needs inside: decoding, preprocessing, the network and the labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_inception.card import Card, put_into_saved_model
from keras_inception.data.crops import network_side, resized
from keras_inception.data.pipeline import scaled
from keras_inception.export.decoding import decoded_batch
from keras_inception.predictor import PROBABILITIES

# Labels in an answer, where there are as many classes.
_TOP = 5


def write_saved_model(model: Any, card: Card, path: Path) -> None:
    """Write a SavedModel that needs no Keras to load, into the numbered folder that TensorFlow Serving looks for.

    Its signatures, for any batch:

    - `serving_default`: `image`, float32 `(batch, size, size, channels)` in the model's range, to `probabilities`.
    - `classify_images`: `images`, uint8 `(batch, height, width, channels)` of any size, to the three below.
    - `classify_bytes`: `image_bytes`, JPEG or PNG files, strings `(batch,)`, to `labels`, strings `(batch, 5)`, the
      likeliest first (fewer where there are fewer classes), their `scores`, float32 `(batch, 5)`, the `probabilities`
      of all classes, float32 `(batch, classes)`, and `decoded`, bool `(batch,)`: the row of an image that cannot be
      decoded is empty and false.

    Args:
        model: The network with one output and no heads, in float32.
        card: Its preprocessing and labels.
        path: The folder, which is made.
    """
    side, channels = network_side(card.data), card.data.channels
    labels = tf.constant(card.labels)

    def probabilities(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {PROBABILITIES: model(image, training=False)}

    def answers(squares: tf.Tensor) -> dict[str, tf.Tensor]:
        # oneDNN's kernels have no right answer to a batch of none: it becomes one of a blank image, which is cut off.
        count = tf.shape(squares)[0]
        filled = tf.pad(squares, [[0, tf.cast(count == 0, tf.int32)], [0, 0], [0, 0], [0, 0]])
        of_all = model(scaled(filled, card.data), training=False)[:count]
        scores, places = tf.math.top_k(of_all, min(_TOP, len(card.labels)))
        return {"labels": tf.gather(labels, places), "scores": scores, PROBABILITIES: of_all}

    def classify_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        square = tf.TensorSpec((side, side, channels), tf.uint8)
        return answers(tf.map_fn(lambda image: resized(image, card.data), images, fn_output_signature=square))

    def classify_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        squares, decoded = decoded_batch(image_bytes, card.data)
        given = answers(squares)
        empty = {name: tf.where(decoded[:, None], value, tf.zeros_like(value)) for name, value in given.items()}
        return empty | {"decoded": decoded}

    archive = keras.export.ExportArchive()
    _add(archive, "serving_default", probabilities, tf.TensorSpec((None, side, side, channels), tf.float32, "image"))
    _add(archive, "classify_images", classify_images, tf.TensorSpec((None, None, None, channels), tf.uint8, "images"))
    _add(archive, "classify_bytes", classify_bytes, tf.TensorSpec((None,), tf.string, "image_bytes"))
    archive.write_out(path, verbose=False)
    put_into_saved_model(card, path)


def _add(archive: keras.export.ExportArchive, name: str, function: Callable, spec: tf.TensorSpec) -> None:
    archive.add_endpoint(name, function, input_signature=[spec])
