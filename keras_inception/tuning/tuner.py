"""keras-tuner's loop over trials, alone or as one of several workers that a chief gives trials to."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import keras_tuner
from keras_tuner import errors as kt_errors
from keras_tuner.engine import base_tuner, trial as kt

from keras_inception.errors import ConfigError
from keras_inception.tuning.folder import SearchFolder
from keras_inception.tuning.front import Trial, interval
from keras_inception.tuning.oracles import OBJECTIVE
from keras_inception.tuning.scorer import Scorer, TrialFailedError

#: What a process is to a search: all of it, the one that proposes trials, or one of those that score them.
Role = Literal["alone", "chief", "worker"]

# keras-tuner's: who a process is, and where the chief answers.
_WHO = "KERASTUNER_TUNER_ID"
_WHERE = ("KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


def role() -> Role:
    """Return what this process is, from the environment variables that keras-tuner reads.

    Raises:
        ConfigError: Some of them are set and others are not.
    """
    names = (_WHO, *_WHERE)
    missing = [name for name in names if not os.environ.get(name)]
    if missing and len(missing) < len(names):
        given = next(name for name in names if name not in missing)
        raise ConfigError(
            f"{given} is set and {' and '.join(missing)} not; a search by several processes takes all three: "
            f"tools/launch --chief sets them"
        )
    if missing:
        return "alone"
    return "chief" if "chief" in os.environ[_WHO] else "worker"


class Tuner(base_tuner.BaseTuner):
    """keras-tuner's loop over trials: what a trial is, is here. A chief's serves proposals in its place.

    Args:
        proposing: Who proposes; a worker asks the chief's.
        folder: Of the search.
        scorer: What scores a network.
        described: From number and values to a trial that has not been scored.
        on_trial: Called when a trial begins and when it has ended; it is written down then.
    """

    def __init__(
        self,
        proposing: keras_tuner.Oracle,
        folder: SearchFolder,
        scorer: Scorer,
        described: Callable[[int, Mapping[str, float]], Trial],
        on_trial: Callable[[Trial], None],
    ):
        self._folder, self._scorer, self._described, self._on_trial = folder, scorer, described, on_trial
        super().__init__(proposing, directory=str(folder.path), project_name=folder.oracle.name)

    def run_trial(self, trial: kt.Trial, **kwargs: Any) -> dict[str, float]:
        """Score a trial, unless it was before the search was killed."""
        number = int(trial.trial_id)
        known, begun = self._folder.trial(number), self._described(number, trial.hyperparameters.values)
        if known is None or known.state != "scored" or known.values != begun.values:
            self._note(begun)
            known = scored(begun, self._scorer)
            self._note(known)
        if known.top1 is None:
            raise kt_errors.FailedTrialError(known.message)
        return {OBJECTIVE.name: known.top1}

    def save(self) -> None:
        """Save what proposes; keras-tuner's loop has no state of its own."""
        if not self._is_worker():
            self.oracle.save()

    def reload(self) -> None:
        """Go on with what was proposed."""
        if not self._is_worker():
            self.oracle.reload()

    def _get_tuner_fname(self) -> str:
        """Return the file that is there when a search goes on; keras-tuner's own is named after the role."""
        return self.oracle._get_oracle_fname()

    def _try_run_and_update_trial(self, trial: kt.Trial, *args: Any, **kwargs: Any) -> None:
        """Run a trial and tell the oracle; one that failed is no traceback on the screen, and a bug is not hidden."""
        try:
            self.oracle.update_trial(trial.trial_id, self.run_trial(trial))
            trial.status = kt.TrialStatus.COMPLETED
        except kt_errors.FailedTrialError as error:
            trial.status, trial.message = kt.TrialStatus.FAILED, str(error)

    def _note(self, trial: Trial) -> None:
        self._folder.write_trial(trial)
        self._on_trial(trial)


def scored(trial: Trial, scorer: Scorer) -> Trial:
    """Score a network; where that fails the trial says why."""
    begun = time.monotonic()
    try:
        found = scorer.score(trial)
    except TrialFailedError as error:
        return replace(trial, state="failed", message=str(error), seconds=time.monotonic() - begun)
    return replace(
        trial,
        state="scored",
        top1=found["right"] / found["of"],
        interval=interval(found["right"], found["of"]),
        seconds=found["seconds"],
    )
