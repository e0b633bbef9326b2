"""Pictures of results: values in, PNG files out."""

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_inception.files import written_beside

_HEADS = {"main": "tab:blue", "aux1": "tab:orange", "aux2": "tab:green"}


def draw_curves(rows: Sequence[dict[str, float]], path: Path, *, title: str) -> None:
    """Draw loss and top-1 of every head over epochs, on training (dashed) and validation images.

    Args:
        rows: Metrics, a row per epoch, as in metrics.csv.
        path: The PNG to write.
        title: Written above.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    entitle(figure, title)
    epochs = [row["epoch"] for row in rows]
    heads = [head for head in _HEADS if f"{head}_top1" in rows[0]]
    for axes, quantity, label in zip(figure.subplots(1, 2), ("loss", "top1"), ("loss", "top-1"), strict=True):
        for head in heads:
            values = [row[f"{head}_{quantity}"] for row in rows]
            # Of a single epoch there are no lines, only markers.
            axes.plot(epochs, values, "--", color=_HEADS[head], alpha=0.6, marker="x", markersize=4)
            values = [row[f"val_{head}_{quantity}"] for row in rows]
            axes.plot(epochs, values, color=_HEADS[head], marker=".", label=head)
        axes.plot([], [], "--", color="gray", marker="x", markersize=4, label="training")
        axes.plot([], [], color="gray", marker=".", label="validation")
        axes.set(xlabel="epoch", ylabel=label)
        whole_numbers(axes.xaxis)
        axes.grid(alpha=0.3)
        axes.legend()
    save(figure, path)


def draw_over_epochs(
    rows: Sequence[dict[str, float]],
    path: Path,
    *,
    title: str,
    quantity: str,
    scale: Literal["linear", "log"] = "linear",
) -> None:
    """Draw every column but "epoch" over it, from the first in violet to the last in yellow.

    Args:
        rows: A row per epoch, with the same columns.
        path: The PNG to write.
        title: Written above.
        quantity: What the columns are.
        scale: Of its axis; on a logarithmic one, what is not above 0 is left out.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    entitle(figure, title)
    axes = figure.subplots()
    axes.set_yscale(scale)
    columns = [name for name in rows[0] if name != "epoch"]
    epochs = [row["epoch"] for row in rows]
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.95, len(columns)))
    for name, colour in zip(columns, colours, strict=True):
        values = np.asarray([row[name] for row in rows])
        shown = values if scale == "linear" else np.where(values > 0, values, np.nan)
        axes.plot(epochs, shown, color=colour, marker=".", label=name)
    axes.set(xlabel="epoch", ylabel=quantity)
    whole_numbers(axes.xaxis)
    axes.grid(alpha=0.3)
    if len(columns) > 1:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    save(figure, path)


def draw_confusion(matrix: np.ndarray, classes: Sequence[str], path: Path, *, title: str) -> None:
    """Draw a confusion matrix: the true class in rows, the answer in columns, shares of the row as colour.

    Args:
        matrix: Counts, `(classes, classes)`.
        classes: Names of the classes.
        path: The PNG to write.
        title: Written above.
    """
    count = len(classes)
    side = min(count, 40)  # more classes make smaller cells, without names
    figure = Figure(figsize=(3.2 + 0.6 * side, 2.6 + 0.55 * side), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, ax=axes, label="share of the true class")
    entitle(figure, title)
    axes.set(xlabel="answer", ylabel="true class")
    if count <= side:
        names = [name if len(name) <= 24 else f"{name[:23]}…" for name in classes]
        axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
        axes.set_yticks(range(count), names, parse_math=False)
    if count <= 30:
        for row, column in np.ndindex(count, count):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", color=colour)
    save(figure, path)


def draw_reliability(bins: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draw a reliability diagram: top-1 of the answers over their probability, and how many answers have it.

    Args:
        bins: As `calibration` of evaluation/figures.py gives them.
        path: The PNG to write.
        title: Written above.
    """
    figure = Figure(figsize=(5.2, 6), layout="constrained")
    entitle(figure, title)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    starts, widths = [one["above"] for one in bins], [one["up_to"] - one["above"] for one in bins]
    heights = [one["top1"] or 0.0 for one in bins]
    upper.bar(starts, heights, widths, align="edge", color="tab:blue", edgecolor="white", label="top-1")
    filled = [one for one in bins if one["images"]]
    points = [one["probability"] for one in filled], [one["top1"] for one in filled]
    upper.plot(*points, "o", color="tab:orange", markersize=4, label="mean probability and top-1")
    upper.plot([0, 1], [0, 1], "--", color="gray", label="calibrated")
    upper.set(ylabel="share of right answers", xlim=(0, 1), ylim=(0, 1))
    upper.legend(loc="upper left", fontsize=8)
    lower.bar(starts, [one["images"] for one in bins], widths, align="edge", color="tab:gray", edgecolor="white")
    whole_numbers(lower.yaxis)
    lower.set(xlabel="probability of the answer", ylabel="images")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    save(figure, path)


def entitle(figure: Figure, title: str) -> None:
    """Write a title above a figure, in as many lines as its width asks for."""
    wide = int(10 * figure.get_figwidth())  # letters to a line: at 12 points they are 0.1 inches wide at most
    figure.suptitle(textwrap.fill(title, wide), parse_math=False)


def whole_numbers(axis: Axis) -> None:
    """Let an axis have ticks at whole numbers alone, if there is only one."""
    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, without pyplot, whose state and windows are the user's."""
    with (
        matplotlib.rc_context({"savefig.dpi": 120}),
        warnings.catch_warnings(),
        written_beside(path) as beside,
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        FigureCanvasAgg(figure).print_png(beside)
