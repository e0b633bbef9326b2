"""Norms of gradients against closed forms and a second way to compute them; what heads reach; what a run has logged."""

import json
import random
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_inception.analysis.gradients import (
    Batch,
    HeadGain,
    RowNorm,
    batch_of_run,
    draw_weights,
    head_gains,
    logged_norms,
    noise,
    normalizations,
    norms,
    norms_at_initialization,
    norms_of_checkpoints,
)
from keras_inception.architecture import GOOGLENET, NIN, Architecture, MlpConv
from keras_inception.cli import main
from keras_inception.errors import RunError
from keras_inception.googlenet import GoogLeNet
from keras_inception.report.network import said_of_heads

TINY_TABLE = Architecture.from_json(Path(__file__).with_name("tiny.json").read_text()).with_dropout(0.0, 0.0)
ALL = "main + aux1 + aux2"


@pytest.fixture(scope="module")
def batch() -> Batch:
    return noise(TINY_TABLE, images=6, classes=3)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return GoogLeNet(architecture=TINY_TABLE, input_shape=(28, 28, 3), classes=3, auxiliary=True)


def test_the_classifiers_gradient_is_that_of_the_closed_form(network, batch):
    """Of softmax with cross entropy: features, transposed, times what the answers are beside the truth."""
    found = norms(network, TINY_TABLE, batch)["main"]["main"]
    inside = keras.Model(network.input, [network.get_layer("dropout").output, network.output["main"]])
    features, answers = (values.numpy() for values in inside(batch.images, training=True))
    wrong = (answers - np.eye(3)[batch.labels]) / len(answers)
    assert found == pytest.approx(np.sqrt(np.sum((features.T @ wrong) ** 2) + np.sum(wrong.sum(axis=0) ** 2)), rel=1e-4)


def test_norms_are_those_of_the_gradient_of_the_sum(network, batch):
    weights = {"main": 1.0, "aux1": 0.5, "aux2": 0.25}
    found = norms(network, TINY_TABLE, batch, weights)
    truth = tf.one_hot(batch.labels, 3)
    with tf.GradientTape() as tape:
        answers = network(batch.images, training=True)
        losses = {name: tf.reduce_mean(keras.losses.categorical_crossentropy(truth, answers[name])) for name in answers}
        loss = tf.add_n([weights[name] * losses[name] for name in losses])
    gradients = tape.gradient(loss, [variable.value for variable in network.trainable_variables])
    total = np.sqrt(sum(float(tf.reduce_sum(gradient**2)) for gradient in gradients))
    assert np.sqrt(sum(norm**2 for norm in found[ALL].values())) == pytest.approx(total, rel=1e-4)
    conv1 = [g for v, g in zip(network.trainable_variables, gradients, strict=True) if v.path.startswith("conv1")]
    expected = np.sqrt(sum(float(tf.reduce_sum(gradient**2)) for gradient in conv1))
    assert found[ALL]["conv1"] == pytest.approx(expected, rel=1e-4)


def test_a_head_reaches_the_rows_below_it_and_no_others(network, batch):
    found = norms(network, TINY_TABLE, batch)
    assert list(found) == ["main", "main + aux1", "main + aux2", ALL]
    alone = found["main"]
    for losses, reached in (
        ("main + aux1", {"conv1", "conv2", "inception_3a", "aux1"}),
        ("main + aux2", {"conv1", "conv2", "inception_3a", "inception_4a", "aux2"}),
    ):
        assert {row for row in alone if found[losses][row] != alone[row]} == reached
    assert alone["aux1"] == alone["aux2"] == 0


def test_rows_stand_from_the_image_up_with_the_outputs_behind(network, batch):
    rows = ["conv1", "conv2", "inception_3a", "inception_4a", "inception_5b", "main", "aux1", "aux2"]
    assert list(norms(network, TINY_TABLE, batch)["main"]) == rows


