"""Published files, kept where `keras.utils.get_file` keeps models; a download goes on where it broke off."""

import contextlib
import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from keras_inception.errors import WeightsError
from keras_inception.files import await_lock, written_beside
from keras_inception.weights.published import PublishedWeights

_BLOCK = 2**18
_TIMEOUT_SECONDS = 30

#: Called with the number of bytes that are there and of all; None where the server does not say.
OnBytes = Callable[[int, int | None], None]


def models_folder() -> Path:
    """Return where Keras keeps downloaded models: `$KERAS_HOME/models`, by default `~/.keras/models`."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"


def fetched(weights: PublishedWeights, on_bytes: OnBytes | None = None) -> Path:
    """Return the checkpoint of published weights, from the cache or from its publisher.

    The digest is checked whenever one is published, also of a file that was put there by hand. A download that breaks
    off stays as NAME.part, and the next one goes on there. Of processes that want the same file one fetches it.

    Args:
        weights: Which.
        on_bytes: Called as the file comes; by default a bar is drawn on a terminal.

    Returns:
        The file, or, of an archive, the checkpoint taken out of it.

    Raises:
        WeightsError: It cannot be fetched, or is not what its publisher's digest says.
    """
    path = models_folder() / weights.file
    if not path.is_file():
        with _bar(weights.file) if on_bytes is None else contextlib.nullcontext(on_bytes) as told:
            _download(weights, path, told)
    elif wrong := _wrong(weights, path):
        raise WeightsError(f"{str(path)!r} {wrong}; remove it, and it is fetched anew")
    return _member(weights, path) if weights.member else path


def _download(weights: PublishedWeights, path: Path, on_bytes: OnBytes) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _held(part):
            if path.is_file():  # another process has brought it
                return
            _continue(weights.url, part, on_bytes)
            if wrong := _wrong(weights, part):
                part.unlink()
                raise WeightsError(f"what came from {weights.url} {wrong}; it was removed: try again")
            os.replace(part, path)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise WeightsError(
            f"{weights.url} cannot be fetched ({reason}); try again, or fetch it by hand and put it at {str(path)!r}"
        ) from None


@contextlib.contextmanager
def _held(part: Path) -> Iterator[None]:
    """Hold a file, which is made, against other processes; wait for one that holds it. An empty one is removed."""
    while True:
        with open(part, "ab") as file:
            await_lock(file.fileno(), f"fetches {part.stem}")
            if not _is_at(part, file.fileno()):
                continue  # who held it has renamed or removed it
            try:
                yield
            finally:
                if os.fstat(file.fileno()).st_size == 0:
                    part.unlink(missing_ok=True)
            return


def _is_at(path: Path, handle: int) -> bool:
    """Return whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _continue(url: str, part: Path, on_bytes: OnBytes) -> None:
    """Bring what is missing of a file behind what is there; a server that cannot do so sends all of it."""
    here = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={here}-"} if here else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        # Nothing is left to send: what is here is whole, or another file.
        answer = urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS)
    with answer:
        here = here if answer.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else here + int(length)
        with open(part, "ab" if here else "wb") as file:
            while block := answer.read(_BLOCK):
                file.write(block)
                here += len(block)
                on_bytes(here, total)
    if total is not None and here < total:
        raise http.client.IncompleteRead(b"", total - here)


def _wrong(weights: PublishedWeights, path: Path) -> str:
    """Return what is wrong with a file by the digests that are published; "" where nothing is."""
    for algorithm, published in (("sha256", weights.sha256), ("sha1", weights.sha1)):
        if published:
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, algorithm).hexdigest()
            if not found.startswith(published):
                return f"has the {algorithm} {found[: len(published)]} in place of {published}"
    return ""


def _member(weights: PublishedWeights, archive: Path) -> Path:
    """Take the checkpoint out of an archive, once."""
    path = archive.with_name(weights.member)
    if path.is_file():
        return path
    try:
        with tarfile.open(archive) as tar:
            (found,) = [entry for entry in tar if entry.isfile() and Path(entry.name).name == weights.member]
            content = tar.extractfile(found)
            assert content is not None  # it is a file
            with written_beside(path) as beside, open(beside, "wb") as file:
                shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise WeightsError(
            f"{str(archive)!r} is no archive with one {weights.member} ({error}); remove it, and it is fetched anew"
        ) from None
    return path


@contextlib.contextmanager
def _bar(name: str) -> Iterator[OnBytes]:
    """Draw a bar on a terminal's standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    screen = Console(stderr=True)
    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as display:
        task = display.add_task("", total=None)
        yield lambda here, total: display.update(task, completed=here, total=total)
