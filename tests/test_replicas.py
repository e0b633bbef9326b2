"""Several replicas: each fault of Keras's is shown, and shown mended.

A test of Keras's side that fails says that Keras has mended the fault, and that what `replicas` does about it can go.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_inception.training import replicas

PROGRAM = Path(__file__).with_name("replica_faults.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("faults") / "results.json"
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"}
    done = subprocess.run([sys.executable, PROGRAM, path], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(path.read_text())


def difference(first, second) -> float:
    return float(np.abs(np.array(first) - np.array(second)).max())


def test_keras_clips_what_is_not_summed_yet(results):
    part = results["clipping"]
    assert difference(part["keras on one"], part["keras on two"]) > 1e-3


def test_gradients_are_clipped_as_on_one_device(results):
    part = results["clipping"]
    assert difference(part["ours on one"], part["ours on two"]) < 1e-6
    assert difference(part["ours on one"], part["keras on one"]) < 1e-6


def test_keras_takes_the_mean_of_unequal_parts_as_that_of_the_batch(results):
    part = results["ragged"]
    assert difference(part["keras on one"], part["keras on two"]) > 1e-3


@pytest.mark.parametrize("last", ["", ", one image"])
def test_a_last_batch_that_is_divided_unequally_counts_every_image_once(results, last):
    part = results["ragged"]
    assert difference(part[f"ours on one{last}"], part[f"ours on two{last}"]) < 1e-6
    assert difference(part["ours on one"], part["keras on one"]) < 1e-6


def test_keras_wants_a_first_batch_of_equal_parts(results):
    assert "must have the same size and shape" in results["ragged first"]["keras"]


def test_a_first_batch_may_be_divided_unequally(results):
    part = results["ragged first"]
    assert difference(part["ours on one"], part["ours on two"]) < 1e-6


def test_keras_lets_an_overflow_of_the_second_replica_into_the_weights(results):
    assert np.isnan(results["overflow"]["keras on two"]).any()


def test_an_overflow_of_any_replica_skips_the_step_and_is_counted(results):
    part = results["overflow"]
    assert part["ours on two"] == part["start"]
    assert part["skipped"] == 1
    assert part["scale"] == 2**15 / 2


def test_keras_cannot_accumulate_gradients_on_two_replicas(results):
    assert "merge_call" in results["accumulation"]["keras"]


def test_a_batch_in_parts_gives_the_step_of_the_whole(results):
    part = results["accumulation"]
    assert difference(part["ours in one"], part["ours in two"]) < 1e-6


def test_keras_cannot_take_several_steps_at_once_with_collectives(results):
    assert "must feed a value for placeholder" in results["steps per execution"]["keras"]


def test_several_steps_at_once_are_the_same_steps(results):
    part = results["steps per execution"]
    assert difference(part["ours one by one"], part["ours at once"]) < 1e-6


def test_keras_leaves_each_replica_its_own_statistics(results):
    first, second = results["batch normalisation"]["keras"]
    assert difference(first, second) > 1e-4


def test_batch_normalisation_has_the_same_statistics_everywhere(results):
    part = results["batch normalisation"]
    assert part["ours"][0] == part["ours"][1]
    assert difference(part["ours"][0], part["ours on one"]) < 1e-6


def test_batch_normalisation_of_two_trains_as_that_of_one(results):
    part = results["batch normalisation"]
    assert difference(part["all of two"], part["all of one"]) < 1e-6


def test_onednn_gives_a_convolution_of_no_images_the_channels_of_its_input(results):
    assert results["no images"]["a convolution's shape"] == [0, 4, 4, 3]  # of 5 filters


def test_a_replica_without_images_changes_nothing(results):
    part = results["no images"]
    assert difference(part["ours on one"], part["ours on two"]) < 1e-6


def test_another_keras_is_mentioned_where_it_matters(monkeypatch, caplog):
    monkeypatch.setattr(keras, "__version__", "3.99.0")
    replicas.check_keras(1)
    assert not caplog.messages
    replicas.check_keras(2)
    assert "Keras is 3.99.0" in caplog.text


def test_this_keras_is_the_one_that_was_tried(caplog):
    replicas.check_keras(2)
    assert not caplog.messages
