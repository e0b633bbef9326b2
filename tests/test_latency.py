"""Networks are timed as TFLite files, in a process of their own."""

from pathlib import Path

import pytest

from keras_inception.architecture import get_architecture
from keras_inception.errors import TrainingError
from keras_inception.tuning.latency import latencies

TINY = get_architecture(str(Path(__file__).with_name("tiny.json")))


@pytest.mark.slow
def test_every_network_has_its_time():
    times = latencies([TINY, TINY.scaled(2), TINY], (28, 28, 3), 2)
    assert len(times) == 3
    assert all(ms > 0 for ms in times)


def test_what_cannot_be_timed_says_why():
    with pytest.raises(TrainingError, match=r"could not be timed as TFLite files: .*; --resume tries again"):
        latencies([TINY], (4, 4, 3), 2)
