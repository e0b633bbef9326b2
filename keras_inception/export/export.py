"""A run's best model as files for a server and a phone, each proven to answer like it."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_inception.data.dataset import TEST
from keras_inception.errors import ExportError
from keras_inception.files import folder_written_beside, write_json
from keras_inception.predictor import (
    PROBABILITIES,
    Predictor,
    keras_predictor,
    open_saved_model,
    open_tflite,
    run_model,
)
from keras_inception.run_folder import RunFolder

_LOG = logging.getLogger(__name__)

# A probability may differ by this much: float32 sums in another order, on networks of this depth, stay far below.
TOLERANCE = 1e-4

# Test images on which every export is compared.
_COMPARED = 512
_BATCH = 32


def export(run: str | Path, *, on_images: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
    """Write RUN/export: a SavedModel, a TFLite file and the labels; reload each and compare it with the Keras model.

    Both take float32 images in the run's range, `(batch, size, size, channels)` with any batch, and return
    `probabilities`, `(batch, classes)`. The auxiliary heads are not in them. A model trained in mixed precision is
    built anew in float32. What stood in RUN/export before stays unless all went well.

    Args:
        run: The run's folder.
        on_images: Called while test images are read, with their number and that of all.

    Returns:
        For each file its size and the largest difference of a probability; also written to export/parity.json.

    Raises:
        RunError: There is no trained run.
        DataError: Its data are gone, or have other classes now.
        ExportError: An export differs by more than `TOLERANCE`.
    """
    from keras_inception.data.pipeline import evaluation_batches, read_split

    folder = RunFolder(Path(run))
    model = run_model(folder)
    config = folder.config()
    images = read_split(config.data, folder.labels(), TEST, on_images, limit=_COMPARED)
    batches = evaluation_batches(images, config.data, batch_size=_BATCH, outputs=(), classes=1)
    inputs = [image for image, *_ in batches.as_numpy_iterator()]
    expected = keras_predictor(model).answers(inputs)

    with folder_written_beside(folder.export) as new:
        saved_model, tflite = new / "saved_model" / "1", new / "model.tflite"
        write_saved_model(model, saved_model)
        write_tflite(saved_model, tflite)
        shutil.copy(folder.labels_txt, new / "labels.txt")
        result = {
            "images": len(images),
            "tolerance": TOLERANCE,
            "saved_model": _compare(open_saved_model(saved_model), saved_model, inputs, expected),
            "tflite": _compare(open_tflite(tflite), tflite, inputs, expected),
        }
        write_json(new / "parity.json", result)
    return result


def write_saved_model(model: Any, path: Path) -> None:
    """Write a SavedModel with one signature, `serving_default`: `image` to `probabilities`."""
    import keras

    named = keras.Model(model.input, {PROBABILITIES: model.output})
    named.export(path, verbose=False)


def write_tflite(saved_model: Path, path: Path) -> None:
    """Convert a SavedModel to a TFLite file in float32 that needs no Flex operations.

    In a process of its own: the converter prints to the standard streams and never gives its memory back.
    """
    code = (
        "import sys, tensorflow as tf\n"
        "converter = tf.lite.TFLiteConverter.from_saved_model(sys.argv[1])\n"
        "converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]\n"
        "open(sys.argv[2], 'wb').write(converter.convert())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(saved_model), str(path)], capture_output=True, text=True)
    if done.returncode:
        _LOG.error("%s", done.stderr)
        raise ExportError(f"TensorFlow could not convert the model to TFLite: {done.stderr.strip().splitlines()[-1]}")


def _compare(predictor: Predictor, path: Path, inputs: list[np.ndarray], expected: np.ndarray) -> dict[str, Any]:
    answers = predictor.answers(inputs)
    difference = float(np.abs(answers - expected).max())
    if not difference <= TOLERANCE:
        raise ExportError(
            f"the {predictor.kind} export differs from the trained model by {difference:.2g} in a probability, more "
            f"than {TOLERANCE:g}; nothing was kept"
        )
    return {
        "bytes": sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file()),
        "largest_difference": difference,
        "same_top1": float((answers.argmax(axis=1) == expected.argmax(axis=1)).mean()),
    }
