"""The search for branch widths: proposals of an oracle, scored in other processes, and written down one by one."""

import contextlib
import dataclasses
import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner import errors as kt_errors
from keras_tuner.engine import base_tuner, trial as kt

from keras_inception.architecture import Architecture
from keras_inception.data.sources import load_dataset
from keras_inception.errors import ArchitectureError, RunError, TrainingError
from keras_inception.files import folder_written_beside, write_json, write_text
from keras_inception.run_folder import RunFolder
from keras_inception.tuning.budget import cost
from keras_inception.tuning.config import SearchConfig
from keras_inception.tuning.finalists import Contender, Finalist, train_finalists
from keras_inception.tuning.folder import SearchFolder
from keras_inception.tuning.front import Trial, as_csv, best, front_of, interval, ranked
from keras_inception.tuning.oracles import OBJECTIVE, oracle
from keras_inception.tuning.page import write_search
from keras_inception.tuning.scorer import OnEvent, Scorer, TrialFailedError

# Costs that differ by less than a hundredth of the budget are equal to evolution.
_EQUAL = 2


def tune(
    config: SearchConfig,
    search_dir: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    minutes: float | None = None,
    on_event: OnEvent = lambda kind, values: None,
) -> dict[str, Any]:
    """Search for branch widths that fit the data better than the given ones at the cost of the budget.

    Every trial is scored in another process: one that takes its weights from a network trained once, or one for each
    trial that trains it from scratch. A trial that fails is recorded, and the search goes on. Killed at any moment, it
    goes on with `resume`, and no trial that was scored is scored again.

    Args:
        config: What is searched.
        search_dir: The folder of the search; it is made.
        resume: Go on with the search that is there; with more trials or finalists than before too.
        overwrite: Delete the search that is there.
        minutes: After which no further trial begins; None is no limit.
        on_event: Called with what happens.

    Returns:
        `best`, `given` (trial 0: the given widths at the budget's cost), `front` and `trials`, as `Trial` describes
        them, `finalists`, and the paths `architecture`, of the best network's table, and `report`, of a page.

    Raises:
        ConfigError, DataError, ArchitectureError, RunError: As their messages say; before anything is written.
        TrainingError: Too many trials failed one after the other, or a finalist did.
    """
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    folder, networks = SearchFolder(Path(search_dir)), _Networks(config)
    folder.begin(config, resume=resume, overwrite=overwrite)
    with RunFolder(folder.path).claimed():
        with Scorer(folder, config, on_event) as scorer:
            _score_trials(folder, config, networks, scorer, deadline, on_event)
            winner = _keep_best(folder, config, networks, scorer)
        trials = folder.trials()
        result: dict[str, Any] = {
            "best": winner,
            "given": next((trial for trial in trials if trial.number == 0), None),
            "front": front_of(trials),
            "trials": trials,
            "finalists": [],
            "architecture": folder.best / "architecture.json",
            "report": folder.path / "report.html",
        }
        _report(folder, config, networks, result)
        if config.finalists:
            result["finalists"] = _finalists(folder, config, networks, trials, on_event)
            _report(folder, config, networks, result)
    return result


class _Networks:
    """What values stand for in a search, and what it costs."""

    def __init__(self, config: SearchConfig):
        self.given = config.run.model.table()
        side = config.run.data.image_size or self.given.image_size
        smallest = self.given.smallest_image(auxiliary=config.from_scratch and config.run.model.auxiliary)
        if side < smallest:
            raise ArchitectureError(
                f"an image of {side}×{side} px is too small for {self.given.name!r}; the smallest is {smallest}"
            )
        self._shape = (side, side, config.run.data.channels)
        self._classes = len(load_dataset(config.run.data).classes)
        self.space, self.fit = config.space(), config.fitting(self._shape, self._classes)

    def table(self, values: Mapping[str, float]) -> Architecture:
        return self.space.point(values, self.fit).architecture

    def costs(self, table: Architecture) -> tuple[int, int]:
        """Return multiply-adds and parameters."""
        shape, classes = self._shape, self._classes
        return cost(table, "multiply_adds", shape, classes), cost(table, "parameters", shape, classes)

    def share(self, values: Mapping[str, float]) -> float:
        """Return what a network costs, as a share of the budget."""
        return round(self.fit.cost(self.table(values)) / self.fit.limit, _EQUAL)

    def trial(self, number: int, values: Mapping[str, float]) -> Trial:
        table = self.table(values)
        return Trial(number, dict(values), *self.costs(table), self.space.shares(table))

    def contender(self, name: str, values: Mapping[str, float] | None) -> Contender:
        table = self.given if values is None else self.table(values)
        return Contender(name, table, *self.costs(table))


def _score_trials(
    folder: SearchFolder,
    config: SearchConfig,
    networks: _Networks,
    scorer: Scorer,
    deadline: float,
    on_event: OnEvent,
) -> None:
    proposing = oracle(config, networks.space, networks.share)
    with contextlib.redirect_stdout(io.StringIO()):  # keras-tuner prints that it goes on with a search
        tuner = _Tuner(proposing, folder, scorer, networks, deadline, on_event)
    try:
        tuner.search(verbose=0)
    except RuntimeError as error:
        if "consecutive failures" not in str(error):
            raise
        failed = next(trial for trial in reversed(folder.trials()) if trial.state == "failed")
        raise TrainingError(
            f"too many trials failed one after the other, the last with: {failed.message}; {str(folder.log)!r} has "
            f"what they printed"
        ) from None


