"""The images of a split: read once to know them, then kept in memory or decoded whenever they are used."""

import contextlib
import dataclasses
import logging
import math
import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import psutil
import tensorflow as tf

from keras_inception.config import DataConfig
from keras_inception.data.crops import network_side, resized
from keras_inception.data.dataset import Split
from keras_inception.data.decode import Source, is_plain_jpeg
from keras_inception.data.parallel import untuned
from keras_inception.data.sources import load_dataset
from keras_inception.errors import DataError

_LOG = logging.getLogger(__name__)

# Decoded images are kept in memory when they take less than this share of what is free.
_MEMORY_SHARE = 0.4


@dataclasses.dataclass(frozen=True)
class Images:
    """The readable images of a split.

    Args:
        names: What each is called in messages.
        labels: int32 of shape `(images,)`.
        weights: float32 of shape `(images,)`: how much each counts in training.
        broken: A line for each image that could not be decoded and was left out.
        shapes: int32 tensor of shape `(images, 2)`: height and width.
        resized: Whether they are of the network's size; else of their own.
        source: From a position to the image as it is stored.
        window: From a position, an int64 scalar tensor, and a box, int32 `(4,)` of top, left, height and width, to
            uint8 `(height, width, channels)`.
    """

    names: Sequence[str]
    labels: np.ndarray
    weights: np.ndarray
    broken: Sequence[str]
    shapes: tf.Tensor
    resized: bool
    source: Callable[[int], Source]
    window: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: tf.Tensor) -> tf.Tensor:
        """Return the image at a position."""
        return self.window(index, tf.concat([[0, 0], self.shapes[index]], axis=0))


def read_images(
    split: Split,
    config: DataConfig,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    whole: bool = False,
) -> Images:
    """Decode every image of `split` once: find the broken ones, and keep the others in memory if they fit.

    Images that do not fit are decoded again whenever they are used.

    Args:
        split: The images.
        config: Size, channels, resize and crop; `image_size` must be a number.
        on_progress: Called with the number of images read and of all.
        whole: Keep their own sizes, for patches of them, in place of the network's.

    Raises:
        DataError: No image can be decoded.
    """
    network_side(config)
    reader = _Reader(split, config, whole)
    memory = _Memory(int(_MEMORY_SHARE * min(psutil.virtual_memory().available, _allowed_memory())))
    loaded = tf.data.Dataset.range(len(split)).map(reader.load, num_parallel_calls=tf.data.AUTOTUNE)
    examined = untuned(loaded.prefetch(8))
    shapes = np.zeros((len(split), 2), np.int32)
    for index, pixels in enumerate(examined.as_numpy_iterator()):
        shapes[index] = pixels.shape[:2]
        if index not in reader.broken:
            memory.keep(pixels)
        on_progress(index + 1, len(split))
    good = np.asarray([index for index in range(len(split)) if index not in reader.broken], dtype=np.int64)
    broken = [reader.broken[index] for index in sorted(reader.broken)]
    if not len(good):
        raise DataError(f"none of {len(split)} images can be decoded; the first: {broken[0]}")
    _LOG.info(
        "%s images, %s decoded, %s",
        f"{len(good):,}",
        f"{memory.wanted / 1e6:,.0f} MB",
        "are kept in memory" if memory.fits else "do not fit in memory and are decoded whenever they are used",
    )
    with tf.device("CPU:0"):
        sizes = tf.constant(shapes[good])
    return Images(
        names=[split.names[index] for index in good],
        labels=split.labels[good],
        weights=np.ones(len(good), np.float32) if split.weights is None else split.weights[good],
        broken=broken,
        shapes=sizes,
        resized=not whole,
        source=lambda index: split.source(int(good[index])),
        window=memory.window(sizes, config.channels) if memory.fits else reader.window(good, sizes),
    )


