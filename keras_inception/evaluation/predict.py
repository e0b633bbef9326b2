"""Answers of a model for images without labels."""

import glob
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from keras_inception.card import read_card
from keras_inception.data.decode import decode
from keras_inception.errors import DataError
from keras_inception.evaluation.answers import BATCH
from keras_inception.evaluation.predictions import Prediction, check_below, likeliest
from keras_inception.predictor import open_model, preparation


def predict(
    run: str | Path,
    images: Sequence[str],
    top: int = 5,
    *,
    reject_below: float | None = None,
    on_broken: Callable[[str], None] = lambda line: None,
) -> list[Prediction]:
    """Classify image files with a run's best model or an exported file.

    TFLite and ONNX files are run without TensorFlow.

    Args:
        run: The run's folder, or the exported file.
        images: Files, folders (with all images below) or glob patterns.
        top: How many labels to give for each, ≥ 1.
        reject_below: An answer of a lower probability counts as none of the classes.
        on_broken: Called with a line for each file found in a folder or by a pattern that cannot be decoded; it is
            left out.

    Raises:
        RunError: There is no trained run, and no such file.
        DataError: An image is missing, a file named itself cannot be decoded or no file can, `top` is below 1 or
            `reject_below` is no probability.
    """
    if top < 1:
        raise DataError(f"top is {top}; it takes a number ≥ 1")
    check_below(reject_below)
    card = read_card(run)
    files = [file for word in images for file in _matching_files(word)]
    predictor = open_model(run)
    prepared = preparation(predictor.kind)
    names: list[str] = []

    def inputs() -> Iterator[np.ndarray]:
        for path, named in files:
            try:
                pixels = decode(path, card.data.channels)
            except DataError as error:
                if named:
                    raise
                on_broken(str(error))
                continue
            names.append(str(path))
            yield prepared(pixels, card.data)

    rows = [predictor.probabilities(np.stack(batch)) for batch in _batched(inputs())]
    if not rows:
        raise DataError(f"none of {len(files)} images can be decoded; 'keras-inception data check' tells why")
    return likeliest(names, np.concatenate(rows), card.labels, top, reject_below)


def _batched(inputs: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    while batch := list(itertools.islice(inputs, BATCH)):
        yield batch


def _matching_files(word: str) -> list[tuple[Path, bool]]:
    """Return the files that a word stands for, and whether each is named by it."""
    from keras_inception.data.sources import image_files

    path = Path(word)
    if path.is_dir():
        found = image_files(path)
        if not found:
            raise DataError(f"there are no images in folder {word!r}")
        return [(file, False) for file in found]
    if path.exists():
        return [(path, True)]
    matches = sorted(glob.glob(word, recursive=True))
    if not matches:
        raise DataError(f"there is no image {word!r}; give a file, a folder or a pattern such as 'photos/*.jpg'")
    return [(Path(match), False) for match in matches]
