"""Files that are never half-written: each is made beside its place, synced and renamed; and locks on them."""

import contextlib
import glob
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a path in the same folder and with the same ending to write to; rename it to `path` when all went well.

    A process killed at any moment leaves the old file or the new one. After an error the old one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}-", dir=path.parent))
    try:
        beside = folder / path.name
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def left_beside(path: Path) -> list[Path]:
    """Return what processes killed in `written_beside` left of writing `path`; it can be deleted."""
    beside = path.parent.glob(f".{glob.escape(path.stem)}-*/")
    return [folder for folder in beside if {child.name for child in folder.glob("*")} <= {path.name}]


def try_lock(handle: int, *, exclusive: bool = True) -> bool:
    """Lock an open file or folder where no other process has it; return whether that could be done.

    The kernel lets go of it when the handle is closed, as it is when this process is killed. Where the file system
    knows no locks, as some networks' do, it counts as done.

    Args:
        handle: Of the file.
        exclusive: Whether against those too that lock it otherwise.
    """
    import fcntl

    try:
        fcntl.flock(handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        _LOG.info("no lock can be had: %s", error)
    return True


def await_lock(handle: int, doing: str) -> None:
    """Lock an open file or folder; say so and wait where another process has it.

    Args:
        handle: Of the file.
        doing: What that process does, as in "fetches weights.pth".
    """
    import fcntl

    if not try_lock(handle):
        _LOG.warning("another process %s; waiting for it", doing)
        fcntl.flock(handle, fcntl.LOCK_EX)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, beside first."""
    with written_beside(path) as beside:
        # A file name that is no UTF-8 holds surrogates; in JSON text their escapes read back as they were.
        beside.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON to `path`, beside first."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def folder_written_beside(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; when all went well it takes the place of `path`, else `path` stays.

    A process killed leaves a hidden folder beside `path`: killed between the two renames, it holds both.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        new = scratch / "new"
        new.mkdir()
        yield new
        old = scratch / "old"
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(new, path)
        except BaseException:
            if old.exists():
                os.replace(old, path)
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
