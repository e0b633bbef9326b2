"""The conversion to TFLite, as a process of its own: `python -m keras_inception.export.converter TASK`."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

Examples = Callable[[], Iterator[list[np.ndarray]]]

# Images on which it is measured which layers lose most in 8 bits; all of them would take minutes.
_MEASURED = 20


def convert(task: dict[str, Any]) -> tuple[bytes, list[str]]:
    """Return the TFLite file that a task of `tflite.write_tflite` describes, and the layers left in float."""
    converter = tf.lite.TFLiteConverter.from_saved_model(task["saved_model"], signature_keys=["serving_default"])
    operations, precision = tf.lite.OpsSet, task["precision"]
    converter.target_spec.supported_ops = [operations.TFLITE_BUILTINS]
    if precision == "float32":
        return converter.convert(), []
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    elif precision == "int16x8":
        converter.representative_dataset = _examples(task)
        converter.target_spec.supported_ops = [operations.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8]
    elif precision == "int8":
        converter.representative_dataset = _examples(task)
        if task["in_float"]:
            return _partly(converter, _examples(task, _MEASURED), task["in_float"])
        # What has no 8-bit form, LRN alone, stays in floats.
        converter.target_spec.supported_ops = [operations.TFLITE_BUILTINS_INT8, operations.TFLITE_BUILTINS]
        converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(task["interface"])
    return converter.convert(), []


def _examples(task: dict[str, Any], count: int | None = None) -> Examples:
    images = np.load(task["examples"], mmap_mode="r")[:count]

    def shown() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [image[None]]

    return shown


def _partly(converter: Any, examples: Examples, count: int) -> tuple[bytes, list[str]]:
    """Leave those layers in float whose values 8 bits change most, in steps of their scale."""
    debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_dataset=examples)
    debugger.run()
    table = io.StringIO()
    debugger.layer_statistics_dump(table)
    table.seek(0)
    lost = {
        row["tensor_name"]: np.hypot(float(row["stddev"]), float(row["mean_error"])) / float(row["scale"])
        for row in csv.DictReader(table)
    }
    names = sorted(lost, key=lambda name: -lost[name])[:count]
    debugger.options = tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=names)
    return debugger.get_nondebug_quantized_model(), names


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    file, in_float = convert(task)
    Path(task["output"]).write_bytes(file)
    Path(task["in_float_names"]).write_text(json.dumps(in_float))
