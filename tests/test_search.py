"""The search itself, with networks scored by a formula in place of a training; with real ones in test_scoring.py."""

import dataclasses
import json
import os
import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from keras_inception.architecture import Architecture, Inception, MlpConv
from keras_inception.cli import main
from keras_inception.config import RunConfig
from keras_inception.cost import row_costs
from keras_inception.errors import ArchitectureError, ConfigError, RunError, TrainingError
from keras_inception.files import write_text
from keras_inception.run_folder import RunFolder
from keras_inception.tuning import page, search
from keras_inception.tuning.config import SearchConfig, checked
from keras_inception.tuning.finalists import Finalist
from keras_inception.tuning.folder import SearchFolder
from keras_inception.tuning.front import GIVEN, best, front_of
from keras_inception.tuning.networks import Networks
from keras_inception.tuning.oracles import oracle
from keras_inception.tuning.scorer import TrialFailedError
from keras_inception.tuning.search import tune
from keras_inception.tuning.tuner import Tuner, role

RUN = RunConfig().override(
    {"data.source": "digits", "data.image_size": 32, "model.architecture": "googlenet-small", "model.width": 0.5}
)
IMAGES = 10_000


class Killed(BaseException):
    """What SIGKILL is here: nothing of the search sees it coming."""


def right(values):
    """A landscape with one peak: narrow 5×5 branches, wide 3×3 ones."""
    values = {name: value for name, value in values.items() if not name.startswith("tuner/")}
    wanted = [1.25 if "3x3" in name else 0.25 if "5x5" in name else 0.75 for name in values]
    return round(IMAGES * (1 - sum(abs(a - b) for a, b in zip(values.values(), wanted, strict=True)) / len(values)))


@pytest.fixture
def scored(monkeypatch):
    """Numbers of the trials that were scored, in order; `scored.before` is called before each.

    What a network takes as a TFLite file is a formula too, in `scored.ms`.
    """
    log = SimpleNamespace(numbers=[], timed=[], before=lambda trial: None, ms=milliseconds)

    class Scorer(search.Scorer):
        def score(self, trial):
            log.before(trial)
            if trial.number == GIVEN:
                return {"right": IMAGES - 1, "of": IMAGES, "seconds": 0.1}
            log.numbers.append(trial.number)
            return {"right": right(trial.values), "of": IMAGES, "seconds": 0.1}

        def keep(self, trial, path):
            path.write_bytes(b"weights")

        def prepare(self):
            pass

    def latencies(tables, input_shape, classes):
        log.timed.append(len(tables))
        return [log.ms(table) for table in tables]

    monkeypatch.setattr(search, "Scorer", Scorer)
    monkeypatch.setattr(page, "importances", lambda trials: {})  # a forest for every search takes long
    monkeypatch.setattr("keras_inception.tuning.networks.latencies", latencies)
    return log


def milliseconds(table):
    """By its multiply-adds, and 5×5 branches cost twice."""
    rows = row_costs(table, (32, 32, 3), 10)
    slow = sum(row.conv5x5 * row.reduce5x5 for row in table.rows if isinstance(row, Inception))
    return sum(row.multiply_adds for row in rows) / 1e6 + slow / 100


def config(**changes):
    return SearchConfig(**{"run": RUN, "oracle": "random", "trials": 6} | changes)


@pytest.mark.parametrize("oracle", ["evolution", "bayesian", "random"])
def test_a_search_tries_the_given_widths_first_and_never_exceeds_the_budget(scored, tmp_path, oracle):
    result = tune(config(oracle=oracle, trials=15), tmp_path / "search")
    trials = result["trials"]
    assert scored.numbers == list(range(15))
    assert set(trials[0].values.values()) == {1.0}
    given = RUN.model.table()
    limit = sum(row.multiply_adds for row in row_costs(given, (32, 32, 3), 10)) / 2
    assert max(trial.multiply_adds for trial in trials) <= limit
    assert len({json.dumps(dict(trial.values)) for trial in trials}) == 15
    assert result["best"] == best(trials)


