"""BVLC's Caffe model of GoogLeNet: its file, by the few fields of Caffe's format that weights stand in, and its names.

The format is Caffe's `caffe.proto` (https://github.com/BVLC/caffe). Of its messages these fields are read; protobuf
passes over all others:

- NetParameter: 2 `layers`, the layers of files until 2014; 100 `layer`, those of later files.
- V1LayerParameter, one of `layers`: 4 `name`, 6 `blobs`, 18 `lrn_param`.
- LayerParameter, one of `layer`: 1 `name`, 7 `blobs`, 118 `lrn_param`.
- BlobProto: 5 `data`; 7 `shape`, or, in older files, 1 `num`, 2 `channels`, 3 `height` and 4 `width`.
- BlobShape: 1 `dim`.
- LRNParameter: 1 `local_size`, 2 `alpha`, 3 `beta`, 5 `k`.
"""

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np

from keras_inception.architecture import GOOGLENET, LRN
from keras_inception.errors import WeightsError
from keras_inception.weights.layout import Convolution, LayerWeights, Tensors, convolutions, dense_layers

_STEM = {"conv1": "conv1/7x7_s2", "conv2_reduce": "conv2/3x3_reduce", "conv2": "conv2/3x3"}
_HEADS = {"aux1": "loss1", "aux2": "loss2"}
_DENSE = {
    "main": "loss3/classifier",
    **{f"{head}_dense": f"{name}/fc" for head, name in _HEADS.items()},
    **{head: f"{name}/classifier" for head, name in _HEADS.items()},
}


def read_caffe(path: Path) -> LayerWeights:
    """Read a `.caffemodel` with the layers of BVLC's GoogLeNet; the heads come along where the file has both.

    Caffe's images are blue, green, red: the first kernel's channels are turned, so that here they are red, green, blue.
    Its mean is not in the file, and is part of the preprocessing.

    Args:
        path: The file.

    Raises:
        WeightsError: The file is missing or damaged, a blob is missing or of another shape, or its response
            normalisation is not the paper's.
    """
    blobs, norms = _read(path)
    _check_norms(path, norms)
    tensors = Tensors(path, blobs)
    table = GOOGLENET
    heads = all(f"{name}/classifier blob 0" in tensors for name in _HEADS.values())
    channels = tensors.length(f"{_STEM['conv1']} blob 0", 1, "conv1")
    classes = tensors.length(f"{_DENSE['main']} blob 0", 0, "main")
    weights = {of.layer: _convolution(tensors, of) for of in convolutions(table, channels, heads)}
    weights["conv1"][0] = weights["conv1"][0][:, :, ::-1]
    # The heads read maps of 14×14: those at 224 px, the size that the published weights are for.
    sides = {head.name: head.output_size(14) for head in table.auxiliary if heads}
    weights |= dense_layers(table, classes, sides, lambda layer, shape: _taken(tensors, _DENSE[layer], shape, layer))
    return LayerWeights(table, channels, classes, heads, weights, tensors.left_over)


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the blobs of a file by their layers and places, and the response normalisations."""
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise WeightsError(f"there is no file {str(path)!r}; give a .caffemodel file")
    network = _schema()()
    try:
        network.ParseFromString(path.read_bytes())
        layers = [*network.layers, *network.layer]
        blobs = {
            f"{layer.name} blob {place}": _array(blob) for layer in layers for place, blob in enumerate(layer.blobs)
        }
    except (DecodeError, ValueError) as error:
        raise WeightsError(f"{str(path)!r} is no Caffe model, or is damaged: {error}") from None
    if not blobs:
        raise WeightsError(f"{str(path)!r} holds no weights of Caffe layers; give the .caffemodel, not a prototxt")
    return blobs, {layer.name: layer.lrn_param for layer in layers if layer.HasField("lrn_param")}


def _array(blob: Any) -> np.ndarray:
    data = np.asarray(blob.data, np.float32)
    if blob.HasField("shape"):
        return data.reshape(tuple(blob.shape.dim))
    # Files until 2014 give everything four axes: a fully connected layer has two in front, a bias three.
    axes = (blob.num, blob.channels, blob.height, blob.width)
    leading = 3 if axes[:3] == (1, 1, 1) else 2 if axes[:2] == (1, 1) else 0
    return data.reshape(axes[leading:])


def _check_norms(path: Path, norms: dict[str, Any]) -> None:
    wanted = next(row for row in GOOGLENET.rows if isinstance(row, LRN))
    size = 2 * wanted.depth_radius + 1
    for name, norm in norms.items():
        found = (norm.local_size, norm.alpha, norm.beta, norm.k)
        expected = (size, wanted.alpha * size, wanted.beta, wanted.bias)  # Caffe divides its alpha by the size
        if not all(math.isclose(one, other, rel_tol=1e-6) for one, other in zip(found, expected, strict=True)):
            raise WeightsError(
                f"layer {name!r} of {str(path)!r} has size, alpha, beta and k "
                f"{', '.join(f'{value:g}' for value in found)}; the paper's network has "
                f"{', '.join(f'{value:g}' for value in expected)}"
            )


def _convolution(tensors: Tensors, of: Convolution) -> list[np.ndarray]:
    kernel, bias = _taken(tensors, _name(of.layer), (of.filters, of.inputs, of.kernel, of.kernel), of.layer)
    return [kernel.transpose(2, 3, 1, 0), bias]


def _taken(tensors: Tensors, name: str, shape: tuple[int, ...], layer: str) -> tuple[np.ndarray, np.ndarray]:
    return tensors.take(f"{name} blob 0", shape, layer), tensors.take(f"{name} blob 1", shape[:1], layer)


def _name(layer: str) -> str:
    """Return what BVLC's model calls a convolution."""
    if layer in _STEM:
        return _STEM[layer]
    if layer.startswith("inception_"):
        _, module, branch = layer.split("_", 2)
        return f"inception_{module}/{'pool_proj' if branch == 'pool_projection' else branch}"
    return f"{_HEADS[layer.removesuffix('_1x1')]}/conv"


