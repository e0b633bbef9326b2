"""A labelled collection of images, wherever they lie."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from keras_inception.data.decode import Source, decode
from keras_inception.errors import DataError, unknown
from keras_inception.files import file_sha256

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
#: What people call the splits, in lower case.
SPLIT_NAMES = {"train": TRAIN, "validation": VALIDATION, "val": VALIDATION, "valid": VALIDATION, "test": TEST}

# Images whose contents are hashed by one thread at a time.
_CHUNK = 64


@dataclass(frozen=True)
class Split:
    """One part of a data set; images are read one by one, by their position.

    Args:
        names: What each image is called in messages: its path, or the data set and its number.
        labels: int32 of shape `(images,)`: positions in the data set's classes.
        source: From a position to the image: a file, the bytes of one, or pixels.
        groups: What each image belongs to (a patient, a burst, a solar module), where that is known: images of one
            group are never parted. "" where an image belongs to none.
        paths: The files, where every image is a file of its own.
        digests: What `digest` gives, where it is known without reading.
        weights: float32 of shape `(images,)`, ≥ 0: how much each counts in training; None is 1 for each.
    """

    names: Sequence[str]
    labels: np.ndarray
    source: Callable[[int], Source]
    groups: Sequence[str] | None = None
    paths: Sequence[Path] | None = None
    digests: Sequence[str] | None = None
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int, channels: int) -> np.ndarray:
        """Decode the image at `index` to uint8 `(height, width, channels)`; raises DataError where it is broken."""
        return decode(self.source(index), channels, self.names[index])

    def digest(self, index: int) -> str:
        """Return a hash of the content of the image at `index`; of its file's name where that cannot be read."""
        if self.digests is not None:
            return self.digests[index]
        try:
            source = self.source(index)
            if isinstance(source, Path):
                return file_sha256(source)
        except (OSError, ValueError):  # a path that holds a zero byte is a ValueError, as is a DataError
            source = os.fsencode(os.path.basename(self.names[index]))
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
            digests=None if self.digests is None else [self.digests[i] for i in positions],
            weights=None if self.weights is None else self.weights[positions],
        )

    def spread(self, limit: int) -> "Split":
        """Return at most `limit` of the images, spread evenly over the split."""
        if len(self) <= limit:
            return self
        return self.take(np.linspace(0, len(self) - 1, limit).astype(int))


