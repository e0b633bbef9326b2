"""What is said of trainings that go wrong: heads at the loss of guessing, losses that are no numbers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats
from sklearn.metrics import log_loss

from keras_inception.training.watch import guessing_loss, stall_message, stalled

LN4 = math.log(4)


def rows(*losses: float) -> list[dict[str, float]]:
    return [{"main_loss": 0.3, "aux1_loss": loss} for loss in losses]


def test_guessing_costs_ln_of_the_number_of_equal_classes():
    assert guessing_loss(np.repeat(np.arange(4), 5), 4) == pytest.approx(LN4)
    assert guessing_loss(np.repeat(np.arange(4), 5), 4, smoothing=0.1) == pytest.approx(LN4)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_guessing_costs_the_entropy_of_the_labels(labels):
    counts = np.bincount(labels, minlength=4)
    assert guessing_loss(np.array(labels), 4) == pytest.approx(stats.entropy(counts), abs=1e-9)
    answers = np.tile(counts / len(labels), (len(labels), 1))
    assert guessing_loss(np.array(labels), 4) == pytest.approx(log_loss(labels, answers, labels=range(4)), abs=1e-6)


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ((1.39, 1.386), []),
        ((1.39, 1.386, 1.38), ["aux1"]),
        ((2.5, 1.39, 1.386, 1.38), ["aux1"]),
        ((1.39, 1.386, 1.38, 1.38), []),  # it has been said
        ((1.39, 1.2, 1.38), []),
        ((1.39, 1.386, 1.9), []),
        ((0.5, 0.4, 0.3), []),
    ],
)
def test_a_head_at_the_loss_of_guessing_is_named_once(losses, said):
    assert stalled(rows(*losses), ["main", "aux1"], LN4) == said


def test_the_message_names_the_head_the_loss_and_the_remedies():
    message = stall_message("aux1", LN4)
    for word in ("aux1", "1.386", "--learning-rate", "googlenet-bn", "training.warmup_epochs"):
        assert word in message
