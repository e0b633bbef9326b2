"""Figures of accuracy: labels and probabilities in, numbers out."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# Of the calibration error and its diagram: Guo et al., arXiv:1706.04599.
_BINS = 15

# Of the bootstrap. Two thousand place the ends of a 95% interval to about a twentieth of its length.
_RESAMPLES = 2_000
_CONFIDENCE = 0.95
# Positions that are drawn at a time: 80 MB.
_DRAWN = 10_000_000

#: What `figures` returns.
FIGURES = (
    *("top1", "top1_error", "top5", "top5_error", "macro_f1", "log_loss"),
    *("intervals", "calibration", "per_class", "confusion"),
)


def figures(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """Measure answers against the truth.

    - `top1`, `top5` (None up to 5 classes) and their errors.
    - `macro_f1`: the mean F1 of the classes that have images.
    - `log_loss`: mean negative logarithm of the true class's probability, which is taken as at least 2.2e-16.
    - `calibration`: the expected calibration error, with 15 bins of equal width (Guo et al., arXiv:1706.04599), and of
      each bin its bounds (the upper belongs to it), images, mean probability and top-1 (None where it is empty).
    - `intervals`: 95% percentile bootstrap intervals over images (2,000 resamples) of the figures above; None of a
      single image.
    - `per_class`: precision, recall, F1 and number of images; 0 where there is nothing to divide by.
    - `confusion`: the true class in rows, the answer in columns.

    Args:
        labels: Integers of shape `(images,)`: positions in `classes`.
        probabilities: Of shape `(images, classes)`; rows are brought to a sum of 1.
        classes: Names of the classes.
        seed: Of the bootstrap.

    Returns:
        Values that JSON can hold.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    probabilities = probabilities.astype(np.float64) / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    known = range(len(classes))
    guesses = probabilities.argmax(axis=1)
    of_images = _of_images(labels, probabilities)
    precision, recall, f1, support = precision_recall_fscore_support(labels, guesses, labels=known, zero_division=0)
    values = {name: float(numbers.mean()) for name, numbers in of_images.items()}
    statistics: dict[str, Callable[..., np.ndarray]] = {
        name: lambda positions, axis=-1, numbers=numbers: numbers[positions].mean(axis=axis)
        for name, numbers in of_images.items()
    }
    return {
        "top1": values["top1"],
        "top1_error": 1 - values["top1"],
        "top5": values.get("top5"),
        "top5_error": 1 - values["top5"] if "top5" in values else None,
        "macro_f1": float(f1[support > 0].mean()),
        "log_loss": values["log_loss"],
        "intervals": {
            name: _interval(statistic, len(labels), seed)
            for name, statistic in (statistics | {"macro_f1": _macro_f1(labels, guesses, len(classes))}).items()
        },
        "calibration": calibration(probabilities.max(axis=1), guesses == labels),
        "per_class": {
            name: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "images": int(support[i]),
            }
            for i, name in enumerate(classes)
        },
        "confusion": confusion_matrix(labels, guesses, labels=known).tolist(),
    }


def calibration(confidences: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Return the expected calibration error and the bins of the reliability diagram, as described in `figures`.

    Args:
        confidences: Of shape `(images,)`: the probability of each answer.
        right: Whether it is right.
    """
    edges = np.linspace(0, 1, _BINS + 1)
    places = np.digitize(confidences, edges[1:-1], right=True)
    counts, confidence, hits = (
        np.bincount(places, weights, minlength=_BINS) for weights in (None, confidences, right.astype(np.float64))
    )
    bins = [
        {
            "above": float(edges[i]),
            "up_to": float(edges[i + 1]),
            "images": int(counts[i]),
            "probability": float(confidence[i] / counts[i]) if counts[i] else None,
            "top1": float(hits[i] / counts[i]) if counts[i] else None,
        }
        for i in range(_BINS)
    ]
    return {"ece": float(np.abs(hits - confidence).sum() / len(right)), "bins": bins}


def rejection(labels: np.ndarray | None, probabilities: np.ndarray, below: float) -> dict[str, Any]:
    """Measure what becomes of answers when those of a probability below `below` count as none of the classes.

    Args:
        labels: As in `figures`; None where they are not known.
        probabilities: As in `figures`.
        below: Least probability of an answer, in [0, 1].

    Returns:
        How many images are answered, their share (coverage), and top-1 of the answered (None where there are none).
    """
    answered = probabilities.max(axis=1) >= below
    result: dict[str, Any] = {"below": below, "answered": int(answered.sum()), "coverage": float(answered.mean())}
    if labels is not None:
        hits = probabilities.argmax(axis=1) == labels
        result["top1"] = float(hits[answered].mean()) if answered.any() else None
    return result


def head_figures(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return top-1 and log loss, as in `figures`, of one head."""
    of_images = _of_images(labels, probabilities / probabilities.sum(axis=1, keepdims=True))
    return {name: float(of_images[name].mean()) for name in ("top1", "log_loss")}


def _of_images(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Return what every image contributes to the figures that are means over images."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    found = order == labels[:, None]
    of_truth = probabilities[np.arange(len(labels)), labels]
    result = {"top1": found[:, 0], "log_loss": -np.log(np.maximum(of_truth, np.finfo(np.float64).eps))}
    return result | {"top5": found.any(axis=1)} if probabilities.shape[1] > 5 else result


def _macro_f1(labels: np.ndarray, guesses: np.ndarray, classes: int) -> Callable[..., np.ndarray]:
    """Return the macro-F1 of images at positions, for many drawings at once, as a row each."""

    def counted(members: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Count classes by row, where `chosen`."""
        rows = np.broadcast_to(np.arange(len(members))[:, None], members.shape)
        return np.bincount((rows * classes + members)[chosen], minlength=len(members) * classes).reshape(-1, classes)

    def statistic(positions: np.ndarray, axis: int = -1) -> np.ndarray:
        drawn = np.atleast_2d(positions)
        truth, answers = labels[drawn].astype(np.int64), guesses[drawn]
        everywhere = np.ones(drawn.shape, bool)
        support, given = counted(truth, everywhere), counted(answers, everywhere)
        f1 = 2 * counted(truth, truth == answers) / np.maximum(support + given, 1)
        return (f1.sum(axis=1) / (support > 0).sum(axis=1)).reshape(positions.shape[:-1])

    return statistic


def _interval(statistic: Callable[..., np.ndarray], images: int, seed: int) -> list[float] | None:
    from scipy.stats import bootstrap

    if images < 2:
        return None
    found = bootstrap(
        (np.arange(images),),
        statistic,
        n_resamples=_RESAMPLES,
        batch=max(1, _DRAWN // images),
        vectorized=True,
        confidence_level=_CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return [float(found.low), float(found.high)]