def test_mean_and_deviation_are_over_the_drawn_weights(batch):
    found = norms_at_initialization(TINY_TABLE, batch, kinds=["batch"], seeds=3)
    network = GoogLeNet(architecture=TINY_TABLE, input_shape=(28, 28, 3), classes=3, auxiliary=True)
    values = []
    for seed in range(3):
        draw_weights(network, seed)
        values.append(norms(network, TINY_TABLE, batch)[ALL]["conv2"])
    (one,) = (one for one in found if one.losses == ALL and one.row == "conv2")
    assert one.mean == pytest.approx(np.mean(values), rel=1e-4)
    assert one.sd == pytest.approx(np.std(values, ddof=1), rel=1e-2)


def test_every_normalisation_is_measured_by_default(batch):
    calls = []
    found = norms_at_initialization(TINY_TABLE, batch, seeds=1, on_progress=lambda *count: calls.append(count))
    assert list(dict.fromkeys(one.normalization for one in found)) == ["none", "lrn", "batch"]
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert all(np.isnan(one.sd) for one in found)


def row_norm(kind, losses, row, values):
    return RowNorm(kind, losses, row, float(np.mean(values)), float(np.std(values, ddof=1)), tuple(values))


def test_the_gain_of_heads_is_that_of_the_lowest_row_compared_seed_by_seed():
    found = [
        row_norm("none", "main", "conv1", (1.0, 4.0)),
        row_norm("none", "main", "inception_3a", (1.0, 1.0)),
        row_norm("none", ALL, "conv1", (3.0, 8.0)),
        row_norm("none", ALL, "inception_3a", (9.0, 9.0)),
    ]
    checkpoints = {"best": {"main": {"conv1": 2.0}, ALL: {"conv1": 5.0}}}
    first, best = head_gains(found, checkpoints)
    assert (first.network, first.losses, first.row, first.mean) == ("none", ALL, "conv1", 2.5)
    assert first.sd == pytest.approx(np.sqrt(0.5))
    assert (best.network, best.mean) == ("best", 2.5)
    assert np.isnan(best.sd)


def test_a_row_that_the_main_loss_does_not_reach_has_no_gain():
    (gain,) = head_gains([row_norm("none", "main", "conv1", (0.0, 0.0)), row_norm("none", ALL, "conv1", (1.0, 1.0))])
    assert np.isnan(gain.mean)


def test_whether_heads_keep_early_rows_learning_is_answered_for_every_network():
    gains = [HeadGain("none", ALL, "conv1", 2.0, 0.1), HeadGain("batch", ALL, "conv1", 1.04, 0.01)]
    said = said_of_heads(gains)
    assert "more gradient than from the main loss alone: 2 ± 0.1 times as much (new, normalisation none)." in said
    assert "here: 1.04 ± 0.01 times as much (new, normalisation batch)." in said
    assert "hardly more gradient" in said_of_heads(gains[1:])
    assert "not with every seed" in said_of_heads([HeadGain("none", ALL, "conv1", 2.0, 1.5)])
    assert said_of_heads([]) == ""


def test_a_table_without_heads_has_the_main_loss_alone():
    batch = noise(NIN.scaled(1 / 32), images=2, classes=3)
    found = norms_at_initialization(NIN.scaled(1 / 32), batch, kinds=["none"], seeds=1)
    assert {one.losses for one in found} == {"main"}
    assert head_gains(found) == []


def test_a_table_without_a_convolution_in_its_stem_has_no_lrn():
    assert normalizations(GOOGLENET) == ["none", "lrn", "batch"]
    assert normalizations(Architecture("mlp", (MlpConv("conv1", 2, 3, 2, 2),))) == ["none", "batch"]
    assert normalizations(NIN) == ["none", "batch"]


