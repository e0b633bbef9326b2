"""What a trained run is worth: figures over a split that it has not seen, and answers for single images."""

import glob
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_inception import report
from keras_inception.data.dataset import TEST
from keras_inception.data.decode import decode
from keras_inception.errors import DataError
from keras_inception.files import write_json
from keras_inception.predictor import open_run
from keras_inception.run_folder import RunFolder

_BATCH = 32


def evaluate(
    run: str | Path, split: str = TEST, *, on_images: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Measure a run's best model on one of its splits, and write evaluation.json, confusion.json and confusion.png.

    Args:
        run: The run's folder; for another split than the test's, its name is added to the names of the files.
        split: "test", "validation" or "train".
        on_images: Called while images are read, with their number and that of all.

    Returns:
        Top-1, top-5 (where there are more than 5 classes), and precision, recall and number of images per class.

    Raises:
        RunError: There is no trained run.
        DataError: Its data are gone, or have other classes now.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

    from keras_inception.data.pipeline import evaluation_batches, read_split

    folder = RunFolder(Path(run))
    config, classes = folder.config(), folder.labels()
    predictor = open_run(run)
    images = read_split(config.data, classes, split, on_images)
    batches = evaluation_batches(images, config.data, batch_size=_BATCH, outputs=())
    probabilities = predictor.answers(inputs for inputs, _ in batches.as_numpy_iterator())
    labels = images.labels

    known = range(len(classes))
    guesses = probabilities.argmax(axis=1)
    matrix = confusion_matrix(labels, guesses, labels=known)
    precision, recall, _, support = precision_recall_fscore_support(labels, guesses, labels=known, zero_division=0)
    result: dict[str, Any] = {
        "split": split,
        "images": len(labels),
        "top1": float((guesses == labels).mean()),
        "top5": float(top_k_accuracy_score(labels, probabilities, k=5, labels=known)) if len(classes) > 5 else None,
        "per_class": {
            name: {"precision": float(precision[i]), "recall": float(recall[i]), "images": int(support[i])}
            for i, name in enumerate(classes)
        },
        "broken_images": list(images.broken),
    }
    suffix = "" if split == TEST else f"_{split}"
    write_json(folder.path / f"confusion{suffix}.json", {"classes": classes, "matrix": matrix.tolist()})
    title = f"{config.name}: top-1 {result['top1']:.1%} of {len(labels)} {split} images"
    report.draw_confusion(matrix, classes, folder.path / f"confusion{suffix}.png", title=title)
    write_json(folder.path / f"evaluation{suffix}.json", result)
    return result


@dataclass(frozen=True)
class Prediction:
    """What a run says of one image.

    Args:
        image: The file.
        top: Labels with their probabilities, the likeliest first.
    """

    image: str
    top: tuple[tuple[str, float], ...]


def predict(run: str | Path, images: Sequence[str], top: int = 5) -> list[Prediction]:
    """Classify image files with a run's best model.

    Args:
        run: The run's folder.
        images: Files, folders (with all images below) or glob patterns.
        top: How many labels to give for each, ≥ 1.

    Raises:
        RunError: There is no trained run.
        DataError: An image is missing or cannot be decoded; `top` is below 1.
    """
    from keras_inception.data.pipeline import network_input
    from keras_inception.data.sources import image_files

    if top < 1:
        raise DataError(f"top is {top}; it takes a number ≥ 1")
    folder = RunFolder(Path(run))
    config, classes = folder.config(), folder.labels()
    paths = [path for word in images for path in _matching_files(word, image_files)]
    inputs = (network_input(decode(path, config.data.channels), config.data) for path in paths)
    rows = open_run(run).answers(map(np.stack, _batched(inputs)))
    best = np.argsort(-rows, axis=1, kind="stable")[:, :top]
    return [
        Prediction(str(path), tuple((classes[i], float(row[i])) for i in order))
        for path, row, order in zip(paths, rows, best, strict=True)
    ]


def _batched(inputs: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    inputs = iter(inputs)
    while batch := list(itertools.islice(inputs, _BATCH)):
        yield batch


def _matching_files(word: str, image_files: Callable[[Path], list[Path]]) -> list[Path]:
    path = Path(word)
    if path.is_dir():
        found = image_files(path)
        if not found:
            raise DataError(f"there are no images in folder {word!r}")
        return found
    if path.exists():
        return [path]
    found = [Path(match) for match in sorted(glob.glob(word, recursive=True))]
    if not found:
        raise DataError(f"there is no image {word!r}; give a file, a folder or a pattern such as 'photos/*.jpg'")
    return found