@functools.cache
def _schema() -> Any:
    """Return the message class NetParameter, of the fields that this module's text lists."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="keras_inception/caffe.proto", package="caffe", syntax="proto2")

    def message(name: str, *fields: tuple[int, str, Any, bool, str]) -> None:
        made = file.message_type.add(name=name)
        for number, field, kind, repeated, default in fields:
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            added = made.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                added.type = kind
            if default:
                added.default_value = default

    axes = ("num", "channels", "height", "width")
    norm = (
        ("local_size", kinds.TYPE_UINT32, "5"),
        ("alpha", kinds.TYPE_FLOAT, "1"),
        ("beta", kinds.TYPE_FLOAT, "0.75"),
    )
    message("BlobShape", (1, "dim", kinds.TYPE_INT64, True, ""))
    message(
        "BlobProto",
        *((number, axis, kinds.TYPE_INT32, False, "0") for number, axis in enumerate(axes, start=1)),
        (5, "data", kinds.TYPE_FLOAT, True, ""),
        (7, "shape", "BlobShape", False, ""),
    )
    message(
        "LRNParameter",
        *((number, name, kind, False, default) for number, (name, kind, default) in enumerate(norm, start=1)),
        (5, "k", kinds.TYPE_FLOAT, False, "1"),
    )
    for name, numbers in {"V1LayerParameter": (4, 6, 18), "LayerParameter": (1, 7, 118)}.items():
        message(
            name,
            (numbers[0], "name", kinds.TYPE_STRING, False, ""),
            (numbers[1], "blobs", "BlobProto", True, ""),
            (numbers[2], "lrn_param", "LRNParameter", False, ""),
        )
    message("NetParameter", (2, "layers", "V1LayerParameter", True, ""), (100, "layer", "LayerParameter", True, ""))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))
