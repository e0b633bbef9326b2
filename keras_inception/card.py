"""What an answering model must be known by: its labels and its preprocessing. It travels inside every exported file."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from keras_inception.config import DataConfig
from keras_inception.errors import InceptionError, RunError, imported
from keras_inception.run_folder import RunFolder
from keras_inception.weights.imagenet import class_names
from keras_inception.weights.published import CROP_FRACTION, PUBLISHED, PublishedWeights

#: What answers: a run's folder, a file or folder that was exported, or published weights.
Kind = Literal["run", "saved_model", "tflite", "onnx", "keras", "published"]

#: Name of the card inside a .tflite and .keras file, in a SavedModel's folder assets.extra, and in an ONNX's metadata.
CARD = "keras_inception.json"

# What the images of a model go through before it sees them.
_PREPROCESSING = ("image_size", "channels", "value_range", "resize", "crop_fraction")


@dataclass(frozen=True)
class Card:
    """What an answering model must be known by.

    Args:
        path: The run's folder, the exported file, or a SavedModel's numbered folder.
        name: Of the run.
        labels: Names of the classes.
        data: Its preprocessing; that of a run has the images it was trained on too.
        provenance: Where an exported file comes from: a name to a value, both text.
    """

    path: Path
    name: str
    labels: tuple[str, ...]
    data: DataConfig
    provenance: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return what travels inside a file: all but the path, and of the data the preprocessing alone."""
        value = {
            "name": self.name,
            "labels": self.labels,
            "preprocessing": {name: getattr(self.data, name) for name in _PREPROCESSING},
            "provenance": dict(self.provenance),
        }
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, path: Path) -> "Card":
        """Read what `to_json` wrote; raises RunError where it is something else."""
        try:
            value: dict[str, Any] = json.loads(text)
            data = DataConfig(**value["preprocessing"])
            return cls(path, value["name"], tuple(value["labels"]), data, value["provenance"])
        except (ValueError, KeyError, TypeError, InceptionError):
            raise RunError(f"{str(path)!r} holds a card that cannot be read; export the run anew") from None


def kind_of(path: Path) -> Kind:
    """Return what a path is by its ending and, of a folder, its content; what is not there is taken for a run.

    The name of published weights is one where nothing else has it.
    """
    endings: dict[str, Kind] = {".tflite": "tflite", ".onnx": "onnx", ".keras": "keras"}
    if (path / "saved_model.pb").is_file():
        return "saved_model"
    if str(path) in PUBLISHED and not path.exists():
        return "published"
    return endings.get(path.suffix, "run")


def read_card(path: str | Path) -> Card:
    """Read the card of a run, a SavedModel's numbered folder, a .tflite, .onnx or .keras file, or published weights.

    Raises:
        RunError: There is no such thing, or it is no export of this package.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "run":
        folder = RunFolder(path)
        config = folder.config()
        return Card(path, config.name, folder.labels(), config.data)
    if kind == "published":
        return _of_published(PUBLISHED[str(path)])
    if not path.exists():
        raise RunError(f"there is no file {str(path)!r}; 'keras-inception export' makes one")
    readers = {"saved_model": _of_saved_model, "tflite": _of_zip, "keras": _of_zip, "onnx": _of_onnx}
    try:
        text = readers[kind](path)
    except (OSError, KeyError, UnicodeDecodeError, zipfile.BadZipFile):
        raise RunError(
            f"{str(path)!r} holds no labels and no preprocessing: 'keras-inception export' did not write it; give the "
            "run, or one of its exports"
        ) from None
    return Card.from_json(text, path)


def _of_published(weights: PublishedWeights) -> Card:
    data = DataConfig(image_size=weights.image_size, value_range=weights.value_range, crop_fraction=CROP_FRACTION)
    about = {"url": weights.url, "licence": weights.licence, "reference": weights.reference}
    return Card(Path(weights.name), weights.name, class_names(weights.classes), data, about)


def put_into_zip(card: Card, path: Path) -> None:
    """Put the card and the labels into a .keras file, or behind a .tflite one, where LiteRT's tools look for them."""
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in ((CARD, card.to_json()), ("labels.txt", "".join(f"{label}\n" for label in card.labels))):
            # A fixed date: equal models become equal files.
            archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), text)


def put_into_saved_model(card: Card, path: Path) -> None:
    """Put the card into assets.extra, which TensorFlow's tools leave to others."""
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / CARD).write_text(card.to_json(), encoding="utf-8")


def _of_saved_model(path: Path) -> str:
    return (path / "assets.extra" / CARD).read_text(encoding="utf-8")


def _of_zip(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        return archive.read(CARD).decode("utf-8")


def _of_onnx(path: Path) -> str:
    runtime = imported("onnxruntime", "onnx")
    try:
        session = runtime.InferenceSession(str(path))
    except Exception as error:  # of many kinds, which have no base of their own
        raise OSError("ONNX Runtime cannot read it") from error
    return session.get_modelmeta().custom_metadata_map[CARD]
