"""The preprocessing of evaluation in NumPy, for exported files that are run without TensorFlow.

It gives what `crops.resized` gives, but for single values that fall the other way where they are rounded.
"""

from collections.abc import Callable

import numpy as np

from keras_inception.config import DataConfig

#: Longest side kept, as a multiple of the shorter one: `crops` says why.
LONGEST = 8


def model_input(image: np.ndarray, config: DataConfig) -> np.ndarray:
    """Turn a decoded image, uint8 `(height, width, channels)` of any size, into the float32 input of the network."""
    return scaled(square(image, config), config)


def scaled(images: np.ndarray, config: DataConfig) -> np.ndarray:
    """Return uint8 images of any shape as float32 in the range of the network's input."""
    low, high = map(np.asarray, config.value_range)
    return images.astype(np.float32) * ((high - low) / 255).astype(np.float32) + low.astype(np.float32)


def square(image: np.ndarray, config: DataConfig) -> np.ndarray:
    """Resize the shorter side, antialiased, and cut out the centre: uint8 `(size, size, channels)`."""
    size = config.image_size
    assert size is not None  # a run's and an exported file's is known
    beyond = np.maximum(np.array(image.shape[:2]) - LONGEST * min(image.shape[:2]), 0) // 2
    image = image[beyond[0] : image.shape[0] - beyond[0], beyond[1] : image.shape[1] - beyond[1]]
    factor = round(size / config.crop_fraction) / min(image.shape[:2])
    pixels = image.astype(np.float32)
    for axis in (0, 1):
        length = int(np.round(image.shape[axis] * factor))
        weights = _weights(image.shape[axis], length, config.resize)[(length - size) // 2 :][:size]
        pixels = np.moveaxis(np.tensordot(weights, pixels, axes=(1, axis)), 0, axis)
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def _weights(length: int, target: int, method: str) -> np.ndarray:
    """Return how much each of `length` pixels counts in each of `target`: float32 `(target, length)`, rows sum to 1."""
    scale = length / target
    if method == "area":
        edges = np.arange(target + 1)[:, None] * scale
        covered = np.clip(edges - np.arange(length), 0, 1)
        weights = covered[1:] - covered[:-1]
    else:
        kernel, radius = _KERNELS[method]
        widened = max(scale, 1.0)  # antialiased: as wide as what becomes one pixel
        centres = (np.arange(target)[:, None] + 0.5) * scale - 0.5
        distances = np.abs(np.arange(length) - centres) / widened
        weights = np.where(distances < radius, kernel(distances), 0.0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _triangle(x: np.ndarray) -> np.ndarray:
    return 1 - x


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic with a = -0.5."""
    return np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2)


def _lanczos3(x: np.ndarray) -> np.ndarray:
    return np.sinc(x) * np.sinc(x / 3)


# A kernel of the distance, and how far it reaches.
_KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "bilinear": (_triangle, 1),
    "bicubic": (_cubic, 2),
    "lanczos3": (_lanczos3, 3),
}
