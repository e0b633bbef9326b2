"""Answers of a run for images without labels."""

import glob
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_inception.data.decode import decode
from keras_inception.errors import DataError
from keras_inception.predictor import open_run
from keras_inception.run_folder import RunFolder

_BATCH = 32


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
