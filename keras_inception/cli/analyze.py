"""analyze, by arithmetic: what an architecture costs, what its reductions save, and what stands beside it."""

import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from keras_inception.cli.screen import ArchitectureName, check_output, console, counting, flag, several

if TYPE_CHECKING:
    from keras_inception.analysis.output_size import Step
    from keras_inception.report.page import Table

Format = Literal["text", "markdown", "csv"]


def table(
    architecture: Positional[Annotated[str, flag("[ARCHITECTURE]", "googlenet")]] = "googlenet",
    image_size: Annotated[int | None, flag("INT", "the architecture's")] = None,
    classes: int = 1000,
    format: Format = "text",
) -> None:
    """Print an architecture as Table 1 of the paper: sizes, depth, widths, costs and memory of every row.

    Beside googlenet at 224 px and 1,000 classes stand the figures that the paper prints, marked where they do not
    follow from its widths. The columns that do not fit a terminal follow below; piped, all stand side by side.

    Example: keras-inception analyze table googlenet-bn --format markdown

    Args:
        architecture: googlenet, googlenet-bn, -small, -torchvision or -slim, nin, or a run's architecture.json.
        image_size: Side of the image in px.
        classes: Number of classes.
        format: csv has numbers in full and no notes.
    """
    from keras_inception.analysis.table import architecture_table
    from keras_inception.architecture import get_architecture
    from keras_inception.report.arithmetic import architecture_rows

    found = architecture_table(get_architecture(architecture), image_size, classes)
    notes = [*found.notes, "Activations: what convolutions, pools and dense layers put out, float32, one image; KiB."]
    _show([architecture_rows(found)], notes, format)


def reduction(
    architecture: ArchitectureName = None,
    inputs: Annotated[int | None, flag("INT", "the examples and modules")] = None,
    filters: Annotated[int | None, flag("INT", "the examples and modules")] = None,
    kernel: Annotated[int | None, flag("INT", "the examples and modules")] = None,
    reduce: Annotated[int | None, flag("INT", "the examples and modules")] = None,
    height: int = 1,
    width: int = 1,
    format: Format = "text",
) -> None:
    """Print what 1×1 reductions save: in one convolution of any widths, or in every module of an architecture.

    Without widths, first the savings that are often told, then the modules naive and reduced, and the channels that
    would pile up over the whole network if no pool branch had a projection.

    Example: keras-inception analyze reduction --inputs 256 --filters 64 --kernel 5 --reduce 32

    Args:
        architecture: googlenet, googlenet-bn, googlenet-small, or a file such as a run's architecture.json.
        inputs: Channels of the convolution's input.
        filters: Channels of its output.
        kernel: Side of its kernel.
        reduce: Channels of the 1×1 in front of it.
        height: Of its map in px; 1 by 1 counts for one position.
        width: Of its map in px.
        format: csv has numbers in full and no notes.
    """
    from keras_inception.analysis import reduction as found
    from keras_inception.architecture import get_architecture
    from keras_inception.errors import ConfigError
    from keras_inception.report import arithmetic

    widths = {"inputs": inputs, "filters": filters, "kernel": kernel, "reduce": reduce}
    given = {name: value for name, value in widths.items() if value is not None}
    if given:
        if missing := [f"--{name}" for name in widths if name not in given]:
            raise ConfigError(f"one convolution needs all its widths; give {' and '.join(missing)} too")
        if architecture is not None:
            raise ConfigError(f"widths are those of one convolution; leave out the architecture ({architecture})")
        _show([arithmetic.reduction_rows(found.Reduction(**given, height=height, width=width))], [], format)
        return
    examples, network = found.examples(), get_architecture(architecture or "googlenet")
    modules, piled = found.modules(network), found.piled_up(network)
    tables = [
        arithmetic.example_rows(examples),
        arithmetic.module_rows(modules, network.name),
        arithmetic.piled_rows(modules, piled, network.name),
    ]
    notes = [f"{one.what}: {one.remark}." for one in examples if one.remark]
    _show(tables, notes, format)


