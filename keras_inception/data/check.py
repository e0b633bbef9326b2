"""What is in a collection of images, before anything is trained on it."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_inception.config import DataConfig
from keras_inception.data.dataset import SPLITS, TEST, TRAIN, VALIDATION, ImageDataset, Split
from keras_inception.data.decode import ENDINGS, printable
from keras_inception.data.duplicates import near_sets
from keras_inception.data.facts import HASH_BITS, Facts, facts_of, thumbnail_of

#: Images whose hashes differ in at most so many bits are near duplicates. Unrelated images differ in about 120. Of
#: ELPV's grey cells, compressed anew as JPEG of quality 50, halved in size or made brighter by a fifth, half to nearly
#: all stay within it; all its pairs within it show one cell, photographed twice, or neighbours cut from one block of
#: silicon, and from 16 on others appear. A hash of 64 bits, the usual one, cannot tell these cells apart.
NEAR_BITS = 12

_THUMBNAILS_PER_CLASS = 40
_THUMBNAILS = 2_000  # in all: with more classes than 50 each has fewer
_SETS_SHOWN = 12
_SHOWN_OF_SET = 6


@dataclass(frozen=True)
class ImageRef:
    """Which image is meant."""

    split: str
    label: str
    name: str

    def to_json(self) -> dict[str, str]:
        """Return it for JSON text."""
        return {"split": self.split, "class": self.label, "name": self.name}


@dataclass(frozen=True)
class DuplicateSet:
    """Images that are equal, or nearly.

    Args:
        images: Two or more.
        distances: Bits in which the perceptual hash of each differs from the first one's.
        thumbnails: Some of the images, uint8 `(height, width, 3)`; for the first sets alone.
    """

    images: tuple[ImageRef, ...]
    distances: tuple[int, ...]
    thumbnails: tuple[np.ndarray, ...] = ()

    @property
    def leaks(self) -> bool:
        """Whether they stand in several splits."""
        return len({image.split for image in self.images}) > 1

    @property
    def contradicts(self) -> bool:
        """Whether they carry several labels."""
        return len({image.label for image in self.images}) > 1

    def to_json(self) -> dict[str, Any]:
        """Return it for JSON text."""
        images = [
            {**image.to_json(), "distance": distance}
            for image, distance in zip(self.images, self.distances, strict=True)
        ]
        return {"leaks": self.leaks, "contradicts": self.contradicts, "images": images}


@dataclass(frozen=True)
class Spread:
    """The smallest, the middle and the largest of some numbers."""

    smallest: float
    median: float
    largest: float


@dataclass(frozen=True)
class Check:
    """What was found in a data set.

    Args:
        name: What the data set is called.
        provenance: Where it is from.
        fingerprint: Of the data set.
        counts: Split to class to images, broken ones included.
        broken: Images that cannot be decoded, each with the reason.
        exact: Sets of images whose files are equal byte by byte (pixels, where there are no files).
        near: Sets of images whose perceptual hashes are linked by at most `NEAR_BITS`, where not all are equal.
        split_groups: Groups that stand in several splits: group to split to images.
        blank: Images of a single colour.
        sizes: int32 `(images, 2)`: width and height of each readable image in px, turned upright.
        formats: File format and Pillow's mode to images.
        means: Split to the mean of red, green and blue on [0, 1], over its readable images; each counts the same,
            whatever its size. A split without readable images is missing.
        deviations: As `means`: the standard deviation of all pixels about that mean.
        passed_over: Files of a folder that belong to no split.
        thumbnails: Class to some of its images, uint8 `(height, width, 3)`.
    """

    name: str
    provenance: Mapping[str, str]
    fingerprint: str
    counts: Mapping[str, Mapping[str, int]]
    broken: tuple[tuple[ImageRef, str], ...]
    exact: tuple[DuplicateSet, ...]
    near: tuple[DuplicateSet, ...]
    split_groups: Mapping[str, Mapping[str, int]]
    blank: tuple[ImageRef, ...]
    sizes: np.ndarray
    formats: Mapping[str, int]
    means: Mapping[str, tuple[float, ...]]
    deviations: Mapping[str, tuple[float, ...]]
    passed_over: tuple[str, ...] = ()
    thumbnails: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their labels."""
        return tuple(self.counts[TRAIN])

    @property
    def images(self) -> int:
        """All images, broken ones included."""
        return sum(map(sum, (split.values() for split in self.counts.values())))

    @cached_property
    def readable(self) -> dict[str, dict[str, int]]:
        """Split to class to images that can be decoded."""
        lost = Counter((image.split, image.label) for image, _ in self.broken)
        return {
            split: {label: count - lost[split, label] for label, count in counts.items()}
            for split, counts in self.counts.items()
        }

    def totals(self) -> dict[str, int]:
        """Return class to readable images in all splits."""
        return {label: sum(counts[label] for counts in self.readable.values()) for label in self.classes}

    def spreads(self) -> dict[str, Spread]:
        """Return the spread of width, height and aspect (width / height); empty where no image can be decoded."""
        if not len(self.sizes):
            return {}
        columns = {"width": self.sizes[:, 0], "height": self.sizes[:, 1], "aspect": np.divide(*self.sizes.T)}
        return {
            name: Spread(float(values.min()), float(np.median(values)), float(values.max()))
            for name, values in columns.items()
        }

    def guess(self) -> tuple[str, float]:
        """Return the commonest class in training, and the top-1 on the test of who always answers it."""
        train, test = self.readable[TRAIN], self.readable[TEST]
        label = max(train, key=lambda name: train[name])
        return label, test[label] / max(sum(test.values()), 1)

    def imbalance(self) -> float:
        """Return how many times the images of the smallest class the largest has; infinite where one has none."""
        totals = self.totals().values()
        return max(totals) / min(totals) if min(totals) else math.inf

    def to_json(self) -> dict[str, Any]:
        """Return all but the pictures, for JSON text."""
        label, top1 = self.guess()
        imbalance = self.imbalance()
        return {
            "source": self.name,
            "provenance": dict(self.provenance),
            "fingerprint": self.fingerprint,
            "images": self.images,
            "counts": self.counts,
            "readable": self.readable,
            "broken": [{**image.to_json(), "reason": reason} for image, reason in self.broken],
            "exact_duplicates": [one.to_json() for one in self.exact],
            "near_duplicates": [one.to_json() for one in self.near],
            "near_bits": {"at_most": NEAR_BITS, "of": HASH_BITS},
            "groups_in_several_splits": self.split_groups,
            "blank": [image.to_json() for image in self.blank],
            "sizes": {name: vars(spread) for name, spread in self.spreads().items()},
            "formats": self.formats,
            "channels": {
                split: {"mean": self.means[split], "deviation": self.deviations[split]} for split in self.means
            },
            "imbalance": {
                "largest_over_smallest": imbalance if math.isfinite(imbalance) else None,
                "commonest_in_training": label,
                "top1_of_always_answering_it": top1,
            },
            "passed_over": self.passed_over,
            "advice": advice(self),
        }


