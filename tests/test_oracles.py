"""Oracles by themselves, on a landscape with one peak."""

import pytest
from keras_tuner.engine.trial import TrialStatus

from keras_inception.architecture import GOOGLENET
from keras_inception.config import RunConfig
from keras_inception.tuning.config import SearchConfig
from keras_inception.tuning.oracles import oracle
from keras_inception.tuning.space import Space


def score(values):
    """1 at wide 3×3 branches and narrow 5×5 ones."""
    wanted = [1.25 if "3x3" in name else 0.25 if "5x5" in name else 0.75 for name in values]
    return 1 - sum(abs(a - b) for a, b in zip(values.values(), wanted, strict=True)) / len(values)


def asked(name, seed, trials, monkeypatch, costs=lambda values: 1.0):
    """The trials of an oracle that writes nothing."""
    run = RunConfig().override({"training.seed": seed})
    space = Space(GOOGLENET, "branch_of_stage")
    made = oracle(SearchConfig(run=run, oracle=name, trials=trials), space, costs, space.defaults())
    monkeypatch.setattr(made, "save", lambda: None)
    monkeypatch.setattr(made, "_save_trial", lambda trial: None)
    made.verbose = 0
    while (trial := made.create_trial("tuner")).status != TrialStatus.STOPPED:
        made.update_trial(trial.trial_id, {"top1": score(trial.hyperparameters.values)})
        trial.status = TrialStatus.COMPLETED
        made.end_trial(trial)
    return list(made.trials.values())


def test_evolution_climbs_higher_than_chance(monkeypatch):
    found = {
        name: [max(trial.score for trial in asked(name, seed, 60, monkeypatch)) for seed in (1, 2, 3)]
        for name in ("evolution", "random")
    }
    assert min(found["evolution"]) > max(found["random"])


@pytest.mark.parametrize("name", ["evolution", "random", "bayesian"])
def test_the_same_seed_proposes_the_same(monkeypatch, name):
    one, again, other = (
        [trial.hyperparameters.values for trial in asked(name, seed, 15, monkeypatch)] for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other


def test_evolution_keeps_what_is_cheap(monkeypatch):
    """Parents are cheap ones too, where the cost differs: after a while many proposals cost less than half."""
    costs = {}

    def cost(values):
        costs[tuple(values.values())] = sum(values.values())
        return sum(values.values())

    trials = asked("evolution", 1, 80, monkeypatch, cost)
    late = [sum(trial.hyperparameters.values.values()) for trial in trials[40:]]
    assert max(late) - min(late) > 2
    assert len({tuple(trial.hyperparameters.values.values()) for trial in trials}) == 80
