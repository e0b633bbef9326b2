"""Writing shards: resumable after a kill at any moment, with the same bytes as without one."""

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_inception.data.dataset import SPLITS, ImageDataset, Split
from keras_inception.data.decode import encoded, printable
from keras_inception.data.shards import (
    DESCRIPTION,
    FORMAT,
    IDENTITY,
    INDEX,
    UNFINISHED,
    is_shards,
    read_json,
    read_table,
)
from keras_inception.errors import DataError
from keras_inception.files import await_lock, file_sha256, write_json, written_beside

_SHARD = re.compile(rf"({'|'.join(SPLITS)})-\d{{5,}}\.array_record")
# One image per group, so that one is read without its neighbours; files of images are compressed already.
_WRITER_OPTIONS = "group_size:1,uncompressed"
#: Size of a shard in bytes, if nobody asks for another.
SHARD_BYTES = 256_000_000


@dataclass(frozen=True)
class Example:
    """An image on its way into a shard.

    Args:
        name: What it is called in messages.
        label: Position of its class.
        group: As of a `Split`.
        data: The bytes of its file; None where they cannot be read.
        reason: Why they cannot.
        weight: How much it counts in training.
    """

    name: str
    label: int
    group: str
    data: bytes | None
    reason: str = ""
    weight: float = 1.0


#: From a position in a split to its examples from there on, always in the same order.
Examples = Callable[[int], Iterator[Example]]


@dataclass(frozen=True)
class Shard:
    """A finished shard.

    Args:
        file: Its name.
        split: "train", "validation" or "test".
        start: Position in the split of the first image that was looked at.
        stop: Position behind the last.
        last: Whether the split ends there.
        records: How many images it holds.
        bytes: Its size.
        sha256: Of the file.
        left_out: A line for each image that could not be read.
    """

    file: str
    split: str
    start: int
    stop: int
    last: bool
    records: int
    bytes: int
    sha256: str
    left_out: tuple[str, ...]


def convert(
    dataset: ImageDataset,
    folder: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    overwrite: bool = False,
    on_images: Callable[[int, int], None] = lambda done, total: None,
) -> list[Shard]:
    """Write all splits of a data set to a folder of shards, or go on with it where that was stopped.

    Broken images are kept as they are; files that cannot be read are left out and listed.

    Args:
        dataset: What is written.
        folder: Is made where there is none.
        shard_bytes: Size at which a new shard is begun, ≥ 1.
        overwrite: Replace what a conversion of another source, or into shards of another size, left there.
        on_images: Called with how many images are done, and of how many.

    Returns:
        The shards, also those that an earlier call had finished.

    Raises:
        DataError: `folder` is the source, holds something else or cannot be written, or `shard_bytes` is too small.
    """
    if _is_same(dataset.provenance.get("place"), folder):
        raise DataError(f"{str(folder)!r} is the source itself; give another folder")
    source = {**dataset.provenance, "name": dataset.name, "fingerprint": dataset.fingerprint()}
    total = sum(map(len, dataset.splits.values()))
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        on_images(done, total)

    return write_shards(
        folder,
        dataset.classes,
        {name: _examples(dataset.splits[name]) for name in SPLITS},
        source,
        shard_bytes=shard_bytes,
        overwrite=overwrite,
        on_done=count,
    )


def _is_same(place: str | None, folder: Path) -> bool:
    """Return whether a place is that folder, however both are spelt."""
    try:
        return place is not None and os.path.samefile(place, folder)
    except OSError:  # there is no such folder yet
        return False