def test_what_comes_out_is_an_architecture_that_train_takes(scored, tmp_path):
    folder = tmp_path / "search"
    result = tune(config(), folder)
    table = Architecture.from_json((folder / "best" / "architecture.json").read_text())
    counted = sum(row.multiply_adds for row in row_costs(table, (32, 32, 3), 10))
    assert counted == result["best"].multiply_adds
    run = RunConfig.from_json((folder / "best" / "config.json").read_text())
    assert run.model.table() == table
    assert (folder / "best" / "weights.keras").read_bytes() == b"weights"
    assert len((folder / "trials.csv").read_text().splitlines()) == 7
    assert json.loads((folder / "trials.json").read_text())[0]["state"] == "scored"
    assert (folder / "front.csv").exists()


@pytest.mark.parametrize("oracle", ["evolution", "bayesian", "random"])
def test_a_search_that_is_killed_goes_on_and_repeats_nothing(scored, tmp_path, monkeypatch, oracle):
    """Killed at writes drawn at random, again and again, as often as it takes."""
    dice, folder = random.Random(3), tmp_path / "killed"

    def write_or_die(path, text):
        if dice.random() < 0.04:
            raise Killed
        write_text(path, text)
        if dice.random() < 0.04:
            raise Killed

    for module in ("oracles", "folder"):
        monkeypatch.setattr(f"keras_inception.tuning.{module}.write_text", write_or_die)
    kills = 0
    while True:
        try:
            found = tune(config(oracle=oracle), folder, resume=True)["trials"]
            break
        except Killed:
            kills += 1
    assert kills > 0
    assert [trial.state for trial in found] == ["scored"] * 6
    assert [trial.number for trial in found] == list(range(6))
    # What was scored and not yet written down is scored again.
    assert len(scored.numbers) <= 6 + kills


def test_a_search_by_several_processes_goes_on_alone_with_what_was_proposed(scored, tmp_path, monkeypatch):
    """A chief whose two workers take turns; it is killed, and one process goes on."""
    asked, folder = config(oracle="evolution", trials=15), SearchFolder(tmp_path / "search")
    folder.begin(asked, resume=True, overwrite=False)
    networks = Networks(asked)
    with monkeypatch.context() as chief:
        for name, value in (("TUNER_ID", "chief"), ("ORACLE_IP", "127.0.0.1"), ("ORACLE_PORT", "1")):
            chief.setenv(f"KERASTUNER_{name}", value)
        proposing = oracle(asked, networks.space, networks.share, networks.uniform())
        scorer = search.Scorer(folder, asked, lambda kind, values: None)
        tuner = Tuner(proposing, folder, scorer, networks.trial, lambda trial: None)
        tuner.save()
        running = [proposing.create_trial(f"worker{number}") for number in range(2)]
        for number in range(13):
            tuner._try_run_and_update_trial(trial := running.pop(0))
            proposing.end_trial(trial)
            running.append(proposing.create_trial(f"worker{number % 2}"))
    assert len(folder.trials()) == 13
    tune(asked, folder.path, resume=True)
    assert sorted(scored.numbers) == list(range(15))
    for path in folder.oracle.glob("trial_*/trial.json"):
        told = json.loads(path.read_text())
        assert told["score"] == right(told["hyperparameters"]["values"]) / IMAGES


def test_a_known_score_counts_for_the_values_it_was_given_for_alone(scored, tmp_path):
    folder = SearchFolder(tmp_path / "search")
    tune(config(), folder.path)
    other = folder.trial(3)
    folder.write_trial(dataclasses.replace(other, values=dict.fromkeys(other.values, 0.25)))
    shutil.rmtree(folder.oracle)
    tune(config(), folder.path, resume=True)
    assert scored.numbers == [*range(6), 3]
    assert folder.trial(3).values == other.values


def test_what_an_older_version_left_half_written_is_not_read(scored, tmp_path):
    folder = SearchFolder(tmp_path / "search")
    tune(config(), folder.path)
    assert {path.name for path in folder.oracle.glob("*.json")} == {"oracle.json"}
    (folder.oracle / "tuner0.json").touch()
    tune(config(trials=8), folder.path, resume=True)
    assert scored.numbers == list(range(8))


def test_a_shared_network_that_cannot_be_trained_ends_the_search_and_no_trial_has_failed(tmp_path, monkeypatch):
    def diverged(*asked):
        raise TrialFailedError("the loss is no number")

    monkeypatch.setattr(search.Scorer, "_ask", diverged)
    with pytest.raises(TrainingError, match="the shared network could not be trained: the loss is no number"):
        tune(config(), tmp_path / "search")
    assert SearchFolder(tmp_path / "search").trials() == []