def _allowed_memory(root: Path = Path("/")) -> float:
    """Return the bytes that a container lets this process have (memory.max of Linux's cgroup v2); else infinity."""
    try:
        group = (root / "proc/self/cgroup").read_text().rpartition("::/")[2].strip()
        return int((root / "sys/fs/cgroup" / group / "memory.max").read_text())
    except (OSError, ValueError):  # another system, the first version of control groups, or "max"
        return math.inf


def read_split(
    config: DataConfig,
    classes: Sequence[str],
    split: str,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    limit: int | None = None,
    *,
    whole: bool = False,
) -> Images:
    """Return the images of one split of a trained run's data.

    Args:
        config: The run's.
        classes: The classes it was trained on.
        split: "train", "validation" or "test".
        on_progress: As in `read_images`.
        limit: At most that many images, spread evenly over the split.
        whole: As in `read_images`.

    Raises:
        DataError: The data are gone, have other classes now, or cannot be decoded.
    """
    dataset = load_dataset(config)
    if dataset.classes != tuple(classes):
        raise DataError(
            f"the labels do not fit: the run was trained on {', '.join(classes)}; "
            f"{dataset.name} now has {', '.join(dataset.classes)}"
        )
    part = dataset.splits[split]
    return read_images(part if limit is None else part.spread(limit), config, on_progress, whole=whole)


def check_broken(parts: Collection[Images], allowed: float) -> None:
    """Refuse images of which too many were left out.

    Args:
        parts: What `read_images` returned.
        allowed: Largest share of all that may be broken, 0 to 1.

    Raises:
        DataError: More are.
    """
    broken = [line for part in parts for line in part.broken]
    count = len(broken) + sum(map(len, parts))
    if len(broken) > allowed * count:
        raise DataError(
            f"{len(broken)} of {count:,} images ({len(broken) / count:.1%}) cannot be decoded, more than "
            f"data.max_broken {allowed:.1%}; mend or remove them ('keras-inception data check' lists them) or raise "
            f"--max-broken; the first: {broken[0]}"
        )


def lost_image(error: tf.errors.OpError) -> str | None:
    """Return what an error says of an image that can no longer be read; None if it is an error of another kind."""
    said = re.search(r".*( cannot be decoded: | cannot be read; |; No such file|; Permission denied).*", error.message)
    return None if said is None else re.sub(r"^({{.*}} |.*DataError: )*", "", said[0]).strip()


