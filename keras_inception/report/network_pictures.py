"""Pictures of what is inside a network: values in, PNG files out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from keras_inception.report.pictures import entitle, save

if TYPE_CHECKING:
    from keras_inception.analysis.gradients import RowNorm
    from keras_inception.analysis.other_sizes import SizeFigures
    from keras_inception.analysis.receptive_field import EffectiveField, Field

#: Colour and line of each branch; dashes, since the 3×3 and the pool see the same field.
BRANCH_LINES: dict[str, tuple[str, Any]] = {
    "1×1": ("tab:green", "-"),
    "3×3": ("tab:orange", "-"),
    "pool": ("tab:blue", (0, (4, 4))),
    "5×5": ("tab:red", "-"),
}
_ROW: tuple[str, Any] = ("tab:purple", "-")
_EFFECTIVE: tuple[str, Any] = ("black", (0, (2, 2)))
_COLUMNS = 4  # of the grid of fields
_CHANNELS = 10  # of a branch that are drawn


def draw_fields(
    pixels: np.ndarray, found: "Sequence[Field]", effective: "Sequence[EffectiveField]", path: Path, *, title: str
) -> None:
    """Draw the fields of the middle unit of every row over an image: squares, and as heat what the unit does see.

    Args:
        pixels: uint8 `(size, size, 3)`.
        found: The fields.
        effective: Of the same fields; none draws no heat.
        path: The PNG to write.
        title: Written above.
    """
    known = {one.field: one for one in effective}
    wholes = [field for field in found if not field.branch]
    lines = -(-len(wholes) // _COLUMNS)
    figure = Figure(figsize=(3.1 * _COLUMNS, 3.35 * lines + 0.9), layout="constrained")
    entitle(figure, title)
    grid = figure.subplots(lines, _COLUMNS, squeeze=False).ravel()
    for axes, whole in zip(grid, wholes, strict=False):
        one = known.get(whole)
        axes.imshow(_heated(pixels, None if one is None else one.energy))
        branches = [field for field in found if field.row == whole.row and field.branch]
        for field in branches or [whole]:
            _square(axes, field.span(field.centre), BRANCH_LINES[field.branch] if field.branch else _ROW)
        if one is not None and one.side is not None:
            first, end = whole.span(whole.centre)
            middle = (first + end) / 2
            _square(axes, (middle - one.side / 2, middle + one.side / 2), _EFFECTIVE)
        seen = " > image" if whole.size > len(pixels) else ""
        seen += "" if one is None or one.side is None else f", effective {one.side:,}"
        axes.set_title(f"{whole.row}: {whole.size:,} px{seen}", fontsize=9, parse_math=False)
        axes.set(xlim=(-0.5, len(pixels) - 0.5), ylim=(len(pixels) - 0.5, -0.5), xticks=[], yticks=[])
    for axes in grid[len(wholes) :]:
        axes.set_axis_off()
    drawn = {field.branch for field in found}
    names = {name: style for name, style in BRANCH_LINES.items() if name in drawn} | {"row": _ROW}
    names |= {"effective: 95% of the energy": _EFFECTIVE} if known else {}
    handles = [Line2D([], [], color=colour, linestyle=style, label=name) for name, (colour, style) in names.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9)
    save(figure, path)


def _heated(pixels: np.ndarray, energy: np.ndarray | None) -> np.ndarray:
    """Return an image, paler, with the gradient's size over it where that is given."""
    grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2) / 255
    if energy is None or not energy.any():
        return grey
    size = np.sqrt(energy / energy.max())[..., None]
    colours = matplotlib.colormaps["YlOrRd"](size[..., 0])[..., :3]
    return (1 - 0.85 * size) * grey + 0.85 * size * colours


def _square(axes: Axes, span: tuple[float, float], style: tuple[str, Any]) -> None:
    first, end = span
    colour, dashes = style
    axes.add_patch(
        Rectangle((first - 0.5,) * 2, end - first, end - first, fill=False, color=colour, ls=dashes, linewidth=1.6)
    )


