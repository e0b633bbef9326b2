"""Checkpoints in the layouts of the public GoogLeNets, with seeded weights, by none of this package's importers."""

import collections
import dataclasses
import hashlib
import io
import itertools
import pickle
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np

from keras_inception.weights.published import PUBLISHED, PublishedWeights

# Table 1 of arXiv:1409.4842: input, #1×1, #3×3 reduce, #3×3, #5×5 reduce, #5×5, pool proj.
MODULES = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


def torchvision_tensors(seed: int = 0, classes: int = 1000, heads: bool = True, channels: int = 3):
    """Return a state dict as torchvision's `googlenet` has it."""
    random = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}

    def convolution(name, inputs, filters, kernel):
        shape = (filters, inputs, kernel, kernel)
        found[f"{name}.conv.weight"] = _normal(random, shape, inputs * kernel**2)
        found[f"{name}.bn.weight"] = random.uniform(0.5, 1.5, filters).astype(np.float32)
        found[f"{name}.bn.bias"] = random.normal(0, 0.2, filters).astype(np.float32)
        found[f"{name}.bn.running_mean"] = random.normal(0, 0.3, filters).astype(np.float32)
        found[f"{name}.bn.running_var"] = random.uniform(0.3, 2, filters).astype(np.float32)
        found[f"{name}.bn.num_batches_tracked"] = np.asarray(7)

    def dense(name, inputs, outputs):
        found[f"{name}.weight"] = _normal(random, (outputs, inputs), inputs)
        found[f"{name}.bias"] = random.normal(0, 0.2, outputs).astype(np.float32)

    convolution("conv1", channels, 64, 7)
    convolution("conv2", 64, 64, 1)
    convolution("conv3", 64, 192, 3)
    for name, (inputs, *widths) in MODULES.items():
        one, reduce3, three, reduce5, five, pool = widths
        module = f"inception{name}"
        convolution(f"{module}.branch1", inputs, one, 1)
        convolution(f"{module}.branch2.0", inputs, reduce3, 1)
        convolution(f"{module}.branch2.1", reduce3, three, 3)
        convolution(f"{module}.branch3.0", inputs, reduce5, 1)
        convolution(f"{module}.branch3.1", reduce5, five, 3)
        convolution(f"{module}.branch4.1", inputs, pool, 1)
    for name, inputs in (("aux1", 512), ("aux2", 528)) if heads else ():
        convolution(f"{name}.conv", inputs, 128, 1)
        dense(f"{name}.fc1", 2048, 1024)
        dense(f"{name}.fc2", 1024, classes)
    dense("fc", 1024, classes)
    return found


def _normal(random, shape, inputs):
    return (random.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / inputs))).astype(np.float32)


# ---- Files of torch.save, by pickle's own opcodes ---------------------------------------------------------------


class Global:
    """A name that a pickle imports when it is loaded."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """A call that a pickle makes when it is loaded."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


class Storage:
    """Numbers that stand outside the pickle."""

    def __init__(self, kind, key, numbers):
        self.kind, self.key, self.numbers = kind, key, numbers


KINDS = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage", "u2": "BFloat16Storage"}


class _Pickler(pickle._Pickler):  # the one in Python, which can be taught
    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def _global(self, of):
        self.write(pickle.GLOBAL + f"{of.module}\n{of.name}\n".encode())

    def _call(self, of):
        self.save(of.function)
        self.save(of.arguments)
        self.write(pickle.REDUCE)

    def _storage(self, of):
        self.save(("storage", Global("torch", of.kind), of.key, "cpu", of.numbers))
        self.write(pickle.BINPERSID)

    def _ordered(self, of):
        self._call(Call(Global("collections", "OrderedDict")))
        self._batch_setitems(of.items())

    dispatch[Global], dispatch[Call], dispatch[Storage] = _global, _call, _storage
    dispatch[collections.OrderedDict] = _ordered


def pickled(value) -> bytes:
    """Return a pickle of protocol 2, as torch writes it, of plain values and the classes above."""
    file = io.BytesIO()
    _Pickler(file, protocol=2).dump(value)
    return file.getvalue()


