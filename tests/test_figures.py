"""Figures against hand computation, scikit-learn, SciPy's own intervals and sets whose calibration is known."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score, log_loss, top_k_accuracy_score

from keras_inception.evaluation.figures import _macro_f1, calibration, figures, head_figures, rejection

# Six images of three classes; the answers are a, a, b, b, c, a: four are right.
LABELS = np.asarray([0, 0, 1, 1, 2, 2])
PROBABILITIES = np.asarray(
    [[0.8, 0.1, 0.1], [0.5, 0.3, 0.2], [0.1, 0.7, 0.2], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7], [0.9, 0.05, 0.05]]
)


def measured(labels=LABELS, probabilities=PROBABILITIES, count=None):
    count = count or probabilities.shape[1]
    return figures(labels, probabilities, [f"class {index}" for index in range(count)])


def drawn(seed, images, classes):
    """Labels and probabilities without ties."""
    random = np.random.default_rng(seed)
    return random.integers(0, classes, images), random.dirichlet(np.full(classes, 0.5), images)


def test_figures_computed_by_hand():
    found = measured()
    assert found["top1"] == pytest.approx(5 / 6)
    assert found["top1_error"] == pytest.approx(1 / 6)
    assert found["top5"] is None
    assert found["confusion"] == [[2, 0, 0], [0, 2, 0], [1, 0, 1]]
    assert found["per_class"]["class 0"] == pytest.approx({"precision": 2 / 3, "recall": 1, "f1": 0.8, "images": 2})
    assert found["per_class"]["class 2"] == pytest.approx({"precision": 1, "recall": 0.5, "f1": 2 / 3, "images": 2})
    assert found["macro_f1"] == pytest.approx((0.8 + 1 + 2 / 3) / 3)
    expected = -sum(map(math.log, (0.8, 0.5, 0.7, 0.6, 0.7, 0.05))) / 6
    assert found["log_loss"] == pytest.approx(expected)


def test_the_calibration_error_computed_by_hand():
    # Bins of 1/15: 0.5 lies in (7/15, 8/15], 0.6 in (8/15, 9/15], 0.7 twice in (10/15, 11/15], 0.8 in (11/15, 12/15],
    # 0.9 in (13/15, 14/15]; all but the last are right.
    found = calibration(PROBABILITIES.max(axis=1), np.asarray([1, 1, 1, 1, 1, 0], bool))
    assert found["ece"] == pytest.approx((0.5 + 0.4 + 2 * 0.3 + 0.2 + 0.9) / 6)
    assert [one["images"] for one in found["bins"]] == [0] * 7 + [1, 1, 0, 2, 1, 0, 1, 0]
    assert found["bins"][10]["probability"] == pytest.approx(0.7)
    assert found["bins"][10]["top1"] == 1
    assert found["bins"][0]["probability"] is None


def test_a_bin_holds_its_upper_bound_and_not_its_lower():
    bins = calibration(np.asarray([0.2, 1.0, 0.0, 0.2 + 1e-9]), np.ones(4, bool))["bins"]
    assert [index for index, one in enumerate(bins) if one["images"]] == [0, 2, 3, 14]
    assert bins[2]["up_to"] == pytest.approx(0.2)


@pytest.mark.parametrize("seed", range(3))
def test_figures_agree_with_scikit_learn(seed):
    labels, probabilities = drawn(seed, 300, 8)
    found = measured(labels, probabilities)
    guesses = probabilities.argmax(axis=1)
    assert found["top5"] == pytest.approx(top_k_accuracy_score(labels, probabilities, k=5))
    assert found["log_loss"] == pytest.approx(log_loss(labels, probabilities))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, guesses, average="macro"))
    assert head_figures(labels, probabilities) == pytest.approx(
        {"top1": (guesses == labels).mean(), "log_loss": log_loss(labels, probabilities)}
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_bins_agree_with_scikit_learns_calibration_curve(seed):
    labels, probabilities = drawn(seed, 500, 2)
    right, confidences = probabilities.argmax(axis=1) == labels, probabilities.max(axis=1)
    shares, means = calibration_curve(right, confidences, n_bins=15)
    filled = [one for one in calibration(confidences, right)["bins"] if one["images"]]
    np.testing.assert_allclose([one["top1"] for one in filled], shares)
    np.testing.assert_allclose([one["probability"] for one in filled], means)


def test_answers_that_are_as_often_right_as_they_say_are_calibrated():
    # Of 100 answers with probability p, 100 p are right.
    confidences = np.repeat([0.55, 0.75, 0.95], 100)
    right = np.concatenate([np.arange(100) < share for share in (55, 75, 95)])
    assert calibration(confidences, right)["ece"] == pytest.approx(0, abs=1e-12)
    assert calibration(np.full(100, 0.9), np.zeros(100, bool))["ece"] == pytest.approx(0.9)


def test_a_large_calibrated_set_has_a_small_error():
    random = np.random.default_rng(0)
    confidences = random.uniform(0.1, 1, 200_000)
    assert calibration(confidences, random.uniform(size=200_000) < confidences)["ece"] < 0.006


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(2, 9))
def test_figures_lie_within_their_bounds_and_intervals_hold_them(seed, images, classes):
    found = measured(*drawn(seed, images, classes))
    assert 0 <= found["calibration"]["ece"] <= 1
    assert sum(one["images"] for one in found["calibration"]["bins"]) == images
    assert np.sum(found["confusion"]) == images
    assert set(found["intervals"]) == {"top1", "macro_f1", "log_loss"} | ({"top5"} if classes > 5 else set())
    for name in found["intervals"]:
        low, high = found["intervals"][name]
        assert 0 <= low <= high
        if name != "macro_f1":  # a mean; F1 of a resample is biased where images are few
            assert low - 1e-12 <= found[name] <= high + 1e-12
    json.dumps(found, allow_nan=False)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60))
def test_the_order_of_the_images_is_no_matter(seed, images):
    labels, probabilities = drawn(seed, images, 4)
    order = np.random.default_rng(seed + 1).permutation(images)
    first, second = measured(labels, probabilities), measured(labels[order], probabilities[order])
    for name in ("top1", "macro_f1", "log_loss"):
        assert first[name] == pytest.approx(second[name])
    assert first["confusion"] == second["confusion"]
    assert first["calibration"]["ece"] == pytest.approx(second["calibration"]["ece"])


def test_the_interval_of_top1_is_about_the_binomial_one():
    # Of 400 images 300 are right: a standard error of sqrt(0.75 · 0.25 / 400).
    labels = np.zeros(400, np.int32)
    probabilities = np.where(np.arange(400)[:, None] < 300, [0.9, 0.1], [0.2, 0.8])
    low, high = measured(labels, probabilities)["intervals"]["top1"]
    error = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(0.75 - error, abs=0.008)
    assert high == pytest.approx(0.75 + error, abs=0.008)


def test_the_intervals_are_the_same_every_time():
    assert measured()["intervals"] == measured()["intervals"]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(2, 6))
def test_the_macro_f1_of_many_drawings_is_scikit_learns_of_each(seed, images, classes):
    random = np.random.default_rng(seed)
    labels, guesses = random.integers(0, classes, (2, images)).astype(np.int32)
    positions = random.integers(0, images, (7, images))
    found = _macro_f1(labels, guesses, classes)(positions)
    for value, row in zip(found, positions, strict=True):
        present = sorted(set(labels[row].tolist()))
        expected = f1_score(labels[row], guesses[row], labels=present, average="macro", zero_division=0)
        assert value == pytest.approx(expected)


def test_classes_without_images_do_not_lower_the_macro_f1():
    probabilities = np.hstack([PROBABILITIES, np.zeros((6, 2))])
    found = measured(LABELS, probabilities)
    assert found["macro_f1"] == measured()["macro_f1"]
    assert found["per_class"]["class 4"] == {"precision": 0, "recall": 0, "f1": 0, "images": 0}


def test_a_single_image_has_figures_and_no_intervals():
    found = measured(LABELS[:1], PROBABILITIES[:1])
    assert found["top1"] == 1
    assert set(found["intervals"].values()) == {None}


def test_a_probability_of_zero_for_the_truth_is_a_number():
    found = measured(np.asarray([0, 1]), np.asarray([[0.0, 1.0], [0.0, 1.0]]))
    assert found["log_loss"] == pytest.approx(-math.log(2.0**-52) / 2)
    assert found["log_loss"] == pytest.approx(log_loss([0, 1], [[0.0, 1.0], [0.0, 1.0]]))


def test_float32_probabilities_that_sum_to_nearly_one_are_taken():
    labels, probabilities = drawn(0, 100, 7)
    found = measured(labels, probabilities.astype(np.float32))
    assert found["log_loss"] == pytest.approx(measured(labels, probabilities)["log_loss"], rel=1e-5)


def test_rejection_computed_by_hand():
    # At least 0.7: the images 0, 2, 4 (right) and 5 (wrong).
    assert rejection(LABELS, PROBABILITIES, 0.7) == {"below": 0.7, "answered": 4, "coverage": 4 / 6, "top1": 0.75}
    assert rejection(LABELS, PROBABILITIES, 0.0)["top1"] == pytest.approx(5 / 6)
    assert rejection(LABELS, PROBABILITIES, 1.0) == {"below": 1.0, "answered": 0, "coverage": 0.0, "top1": None}
    assert "top1" not in rejection(None, PROBABILITIES, 0.5)
