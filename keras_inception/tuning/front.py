"""Trials as values: what each scored and costs, the front of them, and the tables they are written to."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["running", "scored", "failed"]

#: The number of the given network at its full cost, which is scored beside the trials.
GIVEN = -1


@dataclass(frozen=True)
class Trial:
    """A network that a search tried.

    Args:
        number: From 0, in the order they began; 0 is the given architecture scaled alike to the budget, but of
            Hyperband, and `GIVEN` that at its own cost.
        values: Of the hyperparameters.
        multiply_adds: For one image.
        parameters: Without heads.
        widths: Channels of the modules of every stage, summed, as a share of the given ones.
        state: "running", "scored" or "failed".
        top1: Share of the validation images that the main head answers right.
        interval: 95% interval of it (Wilson, 1927), from the number of images alone.
        seconds: That it took.
        message: Why it failed.
        latency_ms: For one image as a TFLite file on one thread of this machine, where it was measured.
    """

    number: int
    values: Mapping[str, float]
    multiply_adds: int
    parameters: int
    widths: Mapping[str, float]
    state: State = "running"
    top1: float | None = None
    interval: tuple[float, float] | None = None
    seconds: float = 0.0
    message: str = ""
    latency_ms: float | None = None


def interval(right: int, images: int) -> tuple[float, float]:
    """Return the 95% interval of a share of images (Wilson, 1927)."""
    from scipy.stats import binomtest

    found = binomtest(right, images).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Return what was scored, the largest top-1 first; of several, the cheapest, and of these the first."""
    scored = [trial for trial in trials if trial.top1 is not None]
    return sorted(scored, key=lambda trial: (-(trial.top1 or 0), trial.multiply_adds, trial.number))


def best(trials: Sequence[Trial]) -> Trial | None:
    """Return the first of `ranked`; None where nothing was scored."""
    return next(iter(ranked(trials)), None)


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the places of the points, (score, cost), that none beats, by rising cost; of equal points the first.

    One beats another that scores as high at a lower cost, or higher at the same.

    >>> front([(0.8, 5), (0.7, 3), (0.6, 4), (0.9, 9), (0.8, 5)])
    [1, 0, 3]
    """
    found: list[int] = []
    for place in sorted(range(len(points)), key=lambda place: (points[place][1], -points[place][0], place)):
        if not found or points[place][0] > points[found[-1]][0]:
            found.append(place)
    return found


def front_of(trials: Sequence[Trial]) -> list[Trial]:
    """Return the scored trials that none beats in top-1 and multiply-adds, by rising cost.

    Costs that differ by less than a hundredth of the largest are equal: so do those that a budget was found for.
    """
    scored = [trial for trial in trials if trial.top1 is not None]
    most = max((trial.multiply_adds for trial in scored), default=1)
    return [
        scored[place]
        for place in front([(trial.top1 or 0.0, round(trial.multiply_adds / most, 2)) for trial in scored])
    ]


def as_csv(trials: Sequence[Trial]) -> str:
    """Return trials as a table with a column for every hyperparameter."""
    rows = []
    for trial in trials:
        row: dict[str, Any] = asdict(trial)
        values, bounds = row.pop("values"), row.pop("interval") or ("", "")
        stages = {f"stage {name}": share for name, share in row.pop("widths").items()}
        rows.append(row | {"low": bounds[0], "high": bounds[1]} | stages | values)
    text = io.StringIO()
    if rows:
        table = csv.DictWriter(text, fieldnames=list(dict.fromkeys(name for row in rows for name in row)))
        table.writeheader()
        table.writerows(rows)
    return text.getvalue()
