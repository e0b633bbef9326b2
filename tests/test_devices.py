"""Words for devices: which are understood, and what is said of those that are not there."""

import subprocess
import sys

import pytest
import tensorflow as tf

from keras_inception.errors import DeviceError
from keras_inception.training.devices import strategy


def test_one_cpu_is_not_mirrored():
    assert strategy("cpu:1") is tf.distribute.get_strategy()


@pytest.mark.parametrize("word", ["", "cpu", "cpu:0", "gpu:", "gpu:a", "tpu:1", "cpu:1,2", "auto:2"])
def test_a_word_of_another_form_is_refused_with_the_forms(word):
    with pytest.raises(DeviceError, match=r"auto, all, gpu:0,1 \(numbers\) or cpu:2"):
        strategy(word)


def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(DeviceError, match="GPU:93"):
        strategy("gpu:93")


def test_logical_cpus_are_mirrored_and_cannot_come_too_late():
    code = (
        "import tensorflow as tf\n"
        "from keras_inception.errors import DeviceError\n"
        "from keras_inception.training.devices import strategy\n"
        "mirrored = strategy('cpu:3')\n"
        "assert type(mirrored) is tf.distribute.MirroredStrategy, mirrored\n"
        "assert mirrored.num_replicas_in_sync == 3\n"
        "tf.constant(1)\n"
        "try:\n    strategy('cpu:2')\nexcept DeviceError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "start a new process" in done.stdout
