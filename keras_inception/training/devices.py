"""Where training runs: words of the user's become a `tf.distribute` strategy and a precision."""

import contextlib
import json
import os
import re

import keras
import tensorflow as tf

from keras_inception.errors import DeviceError

_FORM = re.compile(r"auto|all|cpu:[1-9]\d*|gpu:\d+(,\d+)*")
_ADDRESS = re.compile(r"[^\s:,]+:\d{1,5}")


def join_workers(workers: str, task_index: int) -> None:
    """Make this process one of several that train one network together: sets TF_CONFIG, as TensorFlow reads it.

    Args:
        workers: Host and port of every worker, the same words in the same order on each: "a:2222,b:2222".
        task_index: Which of them this process is, from 0, which is the chief.

    Raises:
        DeviceError: An address is of another form, or the index is none of theirs.
    """
    addresses = workers.split(",")
    for address in addresses:
        if not _ADDRESS.fullmatch(address):
            raise DeviceError(f"workers are host:port,host:port,…; got {address!r}")
    if not 0 <= task_index < len(addresses):
        raise DeviceError(f"task index is {task_index}; with {len(addresses)} workers it is 0 to {len(addresses) - 1}")
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": task_index}}
    )


def strategy(devices: str) -> tf.distribute.Strategy:
    """Return the strategy that trains on `devices`.

    One machine: a MirroredStrategy over GPUs or over several logical CPUs. A single CPU gets TensorFlow's default
    strategy: there is nothing to mirror, and mirroring costs it time. Several machines, where TF_CONFIG says so: a
    MultiWorkerMirroredStrategy over the GPUs, or else the CPU, of each.

    Args:
        devices: "auto" or "all" for all GPUs, or the CPU where there is none; "gpu:0,1" for some; "cpu:2" for that
            many logical CPUs, which must be asked for before TensorFlow has run anything.

    Raises:
        DeviceError: The word is of another form, a GPU is not there, the logical CPUs are set already, or TF_CONFIG
            cannot be read.
    """
    if not _FORM.fullmatch(devices):
        raise DeviceError(f"devices is {devices!r}; it takes auto, all, gpu:0,1 (numbers) or cpu:2 (a count)")
    kind, _, value = devices.partition(":")
    gpus = [gpu.name.removeprefix("/physical_device:") for gpu in tf.config.list_physical_devices("GPU")]
    if kind == "gpu":
        wanted = [f"GPU:{number}" for number in value.split(",")]
        missing = [name for name in wanted if name not in gpus]
        if missing:
            raise DeviceError(f"devices is {devices!r}, but there is no {missing[0]}; there are {gpus or 'no GPUs'}")
        gpus = list(dict.fromkeys(wanted))
    if _is_one_of_several():
        return _with_other_workers(devices, gpus)
    if kind == "cpu":
        return _on_cpus(int(value))
    return tf.distribute.MirroredStrategy(gpus) if gpus else _on_cpus(1)


def precision(word: str, devices: tf.distribute.Strategy) -> str:
    """Return the precision that `word` means on `devices`: "float32", "mixed_float16" or "mixed_bfloat16".

    "auto" is the faster of the two halves that every GPU has units for: bfloat16 from compute capability 8.0, float16
    from 7.0; float32 on older ones and on the CPU.
    """
    if word != "auto":
        return word
    if not isinstance(devices, (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)):
        return "float32"  # one CPU
    used = {name.rpartition("device:")[2] for name in devices.extended.worker_devices}
    gpus = [gpu for gpu in tf.config.list_physical_devices("GPU") if gpu.name.removeprefix("/physical_device:") in used]
    if not gpus:
        return "float32"
    oldest = min(tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus)
    return "mixed_bfloat16" if oldest >= (8, 0) else "mixed_float16" if oldest >= (7, 0) else "float32"


@contextlib.contextmanager
def in_precision(name: str):
    """Build layers in a precision, and take back what Keras had before."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def is_chief(devices: tf.distribute.Strategy) -> bool:
    """Return whether this process writes: the only one, or worker 0."""
    resolver = devices.cluster_resolver
    return not _of_several(devices) or (resolver.task_type, resolver.task_id) in (("worker", 0), ("chief", 0))


def workers(devices: tf.distribute.Strategy) -> tuple[int, int]:
    """Return which worker this process is, and how many there are."""
    if not _of_several(devices):
        return 0, 1
    resolver = devices.cluster_resolver
    spec = resolver.cluster_spec().as_dict()
    chiefs = len(spec.get("chief", []))
    return resolver.task_id + (chiefs if resolver.task_type == "worker" else 0), chiefs + len(spec.get("worker", []))


def _of_several(devices: tf.distribute.Strategy) -> bool:
    return isinstance(devices, tf.distribute.MultiWorkerMirroredStrategy)


def _is_one_of_several() -> bool:
    text = os.environ.get("TF_CONFIG")
    if not text:
        return False
    try:
        cluster = json.loads(text).get("cluster", {})
        return sum(len(cluster.get(job, [])) for job in ("chief", "worker")) > 1
    except (ValueError, AttributeError, TypeError) as error:
        raise DeviceError(f"the environment's TF_CONFIG cannot be read ({error}); unset it or mend it") from None


def _with_other_workers(devices: str, gpus: list[str]) -> tf.distribute.Strategy:
    if devices.startswith("cpu:") and devices != "cpu:1":
        raise DeviceError(f"devices is {devices!r}; with several workers each has its GPUs or one CPU: cpu:1 or auto")
    try:
        used = gpus if not devices.startswith("cpu:") else []
        tf.config.set_visible_devices(
            [tf.config.PhysicalDevice(f"/physical_device:{name}", "GPU") for name in used], "GPU"
        )
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        said = str(error).strip().splitlines()[0]
        raise DeviceError(f"this worker cannot join the others of TF_CONFIG: {said}") from None


def _on_cpus(count: int) -> tf.distribute.Strategy:
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or [None]) != count:
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError:
            raise DeviceError(f"cpu:{count} must be asked for before TensorFlow runs; start a new process") from None
    if count == 1:
        return tf.distribute.get_strategy()
    # The default way between CPUs, collectives, does not work in loops (steps_per_execution) nor for a second network.
    return tf.distribute.MirroredStrategy(
        [f"CPU:{number}" for number in range(count)], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
