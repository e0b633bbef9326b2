"""One interface to whatever answers: a run, SavedModel, TFLite, ONNX or Keras file. Pixels in, probabilities out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_inception.card import Kind, kind_of
from keras_inception.config import DataConfig
from keras_inception.errors import RunError, imported
from keras_inception.run_folder import RunFolder

#: Name of the output of every exported model.
PROBABILITIES = "probabilities"


@dataclass(frozen=True)
class Predictor:
    """A model that answers.

    Args:
        kind: What it is.
        probabilities: From float32 `(batch, height, width, channels)` in the model's range to float32
            `(batch, classes)`, or `(batch, outputs, classes)` of `open_heads`.
    """

    kind: Kind
    probabilities: Callable[[np.ndarray], np.ndarray]

    def answers(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """Return the probabilities of all images in `batches`, `(images, classes)`."""
        return np.concatenate([self.probabilities(batch) for batch in batches])


def open_model(path: str | Path, threads: int | None = None) -> Predictor:
    """Open a run's best model, or an exported file; only runs, `.keras` files and SavedModels need TensorFlow.

    Args:
        path: A run's folder, a SavedModel's numbered folder, a .tflite, .onnx or .keras file, or the name of published
            weights.
        threads: That a TFLite or ONNX file is computed in; None leaves it to the library. TensorFlow's are those of
            the process.

    Raises:
        RunError: There is none, or no epoch of the run has ended.
    """
    path = Path(path)
    openers: dict[Kind, Callable[[], Predictor]] = {
        "run": lambda: open_run(path),
        "saved_model": lambda: open_saved_model(path),
        "tflite": lambda: open_tflite(path, threads),
        "onnx": lambda: open_onnx(path, threads),
        "keras": lambda: open_keras(path),
        "published": lambda: open_published(str(path)),
    }
    return openers[kind_of(path)]()


def preparation(kind: Kind) -> Callable[[np.ndarray, DataConfig], np.ndarray]:
    """Return what makes the network's input of a decoded image: TensorFlow, where it is loaded anyway."""
    if kind in ("tflite", "onnx"):
        from keras_inception.data.sizing import model_input

        return model_input
    from keras_inception.data.pipeline import network_input

    return network_input


def open_run(path: str | Path) -> Predictor:
    """Open the best model of a run, without its heads and in float32 whatever the precision of its training.

    Raises:
        RunError: There is no run, or no epoch of it has ended.
    """
    return keras_predictor(run_model(RunFolder(Path(path))))


def open_heads(path: str | Path) -> tuple[tuple[str, ...], Predictor]:
    """Open the best model of a run with its auxiliary heads, in float32.

    Returns:
        The names of the outputs, "main" first, and what answers with the probabilities of all of them, float32
        `(batch, outputs, classes)`.

    Raises:
        RunError: As `open_run`, or the run has no auxiliary heads.
    """
    folder = RunFolder(Path(path))
    heads = folder.architecture().auxiliary
    if not folder.config().model.auxiliary or not heads:
        raise RunError(f"{str(folder.path)!r} was trained without auxiliary heads; leave out --heads")
    names = ("main", *(head.name for head in heads))
    answers = _traced(run_model(folder, auxiliary=True))

    def probabilities(images: np.ndarray) -> np.ndarray:
        of_heads = answers(images)
        return np.stack([of_heads[name] for name in names], axis=1)

    return names, Predictor("run", probabilities)


def keras_predictor(model: Any, kind: Kind = "run") -> Predictor:
    """Return a predictor of a Keras model with one output."""
    answers = _traced(model)
    return Predictor(kind, lambda images: answers(images).numpy())


def _traced(model: Any) -> Callable[[np.ndarray], Any]:
    """Return a function that is traced once for batches of all sizes; predict_on_batch is traced twice."""
    import tensorflow as tf

    return tf.function(
        lambda images: model(images, training=False),
        input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)],
    )