def draw_maps(pixels: np.ndarray, maps: Mapping[str, np.ndarray], path: Path, *, title: str) -> None:
    """Draw a row for every branch of a module: its energy, then its strongest channels, each up to its own largest.

    Args:
        pixels: uint8 `(size, size, channels)`: the image, as the network sees it.
        maps: Branch to float32 `(height, width, channels)`.
        path: The PNG to write.
        title: Written above.
    """
    energies = {branch: np.square(values, dtype=np.float64).sum(axis=2) for branch, values in maps.items()}
    total = sum(energy.sum() for energy in energies.values())
    most = max(energy.max() for energy in energies.values())
    columns = 2 + min(_CHANNELS, max(values.shape[2] for values in maps.values()))
    figure = Figure(figsize=(1.25 * columns, 1.5 * len(maps) + 0.6), layout="constrained")
    entitle(figure, title)
    grid = figure.subplots(len(maps), columns, squeeze=False)
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[])
        axes.axis("off")
    _shown(grid[0, 0], pixels if pixels.shape[2] == 3 else pixels[..., 0], "the image", cmap="gray", vmin=0, vmax=255)
    for cells, (branch, values) in zip(grid[:, 1:], maps.items(), strict=True):
        share = energies[branch].sum() / total if total else 0.0
        root = np.sqrt(energies[branch])
        _shown(cells[0], root, f"{branch}: {share:.0%}", cmap="inferno", vmin=0, vmax=np.sqrt(most) or 1)
        of_channels = np.square(values, dtype=np.float64).sum(axis=(0, 1))
        for cell, channel in zip(cells[1:], np.argsort(-of_channels, kind="stable"), strict=False):
            largest = values[..., channel].max()
            name = f"{channel}" if largest > 0 else f"{channel}: silent"
            _shown(cell, values[..., channel], name, cmap="gray", vmin=0, vmax=largest or 1)
    save(figure, path)


def _shown(axes: Axes, values: np.ndarray, name: str, **options: Any) -> None:
    axes.axis("on")
    axes.imshow(values, interpolation="nearest", **options)
    axes.set_title(name, fontsize=8)


def draw_norms(found: "Sequence[RowNorm]", path: Path, *, title: str) -> None:
    """Draw the norm of every row's gradient and its deviation: a panel for every normalisation, a line for every loss.

    Args:
        found: The norms; rows that one of the losses does not reach, those of heads, are left out.
        path: The PNG to write.
        title: Written above.
    """
    kinds = list(dict.fromkeys(one.normalization for one in found))
    figure = Figure(figsize=(4.6 * len(kinds) + 0.6, 4.8), layout="constrained")
    entitle(figure, title)
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    losses = list(dict.fromkeys(one.losses for one in found))
    unreached = {one.row for one in found if one.mean == 0}
    names = [name for name in dict.fromkeys(one.row for one in found) if name not in unreached]
    for axes, kind in zip(panels, kinds, strict=True):
        for number, loss in enumerate(losses):
            cells = {one.row: one for one in found if one.normalization == kind and one.losses == loss}
            means = np.asarray([cells[name].mean if name in cells else np.nan for name in names])
            deviations = np.nan_to_num([cells[name].sd if name in cells else np.nan for name in names])
            shown = means > 0
            axes.errorbar(
                np.flatnonzero(shown) + 0.12 * (number - (len(losses) - 1) / 2),
                means[shown],
                np.minimum(deviations, 0.99 * means)[shown],  # a logarithm has no place below 0
                fmt="o-",
                markersize=3,
                linewidth=1,
                capsize=2,
                label=loss,
            )
        axes.set_yscale("log")
        axes.set_xticks(range(len(names)), [short(name) for name in names], rotation=60, ha="right", fontsize=8)
        axes.set_title(f"normalisation {kind}", fontsize=10)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("norm of the gradient")
    columns = len(losses) if len(kinds) > 1 else 2  # one panel is too narrow for all
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, title="loss")
    save(figure, path)


def short(row: str) -> str:
    """Return the name of a row from the prefix of its layers: "4a" of "inception_4a"."""
    return row.removeprefix("inception_")


def draw_sizes(found: "Sequence[SizeFigures]", own: int, path: Path, *, title: str) -> None:
    """Draw top-1 over the size of the input, with its 95% interval; `own` is the size of the training."""
    found = sorted(found, key=lambda one: one.image_size)
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    entitle(figure, title)
    axes = figure.subplots()
    sizes = [one.image_size for one in found]
    bounds = np.asarray([one.interval or (one.top1, one.top1) for one in found]).T
    tops = np.asarray([one.top1 for one in found])
    reach = np.maximum([tops - bounds[0], bounds[1] - tops], 0)
    axes.errorbar(sizes, tops, reach, fmt="o-", capsize=4, label="top-1, 95% interval over images")
    axes.axvline(own, color="gray", linestyle="--", label="size of the training")
    axes.set(xlabel="side of the input, px", ylabel="top-1")
    axes.set_xticks(sizes)
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)
