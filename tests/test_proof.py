"""What counts as agreeing: differences, answers and accuracy against thresholds, figures made by hand."""

import numpy as np
import pytest

from keras_inception.export.answering import Answers
from keras_inception.export.proof import Thresholds, prove

NAMES = [f"image {number}" for number in range(10)]
EXPECTED = np.tile(np.float32([0.7, 0.2, 0.1]), (10, 1))
LABELS = np.asarray([0] * 8 + [1] * 2)


def proven(tmp_path, given, precision="float32", labels=LABELS, **thresholds):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"12345")
    answers = Answers(np.asarray(given, np.float32), {(1, 1): (2.0, 3.0), (1, 8): (9.0, 9.5)})
    return prove(path, "model.tflite", precision, answers, EXPECTED, labels, NAMES, Thresholds(**thresholds))


def test_an_equal_file_has_no_misses(tmp_path):
    proof = proven(tmp_path, EXPECTED)
    assert proof.misses == ()
    assert (proof.bytes, proof.largest_difference, proof.agreement, proof.top1) == (5, 0, 1, 0.8)
    # Wilson's interval of 8 in 10, from his formula.
    z, p, n = 1.959964, 0.8, 10
    centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert proof.top1_interval == pytest.approx(
        [(centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)], abs=1e-6
    )
    assert proof.latency_ms[1] == {"threads": 1, "batch": 8, "median": 9.0, "p95": 9.5}


@pytest.mark.parametrize(("precision", "allowed"), [("float32", 1e-4), ("float16", 2e-3)])
def test_a_float_file_may_differ_by_so_much(tmp_path, precision, allowed):
    near, far = EXPECTED.copy(), EXPECTED.copy()
    near[3, 1] += 0.9 * allowed
    far[3, 1] += 1.2 * allowed
    assert proven(tmp_path, near, precision).misses == ()
    proof = proven(tmp_path, far, precision)
    assert len(proof.misses) == 1
    assert f"more than {allowed:g}" in proof.misses[0]
    assert proof.disagreeing[0] == "image 3"


def test_answers_that_are_no_numbers_are_a_miss(tmp_path):
    given = EXPECTED.copy()
    given[0, 0] = np.nan
    assert proven(tmp_path, given).misses


def test_a_quantised_file_is_judged_by_its_answers(tmp_path):
    shifted = EXPECTED + np.float32([-0.2, 0.2, 0.0])
    shifted[:, 0] += 0.01
    assert proven(tmp_path, shifted, "int8").misses == ()
    other = EXPECTED.copy()
    other[4] = [0.2, 0.7, 0.1]  # a right answer becomes a wrong one
    proof = proven(tmp_path, other, "int8")
    assert proof.agreement == pytest.approx(0.9)
    assert len(proof.misses) == 2
    assert "90.0%" in proof.misses[0]
    assert "80.0% to 70.0%" in proof.misses[1]
    assert proof.disagreeing[0] == "image 4"
    assert proven(tmp_path, other, "int8", agreement=0.9, accuracy_loss=0.1).misses == ()


def test_a_file_may_be_more_accurate_than_the_model(tmp_path):
    better = EXPECTED.copy()
    better[8] = [0.2, 0.7, 0.1]
    assert proven(tmp_path, better, "dynamic", agreement=0.9).misses == ()


def test_without_labels_answers_are_compared_all_the_same(tmp_path):
    other = EXPECTED[:, ::-1]
    proof = proven(tmp_path, other, "int8", labels=None)
    assert (proof.top1, proof.top1_interval) == (None, None)
    assert len(proof.misses) == 1
