"""An ONNX file, for ONNX Runtime and what else reads ONNX."""

import warnings
from pathlib import Path
from typing import Any

from keras_inception.card import CARD, Card
from keras_inception.errors import imported
from keras_inception.predictor import PROBABILITIES


def write_onnx(model: Any, card: Card, path: Path) -> None:
    """Write an ONNX file: `image`, float32 `(batch, size, size, channels)` in the model's range, to `probabilities`.

    The labels and the preprocessing stand in its metadata.

    Args:
        model: The network with one output and no heads, in float32.
        card: Its preprocessing and labels.
        path: The file.

    Raises:
        RunError: What the extra "onnx" installs is missing.
    """
    import keras
    import tensorflow as tf

    onnx = imported("onnx", "onnx")
    imported("tf2onnx", "onnx")
    named = keras.Model(model.input, {PROBABILITIES: model.output})
    image = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="image")
    named(tf.zeros((1, *model.input_shape[1:])))  # Keras exports what has been called
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Keras asks NumPy for a name that is gone
        named.export(path, format="onnx", verbose=False, input_signature=[image])
    written = onnx.load(path)
    onnx.helper.set_model_props(written, {CARD: card.to_json()})
    onnx.checker.check_model(written, full_check=True)
    onnx.save(written, path)