class _Tuner(base_tuner.BaseTuner):
    """keras-tuner's loop over trials: what a trial is, is here."""

    def __init__(
        self,
        proposing: keras_tuner.Oracle,
        folder: SearchFolder,
        scorer: Scorer,
        networks: _Networks,
        deadline: float,
        on_event: OnEvent,
    ):
        self._folder, self._scorer, self._networks, self._on_event = folder, scorer, networks, on_event
        self._deadline = deadline
        self._trials = {trial.number: trial for trial in folder.trials()}
        super().__init__(proposing, directory=str(folder.path), project_name=folder.oracle.name)

    def pre_create_trial(self) -> None:
        """Let no trial begin when the time is up; one at least has been scored."""
        if self._trials and time.monotonic() > self._deadline:
            self.oracle.max_trials = len(self._trials)

    def run_trial(self, trial: kt.Trial, **kwargs: Any) -> dict[str, float]:
        """Score a trial, unless it was before the search was killed."""
        number, values = int(trial.trial_id), trial.hyperparameters.values
        known = self._trials.get(number)
        if known is None or known.state != "scored":
            self._note(self._networks.trial(number, values))
            known = self._scored(self._trials[number])
            self._note(known)
        if known.top1 is None:
            raise kt_errors.FailedTrialError(known.message)
        return {OBJECTIVE.name: known.top1}

    def _try_run_and_update_trial(self, trial: kt.Trial, *args: Any, **kwargs: Any) -> None:
        """Run a trial and tell the oracle; one that failed is no traceback on the screen, and a bug is not hidden."""
        try:
            self.oracle.update_trial(trial.trial_id, self.run_trial(trial))
            trial.status = kt.TrialStatus.COMPLETED
        except kt_errors.FailedTrialError as error:
            trial.status, trial.message = kt.TrialStatus.FAILED, str(error)

    def _scored(self, trial: Trial) -> Trial:
        begun = time.monotonic()
        try:
            found = self._scorer.score(trial)
        except TrialFailedError as error:
            return replace(trial, state="failed", message=str(error), seconds=time.monotonic() - begun)
        return replace(
            trial,
            state="scored",
            top1=found["right"] / found["of"],
            interval=interval(found["right"], found["of"]),
            seconds=found["seconds"],
        )

    def _note(self, trial: Trial) -> None:
        self._trials[trial.number] = trial
        trials = [self._trials[number] for number in sorted(self._trials)]
        self._folder.write_trials(trials)
        self._on_event("begun" if trial.state == "running" else "ended", {"trial": trial, "trials": trials})


def _keep_best(folder: SearchFolder, config: SearchConfig, networks: _Networks, scorer: Scorer) -> Trial:
    """Write the best network, and the weights it was scored with."""
    winner = best(folder.trials())
    if winner is None:
        raise RunError(f"no trial of {str(folder.path)!r} was scored; {str(folder.log)!r} has what they printed")
    with folder_written_beside(folder.best) as new:
        write_text(new / "architecture.json", networks.table(winner.values).to_json())
        run = config.trained(folder.best / "architecture.json", {"name": "tuned"})
        write_text(new / "config.json", run.to_json())
        scorer.keep(winner, new / "weights.keras")
        write_json(new / "trial.json", dataclasses.asdict(winner))
    return winner


def _finalists(
    folder: SearchFolder, config: SearchConfig, networks: _Networks, trials: Sequence[Trial], on_event: OnEvent
) -> list[Finalist]:
    """Train the best from scratch beside the given network and the uniformly scaled one."""
    contenders = [networks.contender("given", None), networks.contender("uniform", networks.space.defaults())]
    for trial in [trial for trial in ranked(trials) if trial.number != 0][: config.finalists]:
        contenders.append(networks.contender(f"trial {trial.number}", trial.values))
    found = train_finalists(
        config, folder.finalists, contenders, lambda name, seed: on_event("finalist", {"name": name, "seed": seed})
    )
    write_json(folder.finalists / "finalists.json", [dataclasses.asdict(finalist) for finalist in found])
    return found


def _report(folder: SearchFolder, config: SearchConfig, networks: _Networks, result: Mapping[str, Any]) -> None:
    write_text(folder.front_csv, as_csv(result["front"]))
    write_search(
        folder.path,
        title=f"Widths for {config.budget}",
        lead=_lead(config, result["trials"]),
        trials=result["trials"],
        given=networks.given,
        tuned=networks.table(result["best"].values),
        finalists=result["finalists"],
    )


def _lead(config: SearchConfig, trials: Sequence[Trial]) -> str:
    """Return what a reader of the page should know first."""
    table = config.run.model.table()
    how = (
        f"trained from scratch for {config.run.training.epochs} epochs"
        if config.from_scratch
        else f"scored with weights of one network trained for {config.supernet_epochs} epochs"
    )
    return (
        f"{sum(trial.state == 'scored' for trial in trials)} networks, proposed by {config.oracle} search and {how}, "
        f"on the data of {config.run.data.source}. Each is {table.name} with other widths, for {config.budget}.\n\n"
        f"Trial 0 has the given widths, scaled alike to the budget. The best of many is chosen on validation, so that "
        f"its top-1 there is too good: train it, and measure it on the test split."
    )
