"""Run and train the networks of a folder on the backend that Keras is set to: run as a program, without TensorFlow.

The folder holds a table (NAME.json), weights (NAME.keras) and images (NAME.npy) of each network. Arguments: the folder,
and the file for what they answer.
"""

import sys
from pathlib import Path

import keras
import numpy as np

import keras_inception as ki

CLASSES = 7
TRAINED = ("googlenet", "googlenet-small")  # the one with LRN and biases, the other with batch normalisation


def build(folder: Path, name: str, data_format: str) -> keras.Model:
    """Build a network in a data format, with all its heads, and with its weights where they are there."""
    keras.config.set_image_data_format(data_format)
    file = folder / f"{name}.keras"
    table = ki.Architecture.from_json((folder / f"{name}.json").read_text(encoding="utf-8"))
    return ki.GoogLeNet(
        architecture=table,
        input_shape=images(folder, name, data_format).shape[1:],
        classes=CLASSES,
        auxiliary=bool(table.auxiliary),
        weights=file if file.exists() else None,
    )


def images(folder: Path, name: str, data_format: str) -> np.ndarray:
    """Read a network's images, in a data format."""
    x = np.load(folder / f"{name}.npy")
    return x if data_format == "channels_last" else x.transpose(0, 3, 1, 2)


def answers(folder: Path, name: str, way: str) -> dict[str, np.ndarray]:
    """Return what every output answers: of the file as it was saved, or of a model built anew with channels first."""
    if way == "channels_first":
        model, x = build(folder, name, way), images(folder, name, way)
    else:
        model, x = keras.saving.load_model(folder / f"{name}.keras"), images(folder, name, "channels_last")
    outputs = model.predict(x, verbose=0)
    return outputs if isinstance(outputs, dict) else {"main": outputs}


def losses(folder: Path, name: str) -> list[float]:
    """Train a network for some steps of gradient descent by compile and fit, and return the loss before each."""
    model, x = build(folder, name, "channels_last"), images(folder, name, "channels_last")
    labels = np.arange(len(x)) % CLASSES
    model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    y = dict.fromkeys(model.output, labels) if isinstance(model.output, dict) else labels
    return model.fit(x, y, epochs=4, shuffle=False, verbose=0).history["loss"]


def main(folder: Path, file: str) -> None:
    found = {f"{name} losses": np.asarray(losses(folder, name)) for name in TRAINED}
    for path in sorted(folder.glob("*.keras")):
        for way in ("file", "channels_first"):
            for head, answer in answers(folder, path.stem, way).items():
                found[f"{path.stem} {way} {head}"] = answer
    assert "tensorflow" not in sys.modules
    np.savez(file, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
