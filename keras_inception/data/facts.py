"""What is kept of an image that is looked at once: its digest, hash, size, colours and a thumbnail."""

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

from keras_inception.data.dataset import Split
from keras_inception.data.decode import Source, decode, opened, printable
from keras_inception.errors import DataError

#: Bits of the perceptual hash: 16 × 16 low frequencies of a cosine transform, each above or below their median.
HASH_BITS = 256

# A channel whose values differ less than this (as standard deviation on [0, 1]) shows nothing.
_BLANK_DEVIATION = 0.005

_THUMBNAIL_SIDE = 96  # px

# Images that a thread examines at a time.
_CHUNK = 32


@dataclass(frozen=True, slots=True)
class Facts:
    """What is kept of an image that can be decoded.

    Args:
        digest: SHA-256 of its file, or of its shape and pixels where there is none.
        format: File format and Pillow's mode.
        size: Width and height, px, turned upright.
        mean: Of red, green and blue on [0, 1].
        square: As `mean`, of the squares.
        hash: Perceptual, uint64 `(HASH_BITS / 64,)`.
        thumbnail: Where it was asked for.
    """

    digest: bytes
    format: str
    size: tuple[int, int]
    mean: np.ndarray
    square: np.ndarray
    hash: np.ndarray
    thumbnail: np.ndarray | None

    @property
    def blank(self) -> bool:
        """Whether it is of a single colour."""
        return bool((self.square - self.mean**2 < _BLANK_DEVIATION**2).all())


def facts_of(splits: Sequence[Split], shown: np.ndarray) -> Iterator[Facts | str]:
    """Yield of every image, in order, what is known of it, or the reason why it is broken."""
    places = [(split, index) for split in splits for index in range(len(split))]
    chunks = [range(start, min(start + _CHUNK, len(places))) for start in range(0, len(places), _CHUNK)]
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for facts in pool.map(lambda chunk: [_examined(*places[i], with_thumbnail=shown[i]) for i in chunk], chunks):
            yield from facts
    finally:
        pool.shutdown(cancel_futures=True)


def thumbnail_of(image: Image.Image) -> np.ndarray:
    """Return an image made small, to be looked at: uint8 `(height, width, channels)`, at most 96 px."""
    small = image.copy()
    small.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    return np.asarray(small)


def _examined(split: Split, index: int, *, with_thumbnail: bool) -> Facts | str:
    name = split.names[index]
    try:
        content = _content(split.source(index))
        pixels = decode(content, 3, name)
    except DataError as error:
        return str(error).removeprefix(f"{printable(name)} cannot be decoded: ")
    image = Image.fromarray(pixels)
    histogram = np.reshape(image.histogram(), (3, 256)) / (image.width * image.height)
    values = np.arange(256) / 255
    return Facts(
        digest=_digest(content),
        format=_format(content),
        size=image.size,
        mean=histogram @ values,
        square=histogram @ values**2,
        hash=_perceptual_hash(image),
        thumbnail=thumbnail_of(image) if with_thumbnail else None,
    )


def _content(source: Source) -> Source:
    """Return a file's bytes, so that it is read once; the file itself where decoding is to say why it cannot be."""
    try:
        return source.read_bytes() if isinstance(source, Path) else source
    except (OSError, ValueError):  # a path that holds a zero byte is a ValueError
        return source


def _digest(content: Source) -> bytes:
    if isinstance(content, np.ndarray):
        content = repr(content.shape).encode() + content.tobytes()
    assert isinstance(content, bytes), "what was decoded was read"
    return hashlib.sha256(content).digest()


def _format(content: Source) -> str:
    with opened(content) as image:
        animated = ", animated" if getattr(image, "is_animated", False) else ""
        return f"{image.format or 'pixels'} {image.mode}{animated}"


def _perceptual_hash(image: Image.Image) -> np.ndarray:
    bits = imagehash.phash(image, hash_size=math.isqrt(HASH_BITS)).hash
    return np.packbits(bits).view(np.uint64)
