"""How tf.data works here: on as many images at once as there are threads, without tuning that."""

import tensorflow as tf

# More than any machine has threads: TensorFlow takes the smaller of the two.
_MOST = 2**16


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return a dataset whose `tf.data.AUTOTUNE` is the number of threads, so that its end waits for nothing.

    TensorFlow (2.21, tensorflow/core/framework/model.h) tunes from a thread that sleeps for 10 ms, then 20, and so on
    up to a minute. An iterator that goes often waits until it wakes: an epoch of 11 seconds then takes 20.

    Args:
        dataset: Of any elements, which stay as they are and in their order.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.autotune.initial_parallelism = _MOST
    return dataset.with_options(options)
