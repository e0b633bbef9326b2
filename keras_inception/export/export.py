"""A run's best model as files for a server, a phone and other runtimes, each proven to answer like it."""

import dataclasses
import importlib.metadata
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keras_inception import __version__
from keras_inception.architecture import LRN, Architecture
from keras_inception.card import Card, put_into_zip, read_card
from keras_inception.data.dataset import TEST, TRAIN
from keras_inception.data.decode import encoded
from keras_inception.errors import ExportError, RunError
from keras_inception.export.answering import Answers, answers_of
from keras_inception.export.manifest import write_manifest
from keras_inception.export.proof import THRESHOLDS, Proof, Thresholds, prove
from keras_inception.export.tflite import Interface, Precision, check_operations, operations, write_tflite
from keras_inception.files import file_sha256, folder_written_beside, write_json, write_text
from keras_inception.predictor import PROBABILITIES, run_model
from keras_inception.report.proof import write_proof
from keras_inception.run_folder import RunFolder

if TYPE_CHECKING:
    from keras_inception.data.images import Images

_LOG = logging.getLogger(__name__)

#: What a run can be exported to.
Format = Literal["saved_model", "tflite", "onnx", "keras"]

# Training images from which int8 and int16x8 learn the range of values: at first, and where that was too few.
_EXAMPLES, _MORE_EXAMPLES = 100, 500
# Images that a SavedModel is given as whole files.
_FILES = 64
# Layers that are left in float where int8 misses what is asked of it.
_IN_FLOAT = 6


