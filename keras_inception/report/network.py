"""Tables and pages of what is inside a network: receptive fields, activations, gradients, other sizes.

A page stands in a folder with its pictures and, as JSON, its values. The tables are those that a terminal shows too.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_inception.files import write_json
from keras_inception.report.network_pictures import draw_fields, draw_maps, draw_norms, draw_sizes, short
from keras_inception.report.page import Picture, Section, Table, write_page
from keras_inception.report.pictures import draw_over_epochs

if TYPE_CHECKING:
    from keras_inception.analysis.activations import BranchActivity
    from keras_inception.analysis.gradients import HeadGain, RowNorm
    from keras_inception.analysis.other_sizes import SizeFigures
    from keras_inception.analysis.receptive_field import EffectiveField, Field


# ---------------------------------------------------------------------------------------------------------------------
# Receptive fields
# ---------------------------------------------------------------------------------------------------------------------


def field_tables(found: "Sequence[Field]", effective: "Sequence[EffectiveField]" = ()) -> list[Table]:
    """Return what units can see, a row for every row of the network, and where it was measured what they do see."""
    tables = [_field_table({field: field.size for field in found}, "Side of the receptive field, px")]
    if effective:
        sides = {one.field: float("nan") if one.side is None else one.side for one in effective}
        tables.append(_field_table(sides, "Side of the effective receptive field, px"))
    return tables


def _field_table(sides: "Mapping[Field, int | float]", caption: str) -> Table:
    branches = list(dict.fromkeys(field.branch for field in sides if field.branch))
    parts = {(field.row, field.branch): side for field, side in sides.items()}
    rows: list[list[str | int | float]] = [
        [
            *(field.row, f"{field.units}×{field.units}", field.stride, side),
            *(parts.get((field.row, branch), "") for branch in branches),
        ]
        for field, side in sides.items()
        if not field.branch
    ]
    return Table(["row", "map", "stride", "field", *branches], rows, caption)


# ---------------------------------------------------------------------------------------------------------------------
# Activations
# ---------------------------------------------------------------------------------------------------------------------


def activity_table(found: "Sequence[BranchActivity]") -> Table:
    """Return a row for every branch of every module."""
    rows: list[list[str | int | float]] = [
        [
            one.module,
            one.branch,
            one.channels,
            f"{one.silent:.1%}",
            f"{one.active:.1%}",
            f"{one.width:.1%}",
            f"{one.energy:.1%}" if np.isfinite(one.energy) else "–",
        ]
        for one in found
    ]
    columns = ["module", "branch", "channels", "silent", "above 0", "share of channels", "share of energy"]
    return Table(columns, rows)


# ---------------------------------------------------------------------------------------------------------------------
# Gradients
# ---------------------------------------------------------------------------------------------------------------------


def norm_tables(found: "Sequence[RowNorm]") -> list[Table]:
    """Return a table for every normalisation: a row for every row of the network, a column for every sum of losses."""
    tables = []
    for kind in dict.fromkeys(one.normalization for one in found):
        cells = {(one.row, one.losses): one for one in found if one.normalization == kind}
        losses = list(dict.fromkeys(name for _, name in cells))
        rows = [
            [short(row), *(_mean_and_sd(cells[row, name].mean, cells[row, name].sd) for name in losses)]
            for row in dict.fromkeys(row for row, _ in cells)
        ]
        tables.append(Table(["row", *losses], rows, f"Norm of the gradient, normalisation {kind}"))
    return tables


def checkpoint_tables(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[Table]:
    """Return a table for every checkpoint, as `norm_tables` for every normalisation."""
    return [
        Table(
            ["row", *of_losses],
            [[short(row), *(norms[row] for norms in of_losses.values())] for row in next(iter(of_losses.values()))],
            f"Norm of the gradient, {name} weights",
        )
        for name, of_losses in found.items()
    ]


def logged_table(rows: Sequence[Mapping[str, float]], epochs: int = 5) -> Table:
    """Return the logged norms of at most so many epochs, spread evenly over the training: a column for each."""
    chosen = [rows[place] for place in np.unique(np.linspace(0, len(rows) - 1, epochs).round().astype(int))]
    names = [name for name in rows[0] if name != "epoch"]
    return Table(
        ["row", *(f"epoch {row['epoch']:.0f}" for row in chosen)],
        [[short(name), *(row[name] for row in chosen)] for name in names],
        "Norm of the gradient in training, a mean over the steps of an epoch",
    )


def gain_table(gains: "Sequence[HeadGain]") -> Table:
    """Return a row for every network, a column for every sum of losses with heads."""
    cells = {(one.network, one.losses): _mean_and_sd(one.mean, one.sd) for one in gains}
    losses = list(dict.fromkeys(one.losses for one in gains))
    rows = [[_of_network(name), *(cells[name, loss] for loss in losses)] for name in dict.fromkeys(n for n, _ in cells)]
    return Table(
        ["network", *losses], rows, f"Gradient of {short(gains[0].row)}, in times of what the main loss alone gives it"
    )


def said_of_heads(gains: "Sequence[HeadGain]") -> str:
    """Answer whether heads keep the row nearest to the image learning, as far as its gradient tells; "" without heads.

    They do where its gradient is larger by more than a tenth, also a standard deviation below the mean.
    """
    both = [one for one in gains if one.losses == gains[-1].losses]
    grown = [one for one in both if one.mean - np.nan_to_num(one.sd) > 1.1]
    if not both:
        return ""

    def listed(some: "Sequence[HeadGain]") -> str:
        return ", ".join(f"{_mean_and_sd(one.mean, one.sd)} times as much ({_of_network(one.network)})" for one in some)

    said = f"Do heads keep early rows learning? With all of them {short(both[0].row)} gets "
    if grown:
        said += f"more gradient than from the main loss alone: {listed(grown)}."
    if grown and len(grown) < len(both):
        said += " It hardly gets more, or not with every seed, here: "
    if not grown:
        said += "hardly more gradient than from the main loss alone, or not with every seed: "
    if len(grown) < len(both):
        said += f"{listed([one for one in both if one not in grown])}."
    return (
        f"{said} More gradient is not yet better learning: train with and without them (--set model.auxiliary=false), "
        "with several seeds."
    )


def _of_network(name: str) -> str:
    return f"{name} weights" if name in ("best", "last") else f"new, normalisation {name}"


def _mean_and_sd(mean: float, sd: float) -> str:
    if not mean:
        return "0"
    if np.isnan(mean):
        return "–"
    # Twice, so that no number below a million becomes a power of ten.
    rounded = [f"{float(f'{value:.{digits}g}'):g}" for value, digits in ((mean, 3), (sd, 1)) if np.isfinite(value)]
    return " ± ".join(rounded)


# ---------------------------------------------------------------------------------------------------------------------
# Other sizes
# ---------------------------------------------------------------------------------------------------------------------


def size_table(found: "Sequence[SizeFigures]", own: int) -> Table:
    """Return a row for every size; `own` is that of the training."""
    rows: list[list[str | int | float]] = [
        [
            f"{one.image_size:,}{' (trained)' if one.image_size == own else ''}",
            one.images,
            f"{one.top1:.1%}{'' if one.interval is None else ' ({:.1%} to {:.1%})'.format(*one.interval)}",
            one.log_loss,
            one.multiply_adds,
        ]
        for one in found
    ]
    return Table(["px", "images", "top-1 (95% interval)", "log loss", "multiply-adds"], rows)


# ---------------------------------------------------------------------------------------------------------------------
# Pages
# ---------------------------------------------------------------------------------------------------------------------


def write_fields(
    folder: Path,
    name: str,
    pixels: np.ndarray,
    found: "Sequence[Field]",
    effective: "Sequence[EffectiveField]" = (),
    *,
    measured_on: str = "",
) -> Path:
    """Write a page about receptive fields: fields.html, with fields.png and fields.json.

    Args:
        folder: Where.
        name: Of the network.
        pixels: The image that is drawn over, uint8 `(size, size, 3)`.
        found: What is seen by arithmetic.
        effective: What is seen as measured.
        measured_on: What it was measured on.

    Returns:
        The page.
    """
    title = f"Receptive fields of {name} at {len(pixels)} px"
    draw_fields(pixels, found, effective, folder / "fields.png", title=title)
    lead = "Fields are arithmetic on kernels and strides."
    if effective:
        lead += (
            f" Effective is what was measured on {measured_on}: the side of the smallest square around the middle of "
            "the field that holds 95% of the energy of the middle unit's gradient by the pixels, summed over the "
            "unit's channels, each image counting alike (after Luo et al., arXiv:1701.04128)."
        )
    caption = "Fields of the middle unit of every row; as heat, where it was measured, the size of its gradient"
    return _write(
        folder, "fields", title, lead, field_tables(found, effective), {"fields.png": caption}, effective or found
    )


def write_activity(
    folder: Path,
    name: str,
    found: "Sequence[BranchActivity]",
    pixels: np.ndarray,
    maps: Mapping[str, np.ndarray],
    *,
    module: str,
    measured_on: str,
) -> Path:
    """Write a page about what branches answer to: activations.html, with activations.png and activations.json.

    Args:
        folder: Where.
        name: Of the network.
        found: What branches answer over many images.
        pixels: An image as the network sees it, uint8 `(size, size, channels)`.
        maps: What the branches of a module make of it: branch to float32 `(height, width, channels)`.
        module: The name of that module.
        measured_on: Which images `found` is of.

    Returns:
        The page.
    """
    draw_maps(
        pixels,
        maps,
        folder / "activations.png",
        title=f"{name}, module {module}: each branch's energy with its share, then its strongest channels",
    )
    lead = (
        f"Over {measured_on}. A silent channel is above 0 nowhere in any of them. The energy of a branch is the sum of "
        "squares of its values: where its share of the module's is below its share of the channels, it answers more "
        "quietly than its neighbours."
    )
    caption = f"Module {module}: every branch's energy (its square root) with its share, then its strongest channels"
    title = f"What the branches of {name} answer to"
    return _write(folder, "activations", title, lead, [activity_table(found)], {"activations.png": caption}, found)


def write_gradients(
    folder: Path,
    name: str,
    found: "Sequence[RowNorm]",
    logged: Sequence[dict[str, float]] = (),
    checkpoints: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    gains: "Sequence[HeadGain]" = (),
    *,
    measured_on: str,
) -> Path:
    """Write a page about the gradients that reach rows: gradients.html, with pictures and gradients.json.

    Args:
        folder: Where.
        name: Of the network.
        found: At initialisation.
        logged: In training, a row per epoch.
        checkpoints: Of saved weights, as `analysis.gradients.norms_of_checkpoints` gives them.
        gains: What the heads add.
        measured_on: What was measured on, but for what is logged.

    Returns:
        The page.
    """
    draw_norms(found, folder / "initialization.png", title=f"Gradients of {name} at initialisation")
    pictures = {"initialization.png": "At initialisation: mean and standard deviation over drawn weights"}
    if logged:
        draw_over_epochs(
            [{short(row): norm for row, norm in epoch.items()} for epoch in logged],
            folder / "training.png",
            title=f"Gradients of {name} in training",
            quantity="norm of the gradient",
            scale="log",
        )
        pictures["training.png"] = "In training: a mean over the steps of every epoch"
    lead = (
        f"The norm of the gradient of all parameters of a row together, on {measured_on}, without dropout: of the main "
        "loss alone, and with the losses of auxiliary heads added, each at its weight."
    )
    if said := said_of_heads(gains):
        lead += f"\n\n{said}"
    values = {"initialization": found, "logged": logged, "checkpoints": checkpoints or {}}
    tables = gradient_tables(found, logged, checkpoints or {}, gains)
    return _write(folder, "gradients", f"Gradients of {name}", lead, tables, pictures, values)


def write_sizes(folder: Path, name: str, found: "Sequence[SizeFigures]", own: int, *, measured_on: str) -> Path:
    """Write a page about other input sizes: sizes.html, with sizes.png and sizes.json.

    Args:
        folder: Where.
        name: Of the network.
        found: The figures.
        own: Size of the training, px.
        measured_on: Which images they are of.

    Returns:
        The page.
    """
    title = f"{name} at other sizes"
    draw_sizes(found, own, folder / "sizes.png", title=f"{title}: {measured_on}")
    lead = (
        f"On {measured_on}, with the weights of the training at {own} px as they are: behind the global average a map "
        "of any size fits. Only the resizing of the images differs."
    )
    return _write(folder, "sizes", title, lead, [size_table(found, own)], {"sizes.png": "Top-1 over the input"}, found)


def gradient_tables(
    found: "Sequence[RowNorm]",
    logged: Sequence[Mapping[str, float]] = (),
    checkpoints: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    gains: "Sequence[HeadGain]" = (),
) -> list[Table]:
    """Return the tables of all that is known about gradients."""
    tables = [*norm_tables(found), *([logged_table(logged)] if logged else []), *checkpoint_tables(checkpoints or {})]
    return [*tables, gain_table(gains)] if gains else tables


def _write(
    folder: Path,
    name: str,
    title: str,
    lead: str,
    tables: Sequence[Table],
    pictures: Mapping[str, str],
    values: Any,
) -> Path:
    shown = [Picture((folder / file).read_bytes(), caption) for file, caption in pictures.items()]
    sections = [Section("Pictures", "", [], shown), Section("Numbers", "", tables)]
    write_page(folder / f"{name}.html", title=title, lead=lead, sections=sections)
    write_json(folder / f"{name}.json", _plain(values))
    return folder / f"{name}.html"


def _plain(value: Any) -> Any:
    """Return dataclasses as what JSON can hold, without their arrays."""
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items() if not isinstance(one, np.ndarray)}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