def test_a_seed_is_the_same_weights_and_leaves_other_random_numbers_alone(network):
    states = random.getstate(), np.random.get_state()[1].tolist()
    draw_weights(network, 1)
    first = network.get_layer("inception_5b_3x3").get_weights()[0]
    draw_weights(network, 2)
    other = network.get_layer("inception_5b_3x3").get_weights()[0]
    draw_weights(network, 1)
    np.testing.assert_array_equal(network.get_layer("inception_5b_3x3").get_weights()[0], first)
    assert np.abs(first - other).max() > 0.01
    assert first.std() == pytest.approx(np.sqrt(2 / (9 * 12)), rel=0.1)  # He et al., arXiv:1502.01852
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states


def test_what_a_run_logged_stands_in_the_order_of_its_rows(run):
    rows = logged_norms(run)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert list(rows[0])[1:] == [
        *("conv1", "conv2", "inception_3a", "inception_4a", "inception_5b", "main", "aux1", "aux2")
    ]
    header, first, *_ = (run / "gradients.csv").read_text().splitlines()
    assert rows[0] == dict(zip(header.split(","), map(float, first.split(",")), strict=True))


def test_the_batch_of_a_run_is_of_its_training_images(run):
    batch = batch_of_run(run, 8)
    assert batch.images.shape == (8, 28, 28, 3)
    assert set(batch.labels.tolist()) == {0, 1}
    assert batch.classes == 2


@pytest.mark.parametrize("measured", [logged_norms, lambda run: norms_of_checkpoints(run, noise(TINY_TABLE, images=1))])
def test_a_run_without_an_epoch_is_refused(run, tmp_path, measured):
    for name in ("config.json", "architecture.json", "labels.txt"):
        (tmp_path / name).write_text((run / name).read_text())
    with pytest.raises(RunError, match="no epoch has ended"):
        measured(tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------------------------------


def test_the_command_measures_the_saved_weights_of_a_run_and_writes_a_page(run, tmp_path, capsys):
    words = ["--images", "1000", "--seeds", "2", "--normalization", "batch", "--output", str(tmp_path)]
    assert main(["analyze", "gradients", "--run", str(run), *words]) == 0
    said = capsys.readouterr().out
    for part in ("normalisation batch", "in training", "best weights", "last weights", "epoch 4", "±"):
        assert part in said
    assert "Do heads keep early rows learning?" in said
    assert "Do heads keep early rows learning?" in (tmp_path / "gradients.html").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("gradients.html", "gradients.json", "initialization.png", "training.png")
    }
    for name in ("initialization.png", "training.png"):
        with Image.open(tmp_path / name) as picture:
            assert np.asarray(picture.convert("RGB")).std() > 5
    values = json.loads((tmp_path / "gradients.json").read_text())
    assert set(values) == {"initialization", "logged", "checkpoints"}
    assert {one["normalization"] for one in values["initialization"]} == {"batch"}
    assert list(values["checkpoints"]) == ["best", "last"]
    network = GoogLeNet(
        architecture=TINY_TABLE, input_shape=(28, 28, 3), classes=2, auxiliary=True, weights=run / "last.keras"
    )
    batch = batch_of_run(run, 1000)
    assert len(batch.images) < 1000
    assert f" {len(batch.images)} of its training images" in (tmp_path / "gradients.html").read_text()
    for row, norm in norms(network, TINY_TABLE, batch)[ALL].items():
        assert values["checkpoints"]["last"][ALL][row] == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["googlenett"], "'googlenett'"),
        (["--normalization", "batches"], "'batches'"),
        (["--image-size", "8"], "8×8"),
        (["--image-size", "0"], "0×0 px is too small"),
        (["--seeds", "0"], "seeds is 0"),
        (["--run", "missing"], "no run folder 'missing'"),
        (["--run", "missing", "--image-size", "64"], "leave out --image-size (64)"),
    ],
)
def test_a_wrong_word_ends_in_one_line(words, said, capsys):
    assert main(["analyze", "gradients", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
