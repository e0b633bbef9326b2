"""Networks without a part of their modules: their costs against Keras, and trainings that go on where they stopped."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from processes import wait_until

import keras_inception as ki
from keras_inception.analysis.ablation import Question, Result, ablate, epochs_to_level, variants
from keras_inception.analysis.ablation_page import ablation_tables, write_ablation
from keras_inception.analysis.reduction import piled_up
from keras_inception.architecture import Architecture, Conv, FullyConnected, Inception
from keras_inception.cli import main
from keras_inception.config import RunConfig
from keras_inception.errors import ArchitectureError, DataError, RunError

QUESTIONS = get_args(Question)
TINY = ki.get_architecture(str(Path(__file__).with_name("tiny.json")))
SMALL = ki.GOOGLENET_SMALL.scaled(0.25)


def asked(table, *questions):
    """The networks of some questions, by name."""
    return {one.name: one.table for one in variants(table, questions)}


def modules(table):
    return [row for row in table.rows if isinstance(row, Inception)]


# ---------------------------------------------------------------------------------------------------------------------
# The networks
# ---------------------------------------------------------------------------------------------------------------------


def test_every_network_has_the_parameters_of_what_keras_builds():
    for one in variants(TINY, QUESTIONS, (16, 16, 1), classes=3):
        model = ki.GoogLeNet(architecture=one.table, input_shape=(16, 16, 1), classes=3)
        assert model.count_params() == one.parameters, one.name


def test_all_questions_together_are_ten_networks_with_names_for_files():
    found = variants(SMALL, QUESTIONS)
    assert [one.slug for one in found] == [
        *("given", "reductions-1-2", "reductions-1-4", "reductions-1-8", "reductions-to-1", "no-reductions"),
        *("one-3-3", "two-3-3", "fully-connected", "no-projection"),
    ]
    assert found[0].table == SMALL
    assert [one.question for one in found] == [
        *(None, "reduction", "reduction", "reduction", "reduction", "naive", "plain", "plain"),
        *("classifier", "projection"),
    ]


def test_reductions_become_narrower_down_to_one_channel_and_all_else_stays():
    found = asked(ki.GOOGLENET, "reduction")
    widths = [(modules(table)[0].reduce3x3, modules(table)[0].reduce5x5) for table in found.values()]
    assert widths == [(96, 16), (48, 8), (24, 4), (12, 2), (1, 1)]
    for table in found.values():
        restored = [
            dataclasses.replace(row, reduce3x3=own.reduce3x3, reduce5x5=own.reduce5x5)
            for row, own in zip(modules(table), modules(ki.GOOGLENET), strict=True)
        ]
        assert restored == modules(ki.GOOGLENET)
        assert [row for row in table.rows if row not in modules(table)] == [
            row for row in ki.GOOGLENET.rows if row not in modules(ki.GOOGLENET)
        ]


def test_networks_that_are_the_same_stand_there_once():
    table = Architecture("narrow", (Conv("conv1", 8, 3), Inception("3a", 8, 2, 8, 1, 8, 0)))
    assert list(asked(table, "reduction", "projection")) == ["given", "reductions × 1/2"]


def test_naive_modules_put_out_what_the_reduced_do():
    found = asked(ki.GOOGLENET, "naive")["no reductions"]
    given_rows, naive_rows = (ki.row_costs(table) for table in (ki.GOOGLENET, found))
    assert [row.output for row in naive_rows] == [row.output for row in given_rows]
    # A 3×3 of 128 and a 5×5 of 32 on 192 channels, a 1×1 of 64 and a projection of 32: REFERENCE's 387,072 and 6,144.
    (module,) = (row for row in naive_rows if row.name == "inception 3a")
    assert module.weights == 387_072 + 192 * 32


@settings(deadline=None, max_examples=15, derandomize=True)
@given(width=st.floats(0.1, 1.5), side=st.sampled_from([16, 28, 40]), classes=st.integers(2, 50))
def test_plain_convolutions_are_the_widest_that_cost_no_more(width, side, classes):
    table = ki.GOOGLENET_SMALL.scaled(width)
    limit, *plain = variants(table, ("plain",), (side, side, 3), classes)
    for one in plain:
        assert one.multiply_adds <= limit.multiply_adds
        # One channel more in every convolution that took a module's place is too much.
        wider = tuple(
            dataclasses.replace(row, filters=row.filters + 1) if isinstance(row, Conv) and row.name[0] in "345" else row
            for row in one.table.rows
        )
        costs = ki.row_costs(dataclasses.replace(one.table, rows=wider), (side, side, 3), classes)
        assert sum(row.multiply_adds for row in costs) > limit.multiply_adds


def test_two_plain_convolutions_are_as_deep_as_a_module_and_heads_find_their_rows():
    found = asked(SMALL, "plain")
    depths = [sum(row.depth for row in ki.row_costs(table)) for table in found.values()]
    assert depths == [3 + 9 * 2 + 1, 3 + 9 + 1, 3 + 9 * 2 + 1]
    for table in found.values():
        model = ki.GoogLeNet(architecture=table.scaled(0.25), classes=2, auxiliary=True)
        assert set(model.output) == {"main", "aux1", "aux2"}


def test_a_network_too_narrow_for_plain_convolutions_is_refused():
    table = Architecture("narrow", (Conv("conv1", 100, 1), Inception("3a", 1, 1, 1, 1, 1, 1)))
    with pytest.raises(ArchitectureError, match="the modules of 'narrow' have fewer multiply-adds than 3×3"):
        variants(table, ("plain",))


def test_a_fully_connected_layer_has_as_many_units_as_the_last_map_has_channels():
    table = asked(ki.GOOGLENET, "classifier")["fully connected"]
    assert table.rows[-1] == FullyConnected("fc", 1024)
    (layer,) = (row for row in ki.row_costs(table) if row.name == "fc")
    assert layer.weights == 51_380_224


def test_without_projections_channels_pile_up_as_arithmetic_says():
    table = asked(ki.GOOGLENET, "projection")["no projection"]
    outputs = [row.output[2] for row in ki.row_costs(table) if row.name.startswith("inception")]
    assert outputs == [one.unprojected_filters for one in piled_up(ki.GOOGLENET)]
    assert outputs[-1] == 4_944


def test_a_network_without_modules_is_refused():
    with pytest.raises(ArchitectureError, match="'nin' has no Inception module"):
        variants(ki.NIN, QUESTIONS)


# ---------------------------------------------------------------------------------------------------------------------
# The trainings, with something else in their place
# ---------------------------------------------------------------------------------------------------------------------

CONFIG = RunConfig().override(
    {"data.source": "digits", "data.image_size": 16, "model.architecture": "googlenet-small", "model.width": 0.25}
    | {"training.epochs": 3, "model.auxiliary": False}
)


class Killed(BaseException):
    """What SIGKILL is here: nothing of the ablation sees it coming."""


@pytest.fixture
def trained(monkeypatch):
    """The names of the runs that were trained, in order; a network's top-1 is read off its reductions."""
    log = []

    def train(run):
        log.append(run.name)
        run.mkdir(parents=True)
        config = RunConfig.from_json(Path(f"{run}.config.json").read_text())
        best = 0.5 + min(row.reduce3x3 for row in [*modules(config.model.table()), Inception("", *[99] * 6)]) / 1000
        epochs = [best - 0.2, best, best - 0.1]
        lines = [f"{epoch},{value}" for epoch, value in enumerate(epochs, start=1)]
        (run / "metrics.csv").write_text("\n".join(["epoch,val_main_top1", *lines, ""]))
        summary = {"best": {"val_main_top1": best}, "last": {"epoch": 3}}
        (run / "summary.json").write_text(json.dumps(summary))
        (run / "config.json").write_text(config.to_json())

    def evaluate(run, split):
        target = run / ("evaluation" if split == "test" else f"evaluation_{split}")
        target.mkdir(exist_ok=True)
        value = {"test": 0.4, "train": 0.9}[split] + int(run.name[-1]) / 100
        (target / "evaluation.json").write_text(json.dumps({"top1": value}))

    monkeypatch.setattr("keras_inception.evaluation.over_seeds.train_in_process", train)
    monkeypatch.setattr("keras_inception.evaluation.over_seeds.evaluate", evaluate)
    return log


