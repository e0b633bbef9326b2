"""Shards: a collection in a few large files whose images are read in any order (ArrayRecord).

A folder of shards holds

- `train-00000.array_record` and so on: each record is the bytes of an image file, as they were;
- `index.parquet`: split, shard, record, name, label, group and SHA-256 of every image;
- `shards.json`: the classes, where the images are from, and size and SHA-256 of every file. It is written last: where
  it stands, the folder is whole.

While it is written it holds a folder `unfinished`, with what is known of the shards that are finished.
"""

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_inception.data.dataset import SPLITS, TRAIN, Collection, Split
from keras_inception.data.decode import printable
from keras_inception.errors import DataError
from keras_inception.files import file_sha256

FORMAT = 1
DESCRIPTION = "shards.json"
INDEX = "index.parquet"
UNFINISHED = "unfinished"
IDENTITY = "conversion.json"
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


def is_shards(folder: Path) -> bool:
    """Return whether a folder is one of shards, finished or not."""
    return (folder / DESCRIPTION).is_file() or (folder / UNFINISHED / IDENTITY).is_file()


def source_of(folder: Path) -> dict[str, str] | None:
    """Return where the images of a finished folder of shards are from; None for any other folder."""
    return read_json(folder / DESCRIPTION).get("source")


def read_shards(folder: Path) -> Collection:
    """Return what a folder of shards holds; its images are read one by one, in any order, from any thread.

    Sizes of all files are checked here, a record's own checksum whenever it is read.

    Raises:
        DataError: The folder is not finished or has nothing to train on, a file is missing or damaged, or it is of a
            later version.
    """
    description = read_json(folder / DESCRIPTION)
    if not description:
        raise DataError(
            f"{str(folder)!r} holds no finished shards; start the same 'keras-inception data convert' again to finish"
        )
    if description.get("format") != FORMAT:
        raise DataError(
            f"{str(folder)!r} has shards of format {description.get('format')}; this version reads {FORMAT}: update it"
        )
    for file in (*description["shards"], description["index"]):
        _check_size(folder / file["file"], file["bytes"])
    splits = _read_index(folder, description)
    if TRAIN not in splits:
        raise DataError(
            f"{str(folder)!r} holds no images for train; delete it and convert the source again once its images can be "
            f"read"
        )
    return Collection(tuple(description["classes"]), splits, _provenance(folder, description))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; return an empty one where there is no file.

    Raises:
        DataError: It is no JSON object, or may not be read.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError:
        raise DataError(f"{str(path)!r} may not be read; give yourself the permission") from None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise DataError(f"{str(path)!r} is damaged; delete its folder and convert the source again")
    return value


def read_table(path: Path) -> Any:
    import pyarrow.parquet as pq

    with open(path, "rb") as file:
        return pq.read_table(file)


def _check_size(path: Path, size: int) -> None:
    if not path.is_file():
        raise DataError(f"shard file {str(path)!r} is missing; convert the source again to restore it")
    if path.stat().st_size != size:
        raise DataError(
            f"shard file {str(path)!r} is damaged: it has {path.stat().st_size} bytes, not {size}; convert the source "
            f"again to restore it"
        )


def _provenance(folder: Path, description: Mapping[str, Any]) -> dict[str, str]:
    checksums = "".join(shard["sha256"] for shard in description["shards"])
    left_out = sum(len(shard["left_out"]) for shard in description["shards"])
    return {
        "kind": "shards",
        "place": str(folder.absolute()),
        "format": str(description["format"]),
        "sha256": hashlib.sha256(checksums.encode()).hexdigest(),
        "left_out": str(left_out),
        **{f"source_{key}": value for key, value in description["source"].items()},
    }


def _read_index(folder: Path, description: Mapping[str, Any]) -> dict[str, Split]:
    """Return the splits that the index names."""
    import pyarrow.compute as pc

    path = folder / description["index"]["file"]
    if file_sha256(path) != description["index"]["sha256"]:
        raise DataError(f"shard file {str(path)!r} is damaged; convert the source again to restore it")
    index = read_table(path)
    readers = {shard["file"]: _Reader(folder / shard["file"]) for shard in description["shards"]}
    splits = {}
    for name in SPLITS:
        rows = index.filter(pc.equal(index["split"], name))
        if len(rows):
            splits[name] = _indexed_split(rows, readers)
    return splits


def _indexed_split(rows: Any, readers: Mapping[str, "_Reader"]) -> Split:
    files = rows["shard"].combine_chunks().dictionary_encode()
    of_split = [readers[file] for file in files.dictionary.to_pylist()]
    shard, record = files.indices.to_numpy(), rows["record"].to_numpy()
    groups = rows["group"].to_pylist()
    # Shards of an earlier version have no weights.
    weights = rows["weight"].to_numpy() if "weight" in rows.column_names else np.ones(len(rows), np.float32)
    return Split(
        names=rows["name"].to_pylist(),
        labels=rows["label"].to_numpy().astype(np.int32),
        source=lambda index: of_split[shard[index]].read(int(record[index])),
        groups=groups if any(groups) else None,
        digests=[digest.hex() for digest in rows["sha256"].to_pylist()],
        weights=None if (weights == 1).all() else weights,
    )


class _Reader:
    """A shard that is opened when it is first read; ArrayRecord reads by position from many threads at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._reader: Any = None

    def read(self, record: int) -> bytes:
        try:
            if self._reader is None:
                self._open()
            return self._reader.read([record])[0]
        except RuntimeError as error:  # a checksum that does not hold, or a shard that is gone
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"record {record} of {printable(str(self._path))} cannot be read; convert the source again to restore "
                f"it: {printable(reason)}"
            ) from None

    def _open(self) -> None:
        from array_record.python import array_record_module

        with self._lock:
            if self._reader is None:
                self._reader = array_record_module.ArrayRecordReader(os.fsencode(self._path), _READER_OPTIONS)
