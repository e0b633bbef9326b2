"""Who proposes what a search tries next: keras-tuner's oracles, and evolution over the front; saved without gaps."""

import json
import math
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine import trial as kt

from keras_inception.files import write_text
from keras_inception.tuning.config import SearchConfig
from keras_inception.tuning.front import front
from keras_inception.tuning.space import Parameter, Space

OBJECTIVE = keras_tuner.Objective("top1", "max")

# Trials in a row that fail before a search gives up.
_FAILURES = 5
# Of evolution: points at random before parents are taken, and the share of children with two parents.
_FIRST, _CROSSED = 10, 0.5
# How many of the best at least are parents.
_PARENTS = 5


class _GivenFirst(keras_tuner.Oracle):
    """What all oracles of a search have in common.

    The first trial is the given architecture, scaled uniformly to the budget. keras-tuner writes its state in place, so
    that a kill can leave half of it; here it is written beside and renamed.
    """

    given: Mapping[str, float] = {}
    #: When no further trial begins, by the clock of `time.monotonic`; one at least is proposed.
    deadline: float = math.inf

    @keras_tuner.synchronized
    def create_trial(self, tuner_id):
        if self.trials and time.monotonic() > self.deadline:
            self.max_trials = len(self.trials)
        return super().create_trial(tuner_id)

    @keras_tuner.synchronized
    def end_trial(self, trial):
        # A worker's copy has come through float32.
        trial.hyperparameters = self.trials[trial.trial_id].hyperparameters
        super().end_trial(trial)

    def populate_space(self, trial_id):
        if not self.trials and self.given:
            return {"status": kt.TrialStatus.RUNNING, "values": dict(self.given)}
        return super().populate_space(trial_id)

    def save(self):
        write_text(Path(self._get_oracle_fname()), json.dumps(self.get_state()))

    def _save_trial(self, trial):
        write_text(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", json.dumps(trial.get_state()))

    def reload(self):
        super().reload()
        # Killed between the file of a trial that began and that of the oracle.
        known = {*self.start_order, *(trial.trial_id for trial in self.ongoing_trials.values()), *self._retry_queue}
        for trial_id in sorted(self.trials.keys() - known):
            self.start_order.append(trial_id)
            self._retry_queue.append(trial_id)


class _Random(_GivenFirst, keras_tuner.oracles.RandomSearchOracle):
    pass


class _Bayesian(_GivenFirst, keras_tuner.oracles.BayesianOptimizationOracle):
    pass


class _Hyperband(_GivenFirst, keras_tuner.oracles.HyperbandOracle):
    pass


class EvolutionOracle(_GivenFirst):
    """Evolution over the front of accuracy against cost.

    After some points at random, every proposal has one or two parents among the best that have been scored: those on
    the front, and on the fronts behind it until there are enough (non-dominated sorting: Deb et al., NSGA-II, 2002).
    Each hyperparameter is one of theirs, and some move to a neighbouring choice.

    Args:
        space: What is searched.
        costs: From values to what the network costs, by arithmetic.
        **kwargs: As any oracle of keras-tuner takes them.
    """

    def __init__(self, space: Space, costs: Callable[[Mapping[str, float]], float], **kwargs: Any):
        super().__init__(**kwargs)
        self._space, self._costs = space, costs
        self._known: dict[str, float] = {}  # costs of trials

    def populate_space(self, trial_id):
        if not self.trials:
            return super().populate_space(trial_id)
        dice = random.Random(f"{self.seed} {trial_id}")
        scored = [trial for trial in self.trials.values() if trial.status == kt.TrialStatus.COMPLETED]
        for _ in range(self._max_collisions):
            values = self._drawn(dice) if len(scored) < _FIRST else self._child(dice, scored)
            if self._compute_values_hash(values) not in self._tried_so_far:
                return {"status": kt.TrialStatus.RUNNING, "values": values}
        # Everything near the front has been tried.
        return {"status": kt.TrialStatus.RUNNING, "values": self._drawn(dice)}

    def _drawn(self, dice: random.Random) -> dict[str, float]:
        return {parameter.name: dice.choice(parameter.choices) for parameter in self._space.parameters}

    def _child(self, dice: random.Random, scored: list[kt.Trial]) -> dict[str, float]:
        parents = [trial.hyperparameters.values for trial in self._best(scored)]
        one = dice.choice(parents)
        other = dice.choice(parents) if dice.random() < _CROSSED else one
        parameters = self._space.parameters
        changed = {parameter.name for parameter in parameters if dice.random() < 1 / len(parameters)}
        changed.add(dice.choice(parameters).name)
        return {
            parameter.name: _neighbour(parameter, value, dice) if parameter.name in changed else value
            for parameter in parameters
            for value in [dice.choice((one, other))[parameter.name]]
        }

    def _best(self, scored: list[kt.Trial]) -> list[kt.Trial]:
        """Return the trials of the first fronts that are enough together."""
        left, found = list(scored), list[kt.Trial]()
        while left and len(found) < _PARENTS:
            places = front([(trial.score, self._cost(trial)) for trial in left])
            found += [left[place] for place in places]
            left = [trial for place, trial in enumerate(left) if place not in places]
        return found

    def _cost(self, trial: kt.Trial) -> float:
        if trial.trial_id not in self._known:
            self._known[trial.trial_id] = self._costs(trial.hyperparameters.values)
        return self._known[trial.trial_id]


def _neighbour(parameter: Parameter, value: float, dice: random.Random) -> float:
    """Return a choice one or two steps away."""
    place = parameter.choices.index(value)
    near = [n for n in (-2, -1, 1, 2) if 0 <= place + n < len(parameter.choices)]
    return parameter.choices[place + dice.choice(near)] if near else value


def oracle(
    config: SearchConfig,
    space: Space,
    costs: Callable[[Mapping[str, float]], float],
    first: Mapping[str, float],
    deadline: float = math.inf,
) -> keras_tuner.Oracle:
    """Return the oracle of a search.

    Args:
        config: Its name, and how many trials.
        space: What is searched.
        costs: As `EvolutionOracle` takes it.
        first: The values that are proposed first; Hyperband's are its own.
        deadline: When no further trial begins, by the clock of `time.monotonic`.
    """
    values = keras_tuner.HyperParameters()
    for parameter in space.parameters:
        values.Choice(parameter.name, list(parameter.choices), ordered=True, default=parameter.default)
    common: dict[str, Any] = {
        "objective": OBJECTIVE,
        "hyperparameters": values,
        "seed": config.run.training.seed + 1,  # keras-tuner takes 0 for none
        "max_consecutive_failed_trials": _FAILURES,
    }
    match config.oracle:
        case "evolution":
            made = EvolutionOracle(space, costs, max_trials=config.trials, **common)
        case "bayesian":
            made = _Bayesian(max_trials=config.trials, **common)
        case "random":
            made = _Random(max_trials=config.trials, **common)
        case "hyperband":
            made = _Hyperband(max_epochs=config.run.training.epochs, **common)  # its trials have epochs of its own
            made.max_trials = config.trials
    made.deadline = deadline
    if config.oracle != "hyperband":
        made.given = first
    return made
