"""Words for devices: which are understood, and what is said of those that are not there."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import tensorflow as tf

from keras_inception.errors import DeviceError
from keras_inception.training.devices import join_workers, precision, strategy


def test_one_cpu_is_not_mirrored():
    assert strategy("cpu:1") is tf.distribute.get_strategy()


@pytest.mark.parametrize("word", ["", "cpu", "cpu:0", "gpu:", "gpu:a", "tpu:1", "cpu:1,2", "auto:2"])
def test_a_word_of_another_form_is_refused_with_the_forms(word):
    with pytest.raises(DeviceError, match=r"auto, all, gpu:0,1 \(numbers\) or cpu:2"):
        strategy(word)


def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(DeviceError, match="GPU:93"):
        strategy("gpu:93")


def test_a_gpu_that_is_named_twice_is_used_once(monkeypatch):
    gpu = SimpleNamespace(name="/physical_device:GPU:0")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [gpu])
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda devices: devices)
    assert strategy("gpu:0,0") == ["GPU:0"]


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


@pytest.mark.parametrize(("index", "chief"), [(0, True), (1, False)])
def test_workers_are_joined_as_tensorflow_reads_them(index, chief, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "")
    join_workers("a:2222,b:3333", index)
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    assert resolver.cluster_spec().as_dict() == {"worker": ["a:2222", "b:3333"]}
    assert (resolver.task_type, resolver.task_id) == ("worker", index)
    assert json.loads(os.environ["TF_CONFIG"])["task"]["index"] == index


@pytest.mark.parametrize(
    ("workers", "index", "named"),
    [
        ("a:2222,b", 0, "'b'"),
        ("a:2222,", 0, "''"),
        ("a:2222, b:1", 0, "' b:1'"),
        ("a:1,b:2", 2, "task index is 2; with 2 workers it is 0 to 1"),
        ("a:1,b:2", -1, "task index is -1"),
    ],
)
def test_a_list_of_workers_of_another_form_is_refused(workers, index, named, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "")
    with pytest.raises(DeviceError) as raised:
        join_workers(workers, index)
    assert named in str(raised.value)
    assert os.environ["TF_CONFIG"] == ""


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": 3}', '{"cluster": {"worker": 3}}'])
def test_a_tf_config_that_cannot_be_read_is_named(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(DeviceError, match="TF_CONFIG"):
        strategy("auto")


def test_a_cluster_of_one_is_no_cluster(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}')
    assert strategy("cpu:1") is tf.distribute.get_strategy()


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ([(9, 0)], "mixed_bfloat16"),
        ([(8, 0), (8, 6)], "mixed_bfloat16"),
        ([(7, 5)], "mixed_float16"),
        ([(9, 0), (7, 0)], "mixed_float16"),  # the slower of two decides
        ([(6, 1)], "float32"),
        ([None], "float32"),
    ],
)
def test_precision_is_what_every_gpu_has_units_for(capabilities, expected, monkeypatch):
    gpus = [SimpleNamespace(name=f"/physical_device:GPU:{number}") for number in range(len(capabilities))]
    details = {
        gpu.name: {"compute_capability": value} if value else {} for gpu, value in zip(gpus, capabilities, strict=True)
    }
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: gpus)
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details[gpu.name])
    mirrored = object.__new__(tf.distribute.MirroredStrategy)
    names = [f"/replica:0/task:0/device:GPU:{number}" for number in range(len(gpus))]
    mirrored._extended = SimpleNamespace(worker_devices=names)
    assert precision("auto", mirrored) == expected


def test_precision_that_is_named_is_taken_and_one_cpu_has_float32():
    assert precision("mixed_float16", tf.distribute.get_strategy()) == "mixed_float16"
    assert precision("auto", tf.distribute.get_strategy()) == "float32"