def write_shards(
    folder: Path,
    classes: tuple[str, ...],
    splits: Mapping[str, Examples],
    source: Mapping[str, str],
    *,
    shard_bytes: int = SHARD_BYTES,
    overwrite: bool = False,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[Shard]:
    """Write examples to a folder of shards; the rest is as in `convert`.

    The same examples give the same bytes. After a kill at any moment, the same call keeps the finished shards whose
    checksums hold and writes the others.

    Args:
        folder: As in `convert`.
        classes: Names of the classes.
        splits: Examples of each split; one without any has no shards.
        source: Where they are from: another source is another conversion.
        shard_bytes: As in `convert`.
        overwrite: As in `convert`.
        on_done: Called with how many images more are done.
    """
    if shard_bytes < 1:
        raise DataError(f"a shard of {shard_bytes} bytes cannot be; give a size ≥ 1")
    identity = {"format": FORMAT, "classes": list(classes), "shard_bytes": shard_bytes, "source": dict(source)}
    with _held(folder):
        known = _known(folder, identity, overwrite)
        written = [
            one
            for split, examples in splits.items()
            for one in _split_shards(folder, split, examples, known, shard_bytes, on_done)
        ]
        shards = [shard for shard, _ in written]
        _finish(folder, identity, shards, [table for _, table in written])
    return shards


def _examples(split: Split) -> Examples:
    def from_position(start: int) -> Iterator[Example]:
        for index in range(start, len(split)):
            name, label = split.names[index], int(split.labels[index])
            group = "" if split.groups is None else split.groups[index]
            weight = 1.0 if split.weights is None else float(split.weights[index])
            try:
                yield Example(name, label, group, encoded(split.source(index), name), weight=weight)
            except DataError as error:
                yield Example(name, label, group, None, str(error), weight)

    return from_position


def _split_shards(
    folder: Path,
    split: str,
    examples: Examples,
    known: Mapping[str, tuple[Shard, Any]],
    shard_bytes: int,
    on_done: Callable[[int], None],
) -> Iterator[tuple[Shard, Any]]:
    """Yield the shards of a split with their tables: those that are known and whole, and else written anew."""
    position, ended, stream = 0, False, None
    for number in itertools.count():
        if ended:
            return
        file = f"{split}-{number:05}.array_record"
        shard, table = known.get(file, (None, None))
        if shard and shard.start == position and _holds(folder / file, shard):
            stream = None
            on_done(shard.stop - shard.start)
        else:
            stream = stream or examples(position)
            first = next(stream, None)
            if first is None:  # a split without examples
                return
            stream = itertools.chain([first], stream)
            shard, table, stream = _write_shard(folder, file, split, position, stream, shard_bytes, on_done)
        position, ended = shard.stop, shard.last
        yield shard, table


def _write_shard(
    folder: Path,
    file: str,
    split: str,
    start: int,
    stream: Iterator[Example],
    shard_bytes: int,
    on_done: Callable[[int], None],
) -> tuple[Shard, Any, Iterator[Example]]:
    """Write the next shard; return it, its part of the index, and what is left of the stream."""
    rows: list[Example] = []
    digests: list[bytes] = []
    left_out: list[str] = []
    size = 0
    following: Example | None = None
    with written_beside(folder / UNFINISHED / file) as beside, _writer(beside) as writer:
        for example in stream:
            if example.data is None:
                left_out.append(example.reason)
            elif rows and size + len(example.data) > shard_bytes:
                following = example
                break
            else:
                writer.write(example.data)
                digests.append(hashlib.sha256(example.data).digest())
                rows.append(example)
                size += len(example.data)
            on_done(1)
    os.replace(folder / UNFINISHED / file, folder / file)
    length, sha256 = (folder / file).stat().st_size, file_sha256(folder / file)
    stop = start + len(rows) + len(left_out)
    shard = Shard(file, split, start, stop, following is None, len(rows), length, sha256, tuple(left_out))
    table = _table(shard, rows, digests)
    _write_table(table, _part(folder, file))
    return shard, table, stream if following is None else itertools.chain([following], stream)


@contextlib.contextmanager
def _writer(path: Path) -> Iterator[Any]:
    """Yield an ArrayRecord writer; the file is whole when all went well."""
    from array_record.python import array_record_module

    try:
        writer = array_record_module.ArrayRecordWriter(os.fsencode(path), _WRITER_OPTIONS)
        yield writer
        writer.close()
    except RuntimeError as error:  # ArrayRecord has no other for a full disk
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"shards cannot be written: {printable(reason)}") from None


def _finish(folder: Path, identity: Mapping[str, Any], shards: list[Shard], tables: list[Any]) -> None:
    """Write the index and, as the last file, the description; both take their places at once."""
    import pyarrow as pa

    beside = folder / UNFINISHED
    table = pa.concat_tables(table.replace_schema_metadata() for table in tables).combine_chunks()
    _write_table(table, beside / INDEX)
    index = {"file": INDEX, "bytes": (beside / INDEX).stat().st_size, "sha256": file_sha256(beside / INDEX)}
    write_json(beside / DESCRIPTION, {**identity, "index": index, "shards": [asdict(shard) for shard in shards]})
    os.replace(beside / INDEX, folder / INDEX)
    os.replace(beside / DESCRIPTION, folder / DESCRIPTION)
    # Left by a conversion whose shards were others, as after a change of the source.
    for path in folder.iterdir():
        if _SHARD.fullmatch(path.name) and path.name not in {shard.file for shard in shards}:
            path.unlink()
    shutil.rmtree(beside)