def test_all_networks_are_trained_with_the_first_seed_first_and_read(trained, tmp_path):
    states = []
    results = ablate(
        CONFIG,
        tmp_path / "out",
        questions=("naive", "projection"),
        on_result=lambda found: states.append([len(one.seeds) for one in found]),
    )
    names = ("given", "no-reductions", "no-projection")
    assert trained == [f"{name}-seed{seed}" for seed in (1, 2, 3) for name in names]
    assert states[:3] == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    first = results[0]
    assert (first.seeds, first.test) == ([1, 2, 3], pytest.approx([0.41, 0.42, 0.43]))
    assert (first.train, len(first.epochs)) == (pytest.approx([0.91, 0.92, 0.93]), 3)
    assert first.validation == [max(epochs) for epochs in first.epochs]
    table = ki.get_architecture(str(tmp_path / "out" / "no-projection.json"))
    assert table.rows == results[2].variant.table.rows
    assert table.name == "googlenet-small-w0.25-no-projection"


def test_an_ablation_that_is_killed_goes_on_and_repeats_nothing(trained, tmp_path):
    """Killed after trainings drawn at random, again and again; with another question and seed in the end."""
    dice, folder = random.Random(1), tmp_path / "out"

    def die(results):
        if dice.random() < 0.3:
            raise Killed

    kills = 0
    while True:
        try:
            ablate(CONFIG, folder, questions=("naive", "plain"), seeds=(1, 2), on_result=die)
            break
        except Killed:
            kills += 1
    assert kills > 1
    assert len(trained) == len(set(trained)) == 4 * 2
    trained.clear()
    results = ablate(CONFIG, folder, questions=("naive", "classifier"), seeds=(1, 2, 3))
    assert trained == [
        *("fully-connected-seed1", "fully-connected-seed2"),
        *("given-seed3", "no-reductions-seed3", "fully-connected-seed3"),
    ]
    assert [one.seeds for one in results] == [[1, 2, 3]] * 3


