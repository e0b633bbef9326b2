"""How long networks take on this machine as TFLite files, side by side: `python -m keras_inception.tuning.latency`.

Times hang on shapes and not on weights, so that a network is timed before it is trained.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_inception.architecture import Architecture
from keras_inception.cost import Shape
from keras_inception.errors import TrainingError

# The networks take turns, so that a busy moment of the machine meets all alike; that long at least, and that often.
# Measured is the time of the processor, which is what a network takes where nothing else runs: beside other work one of
# 6 ms would be interrupted more often than one of 1 ms.
_SECONDS, _ROUNDS, _IN_A_ROUND = 1.0, 15, 2


def latencies(tables: Sequence[Architecture], input_shape: Shape, classes: int) -> list[float]:
    """Return how long each network takes for one image, without heads, as a float32 TFLite file on one thread.

    Measured in a fresh process, the networks by turns.

    Args:
        tables: The networks.
        input_shape: Height, width and channels of the image.
        classes: Number of classes.

    Returns:
        Medians, ms.

    Raises:
        TrainingError: A network could not be converted or run.
    """
    task = {"tables": [table.to_json() for table in tables], "input_shape": list(input_shape), "classes": classes}
    with tempfile.TemporaryDirectory() as scratch:
        words = [sys.executable, "-m", "keras_inception.tuning.latency", scratch]
        done = subprocess.run(words, input=json.dumps(task), capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
            raise TrainingError(f"the networks could not be timed as TFLite files: {reason}; --resume tries again")
        return json.loads((Path(scratch) / "latencies.json").read_text())


def _write_tflite(table: Architecture, input_shape: Shape, classes: int, path: Path) -> None:
    import keras

    from keras_inception.export.converter import convert
    from keras_inception.googlenet import GoogLeNet

    model = GoogLeNet(architecture=table, input_shape=input_shape, classes=classes)
    with tempfile.TemporaryDirectory() as saved_model:
        model.export(saved_model, format="tf_saved_model", verbose=False)
        file, _ = convert({"saved_model": saved_model, "precision": "float32"})
    path.write_bytes(file)
    keras.backend.clear_session()


def _timed(paths: Sequence[Path]) -> list[float]:
    from ai_edge_litert.interpreter import Interpreter

    runs = [_runner(Interpreter(model_path=str(path), num_threads=1)) for path in paths]
    seconds: list[list[float]] = [[] for _ in runs]
    begun, rounds = time.monotonic(), 0
    while rounds < _ROUNDS or time.monotonic() - begun < _SECONDS * len(runs):
        for run, times in zip(runs, seconds, strict=True):
            run()  # to warm the caches after the others
            for _ in range(_IN_A_ROUND):
                start = time.thread_time()
                run()
                times.append(time.thread_time() - start)
        rounds += 1
    return [1000 * float(np.median(times)) for times in seconds]


def _runner(interpreter: Any) -> Any:
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    interpreter.set_tensor(taken["index"], np.random.default_rng(0).random(taken["shape"], np.float32))
    return interpreter.invoke


def main(scratch: str) -> None:
    """Time the networks that are described on stdin."""
    task = json.load(sys.stdin)
    paths = []
    for number, text in enumerate(task["tables"]):
        path = Path(scratch) / f"{number}.tflite"
        _write_tflite(Architecture.from_json(text), tuple(task["input_shape"]), task["classes"], path)
        paths.append(path)
    (Path(scratch) / "latencies.json").write_text(json.dumps(_timed(paths)))


if __name__ == "__main__":
    main(sys.argv[1])
