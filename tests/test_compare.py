"""McNemar's test against textbook examples and arithmetic, and two runs on the same images."""

import math
import shutil
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from keras_inception.cli import main
from keras_inception.errors import RunError
from keras_inception.evaluation import compare as comparison
from keras_inception.evaluation.compare import compare, mcnemar
from keras_inception.predictor import Predictor
from keras_inception.run_folder import RunFolder


def right(both, only_first, only_second, neither):
    """Whether two ways to answer are right, from the four counts."""
    counts = [both, only_first, only_second, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def by_arithmetic(only_first, only_second):
    """The exact two-sided probability: heads as uneven as these or more, in as many tosses of a coin."""
    tosses, fewer = only_first + only_second, min(only_first, only_second)
    tail = Fraction(sum(math.comb(tosses, heads) for heads in range(fewer + 1)), 2**tosses)
    return float(min(1, 2 * tail))


def test_an_example_by_hand():
    # Of 12 images that tell them apart the first gets 10: 2 · (1 + 12 + 66) / 4096.
    found = mcnemar(*right(30, 10, 2, 5))
    assert {name: found[name] for name in ("both", "only_first", "only_second", "neither")} == {
        "both": 30,
        "only_first": 10,
        "only_second": 2,
        "neither": 5,
    }
    assert found["p_value"] == pytest.approx(158 / 4096)
    assert "10 images" in found["sentence"]
    assert "the first is better" in found["sentence"]
    assert "0.039" in found["sentence"]


def test_the_textbooks_ratings_of_a_prime_minister():
    # Agresti, Categorical Data Analysis, 2nd edition, table 10.1: z² = (86 − 150)² / (86 + 150) = 17.36, P < 0.001.
    found = mcnemar(*right(794, 150, 86, 570))
    assert found["p_value"] == pytest.approx(by_arithmetic(150, 86))
    normal = math.erfc(math.sqrt(17.36 / 2))
    assert found["p_value"] == pytest.approx(normal, rel=0.3)
    assert found["p_value"] < 0.001


@settings(max_examples=30, deadline=None)
@given(*[st.integers(0, 40)] * 4)
def test_the_probability_is_the_coins_and_the_same_from_either_side(both, only_first, only_second, neither):
    first, second = right(both, only_first, only_second, neither)
    found, turned = mcnemar(first, second), mcnemar(second, first)
    assert found["p_value"] == pytest.approx(by_arithmetic(only_first, only_second))
    assert turned["p_value"] == pytest.approx(found["p_value"])
    assert turned["only_first"] == found["only_second"]
    said = [
        word for word in ("first is better", "second is better", "neither is", "nothing") if word in found["sentence"]
    ]
    assert len(said) == 1
    if found["p_value"] < 0.05:
        assert said == ["first is better" if only_first > only_second else "second is better"]


def stripe_detector(images):
    """A network that needs no training: stripes lie where the mean of rows varies more than that of columns."""
    grey = images.mean(axis=3)
    lying = grey.mean(axis=2).std(axis=1) > grey.mean(axis=1).std(axis=1)
    return np.stack([lying, ~lying], axis=1).astype(np.float32)


@pytest.fixture
def detector(monkeypatch):
    """A detector answers for every run, and for one called "always-lying" the name of the run."""

    def open_model(path):
        always = Predictor("run", lambda images: np.tile(np.float32([1, 0]), (len(images), 1)))
        return always if path.name == "always-lying" else Predictor("run", stripe_detector)

    monkeypatch.setattr(comparison, "open_model", open_model)


def test_a_run_is_no_better_than_itself(run, detector, capsys):
    found = compare(run, run)
    assert found["only_first"] == found["only_second"] == 0
    assert found["p_value"] == 1
    assert found["top1"][0] == found["top1"][1] == found["both"] / 12
    assert main(["compare", str(run), str(run), "--split", "validation"]) == 0
    text = capsys.readouterr().out
    assert "of 12 validation images" in text
    assert "nothing tells them apart" in text


@pytest.mark.parametrize("crops", [1, 10])
def test_a_good_run_is_better_than_one_that_always_says_the_same(run, tmp_path, detector, crops):
    # Of the 12 test images 6 stand: the detector is right on all, the other run on none of these.
    other = shutil.copytree(run, tmp_path / "always-lying")
    found = compare(run, other, crops=crops)
    assert found["top1"] == [1.0, 0.5]
    assert (found["both"], found["only_first"], found["only_second"], found["neither"]) == (6, 6, 0, 0)
    assert found["p_value"] == pytest.approx(2 / 64)
    assert "the first is better" in found["sentence"]


def test_runs_of_other_images_are_refused(run, tmp_path, detector, capsys):
    other = shutil.copytree(run, tmp_path / "other")
    config = RunFolder(other).config().override({"data.split_seed": 1})
    (other / "config.json").write_text(config.to_json())
    assert main(["compare", str(run), str(other)]) == 2
    said = capsys.readouterr().err
    assert "have different images, 12 and 12" in said
    assert said.count("\n") == 1


def test_runs_of_other_classes_are_refused(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    (other / "labels.txt").write_text("sleeping\nstanding\n")
    with pytest.raises(RunError, match="different classes, lying, standing and sleeping, standing"):
        compare(run, other)


def test_progress_counts_the_images_of_both_runs(run, detector):
    seen = []
    compare(run, run, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(12, 24), (24, 24)]