def compare(
    output: Annotated[Path | None, flag("FILE", "no picture")] = None,
    format: Format = "text",
) -> None:
    """Print GoogLeNet beside AlexNet, Network in Network, VGG, Inception v3 and ResNet-50: costs and published errors.

    Example: keras-inception analyze compare --output networks.png

    Args:
        output: The PNG to draw: error over multiply-adds, with parameters as areas.
        format: csv has numbers in full and no notes.
    """
    from keras_inception.analysis.compare import ratios, systems
    from keras_inception.report import arithmetic

    _check_png(output)
    found = systems()
    tables = [arithmetic.system_rows(found), arithmetic.error_rows(found), arithmetic.ratio_rows(ratios())]
    notes = [f"{one.name}: {one.remark}." for one in found if one.remark]
    notes.append("Errors are of one network and are comparable where they were asked on the same crops alone.")
    _show(tables, notes, format)
    if output is not None:
        from keras_inception.report.arithmetic_pictures import draw_systems

        draw_systems(found, output)
        _say_picture(output, format)


def sparsity(
    measure: Annotated[bool, FlagCreatePairsOff] = False,
    sizes: Annotated[str, flag("INTS", "256,512,1024,2048")] = "",
    densities: Annotated[str, flag("FLOATS", "0.001 to 0.5 in eight steps")] = "",
    columns: int = 64,
    rounds: int = 7,
    output: Annotated[Path | None, flag("FILE", "no picture")] = None,
    format: Format = "text",
) -> None:
    """Convolve a sparse matrix as a whole and as its dense blocks; measure where a dense product is the faster one.

    Example: keras-inception analyze sparsity --measure --output sparsity.png

    Args:
        measure: Time products of growing sparse matrices with a dense one: NumPy's dense, SciPy's sparse, dense blocks.
        sizes: Rows of the sparse matrices; several with commas.
        densities: Shares of elements that are not zero; several with commas.
        columns: Of the dense matrix.
        rounds: How often each is timed; medians are given.
        output: The PNG to draw of what was measured.
        format: csv has numbers in full and no notes.
    """
    from keras_inception.analysis import sparsity as found
    from keras_inception.errors import ConfigError
    from keras_inception.report import arithmetic

    _check_png(output)
    if output is not None and not measure:
        raise ConfigError("--output is a picture of what is measured; give --measure too")
    split = found.split()
    if not measure:
        if format == "text":
            print(_matrices(found))
            print()
        _show([arithmetic.split_rows(split)], _split_notes(split), format)
        return
    numbers = (
        _numbers("sizes", sizes, int) or found.SIZES,
        _numbers("densities", densities, float) or found.DENSITIES,
    )
    with counting(console(), "measuring products") as on_progress:
        timings = found.measure(*numbers, columns=columns, rounds=rounds, on_progress=on_progress)
    notes = [_said_of(size, found.dense_wins_from(timings, size)) for size in dict.fromkeys(t.size for t in timings)]
    notes.append(_measured_on(columns, rounds))
    _show([arithmetic.timing_rows(timings)], notes, format)
    if output is not None:
        from keras_inception.report.arithmetic_pictures import draw_timings

        draw_timings(timings, output, title=f"Sparse products beside dense ones; {columns} columns, float32")
        _say_picture(output, format)


def output_size(
    size: Positional[Annotated[int, arg(metavar="SIZE")]],
    windows: Positional[Annotated[tuple[str, ...], several("WINDOW")]],
    exact: Annotated[bool, FlagCreatePairsOff] = False,
    format: Format = "text",
) -> None:
    """Print the output size of every convolution and pool of a chain: (in − F + 2P) / S + 1.

    A window is conv or pool, its size F, its stride S (1), its padding P (a number, same or valid) and, if need be,
    floor, ceil or exact: what becomes of a last window that fits in part. Windows have commas between them.

    Example: keras-inception analyze output-size 224 conv 7 2 3, pool 3 2 same, conv 3 1 same

    Args:
        size: Side of the image in px.
        windows: From the image on.
        exact: Refuse every window that does not divide.
        format: csv has numbers in full and no notes.
    """
    from keras_inception.analysis import output_size as found
    from keras_inception.report.arithmetic import step_rows

    chain = found.parse_windows(" ".join(windows))
    steps = found.output_sizes(size, found.exact(chain) if exact else chain)
    _show([step_rows(size, steps)], _rounded_notes(steps), format)


