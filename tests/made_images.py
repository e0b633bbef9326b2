"""Images made for tests, and splits of them."""

import functools

import numpy as np
from PIL import Image

from keras_inception.config import DataConfig
from keras_inception.data.dataset import Split
from keras_inception.data.images import read_images

# With this range the network's input is the image itself.
PLAIN = {"image_size": 4, "value_range": (0.0, 255.0)}


def split_of(arrays, labels=None):
    """A split of arrays; None stands for an image that cannot be decoded."""

    def source(index):
        return b"torn" if arrays[index] is None else arrays[index]

    labels = np.arange(len(arrays)) % 3 if labels is None else labels
    return Split([f"image {index}" for index in range(len(arrays))], np.asarray(labels, np.int32), source)


def numbered(count, size=4):
    """Images that say which they are and where each pixel was: (row, column, number)."""
    rows, columns = np.mgrid[:size, :size]
    return [np.stack([rows, columns, np.full_like(rows, number)], axis=-1).astype(np.uint8) for number in range(count)]


@functools.cache
def numbered_images(count, size=4):
    return read_images(split_of(numbered(count, size)), DataConfig(**PLAIN | {"image_size": size}))


def coloured(count=6, seed=0):
    """Smooth images in colour, of several sizes: what chroma subsampling and partial decoding could get wrong."""
    random = np.random.default_rng(seed)
    sizes = random.integers(30, 120, (count, 2))
    return [
        Image.fromarray(random.integers(0, 256, (5, 5, 3), np.uint8)).resize(tuple(map(int, size))) for size in sizes
    ]