def test_no_training_begins_when_the_time_is_up(trained, tmp_path):
    results = ablate(CONFIG, tmp_path / "out", questions=("naive",), minutes=0)
    assert [one.seeds for one in results] == [[], []]
    assert trained == []
    assert epochs_to_level(results) == [None, None]


def test_another_recipe_or_a_folder_of_something_else_is_refused(trained, tmp_path):
    ablate(CONFIG, tmp_path / "out", questions=("naive",), seeds=(1,))
    other = CONFIG.override({"training.epochs": 4})
    with pytest.raises(RunError, match=r"was begun with training\.epochs = 3, not 4; give the same, or another"):
        ablate(other, tmp_path / "out", questions=("naive",), seeds=(1,))
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "cat.jpg").touch()
    with pytest.raises(RunError, match="holiday' holds something else than an ablation"):
        ablate(CONFIG, tmp_path / "holiday", questions=("naive",), seeds=(1,))


def test_data_without_a_test_split_is_refused_before_anything_is_trained(trained, tmp_path):
    with pytest.raises(DataError, match="digits has no images for test"):
        ablate(CONFIG.override({"data.test_fraction": 0.0}), tmp_path / "out", questions=("naive",))
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------------------------------------
# What came of it
# ---------------------------------------------------------------------------------------------------------------------


def results():
    """Of three networks: one with three seeds, one with two, one with none."""
    first, second, third = (Result(one) for one in variants(SMALL, ("plain",)))
    first.seeds, first.train, first.validation, first.test = [1, 2, 3], [0.9, 0.9, 0.9], [0.8, 0.81, 0.82], [0.7] * 3
    first.epochs = [[0.5, 0.77, 0.8], [0.5, 0.77, 0.81], [0.5, 0.77, 0.82]]
    second.seeds, second.train, second.validation, second.test = [1, 2], [0.8, 0.9], [0.6, 0.6], [0.6, 0.62]
    second.epochs = [[0.5, 0.6, 0.6], [0.5, 0.6, 0.6]]
    return [first, second, third]


def test_the_level_is_a_share_of_the_given_networks_best():
    assert epochs_to_level(results()) == [2, None, None]  # 0.95 · 0.81 = 0.7695
    assert epochs_to_level(results(), level=0.7) == [2, 2, None]


