"""Pictures of how channels go together: values in, PNG files out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from keras_inception.report.network_pictures import BRANCH_LINES
from keras_inception.report.pictures import entitle, save

if TYPE_CHECKING:
    from matplotlib.image import AxesImage

    from keras_inception.analysis.correlation import RowCorrelation

_STRIP = 0.04  # of the side of a matrix: the colours of the branches beside it


def draw_correlation(found: "RowCorrelation", path: Path, *, title: str) -> None:
    """Draw the correlation of a row's channels, by branch and by cluster, with the branches' colours beside.

    Silent channels are left out.

    Args:
        found: The row; without branches, the matrix by cluster alone is drawn.
        path: The PNG to write.
        title: Written above.
    """
    clusters, active = found.clusters, np.flatnonzero(~found.silent)
    of_cluster = clusters.labels[clusters.order]
    panels = {f"by cluster: {clusters.count}": (clusters.order, of_cluster)}
    if found.branches:
        members = np.asarray(found.branches)[active]
        panels = {"by branch": (active, members), **panels}
    figure = Figure(figsize=(0.9 + 5.6 * len(panels), 6.4), layout="constrained")
    entitle(figure, title)
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    picture = None
    for axes, (name, (order, groups)) in zip(grid, panels.items(), strict=True):
        axes.set_title(name, fontsize=10)
        if len(order):
            picture = _matrix(axes, found, order, groups)
        else:
            axes.text(0.5, 0.5, "every channel is silent", ha="center")
            axes.set_axis_off()
    if picture is not None:
        figure.colorbar(picture, ax=list(grid), label="correlation", shrink=0.8)
    if found.branches:
        handles = [Patch(color=BRANCH_LINES[branch][0], label=branch) for branch in dict.fromkeys(found.branches)]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    save(figure, path)


def draw_steps(found: "Sequence[RowCorrelation]", path: Path, *, title: str) -> None:
    """Draw the correlation over steps on the map: a square of 5×5 steps for every row, of itself and of others.

    Args:
        found: The rows.
        path: The PNG to write.
        title: Written above.
    """
    kinds = {"a channel with itself": "own", "different channels": "others"}
    figure = Figure(figsize=(1.3 * len(found) + 2.2, 4.4), layout="constrained")
    entitle(figure, title)
    grid = figure.subplots(len(kinds), len(found), squeeze=False)
    for line, (label, name) in zip(grid, kinds.items(), strict=True):
        maps = [getattr(one, name) for one in found]
        most = (
            1.0 if name == "own" else np.nanmax([0.05, *(values[~np.isnan(values)].max(initial=0) for values in maps)])
        )
        for axes, one, values in zip(line, found, maps, strict=True):
            picture = axes.imshow(values, cmap="viridis", vmin=0, vmax=most)
            axes.set_title(one.row, fontsize=9, parse_math=False)
            axes.set(xticks=[], yticks=[])
            for down, right in np.argwhere(~np.isnan(values)):
                value = values[down, right]
                colour = "white" if value < 0.6 * most else "black"
                shown = f"{value:.2f}".removeprefix("0")
                axes.text(right, down, shown, ha="center", va="center", color=colour, fontsize=5.5)
        line[0].set_ylabel(label, fontsize=9)
        figure.colorbar(picture, ax=list(line), shrink=0.8)
    save(figure, path)


def _matrix(axes: Axes, found: "RowCorrelation", order: np.ndarray, groups: np.ndarray) -> "AxesImage":
    """Draw the matrix in an order, lines between groups, and the branches' colours to the left and above."""
    side = len(order)
    picture = axes.imshow(found.matrix[np.ix_(order, order)], cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    for border in np.flatnonzero(groups[1:] != groups[:-1]) + 0.5:
        axes.axhline(border, color="black", linewidth=0.6)
        axes.axvline(border, color="black", linewidth=0.6)
    width = _STRIP * side
    for place, channel in enumerate(order if found.branches else ()):
        colour = BRANCH_LINES[found.branches[channel]][0]
        axes.add_patch(Rectangle((-0.5 - width, place - 0.5), width, 1, color=colour, linewidth=0))
        axes.add_patch(Rectangle((place - 0.5, -0.5 - width), 1, width, color=colour, linewidth=0))
    axes.set(xlim=(-0.5 - width, side - 0.5), ylim=(side - 0.5, -0.5 - width), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return picture
