"""TFLite files for phones, in floats and quantised, and what their graphs consist of."""

import json
import logging
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from keras_inception.architecture import LRN, Architecture, Conv, FullyConnected, Inception, MaxPool, MlpConv
from keras_inception.card import Card, put_into_zip
from keras_inception.errors import ExportError
from keras_inception.predictor import PROBABILITIES

_LOG = logging.getLogger(__name__)

#: How the weights, and the values between the layers, are stored: float32; weights in 16 bits; weights in 8 bits
#: (dynamic range); both in 8 bits; weights in 8 and values in 16 bits.
Precision = Literal["float32", "float16", "dynamic", "int8", "int16x8"]

#: What an int8 file takes and gives.
Interface = Literal["uint8", "float32"]

# Operations that change how values are stored and compute nothing.
REQUANTISING = ("QUANTIZE", "DEQUANTIZE")


def write_tflite(
    saved_model: Path,
    card: Card,
    path: Path,
    precision: Precision = "float32",
    *,
    examples: np.ndarray | None = None,
    interface: Interface = "uint8",
    in_float: int = 0,
) -> list[str]:
    """Convert a SavedModel to a TFLite file that needs no Flex operations, with labels and card inside.

    In a process of its own: the converter prints to the standard streams and never gives its memory back.

    Args:
        saved_model: What `write_saved_model` wrote.
        card: Put inside.
        path: The file to write.
        precision: As the type says.
        examples: float32 `(images, size, size, channels)`, from which int8 and int16x8 learn the range of values.
        interface: Of int8: uint8 takes the pixels as they are.
        in_float: How many layers int8 leaves in float: those whose values it would change most.

    Returns:
        The names of those layers.

    Raises:
        ExportError: The converter failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        shown, left = Path(scratch) / "examples.npy", Path(scratch) / "in_float.json"
        if examples is not None:
            np.save(shown, examples)
        task = {
            "saved_model": str(saved_model),
            "output": str(path),
            "precision": precision,
            "examples": str(shown),
            "interface": interface,
            "in_float": in_float,
            "in_float_names": str(left),
        }
        words = [sys.executable, "-m", "keras_inception.export.converter", json.dumps(task)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            _LOG.error("%s", done.stderr)
            reason = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
            raise ExportError(f"TensorFlow could not convert the model to TFLite in {precision}: {reason}")
        names = json.loads(left.read_text())
    put_into_zip(card, path)
    return list(dict.fromkeys(map(_layer, names)))


def _layer(tensor: str) -> str:
    """Return the layer that a tensor of a converted graph is of: its name's second part, without Keras's number.

    >>> _layer("googlenet_1/inception_3a_3x3_relu_1/Relu;googlenet_1/inception_3a_3x3_1/convolution")
    'inception_3a_3x3_relu'
    >>> _layer("StatefulPartitionedCall_2:0")
    'probabilities'
    """
    parts = tensor.split(";")[0].split("/")
    return re.sub(r"_\d+$", "", parts[1]) if len(parts) > 1 else PROBABILITIES


def operations(path: Path) -> Counter[str]:
    """Return how often each operation stands in a TFLite file."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    graph = model.Subgraphs(0)
    indices = [graph.Operators(i).OpcodeIndex() for i in range(graph.OperatorsLength())]
    return Counter(names[max(codes[i].BuiltinCode(), codes[i].DeprecatedBuiltinCode())] for i in indices)


def expected_operations(table: Architecture) -> Counter[str]:
    """Return the operations that a table's network consists of in TFLite, without padding and requantising.

    Batch normalisation is folded into the convolutions, and the auxiliary heads are not there. The paper's table has 57
    convolutions, 9 concatenations and 13 max pools.
    """
    expected = Counter({"MEAN": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1})
    for row in table.rows:
        match row:
            case Conv():
                expected["CONV_2D"] += 1 + (row.reduce > 0)
            case MlpConv():
                expected["CONV_2D"] += 3
            case MaxPool():
                expected["MAX_POOL_2D"] += 1
            case LRN():
                expected["LOCAL_RESPONSE_NORMALIZATION"] += 1
            case Inception():
                optional = sum(width > 0 for width in (row.reduce3x3, row.reduce5x5, row.pool_projection))
                expected += Counter({"CONV_2D": 3 + optional, "MAX_POOL_2D": 1, "CONCATENATION": 1})
            case FullyConnected():
                expected["CONV_2D"] += 1
    return expected


def check_operations(found: Mapping[str, int], table: Architecture, name: str) -> None:
    """Raise ExportError where a file has other operations than the table's network: a head, or stray arithmetic."""
    counted = Counter({kind: count for kind, count in found.items() if kind not in ("PAD", *REQUANTISING)})
    expected = expected_operations(table)
    if counted != expected:
        kinds = sorted(kind for kind in counted | expected if counted[kind] != expected[kind])
        said = ", ".join(f"{counted[kind]} {kind} in place of {expected[kind]}" for kind in kinds)
        raise ExportError(f"the graph of {name} is not that of the network: {said}")
