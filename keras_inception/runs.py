"""Runs side by side: those below a folder as a list, and two of them compared."""

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from keras_inception.errors import InceptionError, RunError
from keras_inception.run_folder import RunFolder, State

_DEPTH = 3

#: A difference between two runs: a name, and its value in the first and in the second; None where it has none.
Difference = tuple[str, Any, Any]


@dataclass(frozen=True)
class RunSummary:
    """What a list says about a run.

    Args:
        path: Its folder.
        state: What it is doing; "unreadable" where its files cannot be read by this version.
        epoch: Epochs that have ended.
        epochs: Epochs that are to be; None where the run cannot be read.
        top1: The best top-1 of the main head on validation; None before the first epoch has ended.
        top1_epoch: The epoch that had it first.
        recipe: Its name; None where the run is older than recipes.
        architecture: Its name; None where it cannot be read.
        age: Seconds since a metric or a state was last written.
        problem: Why it is unreadable; "" otherwise.
    """

    path: Path
    state: State | Literal["unreadable"]
    epoch: int
    epochs: int | None
    top1: float | None
    top1_epoch: int | None
    recipe: str | None
    architecture: str | None
    age: float
    problem: str = ""


@dataclass(frozen=True)
class Comparison:
    """What differs between two runs, and what came of them.

    Args:
        configuration: Fields of the configuration that differ, as "section.field".
        environment: Versions, machines and devices that differ.
        results: What came of both, equal or not.
        same_data: Whether both saw the same images, labels and splits; None where it is not known.
    """

    configuration: list[Difference]
    environment: list[Difference]
    results: list[Difference]
    same_data: bool | None


def list_runs(root: Path) -> list[RunSummary]:
    """Return the runs in a folder and up to three levels below it, those of the latest change first.

    Raises:
        RunError: There is no such folder.
    """
    if not root.is_dir():
        raise RunError(f"there is no folder {str(root)!r}; give one with runs, as in 'keras-inception runs runs/'")
    return sorted((_summary(folder) for folder in _found(root, _DEPTH)), key=lambda run: run.age)


def compare_runs(first: Path, second: Path) -> Comparison:
    """Return what differs between two runs, also where another version wrote them.

    Raises:
        RunError: One of the folders holds no run.
    """
    a, b = RunFolder(first), RunFolder(second)
    return Comparison(
        configuration=[line for line in _differences(_configuration(a), _configuration(b)) if line[0] != "name"],
        environment=_differences(_tree(a.environment_json), _tree(b.environment_json)),
        results=_beside(_results(a), _results(b)),
        same_data=_same_data(a, b),
    )


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a tree of mappings, named by the way to them.

    >>> flat({"a": 1, "b": {"c": [2, 3]}})
    {'a': 1, 'b.c': [2, 3]}
    """
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return leaves


def _found(folder: Path, depth: int) -> Iterator[RunFolder]:
    run = RunFolder(folder)
    try:
        # Other programs have a config.json too.
        if run.config_json.is_file() and (run.architecture_json.is_file() or _is_readable(run)):
            yield run
            return
        children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    except PermissionError:
        return
    if depth:
        for child in children:
            yield from _found(child, depth - 1)


def _is_readable(run: RunFolder) -> bool:
    try:
        run.config()
    except (InceptionError, ValueError):
        return False
    return True


def _summary(run: RunFolder) -> RunSummary:
    state: State | Literal["unreadable"]
    problem, epochs, architecture = "", None, None
    try:
        architecture = run.architecture().name
        epochs = run.config().training.epochs
        state = run.state()
    except (InceptionError, ValueError, TypeError, KeyError, OSError) as error:
        state, problem = "unreadable", " ".join(str(error).split())
    rows = _rows(run)
    best = max(rows, key=lambda row: row["val_main_top1"], default=None)
    return RunSummary(
        path=run.path,
        state=state,
        epoch=int(rows[-1]["epoch"]) if rows else 0,
        epochs=epochs,
        top1=None if best is None else best["val_main_top1"],
        top1_epoch=None if best is None else int(best["epoch"]),
        recipe=_tree(run.config_json).get("training.recipe"),
        architecture=architecture,
        age=_age(run),
        problem=problem,
    )


def _rows(run: RunFolder) -> list[dict[str, float]]:
    """Return the metrics; none where they are not this program's."""
    try:
        rows = run.metrics()
    except (ValueError, TypeError, OSError):
        return []
    return [row for row in rows if {"epoch", "val_main_top1"} <= row.keys()]


def _age(run: RunFolder) -> float:
    states = run.checkpoints.glob("*")
    return max(0.0, time.time() - max(map(_changed, (run.config_json, run.metrics_csv, *states))))


def _changed(path: Path) -> float:
    """Return when a file was written; 0 where it is not there: a training removes old states at any moment."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _tree(path: Path) -> dict[str, Any]:
    """Return the leaves of a JSON file; none where it is not there or cannot be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return flat(value) if isinstance(value, dict) else {}


def _configuration(run: RunFolder) -> dict[str, Any]:
    """Return the fields as they stand in the file: it may be of another version."""
    if not run.config_json.is_file():
        run.config()  # raises the error that says what is missing
    return _tree(run.config_json)


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    return [line for line in _beside(first, second) if line[1] != line[2]]


def _beside(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    return [(name, first.get(name), second.get(name)) for name in {**first, **second}]


def _results(run: RunFolder) -> dict[str, Any]:
    summary, about = _summary(run), _tree(run.summary_json)
    last = _rows(run)[-1:]
    results = {
        "state": summary.state,
        "epochs": summary.epoch,
        "best validation top-1": summary.top1,
        "in epoch": summary.top1_epoch,
        "last training loss": last[0].get("loss") if last else None,
        "last validation loss": last[0].get("val_loss") if last else None,
        "training, s": about.get("training_seconds"),
        "parameters": about.get("parameters"),
    }
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in results.items()
    }


def _same_data(first: RunFolder, second: RunFolder) -> bool | None:
    a, b = (_tree(run.data_json).get("fingerprint") for run in (first, second))
    return None if a is None or b is None else a == b
