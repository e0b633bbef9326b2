"""Tables of what arithmetic says of an architecture and of other networks: values in, tables out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_inception.report.page import Table

if TYPE_CHECKING:
    from keras_inception.analysis.compare import Ratio, System
    from keras_inception.analysis.output_size import Step
    from keras_inception.analysis.reduction import Cost, Example, ModuleReduction, Reduction
    from keras_inception.analysis.sparsity import Split, Timing
    from keras_inception.analysis.table import ArchitectureTable, TableRow, Total

Cell = str | int | float

_COSTS = ("weights", "printed params", "biases", "batch norm", "parameters", "multiply-adds", "printed ops")
_PRINTED = ("printed params", "printed ops")


def architecture_rows(table: "ArchitectureTable") -> Table:
    """Return a row for every row of an architecture; columns in which nothing stands are left out."""
    names = ("row", "window", "output", "depth", *table.width_columns, *_COSTS, "activations KiB")
    rows = [_architecture_row(row, table.width_columns) for row in table.rows]
    rows.append(_total_row("total", table.total, table.width_columns))
    if table.heads:
        rows += [_architecture_row(row, table.width_columns) for row in table.heads]
        rows.append(_total_row("total with heads", table.total_with_heads, table.width_columns))
    kept = [place for place in range(len(names)) if any(row[place] != "" for row in rows)]
    size = "×".join(map(str, table.input_shape))
    return Table(
        [names[place] for place in kept],
        [[row[place] for place in kept] for row in rows],
        f"{table.name}, input {size}, {table.classes:,} classes",
        beside=_PRINTED,
    )


def _architecture_row(row: "TableRow", columns: Sequence[str]) -> list[Cell]:
    cost = row.cost
    parameters = operations = ""
    if row.printed is not None:
        parameters = _marked(row.printed.parameters, row.parameters_follow)
        operations = _marked(row.printed.operations, row.operations_follow)
    return [
        cost.name,
        row.window,
        "×".join(map(str, cost.output)),
        cost.depth or "",
        *(row.widths.get(name, "") for name in columns),
        *(cost.weights or "", parameters, cost.biases or "", cost.normalization or "", cost.parameters or ""),
        *(cost.multiply_adds or "", operations),
        row.activation_bytes / 1024,
    ]


def _marked(printed: str, follows: bool) -> str:
    return printed if follows else f"≠ {printed}"


def _total_row(name: str, total: "Total", columns: Sequence[str]) -> list[Cell]:
    widths: list[Cell] = [""] * len(columns)
    parameters: list[Cell] = [total.weights, "", total.biases, total.normalization or "", total.parameters]
    memory = total.activation_bytes / 1024
    return [name, "", "", total.depth, *widths, *parameters, total.multiply_adds, "", memory]


def example_rows(examples: "Sequence[Example]") -> Table:
    """Return the savings that are often told."""
    rows: list[list[Cell]] = [
        [one.what, one.quantity, one.before, one.after, one.before - one.after, _percent(one.after, one.before)]
        for one in examples
    ]
    return Table(("what", "counted", "before", "after", "saved", "left %"), rows, "What is often told, in full")


def reduction_rows(one: "Reduction") -> Table:
    """Return what a convolution costs by itself and behind a 1×1."""
    kernel = f"{one.kernel}×{one.kernel} of {one.filters} on {one.height}×{one.width}×{one.inputs}"
    counted = (
        ("weights", one.direct.weights, one.reduced.weights),
        ("connections with biases, a position", one.direct.connections, one.reduced.connections),
        ("multiply-adds", one.direct.multiply_adds, one.reduced.multiply_adds),
    )
    rows: list[list[Cell]] = [
        [name, before, after, before - after, _percent(after, before)] for name, before, after in counted
    ]
    columns = ("counted", "by itself", f"behind a 1×1 of {one.reduce}", "saved", "left %")
    return Table(columns, rows, kernel)


def module_rows(modules: "Sequence[ModuleReduction]", name: str) -> Table:
    """Return every module naive and reduced, on the input it has."""
    rows: list[list[Cell]] = [
        [one.row.name, one.inputs, *_against(one.naive, one.reduced), one.row.filters, one.unprojected_filters]
        for one in modules
    ]
    naive = sum((one.naive for one in modules[1:]), modules[0].naive)
    rows.append(["sum", "", *_against(naive, sum((one.reduced for one in modules[1:]), modules[0].reduced)), "", ""])
    columns = (
        *("module", "inputs", "weights naive", "weights reduced", "weights left %"),
        *("multiply-adds naive", "multiply-adds reduced", "multiply-adds left %", "output", "output naive"),
    )
    return Table(columns, rows, f"Modules of {name}, naive and with their reductions, on the input that they have")


def _against(naive: "Cost", reduced: "Cost") -> list[Cell]:
    return [
        *(naive.weights, reduced.weights, _percent(reduced.weights, naive.weights)),
        *(naive.multiply_adds, reduced.multiply_adds, _percent(reduced.multiply_adds, naive.multiply_adds)),
    ]


def piled_rows(modules: "Sequence[ModuleReduction]", piled: "Sequence[ModuleReduction]", name: str) -> Table:
    """Return the channels that pile up where no pool branch is projected, and what modules cost on them."""
    rows: list[list[Cell]] = [
        [
            own.row.name,
            own.row.filters,
            heap.unprojected_filters,
            *(own.reduced.weights, heap.unprojected.weights, heap.naive.weights),
            *(own.reduced.multiply_adds, heap.unprojected.multiply_adds, heap.naive.multiply_adds),
        ]
        for own, heap in zip(modules, piled, strict=True)
    ]
    sums: list[Cell] = [sum(int(row[place]) for row in rows) for place in range(3, 9)]
    rows.append(["sum", "", "", *sums])
    columns = (
        *("module", "channels projected", "channels piled up"),
        *("weights projected", "weights unprojected", "weights naive"),
        *("multiply-adds projected", "multiply-adds unprojected", "multiply-adds naive"),
    )
    return Table(columns, rows, f"{name} if no pool branch had a projection: channels pile up from module to module")


def system_rows(systems: "Sequence[System]") -> Table:
    """Return the networks with their costs and the error that is compared."""
    rows: list[list[Cell]] = []
    for one in systems:
        error = one.errors[0] if one.errors else None
        costs = (one.cost.parameters, one.cost.multiply_adds, one.cost.depth)
        said = (str(error.top5), error.protocol) if error else ("", "")
        rows.append([one.name, one.image_size, *costs, *said, one.source])
    columns = ("network", "px", "parameters", "multiply-adds", "depth", "top-5 error %", "asked on", "paper")
    return Table(columns, rows, "GoogLeNet among its neighbours, 1,000 classes")


def error_rows(systems: "Sequence[System]") -> Table:
    """Return all published errors, with what they were measured on."""
    rows = [[one.name, str(error.top5), error.protocol, error.source] for one in systems for error in one.errors]
    columns = ("network", "top-5 error %", "asked on", "reported by")
    return Table(columns, rows, "Published errors of one network on ILSVRC 2012's validation images")


def ratio_rows(ratios: "Sequence[Ratio]") -> Table:
    """Return how many times one count is another."""
    return Table(("ratio", "times"), [[one.what, one.value] for one in ratios])


def split_rows(split: "Split") -> Table:
    """Return what each way of convolving takes, and whether it gives the same."""
    ways = (
        ("the whole matrix", split.whole),
        ("its two dense blocks", split.blocks),
        ("the blocks of a popular figure", split.popular),
    )
    rows = [
        [name, one.multiplications, "yes" if (one.result == split.whole.result).all() else "no"] for name, one in ways
    ]
    return Table(("convolved", "multiplications", "same result"), rows)


def timing_rows(timings: "Sequence[Timing]") -> Table:
    """Return the measured products, and which way is the fastest."""
    rows: list[list[Cell]] = []
    for one in timings:
        times = {"dense": one.dense_ms, "sparse": one.sparse_ms}
        if one.blocks_ms is not None:
            times["blocks"] = one.blocks_ms
        rows.append(
            [
                f"{one.size}×{one.size}",
                f"{100 * one.density:g}",
                *(one.dense_multiplications, one.multiplications),
                *(f"{times[name]:.3f}" if name in times else "" for name in ("dense", "sparse", "blocks")),
                min(times, key=lambda name: times[name]),
            ]
        )
    columns = (
        *("matrix", "density %", "multiplications dense", "multiplications sparse"),
        *("dense ms", "sparse ms", "blocks ms", "fastest"),
    )
    return Table(columns, rows, "Products of a sparse matrix with a dense one")


def step_rows(size: int, steps: "Sequence[Step]") -> Table:
    """Return what every window makes of a side."""
    rows: list[list[Cell]] = [[str(step.window), step.input, step.formula, step.output] for step in steps]
    columns = ("window", "input px", "(in − F + 2P) / S + 1", "output px")
    return Table(columns, rows, f"Output sizes from {size} px")


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}"