@pytest.mark.parametrize(("from_scratch", "trained", "asked"), [(False, 19, 1), (False, 20, 0), (True, 0, 0)])
def test_a_shared_network_is_trained_where_it_is_needed_and_not_done(
    tmp_path, monkeypatch, from_scratch, trained, asked
):
    told = []
    monkeypatch.setattr(search.Scorer, "_ask", lambda scorer, *task: told.append(task))
    monkeypatch.setattr(SearchFolder, "trained_epochs", lambda folder: trained)
    wanted = config(from_scratch=from_scratch, supernet_epochs=20)
    with search.Scorer(SearchFolder(tmp_path), wanted, lambda kind, values: None) as scorer:
        scorer.prepare()
    assert len(told) == asked


def test_a_worker_waits_until_the_chief_knows_what_a_latency_allows(tmp_path, monkeypatch):
    folder, looks = SearchFolder(tmp_path / "search"), []
    asked = config(budget="latency=0.5x", from_scratch=True)
    folder.begin(asked, resume=True, overwrite=False)

    def chief_works(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            write_text(folder.calibration_json, json.dumps({"multiply_adds": 1_000}))

    monkeypatch.setattr("keras_inception.tuning.folder.time.sleep", chief_works)
    folder.await_chief(asked)
    assert len(looks) == 2
    assert folder.budget(asked).amount == 1_000


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(scored, tmp_path):
    def before(trial):
        if trial.number == 2:
            raise TrialFailedError("its process was killed, as Linux does where memory is too small")

    scored.before = before
    trials = tune(config(), tmp_path / "search")["trials"]
    assert [trial.state for trial in trials] == ["scored", "scored", "failed", "scored", "scored", "scored"]
    assert "memory" in trials[2].message
    assert "memory" in (tmp_path / "search" / "trials.csv").read_text()


def test_a_search_of_failures_ends_with_the_reason(scored, tmp_path):
    def before(trial):
        raise TrialFailedError("no space left")

    scored.before = before
    with pytest.raises(TrainingError, match="the last with: no space left"):
        tune(config(trials=20), tmp_path / "search")


def test_more_trials_go_on(scored, tmp_path):
    tune(config(), tmp_path / "search")
    trials = tune(config(trials=9), tmp_path / "search", resume=True)["trials"]
    assert scored.numbers == list(range(9))
    assert len(trials) == 9


def test_a_search_is_not_overwritten_by_accident(scored, tmp_path):
    tune(config(), tmp_path / "search")
    with pytest.raises(RunError, match=r"there is a search in .*; give --resume to go on, --overwrite"):
        tune(config(), tmp_path / "search")
    with pytest.raises(RunError, match="was begun with another budget; give the same"):
        tune(config(budget="multiply_adds=0.25x"), tmp_path / "search", resume=True)
    with RunFolder(tmp_path / "search").claimed(), pytest.raises(RunError):
        tune(config(trials=2), tmp_path / "search", overwrite=True)
    held = rf"^search folder '.*' is in use by process {os.getpid()}; wait for it"
    with SearchFolder(tmp_path / "search").claimed(), pytest.raises(RunError, match=held):
        tune(config(), tmp_path / "search", resume=True)
    assert len(SearchFolder(tmp_path / "search").trials()) == 6
    assert tune(config(trials=2), tmp_path / "search", overwrite=True)["trials"][-1].number == 1
    with pytest.raises(RunError, match="give one of them"):
        tune(config(trials=2), tmp_path / "search", resume=True, overwrite=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").touch()
    with pytest.raises(RunError, match="is a file; give --search-dir a folder"):
        tune(config(), tmp_path / "photos" / "holiday.jpg")
    with pytest.raises(
        RunError, match=r"^search folder '.*/new' cannot be written: Not a directory; give --search-dir"
    ):
        tune(config(), tmp_path / "photos" / "holiday.jpg" / "new")
    with pytest.raises(RunError, match="is not empty and holds no search"):
        tune(config(), tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "holiday.jpg").exists()


def test_a_search_that_was_killed_as_it_began_can_be_begun(tmp_path):
    folder = SearchFolder(tmp_path / "search")
    (folder.path / ".search-killed").mkdir(parents=True)
    folder.begin(config(), resume=True, overwrite=False)
    assert folder.config() == config()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget": "multiply_adds"}, "it takes a share as in 0.5x"),
        ({"budget": "latency=5"}, "it takes a share as in 0.5x, or an amount as in 5ms"),
        ({"search": ("depth",)}, "depth is searched; trials that inherit their weights have the given one"),
        (
            {"run": RUN.override({"model.auxiliary": False}), "search": ("head_weight",), "from_scratch": True},
            r"head_weight is searched, and the networks have no auxiliary heads; give model\.auxiliary=true",
        ),
        ({"oracle": "hyperband"}, "add --from-scratch or take another --oracle"),
        ({"trials": 0}, "trials is 0"),
    ],
)
def test_what_cannot_be_searched_is_said_in_one_line(changes, said):
    with pytest.raises(ConfigError, match=said):
        checked({"run": RUN} | changes)


