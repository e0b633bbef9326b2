"""runs: which runs there are, and how two of them differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import FlagCreatePairsOff, Positional

from keras_inception.cli.screen import console, flag, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from keras_inception.runs import Comparison, RunSummary

_COLUMNS = ("run", "state", "epoch", "best top-1", "in epoch", "recipe", "architecture", "age")
_SAME_DATA = {True: "the data are the same", False: "the data differ", None: "whether the data differ is not known"}
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def runs(
    folder: Positional[Annotated[Path, flag("[FOLDER]", "this one")]] = Path(),
    compare: Annotated[tuple[Path, Path] | None, flag("RUN RUN", "list the runs")] = None,
    json: Annotated[bool, FlagCreatePairsOff] = False,
) -> None:
    """List the runs in a folder, those that changed last first, or show how two runs differ.

    Example: keras-inception runs runs/

    Args:
        folder: Where to look, three levels down at most.
        compare: In place of the list, what differs between two runs in configuration and environment, and what came of
            them.
        json: Print JSON in place of tables.
    """
    from keras_inception.runs import compare_runs, list_runs

    if compare is not None:
        found = compare_runs(*compare)
        if json:
            print_json(_plain(found))
        else:
            _print_comparison(console(), found, compare)
        return
    listed = list_runs(folder)
    if json:
        print_json([_plain(run) for run in listed])
    else:
        _print_list(console(), listed, folder)


def _plain(value: Any) -> Any:
    """Return a dataclass as JSON can hold it."""
    import dataclasses

    tree = dataclasses.asdict(value)
    return {name: str(item) if isinstance(item, Path) else item for name, item in tree.items()}


def _print_list(screen: "Console", listed: Sequence["RunSummary"], folder: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    from keras_inception.data.decode import printable

    if not listed:
        screen.print(f"no runs in {printable(str(folder))}", highlight=False, markup=False)
        return
    table = Table(*_COLUMNS)
    for column in (2, 3, 4, 7):
        table.columns[column].justify = "right"
    for run in listed:
        table.add_row(
            Text(printable(str(run.path)), overflow="fold"),
            run.state,
            f"{run.epoch}/{'?' if run.epochs is None else run.epochs}",
            "" if run.top1 is None else f"{run.top1:.2%}",
            "" if run.top1_epoch is None else str(run.top1_epoch),
            run.recipe or "",
            run.architecture or "",
            age(run.age),
        )
    screen.print(table)
    for run in listed:
        if run.problem:
            screen.print(f"{printable(str(run.path))}: {run.problem}", style="yellow", highlight=False, markup=False)


def _print_comparison(screen: "Console", found: "Comparison", paths: tuple[Path, Path]) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    from keras_inception.data.decode import printable

    parts = (
        ("configuration", found.configuration, "the configurations are equal"),
        ("environment", found.environment, "versions and devices are equal"),
        ("results", found.results, ""),
    )
    for title, lines, equal in parts:
        if not lines:
            screen.print(equal)
            continue
        table = Table(title, *(Column(Text(printable(str(path))), overflow="fold") for path in paths))
        for name, *values in lines:
            table.add_row(name, *(Text(_written(name, value)) for value in values))
        screen.print(table)
    screen.print(_SAME_DATA[found.same_data])


def _written(name: str, value: Any) -> str:
    from keras_inception.data.decode import printable

    if value is None:
        return "–"
    if name == "best validation top-1":
        return f"{value:.2%}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if type(value) is int else printable(str(value))


def age(seconds: float) -> str:
    """Return how long ago something was, in its largest unit.

    >>> age(7_300), age(0.2)
    ('2 h', '0 s')
    """
    unit, length = next((unit for unit in _UNITS if seconds >= unit[1]), _UNITS[-1])
    return f"{seconds // length:.0f} {unit}"
