"""A labelled collection of images, wherever they lie."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_inception.errors import DataError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)


@dataclass(frozen=True)
class Split:
    """One part of a data set; images are read one by one, by their position.

    Args:
        names: What each image is called in messages: its path, or the data set and its number.
        labels: int32 of shape `(images,)`: positions in the data set's classes.
        read: From a position and a number of channels to uint8 `(height, width, channels)`. Raises DataError for
            an image that cannot be decoded.
    """

    names: Sequence[str]
    labels: np.ndarray
    read: Callable[[int, int], np.ndarray]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: np.ndarray) -> "Split":
        """Return the split of the images at `positions`, in that order."""
        names, read = self.names, self.read
        return Split(
            names=[names[i] for i in positions],
            labels=self.labels[positions],
            read=lambda index, channels: read(int(positions[index]), channels),
        )


@dataclass(frozen=True)
class ImageDataset:
    """A data set with its classes and its splits.

    Args:
        name: What it is called.
        classes: Names of the classes, in the order of their labels.
        splits: "train", "validation" and "test".

    Raises:
        DataError: There are fewer than two classes, or a split is empty.
    """

    name: str
    classes: tuple[str, ...]
    splits: dict[str, Split]

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


def complete_splits(
    splits: dict[str, Split], validation_fraction: float, test_fraction: float, seed: int
) -> dict[str, Split]:
    """Carve the splits that a source lacks out of its training split, class by class.

    Args:
        splits: What the source has; at least "train".
        validation_fraction: Share of each class for validation, where there is none.
        test_fraction: Share of each class for the test, where there is none.
        seed: Which images they are.

    Returns:
        All three splits. A class with a single image keeps it for training.
    """
    shares = {VALIDATION: validation_fraction, TEST: test_fraction}
    missing = {name: share for name, share in shares.items() if name not in splits}
    random = np.random.default_rng(seed)
    train = splits[TRAIN]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (TRAIN, *missing)}
    for label in np.unique(train.labels):
        members = random.permutation(np.flatnonzero(train.labels == label))
        start = 0
        for name, share in missing.items():
            count = min(max(1, round(share * len(members))) if share else 0, len(members) - 1 - start)
            parts[name].append(members[start : start + count])
            start += count
        parts[TRAIN].append(members[start:])
    carved = {name: train.take(np.sort(np.concatenate(members))) for name, members in parts.items()}
    return {**splits, **carved}
