"""tf.data without TensorFlow's tuning: on as many elements at once as there are threads, and in order."""

import os
import threading

import numpy as np
import tensorflow as tf

from keras_inception.data.parallel import untuned

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def test_as_many_elements_as_there_are_threads_are_made_at_once():
    all_there = threading.Barrier(THREADS)

    def wait(number: np.ndarray) -> np.ndarray:
        all_there.wait(timeout=60)  # breaks if one of them comes when another is done
        return number

    numbers = tf.data.Dataset.range(3 * THREADS)
    made = numbers.map(lambda n: tf.numpy_function(wait, [n], tf.int64), num_parallel_calls=tf.data.AUTOTUNE)
    assert list(untuned(made).as_numpy_iterator()) == list(range(3 * THREADS))


def test_what_is_made_of_it_is_not_tuned_either():
    made = untuned(tf.data.Dataset.range(3)).map(lambda n: n, num_parallel_calls=tf.data.AUTOTUNE).batch(2)
    assert made.options().autotune.enabled is False