def test_the_table_has_spreads_and_paired_differences_and_says_what_is_missing():
    (table,) = ablation_tables(results())
    given_row, one, two = table.rows
    assert given_row[3:] == ["90.0 ± 0.0", "81.0 ± 1.0", "70.0 ± 0.0", "", 2]
    assert one[3:] == ["85.0 ± 7.1 (2)", "60.0 ± 0.0 (2)", "61.0 ± 1.4 (2)", "-9.0 ± 1.4", "–"]
    assert two[3] == "not yet run"


def test_the_page_has_pictures_tables_and_values(tmp_path):
    page = write_ablation(tmp_path, results(), title="A <title>", lead="Read <this>.")
    text = page.read_text(encoding="utf-8")
    assert "Do branches help?" in text
    assert "85.0 ± 7.1 (2)" in text
    assert "Read &lt;this&gt;." in text
    assert text.count("data:image/png") == 2
    for name in ("accuracy", "epochs"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert np.asarray(picture.convert("RGB")).std() > 5
    values = json.loads((tmp_path / "ablation.json").read_text())
    assert [one["name"] for one in values] == ["given", "one 3×3", "two 3×3"]
    assert values[1]["test"] == [0.6, 0.62]
    assert values[1]["multiply_adds"] <= values[0]["multiply_adds"]


# ---------------------------------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no data given"),
        (["--data", "digits"], "--output FOLDER"),
        (["--data", "digits", "--output", __file__], "is a file; give --output another place"),
        (["--data", "digits", "--output", f"{__file__}/o"], "is a file; give --output another place"),
        (["--data", "digits", "--output", "o", "--seeds", "0"], "seeds is 0"),
        (["--data", "digits", "--output", "o", "--questions", "naïve"], "did you mean naive"),
        (["--data", "digits", "--output", "o", "--architecture", "nin"], "'nin' has no Inception module"),
        (["--data", "digits", "--output", "o", "--architecture", "googlenett"], "'googlenett'"),
        (["--data", "digits", "--output", "o", "--image-size", "16"], "16×16 px is too small"),
        (["--data", "missing/", "--output", "o"], "there is no folder 'missing'"),
    ],
)
def test_a_wrong_word_ends_in_one_line(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["analyze", "ablation", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_the_command_prints_and_writes_what_is_known(trained, tmp_path, capsys):
    words = ["--data", "digits", "--output", str(tmp_path / "out"), "--questions", "naive", "--seeds", "2"]
    words += ["--width", "0.25", "--image-size", "16", "--epochs", "3", "--set", "model.auxiliary=false"]
    assert main(["analyze", "ablation", *words]) == 0
    said = capsys.readouterr().out
    for part in ("training no-reductions, seed 2", "Are reductions needed?", "41.5 ± 0.7", "over 2 seeds", ".html"):
        assert part in said
    assert {path.name for path in (tmp_path / "out").glob("*.*") if "seed" not in path.name} == {
        *("ablation.html", "ablation.json", "accuracy.png", "epochs.png", ".lock"),
        *("given.json", "no-reductions.json", "recipe.json"),
    }


@pytest.mark.slow
def test_a_killed_command_goes_on_with_real_trainings(stripes, tmp_path):
    out, architecture = tmp_path / "out", str(Path(__file__).with_name("tiny.json"))
    words = ["--data", str(stripes), "--output", str(out), "--questions", "classifier", "--seeds", "1"]
    words += ["--architecture", architecture, "--epochs", "2", "--batch-size", "8", "--image-size", "28"]
    command = [sys.executable, "-m", "keras_inception", "analyze", "ablation", *words]
    process = subprocess.Popen(command, start_new_session=True)
    wait_until((out / "fully-connected-seed1").exists, process)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first = (out / "given-seed1" / "best.keras").stat().st_mtime_ns
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (out / "given-seed1" / "best.keras").stat().st_mtime_ns == first
    assert "training fully-connected, seed 1" in done.stdout
    assert "training given" not in done.stdout
    values = json.loads((out / "ablation.json").read_text())
    assert [one["seeds"] for one in values] == [[1], [1]]
    assert all(0 <= one["train"][0] <= 1 and len(one["validation_by_epoch"][0]) == 2 for one in values)