def file_split(
    paths: Sequence[Path],
    labels: Sequence[int],
    groups: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
) -> Split:
    """Return the split of image files, named by their paths."""
    return Split(
        names=[str(path) for path in paths],
        labels=np.asarray(labels, dtype=np.int32),
        source=lambda index: paths[index],
        groups=groups,
        paths=paths,
        weights=None if weights is None else np.asarray(weights, dtype=np.float32),
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

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray | Sequence[np.ndarray],
        labels: Sequence[str] | Sequence[int] | np.ndarray,
        classes: Sequence[str] | None = None,
        *,
        name: str = "arrays",
        groups: Sequence[str] | None = None,
        splits: Sequence[str] | None = None,
        weights: Sequence[float] | np.ndarray | None = None,
        validation_fraction: float = 0.15,
        test_fraction: float = 0.15,
        seed: int = 0,
    ) -> "ImageDataset":
        """Return the data set of images that are in memory.

        >>> images = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
        >>> ImageDataset.from_arrays(images, ["dark"] * 10 + ["bright"] * 10).counts()["test"]
        {'bright': 2, 'dark': 2}

        Args:
            images: uint8 of shape `(images, height, width)` or `(images, height, width, 1, 3 or 4)`, or a list of such
                images of any sizes. They are not copied.
            labels: Of every image the name of its class, or its position in `classes`.
            classes: Names of the classes; by default those among `labels`, sorted.
            name: What the data set is called.
            groups: As of a `Split`.
            splits: Of every image "train", "validation" or "test".
            weights: As of a `Split`.
            validation_fraction: Share of each class for validation, where `splits` has none.
            test_fraction: Share of each class for the test, where `splits` has none.
            seed: Which images they are.

        Raises:
            DataError: An image is no uint8 array of such a shape, lengths differ, a label is no class, or as
                `ImageDataset`.
        """
        if not len(images):
            raise DataError(f"{name} has no images")
        for what, values in (("labels", labels), ("groups", groups), ("splits", splits), ("weights", weights)):
            if values is not None and len(values) != len(images):
                raise DataError(f"there are {len(images)} images and {len(values)} {what}; give one for each image")
        _check_pixels(images)
        names, positions = _classes(labels, classes)
        whole = Split([f"{name}/{index}" for index in range(len(images))], positions, lambda i: images[i], groups)
        whole = replace(whole, digests=_digests(whole), weights=_checked_weights(name, weights))
        parts = {TRAIN: whole} if splits is None else _parts(whole, splits)
        content = hashlib.sha256("".join(whole.digests or ()).encode()).hexdigest()
        collection = Collection(names, parts, {"kind": "arrays", "sha256": content})
        return collection.completed(name, validation_fraction, test_fraction, seed)

    def __post_init__(self) -> None:
        if len(set(self.classes)) < len(self.classes):
            twice = next(label for label, count in Counter(self.classes).items() if count > 1)
            raise DataError(f"{self.name} has two classes {twice!r}; rename one")
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
                    f"{self.name} has no images for {name}: {total} images are too few to split (equal ones and those "
                    f"of one group stay together), or data.{name}_fraction is 0"
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
            if split.weights is not None:
                digest.update(split.weights.tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Collection:
    """What a source holds, before the splits that it lacks are carved.

    Args:
        classes: Names of the classes, in the order of their labels.
        splits: Those that the source has; at least "train".
        provenance: As of an `ImageDataset`.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    provenance: Mapping[str, str]

    def completed(self, name: str, validation_fraction: float, test_fraction: float, seed: int) -> ImageDataset:
        """Return the data set with all splits, called `name`; the rest is as in `complete_splits`."""
        check_fractions(validation_fraction, test_fraction)
        if len(self.classes) < 2:
            return ImageDataset(name, self.classes, self.splits)  # which is refused
        shares = {VALIDATION: validation_fraction, TEST: test_fraction}
        carved = {f"{split}_fraction": f"{share:g}" for split, share in shares.items() if split not in self.splits}
        if carved:
            carved["split_seed"] = str(seed)
        splits = complete_splits(self.splits, validation_fraction, test_fraction, seed)
        return ImageDataset(name, self.classes, splits, {**self.provenance, **carved})


def check_fractions(validation_fraction: float, test_fraction: float) -> None:
    """Raise DataError where the fractions leave nothing for training."""
    if validation_fraction + test_fraction >= 1:
        raise DataError(
            f"validation_fraction {validation_fraction:g} and test_fraction {test_fraction:g} leave nothing for "
            f"training; lower them"
        )


def check_classes(classes: Mapping[str, Sequence[str]]) -> None:
    """Raise DataError where a split has a class that training lacks; `classes` is split to names of classes."""
    for name, labels in classes.items():
        for label in labels:
            if label not in classes[TRAIN]:
                raise DataError(f"{name} has a class {label!r} that train lacks; train has {', '.join(classes[TRAIN])}")


def complete_splits(
    splits: Mapping[str, Split], validation_fraction: float, test_fraction: float, seed: int
) -> dict[str, Split]:
    """Carve the splits that a source lacks out of its training split, class by class.

    Where an image goes follows from its content, not from its name or place: a collection that was moved, renamed or
    sorted anew is split alike. Images of equal content stand on one side, and so do those of one group. Where neither
    occurs, every class has its share of every split to within one image.

    Args:
        splits: What the source has; at least "train".
        validation_fraction: Share of each class for validation, where there is none.
        test_fraction: Share of each class for the test, where there is none; both together less than 1.
        seed: Which images they are.

    Returns:
        All three splits. Every class keeps an image for training.
    """
    shares = {VALIDATION: validation_fraction, TEST: test_fraction}
    missing = {name: share for name, share in shares.items() if name not in splits}
    if not missing:
        return dict(splits)
    train = splits[TRAIN]
    places = _assigned(train.labels.tolist(), _units(train), missing, seed)
    return {**splits, **{name: train.take(np.flatnonzero(places == name)) for name in (TRAIN, *missing)}}


def _digests(split: Split) -> list[str]:
    """Return the hashes of all images, read in threads."""
    chunks = [range(start, min(start + _CHUNK, len(split))) for start in range(0, len(split), _CHUNK)]
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda chunk: [split.digest(index) for index in chunk], chunks)
        return [digest for digests in found for digest in digests]


def _units(split: Split) -> dict[str, list[int]]:
    """Return what must not be parted: a key that follows from content, and positions."""
    contents = _digests(split)
    groups = [""] * len(split) if split.groups is None else split.groups
    first: dict[tuple[str, str], int] = {}
    parents = list(range(len(split)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    for index, links in enumerate(zip(contents, groups, strict=True)):
        for link in zip(("content", "group"), links, strict=True):
            if link[1]:
                parents[root(index)] = root(first.setdefault(link, index))
    members: dict[int, list[int]] = {}
    for index in range(len(split)):
        members.setdefault(root(index), []).append(index)
    return {min(contents[index] for index in unit): unit for unit in members.values()}


def _assigned(
    labels: Sequence[int], units: Mapping[str, list[int]], shares: Mapping[str, float], seed: int
) -> np.ndarray:
    """Give every unit, in an order that its key and the seed decide, to the first split that it brings nearer its goal.

    A unit that fills less of what a split lacks than it goes beyond it is passed on; what nobody takes is for training.
    A split that went without a class for that then has the smallest unit of it.
    """
    goals = _goals(Counter(labels), shares)
    lacking = {name: Counter(goal) for name, goal in goals.items()}
    left = Counter(labels)  # for training, if nothing more is taken
    places = np.full(len(labels), TRAIN, dtype=object)

    def spare(count: Counter[int]) -> bool:
        return all(left[label] > number for label, number in count.items())

    def give(unit: list[int], count: Counter[int], name: str) -> None:
        places[unit] = name
        lacking[name].subtract(count)
        left.subtract(count)

    kept: list[tuple[list[int], Counter[int]]] = []
    for key in sorted(units, key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest()):
        unit = units[key]
        count = Counter(labels[index] for index in unit)
        for name, lack in lacking.items():
            filled = sum(min(number, max(lack[label], 0)) for label, number in count.items())
            if 2 * filled > len(unit) and spare(count):
                give(unit, count, name)
                break
        else:
            kept.append((unit, count))

    for name, goal in goals.items():
        for label in sorted(goal):
            if 0 < goal[label] == lacking[name][label]:
                candidates = [one for one in kept if one[1][label] and spare(one[1])]
                if candidates:
                    smallest = min(candidates, key=lambda one: len(one[0]))
                    kept.remove(smallest)
                    give(*smallest, name)
    return places


def _goals(totals: Counter[int], shares: Mapping[str, float]) -> dict[str, Counter[int]]:
    """Return how many images of every class each split should have: the nearest number, at least one, if any are."""
    goals: dict[str, Counter[int]] = {name: Counter() for name in shares}
    for label, total in totals.items():
        wanted = {name: max(round(share * total), 1) if share else 0 for name, share in shares.items()}
        while sum(wanted.values()) > total - 1:  # one stays for training
            most = max(reversed(wanted), key=lambda name: wanted[name] - shares[name] * total)
            wanted[most] -= 1
        for name, number in wanted.items():
            goals[name][label] = number
    return goals


def _check_pixels(images: np.ndarray | Sequence[np.ndarray]) -> None:
    """Raise DataError for the first that is no image; an array of images is looked at once."""
    stacked = isinstance(images, np.ndarray) and images.dtype != object
    for index, image in enumerate(images[:1] if stacked else images):
        what = "images are" if stacked else f"image {index} is"
        if not isinstance(image, np.ndarray):
            raise DataError(f"{what} {type(image).__name__}; give NumPy arrays")
        if image.dtype != np.uint8:
            raise DataError(f"{what} {image.dtype}; give uint8 values from 0 to 255")
        if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4))) or not image.size:
            raise DataError(f"{what} of shape {image.shape}; give (height, width) or (height, width, 1, 3 or 4)")


def _classes(
    labels: Sequence[str] | Sequence[int] | np.ndarray, classes: Sequence[str] | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the classes and the label of every image as a position in them."""
    given = np.asarray(labels)
    if given.ndim != 1 or given.dtype.kind not in "iuU":
        raise DataError(
            f"labels are {given.dtype} of shape {given.shape}; give one name or whole number for each image"
        )
    if given.dtype.kind == "U":
        names = tuple(sorted(set(given.tolist())) if classes is None else classes)
        places = {label: place for place, label in enumerate(names)}
        for label in given.tolist():
            if label not in places:
                raise DataError(unknown("class", label, names))
        return names, np.asarray([places[label] for label in given.tolist()], np.int32)
    count = int(given.max(initial=-1)) + 1 if classes is None else len(classes)
    for label in given.tolist():
        if not 0 <= label < count:
            raise DataError(f"there is a label {label}; labels of {count} classes are 0 to {count - 1}")
    return tuple(map(str, range(count)) if classes is None else classes), given.astype(np.int32)


def _checked_weights(name: str, weights: Sequence[float] | np.ndarray | None) -> np.ndarray | None:
    if weights is None:
        return None
    given = np.asarray(weights, dtype=np.float32)
    for index in np.flatnonzero(~(np.isfinite(given) & (given >= 0)))[:1]:
        raise DataError(f"{name} has the weight {given[index]:g} at position {index}; weights are numbers from 0 on")
    return given


def _parts(whole: Split, splits: Sequence[str]) -> dict[str, Split]:
    for name in splits:
        if name not in SPLITS:
            raise DataError(unknown("split", str(name), SPLITS))
    if TRAIN not in splits:
        raise DataError("no image is of the split 'train'")
    places = np.asarray(splits)
    return {name: whole.take(np.flatnonzero(places == name)) for name in SPLITS if name in splits}


def _size(path: Path) -> int:
    """Return the size of a file in bytes; -1 where it cannot be had."""
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):  # as in Split.digest
        return -1