def tensor(value: np.ndarray, key: str, bfloat16: bool = False) -> Call:
    """Return what a pickle says of a tensor."""
    kind = "BFloat16Storage" if bfloat16 else KINDS[value.dtype.str[1:]]
    strides = tuple(stride // value.itemsize for stride in value.strides)
    return Call(
        Global("torch._utils", "_rebuild_tensor_v2"),
        *(Storage(kind, key, value.size), 0, value.shape, strides, False, collections.OrderedDict()),
    )


def write_zip(path: Path, content, blocks: dict[str, bytes]) -> None:
    """Write a file as torch has since 1.6: `content` as a pickle, and the numbers of its storages."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(content))
        archive.writestr("archive/byteorder", "little")
        for key, block in blocks.items():
            archive.writestr(f"archive/data/{key}", block)
        archive.writestr("archive/version", "3\n")


def write_legacy(path: Path, content, blocks: dict[str, bytes], itemsize: int = 4) -> None:
    """Write a file as torch did before 1.6."""
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickled(value) for value in (0x1950A86A20F9469CFC6C, 1001, machine, content, list(blocks))]
    numbers = [struct.pack("<q", len(block) // itemsize) + block for block in blocks.values()]
    path.write_bytes(b"".join(itertools.chain(parts, numbers)))


def write_pth(path: Path, tensors: dict[str, np.ndarray], *, legacy: bool = False) -> None:
    """Write a state dict as `torch.save` does; in the old format all must be of four bytes."""
    content = collections.OrderedDict((name, tensor(value, str(i))) for i, (name, value) in enumerate(tensors.items()))
    blocks = {str(i): value.tobytes() for i, value in enumerate(tensors.values())}
    (write_legacy if legacy else write_zip)(path, content, blocks)


# ---- TF-Slim ---------------------------------------------------------------------------------------------------------

# Its modules are named from b, behind the pool a.
SLIM_MODULES = {name: f"Mixed_{name[0]}{chr(ord(name[1]) + 1)}" for name in MODULES}


def slim_variables(seed: int = 0, classes: int = 1001) -> dict[str, np.ndarray]:
    """Return the variables of a checkpoint of TF-Slim's `inception_v1`."""
    random = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {"global_step": np.asarray(7)}

    def convolution(name, inputs, filters, kernel):
        scope = f"InceptionV1/{name}"
        found[f"{scope}/weights"] = _normal(random, (kernel, kernel, inputs, filters), inputs * kernel**2)
        found[f"{scope}/BatchNorm/beta"] = random.normal(0, 0.2, filters).astype(np.float32)
        found[f"{scope}/BatchNorm/moving_mean"] = random.normal(0, 0.3, filters).astype(np.float32)
        found[f"{scope}/BatchNorm/moving_variance"] = random.uniform(0.3, 2, filters).astype(np.float32)

    convolution("Conv2d_1a_7x7", 3, 64, 7)
    convolution("Conv2d_2b_1x1", 64, 64, 1)
    convolution("Conv2d_2c_3x3", 64, 192, 3)
    for name, (inputs, one, reduce3, three, reduce5, five, pool) in MODULES.items():
        module = SLIM_MODULES[name]
        convolution(f"{module}/Branch_0/Conv2d_0a_1x1", inputs, one, 1)
        convolution(f"{module}/Branch_1/Conv2d_0a_1x1", inputs, reduce3, 1)
        convolution(f"{module}/Branch_1/Conv2d_0b_3x3", reduce3, three, 3)
        convolution(f"{module}/Branch_2/Conv2d_0a_1x1", inputs, reduce5, 1)
        convolution(f"{module}/Branch_2/{slim_5x5(module)}", reduce5, five, 3)
        convolution(f"{module}/Branch_3/Conv2d_0b_1x1", inputs, pool, 1)
    found["InceptionV1/Logits/Conv2d_0c_1x1/weights"] = _normal(random, (1, 1, 1024, classes), 1024)
    found["InceptionV1/Logits/Conv2d_0c_1x1/biases"] = random.normal(0, 0.2, classes).astype(np.float32)
    return found


def slim_5x5(module: str) -> str:
    """Return what the second convolution of the third branch is called: otherwise in one module than in the rest."""
    return "Conv2d_0a_3x3" if module == "Mixed_5b" else "Conv2d_0b_3x3"


def write_checkpoint(path: Path, variables: dict[str, np.ndarray], *, old: bool = False) -> None:
    """Write variables as TensorFlow's Saver does: in several files that begin with `path`, or in the old one."""
    import tensorflow as tf

    names, values = list(variables), [tf.constant(value) for value in variables.values()]
    if old:
        tf.raw_ops.Save(filename=str(path), tensor_names=names, data=values)
    else:
        tf.raw_ops.SaveV2(prefix=str(path), tensor_names=names, shape_and_slices=[""] * len(names), tensors=values)


# ---- Caffe -----------------------------------------------------------------------------------------------------------


def caffe_blobs(seed: int = 0, classes: int = 1000, heads: bool = True) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the kernel and bias of every layer of BVLC's GoogLeNet that has weights."""
    random = np.random.default_rng(seed)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def layer(name, *shape):
        bias = random.normal(0, 0.1, shape[0]).astype(np.float32)
        found[name] = (_normal(random, shape, int(np.prod(shape[1:]))), bias)

    layer("conv1/7x7_s2", 64, 3, 7, 7)
    found["conv1/7x7_s2"][0][...] /= 64  # images reach from about -123 to 151
    layer("conv2/3x3_reduce", 64, 64, 1, 1)
    layer("conv2/3x3", 192, 64, 3, 3)
    for name, (inputs, one, reduce3, three, reduce5, five, pool) in MODULES.items():
        layer(f"inception_{name}/1x1", one, inputs, 1, 1)
        layer(f"inception_{name}/3x3_reduce", reduce3, inputs, 1, 1)
        layer(f"inception_{name}/3x3", three, reduce3, 3, 3)
        layer(f"inception_{name}/5x5_reduce", reduce5, inputs, 1, 1)
        layer(f"inception_{name}/5x5", five, reduce5, 5, 5)
        layer(f"inception_{name}/pool_proj", pool, inputs, 1, 1)
    for name, inputs in (("loss1", 512), ("loss2", 528)) if heads else ():
        layer(f"{name}/conv", 128, inputs, 1, 1)
        layer(f"{name}/fc", 1024, 2048)
        layer(f"{name}/classifier", classes, 1024)
    layer("loss3/classifier", classes, 1024)
    return found


def write_caffemodel(path: Path, layers: dict[str, tuple[np.ndarray, ...]], *, old: bool, alpha: float = 1e-4) -> None:
    """Write a network in protobuf's wire format, by the numbers of Caffe's fields.

    Args:
        path: The file.
        layers: Name of a layer to its blobs.
        old: As Caffe wrote it until 2014: other numbers, and four axes for everything.
        alpha: Of the response normalisation.
    """
    network, name_field, blobs_field, norm_field = (2, 4, 6, 18) if old else (100, 1, 7, 118)

    def blob(value):
        if not old:
            axes = _field(7, b"".join(_number(1, side) for side in value.shape))
        else:
            shape = (1,) * (4 - value.ndim) + value.shape
            axes = b"".join(_number(field, side) for field, side in enumerate(shape, start=1))
        return axes + _field(5, value.astype("<f4").tobytes())

    def layer(name, values):
        return _field(
            network, _field(name_field, name.encode()) + b"".join(_field(blobs_field, blob(value)) for value in values)
        )

    floats = [_varint(field << 3 | 5) + struct.pack("<f", value) for field, value in ((2, alpha), (3, 0.75))]
    norm = _number(1, 5) + b"".join(floats)
    norms = [
        _field(network, _field(name_field, name.encode()) + _field(norm_field, norm))
        for name in ("pool1/norm1", "conv2/norm2")
    ]
    path.write_bytes(_field(1, b"GoogleNet") + b"".join([*norms, *itertools.starmap(layer, layers.items())]))


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


# ---- The cache -------------------------------------------------------------------------------------------------------


def write_published(home: Path, names: Iterable[str]) -> dict[str, PublishedWeights]:
    """Write seeded files into the folder of models in `home`, as downloads leave them, and return what is published."""
    models = home / "models"
    models.mkdir(parents=True)
    writers = {
        "imagenet": lambda path: write_pth(path, torchvision_tensors(seed=1)),
        "imagenet-slim": lambda path: write_checkpoint(path, slim_variables(seed=2), old=True),
        "imagenet-caffe": lambda path: write_caffemodel(path, caffe_blobs(seed=3), old=True),
    }
    found = {}
    for name in names:
        one = PUBLISHED[name]
        (models / one.file).touch()
        path = models / (one.member or one.file)
        writers[name](path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if one.sha256 else ""
        found[name] = dataclasses.replace(one, sha256=digest, sha1="")
    return found
