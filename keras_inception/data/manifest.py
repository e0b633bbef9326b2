"""A manifest: a table of image files, their labels and, where given, their splits and groups."""

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_inception.data.dataset import SPLIT_NAMES, SPLITS, TRAIN, Collection, check_classes, file_split
from keras_inception.data.decode import printable
from keras_inception.errors import DataError

#: Endings of the files that are manifests, in lower case.
ENDINGS = (".csv", ".jsonl")


@dataclass(frozen=True)
class _Row:
    line: int
    path: Path
    label: str
    split: str  # "" where the manifest has none
    group: str
    weight: float | None


def read_manifest(file: Path) -> Collection:
    """Return what a manifest lists.

    A CSV file has a header; of JSON lines, each is an object. The fields are `path` (from the manifest's folder, or
    absolute), `label`, and optionally `split` (train, validation, val, valid or test), `group` and `weight` (how much
    an image counts in training, a number from 0 on; 1 where it is empty); others are passed over. Whether the images
    exist is seen when they are read.

    Args:
        file: Ends in .csv or .jsonl; UTF-8.

    Raises:
        DataError: The manifest cannot be read; the message gives the line.
    """
    content = _content(file)
    entries = _csv_entries if file.suffix.lower() == ".csv" else _json_entries
    rows = [_row(file, line, entry) for line, entry in entries(file, content)]
    if not rows:
        raise DataError(f"manifest {str(file)!r} lists no images")
    _check_splits(file, rows)

    parts = {name: [row for row in rows if (row.split or TRAIN) == name] for name in SPLITS}
    labels = {name: sorted({row.label for row in part}) for name, part in parts.items()}
    check_classes(labels)
    classes = {label: position for position, label in enumerate(labels[TRAIN])}
    grouped = any(row.group for row in rows)
    weighted = any(row.weight is not None for row in rows)
    splits = {
        name: file_split(
            [row.path for row in part],
            [classes[row.label] for row in part],
            [row.group for row in part] if grouped else None,
            [1.0 if row.weight is None else row.weight for row in part] if weighted else None,
        )
        for name, part in parts.items()
        if part
    }
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Collection(tuple(classes), splits, {"kind": "manifest", "place": str(file.absolute()), "sha256": digest})


def _content(file: Path) -> str:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise DataError(f"there is no manifest {str(file)!r}") from None
    except OSError as error:
        raise DataError(f"manifest {str(file)!r} cannot be read: {error.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _refusal(file, line, f"byte 0x{data[error.start]:02x} is not UTF-8; save the manifest as UTF-8") from None


def _csv_entries(file: Path, content: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1  # where the row begins: a quoted field may go over several
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _refusal(file, line, f"is no CSV: {error}") from None
        if not cells:
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            for column in ("path", "label"):
                if header.count(column) != 1:
                    problem = "two columns" if column in header else "no column"
                    raise _refusal(file, line, f"the header has {problem} {column!r}; it has {', '.join(header)}")
        elif len(cells) != len(header):
            raise _refusal(
                file, line, f"has {len(cells)} fields and the header {len(header)}; quote fields that hold commas"
            )
        else:
            yield line, dict(zip(header, cells, strict=True))


def _json_entries(file: Path, content: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, text in enumerate(content.split("\n"), start=1):
        if not text.strip():
            continue
        try:
            # A number as a label is the text that stands there.
            entry = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
        except (json.JSONDecodeError, RecursionError) as error:
            raise _refusal(file, line, f"is no JSON: {error}") from None
        if not isinstance(entry, dict):
            raise _refusal(file, line, f'is no object such as {{"path": "a.jpg", "label": "cat"}}: {text.strip()[:40]}')
        for column in ("path", "label"):
            if column not in entry:
                raise _refusal(file, line, f"has no field {column!r}; it has {', '.join(entry)}")
        yield line, entry


def _row(file: Path, line: int, entry: Mapping[str, Any]) -> _Row:
    fields = {column: entry.get(column) for column in ("path", "label", "split", "group", "weight")}
    for column, value in fields.items():
        if value is not None and not isinstance(value, str):
            raise _refusal(file, line, f"{column} is {json.dumps(value)}; give text")
    path, label, split, group, weight = (value or "" for value in fields.values())
    if not path:
        raise _refusal(file, line, "has an empty path")
    if not label.strip():
        raise _refusal(file, line, "has an empty label")
    if split.strip() and split.strip().lower() not in SPLIT_NAMES:
        raise _refusal(file, line, f"has an unknown split {split!r}; give {', '.join(SPLIT_NAMES)}")
    place = SPLIT_NAMES.get(split.strip().lower(), "")
    counts = _weight(file, line, weight.strip())
    return _Row(line, file.parent / path, printable(label.strip()), place, group.strip(), counts)


def _weight(file: Path, line: int, text: str) -> float | None:
    if not text:
        return None
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight >= 0):
        raise _refusal(file, line, f"has the weight {text!r}; give a number from 0 on, or nothing for 1")
    return weight


def _check_splits(file: Path, rows: list[_Row]) -> None:
    without = next((row for row in rows if not row.split), None)
    given = next((row for row in rows if row.split), None)
    if given and without:
        raise _refusal(file, without.line, f"has no split, and line {given.line} has one; give it for all or for none")
    if given and not any(row.split == TRAIN for row in rows):
        raise DataError(f"manifest {str(file)!r} has no row of the split 'train'")


def _refusal(file: Path, line: int, problem: str) -> DataError:
    return DataError(f"manifest {str(file)!r}, line {line}: {printable(problem)}")