class _Reader:
    """Reads images of a split from where they lie, and notes which are broken and which TensorFlow itself can decode.

    TensorFlow's decoder needs no Python, and of a JPEG decodes what a patch needs. It is trusted with those images that
    it has decoded once.
    """

    def __init__(self, split: Split, config: DataConfig, whole: bool):
        self.broken: dict[int, str] = {}
        self._split = split
        self._config = config
        self._whole = whole
        self._plain = np.zeros(len(split), bool)

    def load(self, index: tf.Tensor) -> tf.Tensor:
        """Return an image, uint8 `(height, width, channels)`, and note what it is; a broken one is a black pixel."""
        pixels = self._called(self._examined, index)
        return pixels if self._whole else resized(pixels, self._config)

    def window(self, good: np.ndarray, sizes: tf.Tensor) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """Return `Images.window` for the images at the positions `good`, of those heights and widths."""
        with tf.device("CPU:0"):
            positions, plain = tf.constant(good), tf.constant(self._plain[good])
            paths = tf.constant([os.fsencode(self._split.paths[i]) for i in good] if self._split.paths else [""])

        def content(index: tf.Tensor) -> tf.Tensor:
            if self._split.paths:
                return tf.io.read_file(paths[index])
            return tf.numpy_function(
                lambda i: self._split.source(int(i)), [positions[index]], tf.string, stateful=False
            )

        channels = self._config.channels

        def whole(index: tf.Tensor) -> tf.Tensor:
            return tf.cond(
                plain[index],
                lambda: _decoded_jpeg(content(index), channels),
                lambda: self._called(self._read, positions[index]),
            )

        def patch(index: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
            return tf.cond(
                plain[index],
                lambda: _cut_jpeg(content(index), channels, box, sizes[index]),
                lambda: _cut(self._called(self._read, positions[index]), box),
            )

        return patch if self._whole else lambda index, box: _cut(resized(whole(index), self._config), box)

    def _examined(self, index: np.int64) -> np.ndarray:
        channels = self._config.channels
        try:
            source = self._split.source(int(index))
            if not isinstance(source, np.ndarray) and is_plain_jpeg(source, channels):
                with contextlib.suppress(OSError, tf.errors.OpError):
                    content = source.read_bytes() if isinstance(source, Path) else source
                    pixels = _decoded_jpeg(content, channels).numpy()
                    self._plain[index] = True
                    return pixels
            return self._read(index)
        except DataError as error:
            self.broken[int(index)] = str(error)
            return np.zeros((1, 1, channels), np.uint8)

    def _read(self, index: np.int64) -> np.ndarray:
        return self._split.read(int(index), self._config.channels)

    def _called(self, function: Callable[[np.int64], np.ndarray], index: tf.Tensor) -> tf.Tensor:
        pixels = tf.numpy_function(function, [index], tf.uint8, stateful=False)
        return tf.ensure_shape(pixels, (None, None, self._config.channels))


class _Memory:
    """Keeps decoded images one behind the other, as long as they fit."""

    def __init__(self, limit: int):
        # Asking for memory takes none: it is taken where it is written.
        self._buffer = _aligned(limit)
        self.wanted = 0

    @property
    def fits(self) -> bool:
        return self.wanted <= len(self._buffer)

    def keep(self, pixels: np.ndarray) -> None:
        """Put an image behind the others."""
        start, self.wanted = self.wanted, self.wanted + pixels.size
        if self.fits:
            self._buffer[start : self.wanted] = pixels.reshape(-1)
        elif len(self._buffer):
            self._buffer = _aligned(0)  # what was kept is given back

    def window(self, shapes: tf.Tensor, channels: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """Return `Images.window` for the images kept, in their order."""
        with tf.device("CPU:0"):
            ends = tf.cumsum(tf.reduce_prod(tf.cast(shapes, tf.int64), axis=1) * channels)
            starts = tf.concat([[0], ends[:-1]], axis=0)
            # tf.constant would make copies.
            pixels = tf.experimental.dlpack.from_dlpack(self._buffer[: self.wanted].__dlpack__())

        def window(index: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
            shape = tf.concat([shapes[index], [channels]], axis=0)
            return _cut(tf.reshape(pixels[starts[index] : ends[index]], shape), box)

        return window


def _aligned(size: int) -> np.ndarray:
    """Return uninitialised bytes that begin where TensorFlow's kernels want them to."""
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


def _decoded_jpeg(content: tf.Tensor, channels: int) -> tf.Tensor:
    """Decode a JPEG as Pillow does."""
    return tf.io.decode_jpeg(content, channels, dct_method="INTEGER_ACCURATE")


def _cut_jpeg(content: tf.Tensor, channels: int, box: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Decode a box of a JPEG of that height and width alone.

    Colours are stored coarsely, and at an edge their neighbours are needed: a pixel more is decoded on every side, with
    which the box is, to the bit, what it is in the whole image.
    """
    corner = tf.maximum(box[:2] - 1, 0)
    end = tf.minimum(box[:2] + box[2:] + 1, shape)
    wider = tf.concat([corner, end - corner], axis=0)
    pixels = tf.image.decode_and_crop_jpeg(content, wider, channels, dct_method="INTEGER_ACCURATE")
    return _cut(pixels, tf.concat([box[:2] - corner, box[2:]], axis=0))


def _cut(pixels: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    top, left, height, width = tf.unstack(box)
    return pixels[top : top + height, left : left + width]