def test_a_configuration_is_read_back_as_it_was_written():
    written = config(search=("size",), budget="parameters=300k")
    assert SearchConfig.from_json(written.to_json()) == written


def test_a_damaged_search_is_said_in_one_line():
    with pytest.raises(ConfigError, match="must be JSON text"):
        SearchConfig.from_json('{"trials": 6')


def test_hyperbands_first_trial_is_not_taken_for_the_given_widths(scored, tmp_path):
    folder = tmp_path / "search"
    result = tune(config(oracle="hyperband", from_scratch=True, trials=3), folder)
    assert result["uniform"] is None
    values = {name: value for name, value in result["trials"][0].values.items() if not name.startswith("tuner/")}
    assert set(values.values()) != {1.0}
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "scaled alike</td>" not in text
    assert "Trial 0 has" not in text


def test_the_front_is_searched_where_sizes_are(scored, tmp_path):
    result = tune(config(search=("size",), trials=20), tmp_path / "search")
    costs = [trial.multiply_adds for trial in result["front"]]
    assert len(costs) > 1
    assert costs == sorted(costs)
    assert SearchFolder(tmp_path / "search").trials() == result["trials"]


def test_what_a_process_is_stands_in_its_environment(scored, tmp_path, monkeypatch):
    assert role() == "alone"
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    with pytest.raises(ConfigError, match=r"KERASTUNER_ORACLE_IP and .*_PORT not; .* tools/launch --chief sets them"):
        role()
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")
    assert role() == "chief"
    with pytest.raises(RunError, match="is started again when one has failed; give --resume"):
        tune(config(), tmp_path / "search")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker0")
    assert role() == "worker"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no folder given for the search; give --search-dir FOLDER"),
        (["--search-dir", "search"], "no data given; give --data SOURCE"),
        (["--search-dir", "search", "--data", "digits", "--budget", "0.5x"], "unknown budget '0.5x'"),
        (["--search-dir", "search", "--data", "digits", "--search", "depths"], "did you mean depth"),
        (["--search-dir", "search", "--data", "digits", "--search", "depth"], "add --from-scratch"),
        (["--search-dir", "search", "--data", "digits", "--image-size", "8"], "for 'googlenet-bn'; the smallest is 32"),
        (["--search-dir", "search", "--data", "nowhere/"], "nowhere"),
        (["--search-dir", "search", "--data", "digits", "--batch-size", "2000"], "2000, larger than the 1259 training"),
        (["--search-dir", "search", "--data", "digits", "--architecture", "nin"], "'nin' has no Inception module"),
        (["--search-dir", "search", "--data", "digits", "--budget", "parameters=5"], "give a larger one"),
    ],
)
def test_mistakes_end_in_one_line_and_nothing_is_written(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["tune", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_search_is_told_line_by_line_where_there_is_no_terminal(scored, tmp_path, capsys):
    words = ["--data", "digits", "--architecture", "googlenet-small", "--width", "0.5", "--trials", "3"]
    assert main(["tune", "--search-dir", str(tmp_path / "search"), *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["trial 0", "trial 1", "trial 2"]
    assert lines[3:6] == [
        "scoring the given network at its own cost",
        f"timing {2 if 'best is trial 0' in lines else 3} networks as TFLite files",
        next(line for line in lines if line.startswith("best is trial ")),
    ]
    table = "\n".join(lines[6:])
    assert all(name in table for name in ("given network", "the same, scaled alike", "best of the search"))


def test_what_counts_is_timed_side_by_side(scored, tmp_path):
    result = tune(config(trials=12), tmp_path / "search")
    given, uniform, best_one = (result[name].latency_ms for name in ("given", "uniform", "best"))
    assert given == pytest.approx(milliseconds(RUN.model.table()))
    assert None not in (uniform, best_one)
    assert result["given"].multiply_adds > 1.9 * result["best"].multiply_adds
    assert scored.timed == [3]
    assert tune(config(trials=12), tmp_path / "search", resume=True)["given"] == result["given"]
    assert scored.timed == [3]


@pytest.mark.parametrize("budget", ["latency=0.6x", pytest.param("latency=30ms", marks=pytest.mark.slow)])
def test_a_latency_is_met_by_what_was_measured(scored, tmp_path, budget):
    folder = tmp_path / "search"
    result = tune(config(budget=budget, trials=40, oracle="evolution"), folder)
    calibration = json.loads((folder / "calibration.json").read_text())
    limit = 0.6 * result["given"].latency_ms if budget.endswith("x") else 30
    assert calibration["limit_ms"] == pytest.approx(limit)
    assert result["best"].latency_ms <= limit
    assert result["uniform"].latency_ms == pytest.approx(limit, rel=0.1)
    for trial in result["trials"]:
        better = trial.top1 > result["best"].top1
        assert not (better and trial.latency_ms is not None and trial.latency_ms <= limit)
    assert all(trial.latency_ms is not None for trial in front_of(result["trials"]))
    # Some use more multiply-adds than the uniform network, and are as fast.
    assert max(trial.multiply_adds for trial in result["trials"]) > 1.1 * result["uniform"].multiply_adds


def test_a_latency_that_nothing_meets_is_said(scored, tmp_path):
    with pytest.raises(ConfigError, match=r"the budget is latency=0.01x, which is .* ms; .* give a larger one"):
        tune(config(budget="latency=0.01x"), tmp_path / "small")
    calibrated = []

    def slower_later(table):
        calibrated.append(table)
        return milliseconds(table) * (1 if len(calibrated) <= 5 else 3)

    scored.ms = slower_later
    with pytest.raises(TrainingError, match=r"none of the \d+ best networks takes at most"):
        tune(config(budget="latency=0.6x"), tmp_path / "search")


@pytest.fixture
def commands(monkeypatch):
    """What finalists are trained and measured by, in place of which it is noted."""
    commands = []

    def train(run):
        commands.append(("train", run.name))
        run.mkdir()
        summary = {"best": {"val_main_top1": 0.5}, "last": {"epoch": 30}}
        (run / "summary.json").write_text(json.dumps(summary))
        (run / "config.json").write_text(Path(f"{run}.config.json").read_text())

    def evaluate(run, split):
        commands.append(("evaluate", run.name))
        (run / "evaluation").mkdir()
        (run / "evaluation" / "evaluation.json").write_text(json.dumps({"top1": int(run.name[-1]) / 10}))

    monkeypatch.setattr("keras_inception.evaluation.over_seeds.train_in_process", train)
    monkeypatch.setattr("keras_inception.evaluation.over_seeds.evaluate", evaluate)
    return commands


def test_finalists_are_trained_over_seeds_beside_the_given_widths(scored, commands, tmp_path):
    folder = tmp_path / "search"
    result = tune(config(finalists=2), folder)
    names = [finalist.name for finalist in result["finalists"]]
    assert names[:2] == ["given", "uniform"]
    assert len(names) == 4
    assert result["finalists"][0].test == (0.1, 0.2, 0.3)
    runs = [name for kind, name in commands if kind == "train"]
    assert runs == [f"{name.replace(' ', '')}-seed{seed}" for seed in (1, 2, 3) for name in names]
    given, uniform = (
        Architecture.from_json((folder / "finalists" / f"{name}.json").read_text()) for name in ("given", "uniform")
    )
    assert given == RUN.model.table()
    counted = [sum(row.multiply_adds for row in row_costs(table, (32, 32, 3), 10)) for table in (given, uniform)]
    assert [finalist.multiply_adds for finalist in result["finalists"][:2]] == counted
    run = RunConfig.from_json((folder / "finalists" / "uniform-seed2.config.json").read_text())
    assert (run.training.seed, run.model.table()) == (2, uniform)
    assert "Trained from scratch" in (folder / "report.html").read_text(encoding="utf-8")
    commands.clear()
    assert tune(config(finalists=2), folder, resume=True)["finalists"] == result["finalists"]
    assert commands == []


def test_what_was_searched_beside_widths_stands_in_all_that_is_trained_afterwards(scored, commands, tmp_path):
    folder = tmp_path / "search"
    run = RUN.override({"training.learning_rate": 0.1, "training.loss_weights": (2.0, 0.3, 0.3)})
    searched = {"search": ("learning_rate", "head_weight"), "from_scratch": True, "finalists": 3}
    result = tune(config(run=run, **searched), folder)
    trials = {f"trial{trial.number}": trial.values for trial in result["trials"]}
    written = {"best": result["best"].values} | {
        finalist.name.replace(" ", ""): trials[finalist.name.replace(" ", "")] for finalist in result["finalists"][2:]
    }
    assert len(written) == 4
    assert {values["rate_factor"] for values in written.values()} - {1.0}
    for name, values in written.items():
        path = folder / ("best/config.json" if name == "best" else f"finalists/{name}-seed1.config.json")
        training = RunConfig.from_json(path.read_text()).training
        assert training.learning_rate == pytest.approx(0.1 * values["rate_factor"])
        assert training.loss_weights == (2.0, values["head_weight"], values["head_weight"])
    given = RunConfig.from_json((folder / "finalists" / "given-seed1.config.json").read_text()).training
    assert (given.learning_rate, given.loss_weights) == (0.1, (2.0, 0.3, 0.3))


def test_the_words_that_train_the_best_have_what_was_searched_beside_widths(scored, tmp_path, capsys):
    words = ["--data", "digits", "--architecture", "googlenet-small", "--width", "0.5", "--trials", "2"]
    for more, file in (
        (["--search", "size"], "--architecture {}/best/architecture.json"),
        (
            ["--from-scratch", "--search", "learning_rate"],
            "--config {}/best/config.json",
        ),
    ):
        folder = tmp_path / more[-1]
        assert main(["tune", "--search-dir", str(folder), *words, *more]) == 0
        assert f"train it: keras-inception train {file.format(folder)} ..." in capsys.readouterr().out


def test_no_two_finalists_are_the_same_network(scored, commands, tmp_path):
    hyperband = {"oracle": "hyperband", "from_scratch": True, "run": RUN.override({"training.epochs": 3})}
    result = tune(config(finalists=4, trials=5, **hyperband), tmp_path / "search")
    assert any("tuner/trial_id" in trial.values for trial in result["trials"])  # promoted, with its parent's table
    names = [finalist.name.replace(" ", "") for finalist in result["finalists"]]
    tables = {(tmp_path / "search" / "finalists" / f"{name}.json").read_text() for name in names}
    assert len(tables) == len(names) > 1


def test_a_finalist_that_uses_up_less_of_the_budget_stands_beside_a_uniform_one_of_its_cost(
    scored, tmp_path, monkeypatch
):
    def trained(config, folder, contenders, on_run):
        return [
            Finalist(one.name, one.multiply_adds, one.parameters, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
            for one in contenders
        ]

    monkeypatch.setattr(search, "train_finalists", trained)
    result = tune(config(search=("size",), trials=12, finalists=1), tmp_path / "search")
    given, uniform, best_one = result["finalists"]
    (chosen,) = [trial for trial in result["trials"] if f"trial {trial.number}" == best_one.name]
    assert given.name == "given"
    assert uniform.name == ("uniform" if chosen.values["size"] == 1 else f"uniform {chosen.values['size']:g}")
    assert uniform.multiply_adds == pytest.approx(best_one.multiply_adds, rel=0.01)


def test_no_trial_begins_when_the_time_is_up(scored, tmp_path):
    trials = tune(config(trials=50), tmp_path / "search", minutes=0)["trials"]
    assert [trial.number for trial in trials] == [0]
    trials = tune(config(trials=4), tmp_path / "search", resume=True)["trials"]
    assert [trial.state for trial in trials] == ["scored"] * 4


def test_a_table_with_mlpconv_layers_is_refused_before_anything_is_written(tmp_path):
    rows = (MlpConv("conv1", 8, kernel=3, mlp1=8, mlp2=8), Inception("3a", 8, 4, 8, 2, 4, 4))
    write_text(tmp_path / "both.json", Architecture("both", rows, image_size=32).to_json())
    run = RUN.override({"model.architecture": str(tmp_path / "both.json"), "model.auxiliary": False})
    with pytest.raises(ArchitectureError, match=r"'conv1' of .* is an mlpconv layer.*--from-scratch"):
        tune(config(run=run), tmp_path / "search")
    assert not (tmp_path / "search").exists()
