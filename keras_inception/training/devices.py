"""Where training runs: a word of the user's becomes a `tf.distribute` strategy."""

import re

import tensorflow as tf

from keras_inception.errors import DeviceError

_FORM = re.compile(r"auto|all|cpu:[1-9]\d*|gpu:\d+(,\d+)*")


def strategy(devices: str) -> tf.distribute.Strategy:
    """Return the strategy that trains on `devices`: a MirroredStrategy over GPUs or over several logical CPUs.

    A single CPU gets TensorFlow's default strategy: there is nothing to mirror, and mirroring costs it time.

    Args:
        devices: "auto" or "all" for all GPUs, or the CPU where there is none; "gpu:0,1" for some; "cpu:2" for that
            many logical CPUs, which must be asked for before TensorFlow has run anything.

    Raises:
        DeviceError: The word is of another form, a GPU is not there, or the logical CPUs are set already.
    """
    if not _FORM.fullmatch(devices):
        raise DeviceError(f"devices is {devices!r}; it takes auto, all, gpu:0,1 (numbers) or cpu:2 (a count)")
    kind, _, value = devices.partition(":")
    gpus = [gpu.name.removeprefix("/physical_device:") for gpu in tf.config.list_physical_devices("GPU")]
    if kind == "cpu":
        return _on_cpus(int(value))
    if kind == "gpu":
        wanted = [f"GPU:{number}" for number in value.split(",")]
        missing = [name for name in wanted if name not in gpus]
        if missing:
            raise DeviceError(f"devices is {devices!r}, but there is no {missing[0]}; there are {gpus or 'no GPUs'}")
        return tf.distribute.MirroredStrategy(wanted)
    return tf.distribute.MirroredStrategy(gpus) if gpus else _on_cpus(1)


def _on_cpus(count: int) -> tf.distribute.Strategy:
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or [None]) != count:
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError:
            raise DeviceError(f"cpu:{count} must be asked for before TensorFlow runs; start a new process") from None
    if count == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(count)])
