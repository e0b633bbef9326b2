"""A labelled collection of images, wherever they lie."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_inception.data.decode import Source, decode
from keras_inception.errors import DataError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)


@dataclass(frozen=True)
class Split:
    """One part of a data set; images are read one by one, by their position.

    Args:
        names: What each image is called in messages: its path, or the data set and its number.
        labels: int32 of shape `(images,)`: positions in the data set's classes.
        source: From a position to the image: a file, the bytes of one, or pixels.
        groups: What each image belongs to (a patient, a burst, a solar module), where that is known: images of one
            group are never parted.
        paths: The files, where every image is a file of its own.
    """

    names: Sequence[str]
    labels: np.ndarray
    source: Callable[[int], Source]
    groups: Sequence[str] | None = None
    paths: Sequence[Path] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int, channels: int) -> np.ndarray:
        """Decode the image at `index` to uint8 `(height, width, channels)`; raises DataError where it is broken."""
        return decode(self.source(index), channels, self.names[index])

    def digest(self, index: int) -> str:
        """Return a hash of the content of the image at `index`; of its name where that cannot be read."""
        try:
            source = self.source(index)
            if isinstance(source, Path):
                with open(source, "rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, DataError):
            source = os.fsencode(self.names[index])
        if isinstance(source, np.ndarray):
            return hashlib.sha256(repr(source.shape).encode() + source.tobytes()).hexdigest()
        return hashlib.sha256(source).hexdigest()

    def take(self, positions: np.ndarray) -> "Split":
        """Return the split of the images at `positions`, in that order."""
        return Split(
            names=[self.names[i] for i in positions],
            labels=self.labels[positions],
            source=lambda index: self.source(int(positions[index])),
            groups=None if self.groups is None else [self.groups[i] for i in positions],
            paths=None if self.paths is None else [self.paths[i] for i in positions],
        )


def file_split(paths: Sequence[Path], labels: Sequence[int], groups: Sequence[str] | None = None) -> Split:
    """Return the split of image files, named by their paths."""
    return Split(
        names=[str(path) for path in paths],
        labels=np.asarray(labels, dtype=np.int32),
        source=lambda index: paths[index],
        groups=groups,
        paths=paths,
    )


@dataclass(frozen=True)
class ImageDataset:
    """A data set with its classes and its splits.

    Args:
        name: What it is called.
        classes: Names of the classes, in the order of their labels.
        splits: "train", "validation" and "test".
        provenance: Where it is from: its kind, and what that kind knows (folder, version, checksums, seed).

    Raises:
        DataError: There are fewer than two classes, or a split is empty.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise DataError(
                f"{self.name} has a single class, {self.classes[0]!r}; a classifier needs at least two"
                if self.classes
                else f"{self.name} has no classes; give a folder that holds one folder of images per class"
            )
        for name in SPLITS:
            if not len(self.splits[name]):
                total = sum(map(len, self.splits.values()))
                raise DataError(
                    f"{self.name} has no images for {name}: {total} images are too few to split, "
                    f"or data.{name}_fraction is 0"
                )

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many images every class has in every split: split to class to count."""
        return {
            name: dict(zip(self.classes, np.bincount(split.labels, minlength=len(self.classes)).tolist(), strict=True))
            for name, split in self.splits.items()
        }

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with the classes, the images, their labels or their splits.

        Images are known by name, and by size in bytes where they are files: they are not read. `provenance` enters it
        too, and with it the checksums that a source has.
        """
        digest = hashlib.sha256(repr((self.classes, sorted(self.provenance.items()))).encode())
        for name in SPLITS:
            split = self.splits[name]
            sizes = [0] * len(split) if split.paths is None else [_size(path) for path in split.paths]
            for row in zip(split.names, split.labels.tolist(), sizes, strict=True):
                digest.update(repr((name, *row)).encode())
        return digest.hexdigest()[:16]


def complete_splits(
    splits: Mapping[str, Split], validation_fraction: float, test_fraction: float, seed: int
) -> dict[str, Split]:
    """Carve the splits that a source lacks out of its training split, class by class.

    Where an image goes follows from its content, not from its name or place: a collection that was moved, renamed or
    sorted anew is split alike. Images of equal content stand on one side, and so do those of one group.

    Args:
        splits: What the source has; at least "train".
        validation_fraction: Share of each class for validation, where there is none.
        test_fraction: Share of each class for the test, where there is none.
        seed: Which images they are.

    Returns:
        All three splits. Every class keeps an image for training.
    """
    shares = {VALIDATION: validation_fraction, TEST: test_fraction}
    missing = {name: share for name, share in shares.items() if name not in splits}
    if not missing:
        return dict(splits)
    train = splits[TRAIN]
    places = _assigned(train.labels, _units(train), missing, seed)
    return {**splits, **{name: train.take(np.flatnonzero(places == name)) for name in (TRAIN, *missing)}}


def _units(split: Split) -> dict[str, list[int]]:
    """Return what must not be parted: a key that follows from content, and positions."""
    with ThreadPoolExecutor() as pool:
        contents = list(pool.map(split.digest, range(len(split))))
    links = list(zip(contents, contents if split.groups is None else split.groups, strict=True))
    first: dict[tuple[int, str], int] = {}
    parents = list(range(len(split)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    for index, link in enumerate(links):
        for kind, key in enumerate(link):
            parents[root(index)] = root(first.setdefault((kind, key), index))
    members: dict[int, list[int]] = {}
    for index in range(len(split)):
        members.setdefault(root(index), []).append(index)
    return {min(contents[index] for index in unit): unit for unit in members.values()}


def _assigned(labels: np.ndarray, units: Mapping[str, list[int]], shares: Mapping[str, float], seed: int) -> np.ndarray:
    """Give every unit, in an order that its key and the seed decide, to the first split that still lacks its classes.

    A unit that fills less of what a split lacks than it goes beyond it is passed on; what nobody takes is for training.
    """
    classes, totals = np.unique(labels, return_counts=True)
    lacking, free = {}, totals - 1
    for name, share in shares.items():
        wanted = np.round(share * totals).astype(int)
        lacking[name] = np.minimum(np.maximum(wanted, 1) if share else wanted, free)
        free = free - lacking[name]
    left = totals.copy()  # for training, if nothing more is taken
    places = np.full(len(labels), TRAIN, dtype=object)
    for key in sorted(units, key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest()):
        unit = units[key]
        count = (labels[unit, None] == classes).sum(axis=0)
        for name, lack in lacking.items():
            filled = np.minimum(count, np.maximum(lack, 0)).sum()
            if 2 * filled > len(unit) and (left > count)[count > 0].all():
                places[unit] = name
                lack -= count
                left -= count
                break
    return places


def _size(path: Path) -> int:
    """Return the size of a file in bytes; -1 where it cannot be had."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1
