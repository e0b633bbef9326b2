"""The run folder: what stands where, who trains in it, and that a run there is not overwritten by accident."""

import contextlib
import csv
import io
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from keras_inception.architecture import Architecture
from keras_inception.config import RunConfig
from keras_inception.errors import ConfigError, RunError
from keras_inception.files import left_beside, try_lock, write_text, written_beside

# A look at the lock takes microseconds; a training that comes across one tries again for this long.
_PATIENCE_SECONDS = 0.5

#: What a run is doing: nothing was started, a process trains it, all epochs are done, or it can go on.
State = Literal["empty", "running", "finished", "stopped"]


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds one run.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def config_json(self) -> Path:
        return self.path / "config.json"

    @property
    def architecture_json(self) -> Path:
        return self.path / "architecture.json"

    @property
    def labels_txt(self) -> Path:
        return self.path / "labels.txt"

    @property
    def data_json(self) -> Path:
        return self.path / "data.json"

    @property
    def metrics_csv(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def best_keras(self) -> Path:
        return self.path / "best.keras"

    @property
    def last_keras(self) -> Path:
        return self.path / "last.keras"

    @property
    def last_raw_keras(self) -> Path:
        return self.path / "last_raw.keras"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def gradients_csv(self) -> Path:
        return self.path / "gradients.csv"

    @property
    def summary_json(self) -> Path:
        return self.path / "summary.json"

    @property
    def environment_json(self) -> Path:
        return self.path / "environment.json"

    @property
    def curves_png(self) -> Path:
        return self.path / "curves.png"

    @property
    def report_html(self) -> Path:
        return self.path / "report.html"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def export(self) -> Path:
        return self.path / "export"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    @contextlib.contextmanager
    def claimed(self, what: str = "run", option: str = "--run-dir") -> Iterator[None]:
        """Hold the folder, which is made, against other processes; the kernel lets go of it when this one is killed.

        Args:
            what: It holds.
            option: That names it.

        Raises:
            RunError: Another process holds it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o666)  # Python closes it in processes that are started
        except OSError as error:
            raise RunError(
                f"{what} folder {str(self.path)!r} cannot be written: {error.strerror}; give {option} another folder"
            ) from None
        try:
            self._hold(handle, what)
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
            yield
        finally:
            os.close(handle)

    def state(self) -> State:
        """Return what the run is doing.

        Raises:
            ConfigError: Its configuration cannot be read; whether it is running can be told nevertheless.
        """
        if self._is_held():
            return "running"
        if not self.config_json.exists():
            return "empty"
        epochs = self.config().training.epochs
        if self.summary_json.exists() and self.summary()["last"]["epoch"] >= epochs:
            return "finished"
        return "stopped"

    def is_begun(self) -> bool:
        """Return whether a process has written all that `start` writes; one that was killed may have written less."""
        return self.labels_txt.exists() or self.checkpoints.exists()

    def check_new(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse a folder that would lose something.

        Raises:
            RunError: Both or, for a folder that holds anything, none of `resume` and `overwrite` is asked for, or the
                folder to be overwritten holds something else than a run.
        """
        if resume and overwrite:
            raise RunError("--resume goes on with a run and --overwrite deletes it; give one of them")
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{str(self.path)!r} is a file; give --run-dir a folder")
        ours = {self.lock, *left_beside(self.config_json)}
        filled = self.path.is_dir() and bool(set(self.path.iterdir()) - ours)
        if filled and not resume and not overwrite:
            raise RunError(f"run folder {str(self.path)!r} exists; give --resume to go on, or --overwrite to delete it")
        if filled and not self.config_json.exists():
            raise RunError(f"{str(self.path)!r} holds something else than a run (no config.json); give another folder")
        if filled:
            try:
                self.config()
            except ConfigError as error:  # other programs have a config.json too
                raise RunError(
                    f"{str(self.path)!r} holds something else than a run ({error}); give another folder"
                ) from None

    def start(self, config: RunConfig, architecture: Architecture, classes: tuple[str, ...]) -> None:
        """Begin a new run: empty the folder and write what the run is; killed in between, it can be begun again."""
        self.path.mkdir(parents=True, exist_ok=True)
        # Not the folder itself: it may be a link, a mounted disk or the current folder. Nor config.json: it marks the
        # folder as a run, also one that is killed now. Nor the lock: another process could hold one of the same name.
        for child in self.path.iterdir():
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            elif child not in (self.config_json, self.lock):
                child.unlink()
        write_text(self.config_json, config.to_json())
        write_text(self.architecture_json, architecture.to_json())
        write_text(self.labels_txt, "".join(f"{name}\n" for name in classes))  # last: see is_begun

    def config(self) -> RunConfig:
        """Read the configuration.

        Raises:
            RunError: The folder holds no run.
        """
        return RunConfig.from_json(self._read(self.config_json))

    def architecture(self) -> Architecture:
        """Read the architecture; raises RunError as `config`."""
        return Architecture.from_json(self._read(self.architecture_json))

    def labels(self) -> tuple[str, ...]:
        """Read the names of the classes; raises RunError as `config`."""
        return tuple(self._read(self.labels_txt).removesuffix("\n").split("\n"))

    def data(self) -> dict[str, Any]:
        """Read what the run was trained on: name, provenance, counts and fingerprint; raises RunError as `config`."""
        return json.loads(self._read(self.data_json))

    def summary(self) -> dict[str, Any]:
        """Read what came of the run; raises RunError as `config`."""
        return json.loads(self._read(self.summary_json))

    def environment(self) -> dict[str, Any]:
        """Read what the run depended on beside its configuration; raises RunError as `config`."""
        return json.loads(self._read(self.environment_json))

    def metrics(self) -> list[dict[str, float]]:
        """Read the metrics, a row per epoch; none where no epoch has ended."""
        return _read_rows(self.metrics_csv)

    def write_metrics(self, rows: list[dict[str, float]]) -> None:
        """Write the metrics, a row per epoch."""
        _write_rows(self.metrics_csv, rows)

    def gradients(self) -> list[dict[str, float]]:
        """Read the norms of the gradients, a row per epoch with a column per row of the architecture, as `metrics`."""
        return _read_rows(self.gradients_csv)

    def write_gradients(self, rows: list[dict[str, float]]) -> None:
        """Write the norms of the gradients, a row per epoch: "epoch", then a column per row of the architecture."""
        _write_rows(self.gradients_csv, rows)

    def save_model(self, model: Any, path: Path) -> None:
        """Save a Keras model to `path`, beside first."""
        with written_beside(path) as beside:
            model.save(beside)

    def _hold(self, handle: int, what: str) -> None:
        """Lock the open lock file, or raise RunError where another process has it for longer than a look."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not try_lock(handle):
            if time.monotonic() > deadline:
                process = f"process {number}" if (number := self.lock.read_text()) else "another process"
                doing = "being trained" if what == "run" else "in use"
                raise RunError(f"{what} folder {str(self.path)!r} is {doing} by {process}; wait for it, or stop it")
            time.sleep(_PATIENCE_SECONDS / 10)

    def _is_held(self) -> bool:
        try:
            handle = os.open(self.lock, os.O_RDONLY)
        except OSError:
            return False
        try:
            return not try_lock(handle, exclusive=False)
        finally:
            os.close(handle)

    def _read(self, path: Path) -> str:
        if not self.path.is_dir():
            raise RunError(f"there is no run folder {str(self.path)!r}; 'keras-inception train --run-dir' makes one")
        if not path.exists():
            raise RunError(f"{str(self.path)!r} holds no run: {path.name} is missing")
        return path.read_text(encoding="utf-8")


def _read_rows(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _write_rows(path: Path, rows: list[dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
