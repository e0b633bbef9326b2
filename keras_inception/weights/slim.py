"""TF-Slim's `inception_v1` (tensorflow/models, research/slim): the names of its variables and what becomes of them."""

import re
from pathlib import Path

import numpy as np

from keras_inception.architecture import GOOGLENET_SLIM
from keras_inception.errors import WeightsError
from keras_inception.weights.layout import Convolution, LayerWeights, Tensors, convolutions, features

_SCOPE = "InceptionV1"
_STEM = {"conv1": "Conv2d_1a_7x7", "conv2_reduce": "Conv2d_2b_1x1", "conv2": "Conv2d_2c_3x3"}
_BRANCHES = {
    "1x1": "Branch_0/Conv2d_0a_1x1",
    "3x3_reduce": "Branch_1/Conv2d_0a_1x1",
    "3x3": "Branch_1/Conv2d_0b_3x3",
    "5x5_reduce": "Branch_2/Conv2d_0a_1x1",
    "5x5": "Branch_2/Conv2d_0b_3x3",
    "pool_projection": "Branch_3/Conv2d_0b_1x1",
}
_LOGITS = f"{_SCOPE}/Logits/Conv2d_0c_1x1"

#: Classes of the published checkpoint: ILSVRC's 1000 behind a first one of its own, the background.
_WITH_BACKGROUND = 1001


def read_slim(path: Path, background: bool = False) -> LayerWeights:
    """Read a checkpoint of TF-Slim's `inception_v1`, which has no heads.

    Its batch normalisation has no scale: here the scale is one.

    Args:
        path: A checkpoint of either format: the file, or the name that its files begin with.
        background: Whether the first of 1001 classes stays; without it they are ILSVRC's 1000.

    Raises:
        WeightsError: It is missing or damaged, or a variable is missing or of another shape.
    """
    tensors = Tensors(path, _variables(path))
    table = GOOGLENET_SLIM
    channels = tensors.length(f"{_SCOPE}/{_STEM['conv1']}/weights", 2, "conv1")
    classes = tensors.length(f"{_LOGITS}/weights", -1, "main")
    weights: dict[str, list[np.ndarray]] = {}
    for convolution in convolutions(table, channels, heads=False):
        weights |= _convolution(tensors, convolution)
    kernel = tensors.take(f"{_LOGITS}/weights", (1, 1, features(table), classes), "main")[0, 0]
    bias = tensors.take(f"{_LOGITS}/biases", (classes,), "main")
    first = 1 if classes == _WITH_BACKGROUND and not background else 0
    weights["main"] = [kernel[:, first:], bias[first:]]
    return LayerWeights(table, channels, classes - first, False, weights, tensors.left_over)


def _variables(path: Path) -> dict[str, np.ndarray]:
    import tensorflow as tf

    start = re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", str(path))
    try:
        reader = tf.train.load_checkpoint(start)
        return {name: reader.get_tensor(name) for name in sorted(reader.get_variable_to_shape_map())}
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{str(path)!r} cannot be read as a TensorFlow checkpoint: {said[:160]}") from None


def _convolution(tensors: Tensors, of: Convolution) -> dict[str, list[np.ndarray]]:
    scope = f"{_SCOPE}/{_scope(of.layer)}"
    if of.layer == "inception_5a_5x5" and f"{scope}/weights" not in tensors:
        scope = scope.replace("Conv2d_0b_3x3", "Conv2d_0a_3x3")  # so named in this module alone
    kernel = tensors.take(f"{scope}/weights", (of.kernel, of.kernel, of.inputs, of.filters), of.layer)
    beta, mean, variance = (
        tensors.take(f"{scope}/BatchNorm/{part}", (of.filters,), f"{of.layer}_bn")
        for part in ("beta", "moving_mean", "moving_variance")
    )
    return {of.layer: [kernel], f"{of.layer}_bn": [np.ones_like(beta), beta, mean, variance]}


def _scope(layer: str) -> str:
    """Return what TF-Slim calls a convolution with its normalisation; its modules count from b, behind the pool a."""
    if layer in _STEM:
        return _STEM[layer]
    _, module, branch = layer.split("_", 2)
    return f"Mixed_{module[0]}{chr(ord(module[1]) + 1)}/{_BRANCHES[branch]}"