def export(
    run: str | Path,
    *,
    to: Sequence[Format] = ("saved_model", "tflite"),
    quantize: Sequence[Precision] = (),
    interface: Interface = "uint8",
    verify_with: str | Path | None = None,
    thresholds: Thresholds = THRESHOLDS,
    on_images: Callable[[int, int], None] = lambda done, total: None,
    on_file: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Write RUN/export, and prove that every file in it answers like the run's best model.

    Each file is loaded in a fresh process and answers the run's test split. The model is built anew in float32 whatever
    the precision of its training; the auxiliary heads are not in it. What stood in RUN/export before stays unless every
    file is within the thresholds.

    The folder holds `saved_model/1`, `model.tflite`, `model_float16.tflite` and so on, `model.onnx` and `model.keras`,
    as asked, each with its labels and preprocessing inside; labels.txt; report.json (what is returned), report.html,
    and manifest.json, which `manifest.verify` checks.

    Where int8 misses its thresholds, more images to learn from, floats in and out, the most sensitive layers in float,
    and int16x8 in its place are tried in this order and measured, until one is good enough. Where int16x8 is asked for
    too, int8 is left out then.

    Args:
        run: The run's folder.
        to: Formats.
        quantize: Further TFLite files.
        interface: What the int8 file takes and gives.
        verify_with: A folder of other images to prove it with, as in `evaluate`'s `data`.
        thresholds: What is allowed.
        on_images: Called while images are read, with their number and that of all.
        on_file: Called with the name of a file before it is made.

    Returns:
        `run`, `images` (how many it was proven with), `of` (which), `thresholds`, `reference` (the run itself),
        `files`, and `attempts` of int8 that were not good enough: each as `Proof` describes.

    Raises:
        RunError: There is no trained run, what was asked for cannot be, or an extra is not installed.
        DataError: Its data are gone, or have other classes now.
        ExportError: A file could not be made, or does not answer like the model; the message names the images.
    """
    from keras_inception.data.pipeline import evaluation_views

    folder = RunFolder(Path(run))
    table = folder.architecture()
    _check_asked(to, quantize, table)
    model = run_model(folder)
    card = dataclasses.replace(read_card(folder.path), provenance=_provenance(folder))
    images, labels, of = _proving_images(card, verify_with, on_images)
    with tempfile.TemporaryDirectory() as scratch, folder_written_beside(folder.export) as new:
        pixels = Path(scratch) / "pixels.npy"
        np.save(pixels, evaluation_views(images, card.data))
        expected = answers_of(folder.path, pixels)
        house = _House(model, card, table, new, Path(scratch), pixels, images, labels, expected, thresholds)
        reference = house.proof(folder.best_keras, folder.best_keras.name, "float32", expected)
        files: list[Proof] = []
        attempts: list[Proof] = []
        for name, proofs in house.files(to, quantize, interface):
            on_file(name)
            *missed, last = proofs
            attempts += missed
            # Where int16x8 is asked for too, an int8 file that misses is dropped.
            (files if (new / last.file).exists() else attempts).append(last)
        _refuse_misses(files)
        write_text(new / "labels.txt", "".join(f"{label}\n" for label in card.labels))
        result = {
            "run": card.name,
            "images": len(images),
            "of": of,
            "thresholds": dataclasses.asdict(thresholds),
            "reference": dataclasses.asdict(reference),
            "files": [dataclasses.asdict(proof) for proof in files],
            "attempts": [dataclasses.asdict(proof) for proof in attempts],
            "provenance": dict(card.provenance),
        }
        write_json(new / "report.json", result)
        write_proof(new / "report.html", result)
        write_manifest(new, card.provenance)
    return result


def tflite_name(precision: Precision) -> str:
    """Return the name of a TFLite file in an export."""
    return "model.tflite" if precision == "float32" else f"model_{precision}.tflite"


@dataclass(frozen=True)
class _House:
    """Where files are made and compared; none leaves it that disagrees.

    Args:
        model: The network in float32, without heads.
        card: Its preprocessing and labels.
        table: Its architecture.
        folder: Where the files are put.
        scratch: For what is not kept.
        pixels: The images to compare on, as `answers_of` takes them.
        images: The same, as they are stored.
        labels: The truth, where it is known.
        expected: What the trained model answers.
        thresholds: What is allowed.
    """

    model: Any
    card: Card
    table: Architecture
    folder: Path
    scratch: Path
    pixels: Path
    images: "Images"
    labels: np.ndarray | None
    expected: Answers
    thresholds: Thresholds

    def files(
        self, to: Sequence[Format], quantize: Sequence[Precision], interface: Interface
    ) -> Iterator[tuple[str, Iterator[Proof]]]:
        """Yield the name of each file and what makes it: the proofs of attempts that missed, and of what is kept."""
        if "saved_model" in to:
            yield "saved_model/1", self._saved_model()
        precisions = list(dict.fromkeys(("float32", *quantize))) if "tflite" in to else []
        for precision in precisions:
            if precision == "int8":
                yield tflite_name(precision), self._int8(interface, others=precisions)
            else:
                yield tflite_name(precision), self._tflite(precision)
        if "onnx" in to:
            yield "model.onnx", self._onnx()
        if "keras" in to:
            yield "model.keras", self._keras()

    def proof(self, path: Path, name: str, precision: Precision, answers: Answers, note: str = "") -> Proof:
        """Compare the answers of a file."""
        return prove(
            path,
            name,
            precision,
            answers,
            self.expected.probabilities,
            self.labels,
            self.images.names,
            self.thresholds,
            note,
        )

    def _answered(self, path: Path, precision: Precision = "float32", note: str = "") -> Proof:
        """Let a file answer in fresh processes and compare."""
        return self.proof(path, str(path.relative_to(self.folder)), precision, answers_of(path, self.pixels), note)

    def _saved_model(self) -> Iterator[Proof]:
        path = self._written_saved_model(self.folder / "saved_model" / "1")
        proof, (count, difference) = self._answered(path), self._of_files(path)
        allowed = self.thresholds.float32
        misses = () if difference <= allowed else (f"of whole files, a probability differs by {difference:.2g}",)
        said = f"{count} whole files through classify_bytes, largest difference {difference:.1e}"
        yield dataclasses.replace(proof, misses=proof.misses + misses, note=said)

    def _of_files(self, path: Path) -> tuple[int, float]:
        """Let a SavedModel decode some images itself; return how many it could, and the largest difference."""
        import tensorflow as tf

        first = range(min(len(self.images), _FILES))
        files = [encoded(self.images.source(place), self.images.names[place]) for place in first]
        given = tf.saved_model.load(path).signatures["classify_bytes"](image_bytes=tf.constant(files))
        decoded = given["decoded"].numpy()
        differences = np.abs(given[PROBABILITIES].numpy() - self.expected.probabilities[: len(files)])[decoded]
        return int(decoded.sum()), float(differences.max(initial=0.0))

    def _written_saved_model(self, path: Path) -> Path:
        from keras_inception.export.saved_model import write_saved_model

        if not path.exists():
            write_saved_model(self.model, self.card, path)
        return path

    def _keras(self) -> Iterator[Proof]:
        path = self.folder / "model.keras"
        self.model.save(path)
        put_into_zip(self.card, path)
        yield self._answered(path)

    def _onnx(self) -> Iterator[Proof]:
        from keras_inception.export.onnx import write_onnx

        path = self.folder / "model.onnx"
        write_onnx(self.model, self.card, path)
        yield self._answered(path)

    def _tflite(self, precision: Precision) -> Iterator[Proof]:
        path = self.folder / tflite_name(precision)
        examples = self._examples(_EXAMPLES) if precision == "int16x8" else None
        write_tflite(self._source(), self.card, path, precision, examples=examples)
        yield self._answered(path, precision, self._graph(path))

    def _int8(self, interface: Interface, others: Sequence[Precision]) -> Iterator[Proof]:
        """Make the int8 file; where it misses, try what helps, one thing after the other.

        Args:
            interface: What it takes and gives at first.
            others: The precisions that are made anyway.
        """
        path, learnt_from = self.folder / tflite_name("int8"), 0
        attempts: tuple[tuple[int, Interface, int], ...] = (
            (_EXAMPLES, interface, 0),
            (_MORE_EXAMPLES, interface, 0),
            (_MORE_EXAMPLES, "float32", 0),
            (_MORE_EXAMPLES, "float32", _IN_FLOAT),
        )
        for count, taken, in_float in dict.fromkeys(attempts):
            if count != learnt_from:
                examples, learnt_from = self._examples(count), count
            layers = write_tflite(
                self._source(), self.card, path, "int8", examples=examples, interface=taken, in_float=in_float
            )
            said = [f"{len(examples)} images to learn from, {taken} in and out"]
            if layers:
                said.append(f"in float: {', '.join(layers)}")
            if _has_lrn(self.table):
                said.append("local response normalisation stays in float")
            proof = self._answered(path, "int8", "; ".join([*said, self._graph(path)]))
            yield proof
            if not proof.misses:
                return
            _LOG.info("%s is not good enough (%s): %s", path.name, proof.note, "; ".join(proof.misses))
        if not _has_lrn(self.table):
            path.unlink()
            if "int16x8" not in others:
                yield from self._tflite("int16x8")

    def _source(self) -> Path:
        """Return a SavedModel to convert: the one that is exported, or one of its own."""
        asked = self.folder / "saved_model" / "1"
        return asked if asked.exists() else self._written_saved_model(self.scratch / "saved_model")

    def _examples(self, count: int) -> np.ndarray:
        """Return training images as the network's input, with the ends of its range in the first of them."""
        from keras_inception.data.images import read_split
        from keras_inception.data.pipeline import evaluation_views, scaled

        images = read_split(self.card.data, self.card.labels, TRAIN, limit=count)
        examples = scaled(evaluation_views(images, self.card.data), self.card.data).numpy()
        # So that whole numbers in are the pixels themselves, whatever the images.
        low, high = self.card.data.value_range
        examples[0, 0, 0], examples[0, 0, 1] = low, high
        return examples

    def _graph(self, path: Path) -> str:
        """Check what a TFLite file consists of, and say how often it stores values anew."""
        found = operations(path)
        check_operations(found, self.table, path.name)
        count = found["QUANTIZE"]
        return f"{count} {'requantisation' if count == 1 else 'requantisations'}" if count else ""


def _refuse_misses(files: Sequence[Proof]) -> None:
    said = [
        f"{proof.file}: {' and '.join(proof.misses)} (most on {', '.join(proof.disagreeing)})"
        for proof in files
        if proof.misses
    ]
    if said:
        raise ExportError(f"nothing was exported, for not all answers like the trained model: {'; '.join(said)}")


def _check_asked(to: Sequence[Format], quantize: Sequence[Precision], table: Architecture) -> None:
    """Raise RunError where what is asked for contradicts itself or cannot be."""
    if not to:
        raise RunError("no format to export to; give --to saved_model, tflite, onnx or keras")
    if quantize and "tflite" not in to:
        raise RunError(f"--quantize {','.join(quantize)} makes TFLite files; add tflite to --to")
    if "int16x8" in quantize and _has_lrn(table):
        raise RunError(
            "int16x8 cannot be had: TFLite has no 16-bit form of local response normalisation; leave it out, or train "
            "an architecture with batch normalisation"
        )


def _has_lrn(table: Architecture) -> bool:
    return any(isinstance(row, LRN) for row in table.rows)


def _proving_images(
    card: Card, other: str | Path | None, on_images: Callable[[int, int], None]
) -> tuple["Images", np.ndarray | None, str]:
    """Return the images to compare on, their labels where they have some, and what to call them."""
    from keras_inception.data.images import read_images, read_split
    from keras_inception.data.sources import folder_split

    if other is None:
        images = read_split(card.data, card.labels, TEST, on_images)
        return images, images.labels, "test images"
    split, labelled = folder_split(Path(other), card.labels)
    images = read_images(split, card.data, on_images)
    return images, images.labels if labelled else None, f"images of {other}"


def _provenance(folder: RunFolder) -> dict[str, str]:
    """Return where an export comes from; no time, so that equal models become equal files."""
    best = max(folder.metrics(), key=lambda row: row["val_main_top1"])
    packages = ("tensorflow", "keras")
    return {
        "run": folder.config().name,
        "architecture": folder.architecture().name,
        "checkpoint": folder.best_keras.name,
        "checkpoint_sha256": file_sha256(folder.best_keras),
        "epoch": f"{best['epoch']:.0f}",
        "keras_inception": __version__,
        **{package: importlib.metadata.version(package) for package in packages},
    }
