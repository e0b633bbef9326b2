"""Grad-CAM (arXiv:1610.02391): where in an image a row of the network found what speaks for a class."""

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from keras_inception.architecture import Architecture, Inception
from keras_inception.errors import ArchitectureError, unknown
from keras_inception.googlenet import MAIN


def inception_rows(table: Architecture) -> list[str]:
    """Return the names of a table's Inception rows, such as "4e", the lowest first."""
    return [row.name for row in table.rows if isinstance(row, Inception)]


def gradcam(model: keras.Model, images: np.ndarray, row: str, labels: np.ndarray) -> np.ndarray:
    """Return how much every place of a row's map speaks for a class.

    The channels are weighted by the mean of the gradient of the class's logit, summed, and cut off below zero.

    Args:
        model: The network with one output and no heads.
        images: float32 `(batch, size, size, channels)`, the network's input.
        row: Name of an Inception row.
        labels: Of shape `(batch,)`: the class of each.

    Returns:
        float32 `(batch, height, width)` of the row's map, from 0 to 1, the largest of each image; all 0 where nothing
        speaks for the class.

    Raises:
        ArchitectureError: There is no such row.
    """
    names = [
        layer.name.removeprefix("inception_") for layer in model.layers if isinstance(layer, keras.layers.Concatenate)
    ]
    if row not in names:
        raise ArchitectureError(unknown("row", row, names))
    classifier = model.get_layer(MAIN)
    inside = keras.Model(model.input, [model.get_layer(f"inception_{row}").output, classifier.input])
    with tf.GradientTape() as tape:
        maps, features = inside(images, training=False)
        logits = features @ classifier.kernel + classifier.bias
        chosen = tf.gather(logits, labels, axis=1, batch_dims=1)
    weights = tf.reduce_mean(tape.gradient(chosen, maps), axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1)).numpy()
    most = heat.max(axis=(1, 2), keepdims=True)
    return np.divide(heat, most, out=np.zeros_like(heat), where=most > 0)


def overlaid(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay a map over an image: the more it speaks for the class, the brighter and warmer.

    Args:
        pixels: uint8 `(height, width, channels)`.
        heat: float32 of any height and width, from 0 to 1.

    Returns:
        uint8 `(height, width, 3)`.
    """
    import matplotlib

    size = (pixels.shape[1], pixels.shape[0])
    smooth = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    colours = matplotlib.colormaps["inferno"](smooth)[..., :3] * 255
    grey = pixels.mean(axis=2, keepdims=True)
    return np.clip(0.5 * grey + 0.5 * colours, 0, 255).astype(np.uint8)
