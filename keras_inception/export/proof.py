"""Whether an exported file answers like the trained model, and what it may differ by."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_inception.export.answering import Answers
from keras_inception.export.tflite import Precision


@dataclass(frozen=True)
class Thresholds:
    """What an export may differ by.

    Args:
        float32: Largest difference of a probability; float32 sums in another order stay far below.
        float16: The same for weights in 16 bits.
        agreement: Least share of images with the trained model's answer, where values or weights are in 8 bits.
        accuracy_loss: Largest loss of top-1 there, as a share of the images.
    """

    float32: float = 1e-4
    float16: float = 2e-3
    agreement: float = 0.97
    accuracy_loss: float = 0.01


#: What is allowed unless something else is asked for.
THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class Proof:
    """How a file answers beside the trained model.

    Args:
        file: Its name in the export, or of the run.
        precision: How it stores numbers.
        bytes: Its size.
        largest_difference: Of a probability.
        agreement: Share of the images for which the likeliest class is the same.
        top1: Share of the images answered rightly; None without labels.
        top1_interval: Wilson's 95% interval; None without labels.
        latency_ms: A row for each number of threads and of images in a batch: median and 95th percentile, ms.
        misses: What it differs by more than is allowed, a sentence each.
        disagreeing: Names of the images that differ most: those with another answer first, then by the largest
            difference of a probability.
        note: What else is to be known.
    """

    file: str
    precision: Precision
    bytes: int
    largest_difference: float
    agreement: float
    top1: float | None
    top1_interval: tuple[float, float] | None
    latency_ms: list[dict[str, float]]
    misses: tuple[str, ...] = ()
    disagreeing: tuple[str, ...] = ()
    note: str = ""


# Images named where a file disagrees.
_NAMED = 5


def prove(
    path: Path,
    name: str,
    precision: Precision,
    answers: Answers,
    expected: np.ndarray,
    labels: np.ndarray | None,
    images: Sequence[str],
    thresholds: Thresholds,
    note: str = "",
) -> Proof:
    """Compare what a file answered with what the trained model answers.

    Args:
        path: The file or folder.
        name: What it is called in the report.
        precision: How it stores numbers: says which thresholds hold.
        answers: What it answered.
        expected: The trained model's probabilities, `(images, classes)`.
        labels: The truth, `(images,)`; None where it is not known.
        images: Their names.
        thresholds: What is allowed.
        note: As in `Proof`.
    """
    given = answers.probabilities
    differences = np.abs(given - expected).max(axis=1)
    same = given.argmax(axis=1) == expected.argmax(axis=1)
    # Those with another answer first.
    worst = np.lexsort((-differences, same))[:_NAMED]
    top1, before = (None, None) if labels is None else (_top1(given, labels), _top1(expected, labels))
    return Proof(
        file=name,
        precision=precision,
        bytes=sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file()),
        largest_difference=float(differences.max()),
        agreement=float(same.mean()),
        top1=top1,
        top1_interval=None if labels is None else _interval(given, labels),
        latency_ms=[
            {"threads": threads, "batch": batch, "median": median, "p95": late}
            for (threads, batch), (median, late) in answers.latency_ms.items()
        ],
        misses=tuple(_misses(precision, float(differences.max()), float(same.mean()), before, top1, thresholds)),
        disagreeing=tuple(images[place] for place in worst),
        note=note,
    )


def _misses(
    precision: Precision,
    difference: float,
    agreement: float,
    before: float | None,
    top1: float | None,
    thresholds: Thresholds,
) -> list[str]:
    misses = []
    if precision in ("float32", "float16"):
        allowed = getattr(thresholds, precision)
        if not difference <= allowed:
            misses.append(f"a probability differs by {difference:.2g}, more than {allowed:g}")
        return misses
    if agreement < thresholds.agreement:
        misses.append(f"{agreement:.1%} of the answers are the same, less than {thresholds.agreement:.1%}")
    if before is not None and top1 is not None and before - top1 > thresholds.accuracy_loss + 1e-9:
        misses.append(f"top-1 falls from {before:.1%} to {top1:.1%}, by more than {thresholds.accuracy_loss:.1%}")
    return misses


def _top1(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())


def _interval(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    from scipy.stats import binomtest

    right = int((probabilities.argmax(axis=1) == labels).sum())
    low, high = binomtest(right, len(labels)).proportion_ci(method="wilson")
    return float(low), float(high)
