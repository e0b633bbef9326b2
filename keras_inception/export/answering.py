"""An exported file answers in a process of its own, as it would elsewhere, and is timed.

`python -m keras_inception.export.answering TASK`. A TFLite or ONNX file is run without TensorFlow.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_inception.card import kind_of, read_card
from keras_inception.data.sizing import scaled
from keras_inception.errors import ExportError

#: Batches that are timed.
TIMED_BATCHES = (1, 8)

# Images answered at a time.
_BATCH = 32
# A batch is timed this often, but for no longer than so many seconds if it was timed five times.
_REPEATS, _SECONDS = 50, 3.0


@dataclass(frozen=True)
class Answers:
    """What a file answered, and how fast.

    Args:
        probabilities: float32 `(images, classes)`.
        latency_ms: From the number of threads and of images in a batch, to the median and the 95th percentile.
    """

    probabilities: np.ndarray
    latency_ms: dict[tuple[int, int], tuple[float, float]]


def answers_of(path: Path, pixels: Path) -> Answers:
    """Let a run or an exported file answer, and time it with one thread and with all, each in a fresh process.

    Args:
        path: The run's folder or the file.
        pixels: A .npy file of uint8 `(images, size, size, channels)`.

    Raises:
        ExportError: It could not be loaded or run.
    """
    probabilities, latency = None, {}
    for threads in sorted({1, os.cpu_count() or 1}):
        with tempfile.TemporaryDirectory() as scratch:
            output = Path(scratch) / "answers.npz"
            task = {"path": str(path), "pixels": str(pixels), "output": str(output), "threads": threads}
            words = [sys.executable, "-m", "keras_inception.export.answering", json.dumps(task)]
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
                raise ExportError(f"{path.name} could not be loaded and run in a fresh process: {reason}")
            with np.load(output) as found:
                probabilities = found["probabilities"]
                for batch in TIMED_BATCHES:
                    median, late = np.percentile(found[f"seconds{batch}"] * 1000, (50, 95))
                    latency[threads, batch] = float(median), float(late)
    assert probabilities is not None
    return Answers(probabilities, latency)


def _answer(task: dict[str, Any]) -> None:
    from keras_inception.predictor import open_model

    path = Path(task["path"])
    if kind_of(path) not in ("tflite", "onnx"):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(task["threads"])
        tf.config.threading.set_inter_op_parallelism_threads(task["threads"])
    predictor = open_model(path, task["threads"])
    pixels = np.load(task["pixels"], mmap_mode="r")
    data = read_card(path).data
    parts = [pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH)]
    probabilities = predictor.answers(scaled(part, data) for part in parts)
    found = {"probabilities": probabilities}
    for batch in TIMED_BATCHES:
        images = scaled(np.resize(pixels[:batch], (batch, *pixels.shape[1:])), data)
        found[f"seconds{batch}"] = _seconds(functools.partial(predictor.probabilities, images))
    np.savez(task["output"], allow_pickle=False, **found)


def _seconds(action: Callable[[], Any]) -> np.ndarray:
    """Return how long an action takes, again and again after a first time to warm up."""
    action()
    seconds: list[float] = []
    while len(seconds) < 5 or (len(seconds) < _REPEATS and sum(seconds) < _SECONDS):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return np.asarray(seconds)


if __name__ == "__main__":
    _answer(json.loads(sys.argv[1]))
