"""What a collection of images holds: tables, contact sheets, histograms and the folder that has them all."""

import contextlib
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from keras_inception.data.check import NEAR_BITS, Check, DuplicateSet, advice, counted
from keras_inception.data.dataset import SPLITS
from keras_inception.data.decode import printable
from keras_inception.data.facts import HASH_BITS
from keras_inception.errors import DataError
from keras_inception.files import folder_written_beside, write_json
from keras_inception.report.page import Picture, Section, Table, write_page
from keras_inception.report.pictures import save

_KIND = "keras-inception data check"  # what marks check.json as ours
_COLUMNS = 8  # of a contact sheet
_GAP = 4  # px between thumbnails
_BINS = 40
_PAGE_ROWS = 1_000  # of a table on the page; check.json has all

_Rows = list[list[str | int | float]]


def file_name(text: str) -> str:
    """Return a short name that every file system takes.

    >>> file_name("Émile's photos/2024")
    'mile-s-photos-2024'
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40] or "unnamed"


def report_name(source: str) -> str:
    """Return what the folder of a report is called: check- and the source's name."""
    path = Path(source).expanduser()
    return f"check-{file_name(path.resolve().name if os.path.exists(path) else source)}"


def check_report_folder(folder: Path, source: str) -> None:
    """Refuse a folder for the report that holds anything else, or would be taken for images.

    Args:
        folder: Where the report is to stand.
        source: What is checked.

    Raises:
        DataError: It is a file, holds something that no report has, or lies in `source`.
    """
    inside = Path(source).expanduser().resolve()
    if os.path.isdir(inside) and folder.resolve().is_relative_to(inside):
        raise DataError(
            f"the report {str(folder)!r} would stand among the images of {source!r}; give --output a folder outside"
        )
    if not folder.exists():
        return
    if not folder.is_dir():
        raise DataError(f"{str(folder)!r} is a file; give --output a folder")
    strangers = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} - _own(folder)
    if strangers:
        raise DataError(
            f"{str(folder)!r} holds something else than a report ({printable(min(strangers))}); give --output another "
            f"folder"
        )


