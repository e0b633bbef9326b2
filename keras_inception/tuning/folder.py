"""The folder of a search: what stands where, and who works in it."""

import json
import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from keras_inception.budget import Budget
from keras_inception.errors import RunError
from keras_inception.files import left_beside, write_json, write_text
from keras_inception.run_folder import RunFolder
from keras_inception.tuning.config import SearchConfig
from keras_inception.tuning.front import GIVEN, Trial, as_csv

# Seconds between two looks at what the chief has done.
_LOOK_EVERY = 0.5


@dataclass(frozen=True)
class SearchFolder:
    """A folder that holds one search.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def search_json(self) -> Path:
        return self.path / "search.json"

    @property
    def trials_folder(self) -> Path:
        return self.path / "trials"

    @property
    def trials_json(self) -> Path:
        return self.path / "trials.json"

    @property
    def trials_csv(self) -> Path:
        return self.path / "trials.csv"

    @property
    def front_csv(self) -> Path:
        return self.path / "front.csv"

    @property
    def calibration_json(self) -> Path:
        return self.path / "calibration.json"

    @property
    def oracle(self) -> Path:
        return self.path / "oracle"

    @property
    def supernet(self) -> Path:
        return self.path / "supernet.npz"

    @property
    def supernet_json(self) -> Path:
        return self.path / "supernet.json"

    @property
    def log(self) -> Path:
        return self.path / "scoring.log"

    @property
    def best(self) -> Path:
        return self.path / "best"

    @property
    def finalists(self) -> Path:
        return self.path / "finalists"

    def run(self, number: int) -> Path:
        """Return the run folder of a trial that is trained from scratch."""
        return self.path / "runs" / _name(number)

    def architecture(self, number: int) -> Path:
        """Return the architecture file of such a trial."""
        return self.path / "runs" / f"{_name(number)}.json"

    def claimed(self) -> AbstractContextManager[None]:
        """Hold the folder, which is made, against other processes; raises RunError as `RunFolder.claimed`."""
        return RunFolder(self.path).claimed("search", "--search-dir")

    def begin(self, config: SearchConfig, *, resume: bool, overwrite: bool) -> None:
        """Write what is searched, or see that it is the same as before.

        Raises:
            RunError: A search is there and is neither to go on nor to be deleted, or is another one; another process
                works in it; or the folder is a file or cannot be written.
        """
        if resume and overwrite:
            raise RunError("--resume goes on with a search and --overwrite deletes it; give one of them")
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{str(self.path)!r} is a file; give --search-dir a folder")
        lock = RunFolder(self.path).lock
        if self.search_json.exists() and overwrite:
            with self.claimed():
                # search.json last, which marks the folder as a search, also where this is killed.
                for child in sorted(self.path.iterdir(), key=lambda child: child == self.search_json):
                    if child.is_dir() and not child.is_symlink():
                        shutil.rmtree(child)
                    elif child != lock:
                        child.unlink()
        if self.search_json.exists():
            if not resume:
                raise RunError(
                    f"there is a search in {str(self.path)!r}; give --resume to go on, --overwrite to delete it, or "
                    f"another --search-dir"
                )
            self._check_same(config)
        elif self.path.exists() and set(self.path.iterdir()) - {lock, *left_beside(self.search_json)}:
            raise RunError(f"{str(self.path)!r} is not empty and holds no search; give another --search-dir")
        with self.claimed():
            write_text(self.search_json, config.to_json())

    def config(self) -> SearchConfig:
        """Return what is searched.

        Raises:
            RunError: There is no search.
        """
        if not self.search_json.is_file():
            raise RunError(f"there is no search in {str(self.path)!r}; begin one: keras-inception tune")
        return SearchConfig.from_json(self.search_json.read_text("utf-8"))

    def budget(self, config: SearchConfig) -> Budget:
        """Return the budget that proposals are fitted to: of a latency, the multiply-adds it was found to allow.

        Args:
            config: Of the search.
        """
        budget = Budget.parse(config.budget)
        if budget.quantity != "latency":
            return budget
        return Budget("multiply_adds", json.loads(self.calibration_json.read_text("utf-8"))["multiply_adds"])

    def await_chief(self, config: SearchConfig) -> None:
        """Wait until the search has begun, its latency is calibrated, and the shared network it may need is trained.

        Raises:
            RunError: It is another search.
        """
        while not self.search_json.exists():
            time.sleep(_LOOK_EVERY)
        self._check_same(config)
        while Budget.parse(config.budget).quantity == "latency" and not self.calibration_json.exists():
            time.sleep(_LOOK_EVERY)
        while not self.is_trained(config):
            time.sleep(_LOOK_EVERY)

    def is_trained(self, config: SearchConfig) -> bool:
        """Return whether the shared network is trained, or none is needed."""
        return config.from_scratch or self.trained_epochs() >= config.supernet_epochs

    def trial(self, number: int) -> Trial | None:
        """Return a trial; None where it has not begun."""
        path = self._trial_json(number)
        if not path.exists():
            return None
        row = json.loads(path.read_text("utf-8"))
        return Trial(**row | {"interval": row["interval"] and tuple(row["interval"])})

    def trials(self) -> list[Trial]:
        """Return what has been tried, in the order it began."""
        numbers = sorted(int(path.stem) for path in self.trials_folder.glob("[0-9]*.json"))
        return [trial for trial in map(self.trial, numbers) if trial is not None]

    def supernet_epochs(self) -> list[dict[str, float]]:
        """Return epoch, loss and seconds of every epoch of the shared network; none where there is no such network."""
        if not self.supernet_json.exists():
            return []
        return json.loads(self.supernet_json.read_text("utf-8"))

    def trained_epochs(self) -> int:
        """Return after how many epochs the shared network was last saved; 0 where it was not."""
        if not self.supernet.exists():
            return 0
        with np.load(self.supernet) as saved:
            return int(saved["epochs"])

    def write_trial(self, trial: Trial) -> None:
        """Write one trial; every process that scores writes its own."""
        write_json(self._trial_json(trial.number), asdict(trial))

    def write_tables(self, trials: Sequence[Trial]) -> None:
        """Write what has been tried as one JSON file and as a table."""
        write_json(self.trials_json, [asdict(trial) for trial in trials])
        write_text(self.trials_csv, as_csv(trials))

    def _trial_json(self, number: int) -> Path:
        return self.trials_folder / f"{_name(number)}.json"

    def _check_same(self, config: SearchConfig) -> None:
        old, new = (json.loads(text) for text in (self.config().to_json(), config.to_json()))
        for field in sorted(new.keys() - {"trials", "finalists"}):
            if old[field] != new[field]:
                raise RunError(
                    f"the search in {str(self.path)!r} was begun with another {field}; give the same, or --overwrite "
                    f"to begin again"
                )


def _name(number: int) -> str:
    return "given" if number == GIVEN else f"{number:04}"
