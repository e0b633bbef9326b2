"""Answers for single images, and the files they are written to."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_inception.errors import DataError
from keras_inception.files import write_json, write_text, written_beside

#: Endings of the files that predictions are written to.
ENDINGS = (".csv", ".parquet", ".json")


@dataclass(frozen=True)
class Prediction:
    """What a run says of one image.

    Args:
        image: The file.
        top: Labels with their probabilities, the likeliest first.
        answer: The likeliest label; None for none of the classes, where its probability is too low.
        label: The truth, where it is known.
    """

    image: str
    top: tuple[tuple[str, float], ...]
    answer: str | None
    label: str | None = None


def check_below(below: float | None) -> None:
    """Raise DataError where the least probability of an answer is no probability."""
    if below is not None and not 0 <= below <= 1:
        raise DataError(f"reject_below is {below:g}; it takes a probability from 0 to 1")


def check_ending(path: Path) -> None:
    """Raise DataError where predictions cannot be written to a file of this name."""
    if path.suffix not in ENDINGS:
        raise DataError(f"predictions are written to .csv, .parquet or .json, not {str(path)!r}; give another ending")


def likeliest(
    names: Sequence[str],
    probabilities: np.ndarray,
    classes: Sequence[str],
    top: int,
    below: float | None = None,
    labels: np.ndarray | None = None,
) -> list[Prediction]:
    """Return the likeliest classes of every image.

    Args:
        names: Of the images.
        probabilities: Of shape `(images, classes)`.
        classes: Names of the classes.
        top: How many for each image.
        below: Least probability of an answer; None takes every answer.
        labels: The truth as positions in `classes`, where it is known.
    """
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [
        Prediction(
            image=name,
            top=tuple((classes[i], float(row[i])) for i in order),
            answer=None if below is not None and row[order[0]] < below else classes[order[0]],
            label=None if labels is None else classes[labels[number]],
        )
        for number, (name, row, order) in enumerate(zip(names, probabilities, best, strict=True))
    ]


def as_json(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as a value for JSON."""
    label = {} if prediction.label is None else {"label": prediction.label}
    top = [{"label": name, "probability": probability} for name, probability in prediction.top]
    return {"image": prediction.image, **label, "answer": prediction.answer, "top": top}


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write predictions as CSV, Parquet or JSON, by the ending of `path`; a table has a row for each image.

    Its columns are `path`, `label` (where the truth is known), `answer` (empty for none of the classes), and
    `top1_label`, `top1_probability`, `top2_label` and so on. In a file name that is no UTF-8 the other bytes stand as
    escapes.
    """
    check_ending(path)
    if path.suffix == ".json":
        write_json(path, [as_json(prediction) for prediction in predictions])
    elif path.suffix == ".csv":
        text = io.StringIO()
        columns = _columns(predictions)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in row])
        write_text(path, text.getvalue())
    else:
        import pyarrow
        import pyarrow.parquet

        kinds = {True: pyarrow.float32(), False: pyarrow.string()}
        arrays = {
            name: pyarrow.array(values, kinds[name.endswith("_probability")])
            for name, values in _columns(predictions).items()
        }
        with written_beside(path) as beside:
            pyarrow.parquet.write_table(pyarrow.table(arrays), beside)


def _columns(predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        "path": [prediction.image.encode(errors="backslashreplace").decode() for prediction in predictions]
    }
    if predictions and predictions[0].label is not None:
        columns["label"] = [prediction.label for prediction in predictions]
    columns["answer"] = [prediction.answer for prediction in predictions]
    for rank in range(len(predictions[0].top) if predictions else 0):
        columns[f"top{rank + 1}_label"] = [prediction.top[rank][0] for prediction in predictions]
        columns[f"top{rank + 1}_probability"] = [prediction.top[rank][1] for prediction in predictions]
    return columns