def _own(folder: Path) -> set[str]:
    """Return the files of the report in `folder`; none where there is no report."""
    try:
        value = json.loads((folder / "check.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    ours = isinstance(value, dict) and value.get("report") == _KIND
    return set(value["files"]) if ours else set()


def write_report(check: Check, folder: Path) -> None:
    """Write check.json, check.html, two histograms, and a contact sheet for each class in sheets/; an old report goes.

    Args:
        check: What was found.
        folder: As `check_report_folder` allows; it is made.
    """
    with folder_written_beside(folder) as new:
        sheets = {}
        for number, (label, thumbnails) in enumerate(check.thumbnails.items(), start=1):
            if thumbnails:
                sheets[label] = f"sheets/{number:04}-{file_name(label)}.png"
                path = new / sheets[label]
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(contact_sheet(thumbnails))
        if len(check.sizes):
            draw_sizes(check.sizes, new / "sizes.png", title="Width and height")
            draw_aspects(check.sizes, new / "aspects.png", title="Aspect")
        title = f"What is in {printable(check.name)}"
        write_page(new / "check.html", title=title, lead=summary(check), sections=list(_sections(check, new, sheets)))
        files = sorted(path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file())
        write_json(new / "check.json", {"report": _KIND, **check.to_json(), "files": ["check.json", *files]})


def contact_sheet(thumbnails: Sequence[np.ndarray], columns: int = _COLUMNS) -> bytes:
    """Return a PNG of images side by side, each in the middle of a cell.

    Args:
        thumbnails: uint8 `(height, width, 3)` each; at least one.
        columns: At most so many in a row.
    """
    height, width = np.max([image.shape[:2] for image in thumbnails], axis=0) + _GAP
    columns = min(columns, len(thumbnails))
    rows = -(-len(thumbnails) // columns)
    sheet = np.full((rows * height + _GAP, columns * width + _GAP, 3), 255, np.uint8)
    for number, image in enumerate(thumbnails):
        row, column = divmod(number, columns)
        top = _GAP + row * height + (height - _GAP - image.shape[0]) // 2
        left = _GAP + column * width + (width - _GAP - image.shape[1]) // 2
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG")
    return file.getvalue()


def draw_sizes(sizes: np.ndarray, path: Path, *, title: str) -> None:
    """Draw histograms of width and height.

    Args:
        sizes: int `(images, 2)`: width and height in px; at least one image.
        path: The PNG to write.
        title: Written above.
    """
    with _histogram(path, title, "px") as axes:
        for name, values in zip(("width", "height"), sizes.T, strict=True):
            axes.hist(values, bins=_edges(sizes), histtype="step", linewidth=1.5, label=name)
        axes.legend()


def draw_aspects(sizes: np.ndarray, path: Path, *, title: str) -> None:
    """Draw a histogram of width / height on a logarithmic axis; the rest is as in `draw_sizes`."""
    doublings = np.log2(sizes[:, 0] / sizes[:, 1])
    with _histogram(path, title, "log₂(width / height): 0 is square, 1 twice as wide as high") as axes:
        axes.hist(doublings, bins=_edges(doublings), color="tab:gray")


@contextlib.contextmanager
def _histogram(path: Path, title: str, quantity: str) -> Iterator[Axes]:
    """Yield the axes of a histogram of images, and save it."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    yield axes
    axes.set_title(printable(title), parse_math=False)
    axes.set(xlabel=quantity, ylabel="images")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    save(figure, path)


def _edges(values: np.ndarray) -> list[float]:
    low, high = float(values.min()), float(values.max())
    return np.linspace(low, high, _BINS + 1).tolist() if high > low else [low - 0.5, low + 0.5]


def summary(check: Check) -> str:
    """Return in a sentence what there is, and below what to do next."""
    first = (
        f"{counted(check.images, 'image')} of {counted(len(check.classes), 'class')}, {len(check.broken):,} broken, "
        f"{counted(len(check.exact), 'set')} of equal and {len(check.near):,} of nearly equal images."
    )
    return "\n\n".join([first, *(f"{sentence}." for sentence in advice(check) or ["Nothing needs mending"])])


def tables(check: Check) -> list[Table]:
    """Return what was found as tables; those that would be empty are missing."""
    every = [
        _class_table(check),
        _broken_table(check),
        _set_table(check.exact, "Equal"),
        _set_table(check.near, "Nearly equal"),
        _group_table(check),
        _blank_table(check),
        _passed_over_table(check),
        _size_table(check),
        _format_table(check),
        _channel_table(check),
    ]
    return [table for table in every if table.rows]


def _sections(check: Check, folder: Path, sheets: dict[str, str]) -> Iterator[Section]:
    label, top1 = check.guess()
    yield Section(
        "Classes",
        f"Always answering {label!r}, the commonest class in training, has top-1 {top1:.1%} on the test. The largest "
        f"class has {check.imbalance():.3g} times the images of the smallest. Broken images are left out of these "
        f"counts but in the last column.",
        [_class_table(check)],
    )
    yield Section("Broken files", "" if check.broken else "None.", _filled(_broken_table(check)))
    yield Section(
        "Duplicates",
        f"Equal: the same bytes. Nearly equal: perceptual hashes of {HASH_BITS} bits (imagehash.phash) are at most "
        f"{NEAR_BITS} bits apart, directly or over others of the set. This finds copies that were resized, compressed "
        f"anew or made a little brighter, not those that were cut or turned. The last column is the distance from the "
        f"first of the set. Sets with several labels or in several splits come first.",
        _filled(_set_table(check.exact, "Equal"), _set_table(check.near, "Nearly equal"), _group_table(check)),
        [
            Picture(contact_sheet(one.thumbnails), _described(number, one))
            for number, one in enumerate(check.near, start=1)
            if one.thumbnails
        ],
    )
    if strays := _filled(_blank_table(check), _passed_over_table(check)):
        yield Section("Strays", "", strays)
    if len(check.sizes):
        yield Section(
            "Sizes and formats",
            "Of readable images, turned upright by their EXIF orientation.",
            [_size_table(check), _format_table(check)],
            [
                Picture((folder / "sizes.png").read_bytes(), "Widths and heights of images"),
                Picture((folder / "aspects.png").read_bytes(), "Aspects of images"),
            ],
        )
        yield Section(
            "Colours",
            "Mean and standard deviation of each channel, of values on [0, 1], over all pixels of the readable images "
            "in their own sizes; each image counts the same. Grey images count as three equal channels.",
            [_channel_table(check)],
        )
    yield Section(
        "Contact sheets",
        "Some images of each class, spread evenly over it.",
        [],
        [
            Picture((folder / name).read_bytes(), f"{printable(label)}: {len(check.thumbnails[label])} images")
            for label, name in sheets.items()
        ],
    )


def _filled(*tables: Table) -> list[Table]:
    """Return the tables that have rows, cut to what a page can hold."""
    return [
        Table(
            table.columns,
            table.rows[:_PAGE_ROWS],
            table.caption + f"; the first {_PAGE_ROWS:,} of {len(table.rows):,} rows" * (len(table.rows) > _PAGE_ROWS),
        )
        for table in tables
        if table.rows
    ]


def _class_table(check: Check) -> Table:
    totals = check.totals()
    every = max(sum(totals.values()), 1)
    rows: _Rows = [
        [
            printable(label),
            *(check.readable[split][label] for split in SPLITS),
            total,
            round(100 * total / every, 1),
            sum(counts[label] for counts in check.counts.values()) - total,
        ]
        for label, total in totals.items()
    ]
    return Table(["class", *SPLITS, "all", "share, %", "broken"], rows, "Readable images, and broken ones")


def _broken_table(check: Check) -> Table:
    below, names = _shortened([image.name for image, _ in check.broken])
    rows: _Rows = [[name, reason, image.split] for name, (image, reason) in zip(names, check.broken, strict=True)]
    return Table(["file", "reason", "split"], rows, f"Broken files{below}")


def _set_table(sets: Sequence[DuplicateSet], what: str) -> Table:
    below, names = _shortened([image.name for one in sets for image in one.images])
    members = [
        (number, image, distance)
        for number, one in enumerate(sets, start=1)
        for image, distance in zip(one.images, one.distances, strict=True)
    ]
    rows: _Rows = [
        [number, name, printable(image.label), image.split, distance]
        for name, (number, image, distance) in zip(names, members, strict=True)
    ]
    return Table(["set", "image", "class", "split", "bits"], rows, f"{what} images: {counted(len(sets), 'set')}{below}")


def _described(number: int, one: DuplicateSet) -> str:
    images = [f"{Path(printable(image.name)).name} ({printable(image.label)}, {image.split})" for image in one.images]
    shown = ", ".join(images[: len(one.thumbnails)])
    hidden = len(images) - len(one.thumbnails)
    return f"Set {number}: {shown}" + f" and {hidden:,} more" * (hidden > 0)


def _group_table(check: Check) -> Table:
    rows: _Rows = [
        [printable(group), *(counts.get(split, 0) for split in SPLITS)] for group, counts in check.split_groups.items()
    ]
    return Table(["group", *SPLITS], rows, "Groups in several splits")


def _blank_table(check: Check) -> Table:
    below, names = _shortened([image.name for image in check.blank])
    rows: _Rows = [[name, printable(image.label), image.split] for name, image in zip(names, check.blank, strict=True)]
    return Table(["image", "class", "split"], rows, f"Images of a single colour{below}")


def _passed_over_table(check: Check) -> Table:
    below, names = _shortened(check.passed_over)
    return Table(["file"], [[name] for name in names], f"Files passed over{below}")


def _shortened(names: Sequence[str]) -> tuple[str, list[str]]:
    """Return the folder that all are in, as words for a caption, and the names from there on, each on one line."""
    try:
        folder = os.path.commonpath([os.path.dirname(name) for name in names])
    except ValueError:  # no names, or absolute and relative ones
        folder = ""
    if not folder:
        return "", [printable(name) for name in names]
    return f" in {printable(folder)}", [printable(str(Path(name).relative_to(folder))) for name in names]


def _format_table(check: Check) -> Table:
    return Table(["format and mode", "images"], list(check.formats.items()), "Formats")


def _size_table(check: Check) -> Table:
    units = {"width": "width, px", "height": "height, px", "aspect": "width / height"}
    rows: _Rows = [
        [units[name], spread.smallest, spread.median, spread.largest] for name, spread in check.spreads().items()
    ]
    return Table(["", "smallest", "median", "largest"], rows, "Sizes")


def _channel_table(check: Check) -> Table:
    rows: _Rows = [
        [split, channel, mean, deviation]
        for split in check.means
        for channel, mean, deviation in zip(
            ("red", "green", "blue"), check.means[split], check.deviations[split], strict=True
        )
    ]
    return Table(["split", "channel", "mean", "deviation"], rows, "Channels, on [0, 1]")