def check_dataset(dataset: ImageDataset, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Check:
    """Read every image of a data set once and tell what there is.

    Threads decode, on all cores; of each image a few hundred bytes are kept, and the thumbnails.

    Args:
        dataset: With all splits.
        on_progress: Called with the number of images read and of all.
    """
    refs = [
        ImageRef(name, dataset.classes[label], split.names[index])
        for name, split in dataset.splits.items()
        for index, label in enumerate(split.labels)
    ]
    shown = _shown([ref.label for ref in refs])
    outcomes: list[Facts | str] = []
    for outcome in facts_of(list(dataset.splits.values()), shown):
        outcomes.append(outcome)
        on_progress(len(outcomes), len(refs))

    good = [(ref, facts) for ref, facts in zip(refs, outcomes, strict=True) if isinstance(facts, Facts)]
    exact, near = _duplicates(good)
    thumbnails: dict[str, list[np.ndarray]] = {label: [] for label in dataset.classes}
    for ref, facts in good:
        if facts.thumbnail is not None:
            thumbnails[ref.label].append(facts.thumbnail)
    means, deviations = _statistics(good)
    return Check(
        name=dataset.name,
        provenance=dataset.provenance,
        fingerprint=dataset.fingerprint(),
        counts=dataset.counts(),
        broken=tuple((ref, reason) for ref, reason in zip(refs, outcomes, strict=True) if isinstance(reason, str)),
        exact=exact,
        near=_with_thumbnails(near, dataset),
        split_groups=_split_groups(dataset.splits),
        blank=tuple(ref for ref, facts in good if facts.blank),
        sizes=np.asarray([facts.size for _, facts in good], np.int32).reshape(-1, 2),
        formats=dict(Counter(facts.format for _, facts in good).most_common()),
        means=means,
        deviations=deviations,
        passed_over=_passed_over(dataset),
        thumbnails=thumbnails,
    )


def advice(check: Check) -> list[str]:
    """Return what to do next, a sentence each, the gravest first; empty where nothing need be done."""
    sentences = [
        *_on_broken(check),
        *_on_duplicates(check),
        *_on_groups(check),
        *_on_classes(check),
        *_on_strays(check),
    ]
    return [sentence[0].upper() + sentence[1:] for sentence in sentences]


def _on_broken(check: Check) -> Iterator[str]:
    if not check.broken:
        return
    allowed = DataConfig().max_broken
    count = sum(sum(check.counts[split].values()) for split in (TRAIN, VALIDATION))  # which training reads
    lost = sum(image.split in (TRAIN, VALIDATION) for image, _ in check.broken)
    refused = (
        f"; {lost / count:.1%} of train and validation together is more than --max-broken {allowed:.1%} allows: mend "
        f"or remove them, or raise it"
    )
    yield f"{counted(len(check.broken), 'broken file')}: left out in training" + refused * (lost > allowed * count)


def _on_duplicates(check: Check) -> Iterator[str]:
    sets = check.exact + check.near
    if contradicting := sum(one.contradicts for one in sets):
        yield f"{counted(contradicting, 'set')} of equal or nearly equal images with different labels: decide on one"
    if leaking := sum(one.leaks for one in sets):
        yield (
            f"{counted(leaking, 'set')} of equal or nearly equal images in several splits: figures measured there "
            f"flatter; move each set into one split, or give it one group in a manifest"
        )
    if copies := sum(len(one.images) - 1 for one in check.exact if not one.leaks and not one.contradicts):
        yield f"{counted(copies, 'exact copy')} within a split: they weigh double; keep one of each"


def _on_groups(check: Check) -> Iterator[str]:
    if check.split_groups:
        count = counted(len(check.split_groups), "group")
        yield f"{count} in several splits: figures measured there flatter; move each into one split"


def _on_classes(check: Check) -> Iterator[str]:
    for split, counts in check.readable.items():
        if empty := [label for label, count in counts.items() if not count]:
            use = "learned" if split == TRAIN else "measured"
            names = ", ".join(map(repr, empty[:5])) + ", …" * (len(empty) > 5)
            yield f"no readable image in {split} of {counted(len(empty), 'class')}, which cannot be {use}: {names}"
    if check.imbalance() >= 2:
        label, top1 = check.guess()
        yield (
            f"unbalanced classes: always answering {label!r}, the commonest in training, has top-1 {top1:.1%} on the "
            f"test; judge by macro-F1 too"
        )


def _on_strays(check: Check) -> Iterator[str]:
    if check.blank:
        yield f"{counted(len(check.blank), 'image')} of a single colour: look whether they belong there"
    if check.passed_over:
        endings = sorted({Path(name).suffix.lower() or "none" for name in check.passed_over})
        yield (
            f"{counted(len(check.passed_over), 'file')} passed over (endings: {printable(', '.join(endings[:8]))}): "
            f"images count in class folders, with the endings {', '.join(sorted(ENDINGS))}"
        )


_PLURALS = {"class": "classes", "exact copy": "exact copies"}


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: "1 set", "1,200 sets"."""
    return f"{count:,} {noun if count == 1 else _PLURALS.get(noun, f'{noun}s')}"


def _shown(labels: Sequence[str]) -> np.ndarray:
    """Return for every image whether it is shown: of each class some, spread evenly over its images."""
    positions: dict[str, list[int]] = {}
    for position, label in enumerate(labels):
        positions.setdefault(label, []).append(position)
    each = max(min(_THUMBNAILS_PER_CLASS, _THUMBNAILS // len(positions)), 1)
    shown = np.zeros(len(labels), bool)
    for members in positions.values():
        chosen = np.linspace(0, len(members) - 1, min(each, len(members))).round().astype(int)
        shown[np.asarray(members)[chosen]] = True
    return shown


def _duplicates(
    good: Sequence[tuple[ImageRef, Facts]],
) -> tuple[tuple[DuplicateSet, ...], tuple[DuplicateSet, ...]]:
    """Return the sets of exact and of near duplicates; those that leak or contradict come first."""
    by_digest: dict[bytes, list[int]] = {}
    for position, (_, facts) in enumerate(good):
        by_digest.setdefault(facts.digest, []).append(position)
    exact = [members for members in by_digest.values() if len(members) > 1]

    # The hash of an image of one colour says nothing: it is no near duplicate of others.
    textured = [position for position, (_, facts) in enumerate(good) if not facts.blank]
    hashes = np.asarray([good[position][1].hash for position in textured], np.uint64).reshape(-1, HASH_BITS // 64)
    by_hash: dict[int, list[int]] = {}
    for position, number in zip(textured, near_sets(hashes, NEAR_BITS), strict=True):
        by_hash.setdefault(number, []).append(position)
    near = [members for members in by_hash.values() if len({good[position][1].digest for position in members}) > 1]

    def described(members: list[int]) -> DuplicateSet:
        of_members = np.stack([good[position][1].hash for position in members])
        distances = np.bitwise_count(of_members ^ of_members[0]).sum(axis=1, dtype=int)
        return DuplicateSet(tuple(good[position][0] for position in members), tuple(distances.tolist()))

    def gravity(one: DuplicateSet) -> tuple[int, int]:
        return -one.contradicts - one.leaks, -len(one.images)

    return tuple(sorted(map(described, exact), key=gravity)), tuple(sorted(map(described, near), key=gravity))


def _with_thumbnails(sets: tuple[DuplicateSet, ...], dataset: ImageDataset) -> tuple[DuplicateSet, ...]:
    """Decode some images of the first sets again, to be looked at."""
    shown = {image for one in sets[:_SETS_SHOWN] for image in one.images[:_SHOWN_OF_SET]}
    found: dict[ImageRef, np.ndarray] = {}
    for name, split in dataset.splits.items():
        for index, label in enumerate(split.labels if shown else ()):
            ref = ImageRef(name, dataset.classes[label], split.names[index])
            if ref in shown:
                found[ref] = thumbnail_of(Image.fromarray(split.read(index, 3)))
    pictured = [
        DuplicateSet(one.images, one.distances, tuple(found[image] for image in one.images[:_SHOWN_OF_SET]))
        for one in sets[:_SETS_SHOWN]
    ]
    return (*pictured, *sets[_SETS_SHOWN:])


def _statistics(
    good: Sequence[tuple[ImageRef, Facts]],
) -> tuple[dict[str, tuple[float, ...]], dict[str, tuple[float, ...]]]:
    """Return means and deviations as of a `Check`."""
    means, deviations = {}, {}
    for split in SPLITS:
        members = [facts for ref, facts in good if ref.split == split]
        if members:
            mean = np.mean([facts.mean for facts in members], axis=0)
            square = np.mean([facts.square for facts in members], axis=0)
            means[split] = tuple(mean.tolist())
            deviations[split] = tuple(np.sqrt(np.maximum(square - mean**2, 0)).tolist())
    return means, deviations


def _split_groups(splits: Mapping[str, Split]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for name, split in splits.items():
        for group in split.groups or ():
            if group:
                counts.setdefault(group, Counter())[name] += 1
    return {group: dict(count) for group, count in sorted(counts.items()) if len(count) > 1}


def _passed_over(dataset: ImageDataset) -> tuple[str, ...]:
    """Return the files of a folder of class folders that are no images of the data set; hidden ones do not count."""
    if dataset.provenance.get("kind") != "folder":
        return ()
    root = dataset.provenance["place"]
    # As `place` is spelt, with its "..", which os.path.abspath would take out.
    taken = {str(path.absolute()) for split in dataset.splits.values() for path in split.paths or ()}
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [os.path.join(folder, name) for name in sorted(files) if not name.startswith(".")]
        found += [path for path in paths if path not in taken]
    return tuple(found)
