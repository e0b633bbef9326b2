"""Tables of a page as text for a terminal, as Markdown and as CSV: values in, a string out, and nothing is ever cut."""

import csv
import io
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from keras_inception.report.page import Table, cell

_GAP = "  "


def as_text(table: Table, width: int | None = None) -> str:
    """Return a table for a terminal: below each other, parts of the columns that fit its width, each with the first.

    >>> print(as_text(Table(("row", "weights", "depth"), (("conv1", 9408, 1), ("conv2", 114688, 2)))))
    row    weights  depth
    ─────────────────────
    conv1    9,408      1
    conv2  114,688      2

    Args:
        table: What is shown.
        width: Of the terminal, in characters; None has no end. In a table that does not fit it, cells of words go on in
            a further line beyond half of it, or a third.
    """
    columns = _columns(table, None)
    if width is not None and not _fits(columns, width):
        columns = _columns(table, max(width // 2, 16))
        columns = columns if _fits(columns, width) else _columns(table, max(width // 3, 16))
    places = _parts([column.width for column in columns], width, [name in table.beside for name in table.columns])
    parts = ["\n".join(_part([columns[place] for place in part])) for part in places]
    return "\n\n".join([table.caption, *parts] if table.caption else parts)


def as_markdown(table: Table) -> str:
    """Return a table in Markdown.

    >>> print(as_markdown(Table(("row", "weights"), (("conv1", 9408),))))
    | row | weights |
    |---|---:|
    | conv1 | 9,408 |
    """
    names = [_escaped(name) for name in table.columns]
    sides = ["---:" if _stands_right([row[place] for row in table.rows]) else "---" for place in range(len(names))]
    rows = [names, *([_escaped(cell(value)) for value in row] for row in table.rows)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, f"|{'|'.join(sides)}|")
    return "\n".join([f"**{table.caption}**\n", *lines] if table.caption else lines)


def as_csv(table: Table) -> str:
    """Return a table as comma-separated values: numbers as they are, in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return text.getvalue().rstrip("\n")


#: The formats a table can be written in.
FORMATS: dict[str, Callable[[Table], str]] = {"text": as_text, "markdown": as_markdown, "csv": as_csv}


@dataclass(frozen=True)
class _Column:
    """A column: lines of its name, and lines of each of its cells, all of one width."""

    width: int
    head: list[str]
    cells: list[list[str]]


def _columns(table: Table, longest: int | None) -> list[_Column]:
    return [_column(name, [row[place] for row in table.rows], longest) for place, name in enumerate(table.columns)]


def _column(name: str, values: Sequence[str | int | float], longest: int | None) -> _Column:
    right = _stands_right(values)
    cells = [_wrapped(cell(value), None if right else longest) for value in values]
    width = max(1, *map(len, [*name.split(), *(line for lines in cells for line in lines)]))
    justify = str.rjust if right else str.ljust
    head, *cells = ([justify(line, width) for line in lines] for lines in (_wrapped(name, width), *cells))
    return _Column(width, head, cells)


def _wrapped(text: str, width: int | None) -> list[str]:
    """Return the lines of a text, none wider unless a single word is."""
    if width is None:
        return [text]
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _fits(columns: Sequence[_Column], width: int) -> bool:
    return _wide([column.width for column in columns]) <= width


def _parts(widths: Sequence[int], width: int | None, beside: Sequence[bool]) -> list[list[int]]:
    """Return the columns of each part: as many as fit, behind the first; some together with the one in front."""
    groups: list[list[int]] = []
    for place in range(1, len(widths)):
        if beside[place] and groups:
            groups[-1].append(place)
        else:
            groups.append([place])
    parts = [[0]]
    for group in groups:
        if len(parts[-1]) > 1 and width is not None and _wide([widths[p] for p in (*parts[-1], *group)]) > width:
            parts.append([0])
        parts[-1] += group
    return parts


def _wide(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _part(columns: Sequence[_Column]) -> Iterator[str]:
    height = max(len(column.head) for column in columns)
    yield from _beside([[""] * (height - len(column.head)) + column.head for column in columns], columns)
    yield "─" * _wide([column.width for column in columns])
    for row in zip(*(column.cells for column in columns), strict=True):
        yield from _beside(row, columns)


def _beside(cells: Sequence[list[str]], columns: Sequence[_Column]) -> Iterator[str]:
    for lines in zip_longest(*cells, fillvalue=""):
        yield _GAP.join(line.ljust(column.width) for line, column in zip(lines, columns, strict=True)).rstrip()


def _stands_right(values: Sequence[str | int | float]) -> bool:
    """Tell whether a column is of numbers, with or without a sign in front and a unit behind."""
    texts = [cell(value) for value in values]
    return all(text.lstrip("≠~–- ")[:1].isdigit() or text in ("", "–") for text in texts) and any(texts)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")
