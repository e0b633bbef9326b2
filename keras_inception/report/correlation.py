"""Tables and the page about how channels go together, and about the widths that are proposed from it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_inception.architecture import Architecture
from keras_inception.files import write_json, write_text
from keras_inception.report.correlation_pictures import draw_correlation, draw_steps
from keras_inception.report.page import Picture, Section, Table, write_page

if TYPE_CHECKING:
    from keras_inception.analysis.correlation import RowCorrelation
    from keras_inception.analysis.proposal import WidthChange

_CLUSTERS = (
    "Channels are clustered by Ward's method on √(2 − 2r), in as many clusters, from 2 to 64, as have the largest mean "
    "silhouette. Adjusted Rand index and adjusted mutual information compare clusters with branches: 1 where they are "
    "the same, 0 in the mean where branches are dealt at random; 95% of random dealings stay below the index by "
    "chance. Within and between are mean correlations of two channels of the same branch, and of different ones."
)
_STEPS = (
    "The correlation of a channel with itself one and two steps away (root mean square over the positions around), and "
    "of two different channels at the same position, one and two steps away (root mean square over pairs and "
    "positions). A 1×1 convolution sees 0 steps, a 3×3 one, a 5×5 two. A small map has long steps at its borders alone."
)
_PROPOSAL = (
    "Directions: the participation ratio (Σλ)² / Σλ² of the eigenvalues of the correlation matrix of the branch's "
    "channels; of as many: that of as many channels of the module whatever their branch. A branch gets channels in "
    "proportion to those that are not silent, times directions over those of as many; its reduction goes with it; the "
    "sum of the module's channels stays. One factor on all modules then brings the network to the multiply-adds of the "
    "given one. Widths from 16 on are multiples of 8 or the given one; stem and heads stay."
)


def correlation_tables(
    found: "Sequence[RowCorrelation]", changes: "Sequence[WidthChange]"
) -> tuple[Table, Table, Table]:
    """Return tables of clusters and branches, of steps, and of what branches span with the widths proposed from it.

    Args:
        found: Every row that was measured.
        changes: The widths of every branch, given and proposed.
    """
    return _cluster_table(found), _step_table(found), _branch_table(found, changes)


def write_correlation(
    folder: Path,
    name: str,
    found: "Sequence[RowCorrelation]",
    changes: "Sequence[WidthChange]",
    proposed: Architecture,
    *,
    row: str,
    multiply_adds: tuple[int, int],
    measured_on: str,
) -> Path:
    """Write a page about correlation, with its pictures, its values as correlation.json and the proposed table.

    Args:
        folder: Where: correlation.html, correlation.json, correlation.png, steps.png, architecture.json.
        name: Of the network.
        found: Every row that was measured.
        changes: As for `correlation_tables`.
        proposed: The network with the proposed widths.
        row: The row whose matrix is drawn.
        multiply_adds: Of the given network, and of the proposed.
        measured_on: Which images `found` is of.

    Returns:
        The page.
    """
    (shown,) = (one for one in found if one.row == row)
    draw_correlation(shown, folder / "correlation.png", title=f"{name}, {row}: correlation of its channels")
    draw_steps(found, folder / "steps.png", title=f"{name}: correlation over steps on the map")
    clusters, steps, branches = correlation_tables(found, changes)
    before, after = multiply_adds
    sections = [
        Section("Clusters and branches", _CLUSTERS, [clusters], [_picture(folder / "correlation.png", _matrix(shown))]),
        Section(
            "How far correlation reaches",
            _STEPS,
            [steps],
            [_picture(folder / "steps.png", "Over steps down and to the right, with 0 in the middle, of every row")],
        ),
        Section(
            "Widths from correlation",
            f"{_PROPOSAL}\n\narchitecture.json has {after:,} multiply-adds an image, the given network {before:,}. "
            "Train both before believing in either.",
            [branches],
        ),
    ]
    lead = (
        f"Pearson's correlation of channels after their ReLU, on {measured_on}, over images and positions. A silent "
        "channel never varies: it has no correlation and is left out of clusters and directions."
    )
    write_page(folder / "correlation.html", title=f"Correlation in {name}", lead=lead, sections=sections)
    write_json(folder / "correlation.json", _values(found))
    write_text(folder / "architecture.json", proposed.to_json())
    return folder / "correlation.html"


def _cluster_table(found: "Sequence[RowCorrelation]") -> Table:
    rows: list[list[str | int | float]] = []
    for one in found:
        values: list[str | int | float] = [""] * 5
        if one.agreement is not None:
            values = [_rounded(value) for value in dataclasses.astuple(one.agreement)]
        silent = int(one.silent.sum())
        rows.append([one.row, len(one.silent), silent, one.clusters.count, _rounded(one.clusters.silhouette), *values])
    columns = ["row", "channels", "silent", "clusters", "silhouette"]
    columns += ["Rand index", "by chance", "mutual information", "within", "between"]
    return Table(columns, rows, "Clusters of channels, and branches")


def _step_table(found: "Sequence[RowCorrelation]") -> Table:
    rows: list[list[str | int | float]] = [
        [one.row, *map(_rounded, one.own_by_distance[1:]), *map(_rounded, one.others_by_distance)] for one in found
    ]
    columns = ["row", "itself, 1 step", "2 steps", "others, 0 steps", "1 step", "2 steps"]
    return Table(columns, rows, "Correlation over steps")


def _branch_table(found: "Sequence[RowCorrelation]", changes: "Sequence[WidthChange]") -> Table:
    spans = {(one.row, one.branch): one for of_row in found for one in of_row.directions}
    rows: list[list[str | int | float]] = []
    for change in changes:
        one = spans[change.row, change.branch]
        directions = [round(one.effective, 1), round(one.expected, 1)]
        reduction = _arrow(change.reduction) if change.reduction else ""
        rows.append([one.row, one.branch, one.silent, *directions, reduction, _arrow(change.channels)])
    columns = ["module", "branch", "silent", "directions", "of as many", "reduction", "channels"]
    return Table(columns, rows, "What branches span, and the widths proposed from it")


def _arrow(widths: tuple[int, int]) -> str:
    return f"{widths[0]} → {widths[1]}"


def _matrix(shown: "RowCorrelation") -> str:
    orders = "ordered by branch and by cluster; lines part branches and clusters"
    orders = orders if shown.branches else "ordered by cluster; lines part clusters"
    return f"Correlation of the channels of {shown.row}, {orders}"


def _picture(path: Path, caption: str) -> Picture:
    return Picture(path.read_bytes(), caption)


def _values(found: "Sequence[RowCorrelation]") -> list[dict[str, Any]]:
    """Return all that was found but the matrices, as what JSON can hold."""
    return [
        {
            "row": one.row,
            "channels": len(one.silent),
            "observations": one.observations,
            "silent": np.flatnonzero(one.silent).tolist(),
            "clusters": one.clusters.labels.tolist(),
            "silhouette": _known(one.clusters.silhouette),
            "agreement": None if one.agreement is None else _known(dataclasses.asdict(one.agreement)),
            "directions": _known([dataclasses.asdict(branch) for branch in one.directions]),
            "own": _known(one.own.tolist()),
            "others": _known(one.others.tolist()),
        }
        for one in found
    ]


def _known(value: Any) -> Any:
    """Return a value with None for what is no number."""
    if isinstance(value, dict):
        return {name: _known(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_known(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _rounded(value: float) -> float:
    return round(value, 3) + 0.0  # no negative zero
