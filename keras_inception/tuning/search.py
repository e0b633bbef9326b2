"""The search for branch widths: proposals of an oracle, scored in other processes, and written down one by one."""

import contextlib
import dataclasses
import io
import itertools
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_inception.errors import RunError, TrainingError
from keras_inception.files import folder_written_beside, write_json, write_text
from keras_inception.tuning.config import SearchConfig
from keras_inception.tuning.finalists import Finalist, train_finalists
from keras_inception.tuning.folder import SearchFolder
from keras_inception.tuning.front import GIVEN, Trial, as_csv, front_of, ranked
from keras_inception.tuning.networks import Networks
from keras_inception.tuning.oracles import oracle
from keras_inception.tuning.page import write_search
from keras_inception.tuning.scorer import OnEvent, Scorer
from keras_inception.tuning.space import Point
from keras_inception.tuning.tuner import Tuner, role, scored

OnTrial = Callable[[Trial], None]

# Seconds between two looks at what workers have written down.
_LOOK_EVERY = 1.0
# For a latency, that many of the best are timed, beside those of the front.
_TIMED = 8


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

    Where keras-tuner's environment variables make this process the chief, it trains the shared network, proposes the
    trials that `work` scores in others, and chooses among them.

    Args:
        config: What is searched.
        search_dir: The folder of the search; it is made.
        resume: Go on with the search that is there; with more trials or finalists than before too.
        overwrite: Delete the search that is there.
        minutes: After which no further trial begins; None is no limit.
        on_event: Called with what happens.

    Returns:
        `best`; `uniform`, trial 0: the given widths scaled alike to the budget, None of Hyperband, whose trials are
        its own; `given`, the given network at its own cost, scored alike; `front` and `trials`, as `Trial` describes
        them; `finalists`; and the paths `architecture`, of the best network's table, and `report`, of a page.

    Raises:
        ConfigError, DataError, ArchitectureError, RunError: As their messages say; but for a latency that cannot be
            met, before anything is written.
        TrainingError: Too many trials failed one after the other, a finalist did, or no network meets a latency.
    """
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    search, serving = _Search(config, SearchFolder(Path(search_dir)), Networks(config), on_event), role() == "chief"
    if serving and not resume:
        raise RunError("a search by several processes is started again when one has failed; give --resume")
    search.folder.begin(config, resume=resume, overwrite=overwrite)
    with search.folder.claimed():
        search.calibrate()
        with Scorer(search.folder, config, on_event) as scorer:
            scorer.prepare()
            if serving:
                scorer.end()  # its memory is the workers'
            with search.watched() if serving else contextlib.nullcontext():
                search.score_trials(scorer, deadline, search.tell)
            result = search.choose(scorer)
        search.report(result)
        if config.finalists:
            result["finalists"] = search.train_finalists(result)
            search.report(result)
    return result


def work(config: SearchConfig, search_dir: str | Path) -> int:
    """Score trials that the chief of a search proposes, until it has no more; `tools/launch --chief` starts both.

    Args:
        config: Of the search, the same as the chief's.
        search_dir: The same folder.

    Returns:
        How many trials were scored here.

    Raises:
        ConfigError, DataError, ArchitectureError, RunError: As their messages say.
        TrainingError: Too many trials failed one after the other.
    """
    search = _Search(config, SearchFolder(Path(search_dir)), Networks(config), lambda kind, values: None)
    search.folder.await_chief(config)
    search.networks.fit_to(search.folder.budget(config))
    ended: list[Trial] = []

    def on_trial(trial: Trial) -> None:
        if trial.state == "scored":
            ended.append(trial)

    with Scorer(search.folder, config, search.on_event) as scorer:
        search.score_trials(scorer, math.inf, on_trial)
    return len(ended)


@dataclass(frozen=True)
class _Search:
    config: SearchConfig
    folder: SearchFolder
    networks: Networks
    on_event: OnEvent

    def calibrate(self) -> None:
        """Find out, once, how many multiply-adds the latency of the budget allows."""
        if self.networks.budget.quantity != "latency":
            return
        if not self.folder.calibration_json.exists():
            self.on_event("doing", {"what": "timing the given widths, scaled alike, as TFLite files"})
            write_json(self.folder.calibration_json, self.networks.calibrated())
        self.networks.fit_to(self.folder.budget(self.config))

    def tell(self, trial: Trial) -> None:
        """Bring the tables of trials up to date, and tell of one."""
        trials = self.folder.trials()
        self.folder.write_tables(trials)
        self.on_event("begun" if trial.state == "running" else "ended", {"trial": trial, "trials": trials})

    def score_trials(self, scorer: Scorer, deadline: float, on_trial: OnTrial) -> None:
        """Score what is proposed, or let others score it."""
        networks = self.networks
        proposing = oracle(self.config, networks.space, networks.share, networks.uniform(), deadline)
        with contextlib.redirect_stdout(io.StringIO()):  # keras-tuner prints that it goes on with a search
            tuner = Tuner(proposing, self.folder, scorer, networks.trial, on_trial)
        try:
            tuner.search(verbose=0)
        except Exception as error:  # a worker hears of the chief's RuntimeError as one of gRPC's
            if "consecutive failures" not in str(error):
                raise
            failed = next(trial for trial in reversed(self.folder.trials()) if trial.state == "failed")
            raise TrainingError(
                f"too many trials failed one after the other, the last with: {failed.message}; "
                f"{str(self.folder.log)!r} has what they printed"
            ) from None

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Tell of the trials that workers write down."""
        known, ended = {trial.number: trial for trial in self.folder.trials()}, threading.Event()

        def look() -> None:
            for trial in self.folder.trials():
                if known.get(trial.number) != trial:
                    known[trial.number] = trial
                    self.tell(trial)

        def watch() -> None:
            while not ended.wait(_LOOK_EVERY):
                look()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
        look()

    def choose(self, scorer: Scorer) -> dict[str, Any]:
        """Return what was found, after the given network is scored too and the best of all are timed."""
        if not ranked(self.folder.trials()):
            raise RunError(
                f"no trial of {str(self.folder.path)!r} was scored; {str(self.folder.log)!r} has what they printed"
            )
        self._score_given(scorer)
        self._time_best()
        trials = self.folder.trials()
        self.folder.write_tables(trials)
        winner = self._fitting(trials)[0]
        self._keep(winner, scorer)
        return {
            "best": winner,
            "uniform": self._uniform(),
            "given": self.folder.trial(GIVEN),
            "front": front_of(trials),
            "trials": trials,
            "finalists": [],
            "architecture": self.folder.best / "architecture.json",
            "report": self.folder.path / "report.html",
        }

    def report(self, result: dict[str, Any]) -> None:
        """Write the front as a table, the pictures and the page."""
        write_text(self.folder.front_csv, as_csv(result["front"]))
        write_search(
            self.folder.path,
            title=f"Widths for {self.config.budget}",
            lead=self._lead(result["trials"]),
            trials=result["trials"],
            given=(self.networks.given, result["given"]),
            tuned=(self.networks.table(result["best"].values), result["best"]),
            uniform=result["uniform"],
            inherited=not self.config.from_scratch,
            limit_ms=self._limit_ms(),
            finalists=result["finalists"],
        )

    def train_finalists(self, result: dict[str, Any]) -> list[Finalist]:
        """Train the best from scratch beside the given network and a uniformly scaled one of their cost."""
        networks, uniform = self.networks, self.networks.uniform()
        distinct = self._distinct(self._fitting(result["trials"]), networks.point(uniform))
        chosen = list(itertools.islice(distinct, self.config.finalists))
        contenders = [networks.contender("given", None)]
        # Those that use up less of the budget are compared with a uniform one that does too.
        for size in dict.fromkeys(trial.values.get("size") for trial in chosen) or [None]:
            name = "uniform" if size in (None, uniform.get("size")) else f"uniform {size:g}"
            contenders.append(networks.contender(name, networks.uniform(size)))
        for trial in chosen:
            contenders.append(networks.contender(f"trial {trial.number}", trial.values))

        def on_run(name: str, seed: int) -> None:
            self.on_event("doing", {"what": f"training {name} from scratch, seed {seed}"})

        found = train_finalists(self.config, self.folder.finalists, contenders, on_run)
        write_json(self.folder.finalists / "finalists.json", [dataclasses.asdict(finalist) for finalist in found])
        return found

    def _score_given(self, scorer: Scorer) -> None:
        known = self.folder.trial(GIVEN)
        if known is None or known.state != "scored":
            self.on_event("doing", {"what": "scoring the given network at its own cost"})
            self.folder.write_trial(scored(self.networks.given_trial(), scorer))

    def _time_best(self) -> None:
        """Measure what the best network, the given one and the uniform one take; of a latency, the whole front."""
        trials = self.folder.trials()
        wanted = ranked(trials)[:1]
        if self._limit_ms() is not None:
            wanted = [*front_of(trials), *ranked(trials)[:_TIMED]]
        first = [self.folder.trial(GIVEN), self._uniform(), *wanted]
        timed = list({trial.number: trial for trial in first if trial is not None}.values())
        if any(trial.latency_ms is None for trial in timed):
            self.on_event("doing", {"what": f"timing {len(timed)} networks as TFLite files"})
            for trial in self.networks.timed(timed):
                self.folder.write_trial(trial)

    def _uniform(self) -> Trial | None:
        """Return trial 0, which has the given widths scaled alike to the budget; Hyperband's has others."""
        return None if self.config.oracle == "hyperband" else self.folder.trial(0)

    def _fitting(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return what was scored and meets the budget, the best first."""
        limit, found = self._limit_ms(), ranked(trials)
        if limit is None:
            return found
        timed = [trial for trial in found if trial.latency_ms is not None]
        fitting = [trial for trial in timed if trial.latency_ms is not None and trial.latency_ms <= limit]
        if not fitting:
            fastest = min(timed, key=lambda trial: trial.latency_ms or math.inf)
            raise TrainingError(
                f"none of the {len(timed)} best networks takes at most {limit:.3g} ms; the fastest, trial "
                f"{fastest.number}, takes {fastest.latency_ms:.3g} ms: give more --trials with --resume, or begin with "
                f"a larger --budget"
            )
        return fitting

    def _distinct(self, trials: Sequence[Trial], beside: Point) -> Iterator[Trial]:
        """Yield the first trial of every point but one; Hyperband's that are promoted have the points of others."""
        known = {beside}
        for trial in trials:
            point = self.networks.point(trial.values)
            if point not in known:
                known.add(point)
                yield trial

    def _limit_ms(self) -> float | None:
        if self.networks.budget.quantity != "latency":
            return None
        return float(json.loads(self.folder.calibration_json.read_text("utf-8"))["limit_ms"])

    def _keep(self, winner: Trial, scorer: Scorer) -> None:
        """Write the best network, and the weights it was scored with."""
        best = self.folder.best
        with folder_written_beside(best) as new:
            point = self.networks.point(winner.values)
            write_text(new / "architecture.json", point.architecture.to_json())
            run = self.config.trained(best / "architecture.json", point, {"name": "tuned"})
            write_text(new / "config.json", run.to_json())
            scorer.keep(winner, new / "weights.keras")
            write_json(new / "trial.json", dataclasses.asdict(winner))

    def _lead(self, trials: Sequence[Trial]) -> str:
        """Return what a reader of the page should know first."""
        config = self.config
        how = (
            f"trained from scratch for {config.run.training.epochs} epochs"
            if config.from_scratch
            else f"scored with weights of one network trained for {config.supernet_epochs} epochs"
        )
        first = "" if self._uniform() is None else "Trial 0 has the given widths, scaled alike to the budget. "
        return (
            f"{sum(trial.state == 'scored' for trial in trials)} networks, proposed by {config.oracle} search and "
            f"{how}, on the data of {config.run.data.source}. Each is {self.networks.given.name} with other widths, "
            f"for {config.budget}.\n\n{first}The best of many is chosen on validation, so that its top-1 there is too "
            f"good: train it, and measure it on the test split."
        )
