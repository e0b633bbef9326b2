"""How tf.data works here: on as many images at once as there are cores, without tuning that."""

import os

import tensorflow as tf

#: Cores that this process may use.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return a dataset that TensorFlow does not tune, so that the end of an iteration waits for nothing.

    The thread that tunes (TensorFlow 2.21) sleeps for 10 ms, then 20, and so on up to a minute. An iterator that goes
    often waits until it wakes: an epoch of 11 seconds then takes 20.

    Args:
        dataset: Which says itself how much it does at once.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
