"""mixup and CutMix: pairs become mixtures, and labels and weights with them."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st
from scipy import stats

from keras_inception.config import DataConfig
from keras_inception.data.mixing import mixed, mixes, mixing_share

RANDOM = np.random.default_rng(0)


def batch(pairs: int, size: int = 12):
    images = RANDOM.integers(0, 256, (2 * pairs, size, size, 3)).astype(np.float32)
    labels = np.eye(5, dtype=np.float32)[RANDOM.integers(0, 5, 2 * pairs)]
    return images, labels, RANDOM.uniform(0, 2, 2 * pairs).astype(np.float32)


def mix(parts, shares, numbers, **config):
    return [part.numpy() for part in mixed(*map(tf.constant, parts), numbers, shares, DataConfig(**config))]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(0, 2**31), st.sampled_from([(1.0, 0.0), (0.0, 1.0), (0.5, 1.0)]))
def test_labels_stay_shares_and_a_pair_keeps_what_it_had(pairs, seed, alphas):
    random = np.random.default_rng(seed)
    images, labels, weights = batch(pairs)
    numbers = random.uniform(size=(2 * pairs, 4)).astype(np.float32)
    shares = random.uniform(size=2 * pairs).astype(np.float32)
    found = mix((images, labels, weights), shares, numbers, mixup=alphas[0], cutmix=alphas[1])
    np.testing.assert_allclose(found[1].sum(axis=1), 1, rtol=1e-5)
    for before, after in zip((images, labels, weights), found, strict=True):
        sums = [part.reshape(pairs, 2, -1).sum(axis=1) for part in (before, after)]
        np.testing.assert_allclose(sums[1], sums[0], rtol=1e-4, atol=1e-3)


def test_mixup_blends_a_pair_with_the_share_of_its_first():
    images, labels, weights = batch(1)
    found = mix((images, labels, weights), np.array([0.75, 0.1], np.float32), np.zeros((2, 4), np.float32), mixup=1.0)
    for before, after in zip((images, labels, weights), found, strict=True):
        np.testing.assert_allclose(after[0], 0.75 * before[0] + 0.25 * before[1], rtol=1e-5)
        np.testing.assert_allclose(after[1], 0.75 * before[1] + 0.25 * before[0], rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1), st.floats(0, 0.99), st.floats(0, 0.99))
def test_cutmix_puts_a_box_of_the_one_into_the_other_and_its_share_is_the_labels(share, row, column):
    images, _, weights = batch(1, size=20)
    labels = np.eye(2, dtype=np.float32)
    numbers = np.tile(np.array([0, row, column, 0], np.float32), (2, 1))
    found, mixed_labels, _ = mix((images, labels, weights), np.full(2, share, np.float32), numbers, cutmix=1.0)
    own = (found == images).all(axis=-1)
    assert ((found == images) | (found == images[::-1])).all()
    assert (found == images[::-1]).all(axis=-1)[~own].all()
    kept = own.mean(axis=(1, 2))
    np.testing.assert_allclose(mixed_labels[[0, 1], [0, 1]], kept, atol=0.01)  # equal pixels may be either's
    assert 1 - kept[0] <= 1 - share + 0.15  # a box of that area, of whole pixels, cut off at the edges


def test_pairs_do_not_touch_each_other():
    parts = batch(3)
    shares, numbers = RANDOM.uniform(size=6).astype(np.float32), RANDOM.uniform(size=(6, 4)).astype(np.float32)
    together = mix(parts, shares, numbers, mixup=0.4, cutmix=1.0)
    alone = mix([part[2:4] for part in parts], shares[2:4], numbers[2:4], mixup=0.4, cutmix=1.0)
    for whole, part in zip(together, alone, strict=True):
        np.testing.assert_array_equal(whole[2:4], part)


@pytest.mark.parametrize(("number", "alpha"), [(0.2, 0.3), (0.7, 2.0)])
def test_shares_are_drawn_from_the_beta_of_the_mixing(number, alpha):
    config = DataConfig(mixup=0.3, cutmix=2.0)
    draw = tf.function(lambda place: mixing_share(tf.stack([7, place]), tf.constant(number), config))
    shares = [float(draw(tf.constant(place))) for place in range(300)]
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_what_is_off_is_off():
    assert not mixes(DataConfig())
    assert mixes(DataConfig(mixup=0.1))
    assert mixes(DataConfig(cutmix=0.1))