def _known(folder: Path, identity: Mapping[str, Any], overwrite: bool) -> dict[str, tuple[Shard, Any]]:
    """Return the shards that are said to be finished, by name; begin anew where that is due.

    Raises:
        DataError: The folder holds something else, or another conversion that may not be overwritten.
    """
    ours = is_shards(folder) or _holds_nothing(folder)
    stray = sorted(path.name for path in folder.iterdir() if not (ours and _is_ours(path.name)))
    if stray:
        raise DataError(
            f"{str(folder)!r} holds something else than shards ({printable(stray[0])}); give another folder"
        )
    description, begun = read_json(folder / DESCRIPTION), read_json(folder / UNFINISHED / IDENTITY)

    def same(found: Mapping[str, Any]) -> bool:
        return all(found.get(key) == value for key, value in identity.items())

    if same(begun) and not description:
        return _parts(folder)
    if same(description):
        _begin(folder, identity)
        return _index_parts(folder, description)
    if (begun or description) and not overwrite:
        raise DataError(
            f"{str(folder)!r} holds {'a finished' if description else 'an unfinished'} conversion of another source or "
            f"into shards of another size; give --overwrite to replace it, or another folder"
        )
    _begin(folder, identity)  # first, so that the folder is known as one of shards whenever this is stopped
    for path in folder.iterdir():
        if path.name != UNFINISHED:
            path.unlink()
    return {}


def _begin(folder: Path, identity: Mapping[str, Any]) -> None:
    """Say which conversion this is; before that, forget what is known of another."""
    beside = folder / UNFINISHED
    for path in beside.iterdir() if beside.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != IDENTITY:
            path.unlink()
    write_json(beside / IDENTITY, identity)


def _is_ours(name: str) -> bool:
    return name in (DESCRIPTION, INDEX, UNFINISHED) or _SHARD.fullmatch(name) is not None


def _holds_nothing(folder: Path) -> bool:
    """Return whether a folder is empty, but for a conversion that was killed before it had said what it is."""
    inside = (path.relative_to(folder).parts for path in folder.rglob("*"))
    return all(parts[0] == UNFINISHED and (len(parts) == 1 or parts[1].startswith(".")) for parts in inside)


def _parts(folder: Path) -> dict[str, tuple[Shard, Any]]:
    """Return the shards of an unfinished conversion, each with its part of the index."""
    found = {}
    for path in (folder / UNFINISHED).glob("*.array_record.parquet"):
        table = read_table(path)
        shard = _shard(json.loads(table.schema.metadata[b"shard"]))
        found[shard.file] = (shard, table)
    return found


def _index_parts(folder: Path, description: Mapping[str, Any]) -> dict[str, tuple[Shard, Any]]:
    """Return the shards of a finished conversion, each with its part of the index; none where the index is damaged."""
    import pyarrow.compute as pc

    index = description["index"]
    path = folder / index["file"]
    if not path.is_file() or file_sha256(path) != index["sha256"]:
        return {}
    table = read_table(path)
    shards = map(_shard, description["shards"])
    return {shard.file: (shard, table.filter(pc.equal(table["shard"], shard.file))) for shard in shards}


def _shard(fields: Mapping[str, Any]) -> Shard:
    return Shard(**{**fields, "left_out": tuple(fields["left_out"])})


def _table(shard: Shard, rows: list[Example], digests: list[bytes]) -> Any:
    """Return a shard's part of the index; the shard itself stands in its metadata."""
    import pyarrow as pa

    count = len(rows)
    columns = {
        "split": pa.array([shard.split] * count, pa.string()),
        "shard": pa.array([shard.file] * count, pa.string()),
        "record": pa.array(range(count), pa.int32()),
        # A file name that is no UTF-8 holds surrogates, which Parquet refuses.
        "name": pa.array([row.name.encode(errors="backslashreplace").decode() for row in rows], pa.string()),
        "label": pa.array([row.label for row in rows], pa.int32()),
        "group": pa.array([row.group for row in rows], pa.string()),
        "weight": pa.array([row.weight for row in rows], pa.float32()),
        "sha256": pa.array(digests, pa.binary(32)),
    }
    return pa.table(columns).replace_schema_metadata({"shard": json.dumps(asdict(shard))})


def _write_table(table: Any, path: Path) -> None:
    import pyarrow.parquet as pq

    with written_beside(path) as beside, open(beside, "wb") as file:  # pyarrow takes no name that is not UTF-8
        pq.write_table(table, file, compression="zstd")


def _part(folder: Path, file: str) -> Path:
    return folder / UNFINISHED / f"{file}.parquet"


def _holds(path: Path, shard: Shard) -> bool:
    return path.is_file() and path.stat().st_size == shard.bytes and file_sha256(path) == shard.sha256


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes that convert into it; wait for one that does."""
    try:
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{str(folder)!r} is a file; give a folder for the shards")
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{str(folder)!r} cannot hold shards: {error.strerror}; give another folder") from None
    try:
        if not os.access(folder, os.W_OK):
            raise DataError(f"{str(folder)!r} may not be written; give yourself the permission, or another folder")
        await_lock(handle, f"writes shards to {printable(str(folder))}")
        yield
    finally:
        os.close(handle)