def _show(tables: "Sequence[Table]", notes: Sequence[str], format: Format) -> None:
    """Print tables and what is to be said below them; a table that is wider than a terminal stands in parts."""
    from keras_inception.report.text import FORMATS, as_text

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    parts = [as_text(one, width) if format == "text" else FORMATS[format](one) for one in tables]
    if format == "text" and notes:
        parts.append("\n".join(textwrap.fill(note, min(width or 100, 100)) for note in notes))
    elif format == "markdown":
        parts += [note.replace("*", "\\*") for note in notes]
    print("\n\n".join(parts))


def _say_picture(path: Path, format: Format) -> None:
    from keras_inception.data.decode import printable

    # What reads a table from a pipe must not meet anything else.
    print(f"the picture is {printable(str(path))}", file=sys.stderr if format == "csv" else sys.stdout)


def _check_png(path: Path | None) -> None:
    from keras_inception.errors import ConfigError

    if path is not None and path.suffix.lower() != ".png":
        raise ConfigError(f"output is {str(path)!r}; it takes a file that ends in .png")
    if path is not None:
        check_output(path, folder=False)


def _matrices(found: Any) -> str:
    """Return the matrix with its kernel and blocks side by side."""
    pictures = [found.MATRIX, found.KERNEL, *(block.values for block in found.BLOCKS), found.POPULAR_BLOCKS[0].values]
    names = ["matrix", "kernel", *(f"block at ({block.row}, {block.column})" for block in found.BLOCKS)]
    names.append("popular figure's")
    lines = [[name, *(" ".join(map(str, row)) for row in rows)] for name, rows in zip(names, pictures, strict=True)]
    height = max(map(len, lines))
    widths = [max(map(len, column)) for column in lines]
    padded = [column + [""] * (height - len(column)) for column in lines]
    rows = zip(*padded, strict=True)
    return "\n".join(
        "   ".join(cell.ljust(wide) for cell, wide in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _split_notes(split: Any) -> list[str]:
    (twice,) = split.wrong_block_places
    wrong = ", ".join(map(str, split.wrong_result_places))
    return [
        f"The popular figure's first block takes in the element at {twice}, which is the second block's too: counted "
        f"twice, the result differs at {wrong}.",
        "Places are (row, column) from 1; a full convolution of 6×6 with 2×2 has 7×7.",
    ]


def _rounded_notes(steps: "Sequence[Step]") -> list[str]:
    """Say what became of last windows that fit in part."""
    what = {False: "rounded down: the last window would fit in part, and is left out", True: "rounded up"}
    return [
        f"{step.window}: {step.quotient:g} is {what[step.output > step.quotient]}."
        for step in steps
        if step.output != step.quotient
    ]


def _said_of(size: int, density: float | None) -> str:
    if density is None:
        return f"{size}×{size}: the dense product was slower at the highest density measured."
    return f"{size}×{size}: dense is at least as fast as sparse from {100 * density:g}% on, of the densities measured."


def _measured_on(columns: int, rounds: int) -> str:
    import os
    import platform

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"Medians of {rounds} alternating rounds in one process on {cores} processor{'s' * (cores != 1)} "
        f"({platform.machine()}), float32, {columns} columns; dense: NumPy; sparse: SciPy's compressed rows, elements "
        f"anywhere; blocks: as many elements in 32×32 blocks, by dense products. Other machines give other times."
    )


def _numbers(name: str, words: str, kind: type) -> list[Any]:
    """Read numbers with commas between them."""
    from keras_inception.errors import ConfigError

    found = []
    for word in filter(None, map(str.strip, words.split(","))):
        try:
            found.append(kind(word))
        except ValueError:
            raise ConfigError(f"{name} has {word!r}; it takes numbers with commas between them") from None
    return list(dict.fromkeys(found))
