"""The run folder: what stands where, and that a run there is not overwritten by accident."""

import csv
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_inception.architecture import Architecture
from keras_inception.config import RunConfig
from keras_inception.errors import ConfigError, RunError
from keras_inception.files import write_text, written_beside


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
    def summary_json(self) -> Path:
        return self.path / "summary.json"

    @property
    def environment_json(self) -> Path:
        return self.path / "environment.json"

    @property
    def curves_png(self) -> Path:
        return self.path / "curves.png"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def export(self) -> Path:
        return self.path / "export"

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
        filled = self.path.is_dir() and any(self.path.iterdir())
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
        """Begin a new run: empty the folder and write what the run is."""
        self.path.mkdir(parents=True, exist_ok=True)
        # Not the folder itself: it may be a link, a mounted disk or the current folder. Nor config.json: it marks the
        # folder as a run, also one that is killed now.
        for child in self.path.iterdir():
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            elif child != self.config_json:
                child.unlink()
        write_text(self.config_json, config.to_json())
        write_text(self.architecture_json, architecture.to_json())
        write_text(self.labels_txt, "".join(f"{name}\n" for name in classes))

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

    def metrics(self) -> list[dict[str, float]]:
        """Read the metrics, a row per epoch; none where no epoch has ended."""
        if not self.metrics_csv.exists():
            return []
        with open(self.metrics_csv, newline="", encoding="utf-8") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]

    def write_metrics(self, rows: list[dict[str, float]]) -> None:
        """Write the metrics, a row per epoch."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.metrics_csv, text.getvalue())

    def save_model(self, model: Any, path: Path) -> None:
        """Save a Keras model to `path`, beside first."""
        with written_beside(path) as beside:
            model.save(beside)

    def _read(self, path: Path) -> str:
        if not self.path.is_dir():
            raise RunError(f"there is no run folder {str(self.path)!r}; 'keras-inception train --run-dir' makes one")
        if not path.exists():
            raise RunError(f"{str(self.path)!r} holds no run: {path.name} is missing")
        return path.read_text(encoding="utf-8")
