"""What a training takes: the largest batch that fits, and what was taken."""

import resource

import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from keras_inception.training.memory import largest_batch, peak_memory


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 300), st.integers(1, 300), st.sampled_from([1, 2, 4, 6]))
def test_the_batch_that_fits_is_found_by_halving(room, batch_size, smallest):
    tried = []

    def step(size: int) -> None:
        tried.append(size)
        if size > room:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    found = largest_batch(step, batch_size, smallest)
    assert all(size % smallest == 0 and 0 < size < batch_size for size in tried)
    if found is None:
        assert all(size > room for size in tried)
        assert not tried or tried[-1] // 2 < smallest
    else:
        assert found <= room
        assert all(size > room for size in tried[:-1])


def test_another_error_is_no_lack_of_memory():
    def step(size: int) -> None:
        raise tf.errors.InvalidArgumentError(None, None, "wrong")

    with pytest.raises(tf.errors.InvalidArgumentError):
        largest_batch(step, 8, 1)


def test_the_peak_is_that_of_the_process():
    peak = peak_memory()["process"]
    assert peak >= 2**20
    assert peak <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
