"""torchvision's `googlenet` (https://pytorch.org/vision): the names of its tensors and what becomes of them."""

from pathlib import Path

import numpy as np

from keras_inception.architecture import GOOGLENET_TORCHVISION
from keras_inception.weights.layout import Convolution, LayerWeights, Tensors, convolutions, dense_layers
from keras_inception.weights.pytorch_file import read_state_dict

# Within a module: a sequence of convolutions has numbers.
_BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_projection": "branch4.1",
}
_STEM = {"conv1": "conv1", "conv2_reduce": "conv2", "conv2": "conv3"}
_DENSE = {
    "main": "fc",
    **{f"{head}_dense": f"{head}.fc1" for head in ("aux1", "aux2")},
    **{head: f"{head}.fc2" for head in ("aux1", "aux2")},
}


def read_torchvision(path: Path) -> LayerWeights:
    """Read a state dict of torchvision's `googlenet`; the heads come along where the file has both.

    torchvision names its heads after their places, aux1 behind 4a and aux2 behind 4d, as here; only the named tuple
    that it answers with has them the other way round.

    Args:
        path: A `.pth` or `.safetensors` file.

    Raises:
        WeightsError: As `read_state_dict`, or a tensor is missing or of another shape.
    """
    tensors = Tensors(path, _without_prefix(read_state_dict(path)))
    table = GOOGLENET_TORCHVISION
    heads = all(f"{head.name}.fc2.weight" in tensors for head in table.auxiliary)
    channels = tensors.length("conv1.conv.weight", 1, "conv1")
    classes = tensors.length("fc.weight", 0, "main")
    weights: dict[str, list[np.ndarray]] = {}
    for convolution in convolutions(table, channels, heads):
        weights |= _convolution(tensors, convolution)
    sides = {head.name: head.pooled_size for head in table.auxiliary if heads}
    weights |= dense_layers(table, classes, sides, lambda layer, shape: _dense(tensors, layer, shape))
    return LayerWeights(table, channels, classes, heads, weights, tensors.left_over)


def _without_prefix(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return tensors without the "module." that DataParallel puts in front of all names."""
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _convolution(tensors: Tensors, of: Convolution) -> dict[str, list[np.ndarray]]:
    name, filters = _name(of.layer), (of.filters,)
    shape = (of.filters, of.inputs, of.kernel, of.kernel)
    kernel = tensors.take(f"{name}.conv.weight", shape, of.layer).transpose(2, 3, 1, 0)
    normalization = [
        tensors.take(f"{name}.bn.{part}", filters, f"{of.layer}_bn")
        for part in ("weight", "bias", "running_mean", "running_var")
    ]
    return {of.layer: [kernel], f"{of.layer}_bn": normalization}


def _dense(tensors: Tensors, layer: str, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    name = _DENSE[layer]
    return tensors.take(f"{name}.weight", shape, layer), tensors.take(f"{name}.bias", shape[:1], layer)


def _name(layer: str) -> str:
    """Return what torchvision calls a convolution with its normalisation."""
    if layer in _STEM:
        return _STEM[layer]
    if layer.startswith("inception_"):
        _, module, branch = layer.split("_", 2)
        return f"inception{module}.{_BRANCHES[branch]}"
    return f"{layer.removesuffix('_1x1')}.conv"  # of a head