def run_model(folder: RunFolder, *, auxiliary: bool = False) -> Any:
    """Build the model of a run in float32 and give it the best weights; raises as `open_run`.

    Args:
        folder: The run.
        auxiliary: Whether it has its auxiliary heads; without, it is the inference model.
    """
    import keras

    from keras_inception.googlenet import GoogLeNet

    config, table, labels = folder.config(), folder.architecture(), folder.labels()
    if not folder.best_keras.exists():
        raise RunError(f"{str(folder.path)!r} has no best.keras: no epoch has ended; go on with train --resume")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return GoogLeNet(
            architecture=table,
            input_shape=(config.data.image_size, config.data.image_size, config.data.channels),
            classes=len(labels),
            auxiliary=auxiliary,
            weights=folder.best_keras,
        )
    finally:
        keras.config.set_dtype_policy(before)


def open_saved_model(path: str | Path) -> Predictor:
    """Open a SavedModel that `export` wrote: the numbered folder itself. Keras is not needed.

    Raises:
        RunError: There is none.
    """
    if not (Path(path) / "saved_model.pb").is_file():
        raise RunError(f"there is no SavedModel in {str(path)!r}; 'keras-inception export' makes one")
    import tensorflow as tf

    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]
    # The loaded object is held by `serve` alone, which keeps its variables alive.
    return Predictor("saved_model", lambda images: serve(**{name: tf.constant(images)})[PROBABILITIES].numpy())


def open_keras(path: str | Path) -> Predictor:
    """Open a `.keras` file that `export` or `import-weights` wrote, without its heads.

    Raises:
        RunError: There is none.
        ArchitectureError: It is damaged.
    """
    _check_file(Path(path))
    from keras_inception.googlenet import inference_model, read_model

    return keras_predictor(inference_model(read_model(path)), "keras")


def open_published(name: str) -> Predictor:
    """Open published weights by their name; they are fetched if need be.

    Raises:
        WeightsError: They cannot be fetched.
    """
    from keras_inception.googlenet import GoogLeNet

    return keras_predictor(GoogLeNet(weights=name), "published")


def open_tflite(path: str | Path, threads: int | None = None) -> Predictor:
    """Open a TFLite file that `export` wrote, by LiteRT. TensorFlow is not needed.

    A file that takes and gives whole numbers is given them: its scales stand in it.

    Args:
        path: The file.
        threads: That it is computed in.

    Raises:
        RunError: There is none.
    """
    _check_file(Path(path))
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(path), num_threads=threads).get_signature_runner()
    ((name, taken),) = run.get_input_details().items()
    given = run.get_output_details()[PROBABILITIES]

    def probabilities(images: np.ndarray) -> np.ndarray:
        return _as_floats(run(**{name: _as_stored(images, taken)})[PROBABILITIES], given)

    return Predictor("tflite", probabilities)


def open_onnx(path: str | Path, threads: int | None = None) -> Predictor:
    """Open an ONNX file that `export` wrote, by ONNX Runtime. TensorFlow is not needed.

    Args:
        path: The file.
        threads: That it is computed in.

    Raises:
        RunError: There is none, or ONNX Runtime is not installed.
    """
    _check_file(Path(path))
    runtime = imported("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = runtime.InferenceSession(str(path), options)
    (image,) = session.get_inputs()
    return Predictor("onnx", lambda images: session.run([PROBABILITIES], {image.name: images})[0])


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise RunError(f"there is no file {str(path)!r}; 'keras-inception export' makes one")


def _as_stored(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """Return float32 values as a TFLite file takes them: floats, or whole numbers by its scale."""
    if details["dtype"] == np.float32:
        return values
    scale, zero = details["quantization"]
    limits = np.iinfo(details["dtype"])
    return np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(details["dtype"])


def _as_floats(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """Return what a TFLite file gives as float32."""
    if details["dtype"] == np.float32:
        return values
    scale, zero = details["quantization"]
    return (values.astype(np.float32) - zero) * np.float32(scale)
