"""Splits: every image on exactly one side, class by class, the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from keras_inception.data.dataset import SPLITS, ImageDataset, Split, complete_splits
from keras_inception.errors import DataError


def split_of(labels, start=0):
    """A split whose image at position i is one pixel of value start + i, named so."""
    return Split(
        names=[f"image {start + index}" for index in range(len(labels))],
        labels=np.asarray(labels, np.int32),
        read=lambda index, channels: np.full((1, 1, channels), start + index, np.int64),
    )


def pixels(split):
    return [int(split.read(index, 1)[0, 0, 0]) for index in range(len(split))]


LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60)
FRACTIONS = st.floats(0, 0.3)


@settings(max_examples=50, deadline=None)
@given(LABELS, FRACTIONS, FRACTIONS, st.integers(0, 2**32 - 1))
def test_every_image_stands_in_exactly_one_split_with_its_label_and_its_name(labels, validation, test, seed):
    splits = complete_splits({"train": split_of(labels)}, validation, test, seed)
    assert set(splits) == set(SPLITS)
    assert sorted(pixel for split in splits.values() for pixel in pixels(split)) == list(range(len(labels)))
    for split in splits.values():
        assert [labels[pixel] for pixel in pixels(split)] == split.labels.tolist()
        assert [f"image {pixel}" for pixel in pixels(split)] == list(split.names)
        assert split.labels.dtype == np.int32


@settings(max_examples=50, deadline=None)
@given(LABELS, FRACTIONS, FRACTIONS, st.integers(0, 2**32 - 1))
def test_every_class_has_its_share_of_every_split_to_within_one_image(labels, validation, test, seed):
    splits = complete_splits({"train": split_of(labels)}, validation, test, seed)
    for label in set(labels):
        count = labels.count(label)
        for name, share in (("validation", validation), ("test", test)):
            assert abs((splits[name].labels == label).sum() - share * count) <= 1
            if not share:
                assert label not in splits[name].labels


@settings(max_examples=50, deadline=None)
@given(LABELS, st.floats(0, 0.99), st.floats(0, 0.99), st.integers(0, 100))
def test_every_class_keeps_an_image_for_training(labels, validation, test, seed):
    splits = complete_splits({"train": split_of(labels)}, validation, test, seed)
    assert set(splits["train"].labels.tolist()) == set(labels)


@settings(max_examples=50, deadline=None)
@given(LABELS, FRACTIONS, FRACTIONS, st.integers(0, 100))
def test_the_same_seed_gives_the_same_splits(labels, validation, test, seed):
    first, second = (complete_splits({"train": split_of(labels)}, validation, test, seed) for _ in range(2))
    assert {name: pixels(split) for name, split in first.items()} == {n: pixels(s) for n, s in second.items()}


def test_another_seed_gives_other_splits():
    labels = [index % 2 for index in range(40)]
    found = {tuple(pixels(complete_splits({"train": split_of(labels)}, 0.2, 0.2, seed)["test"])) for seed in range(10)}
    assert len(found) == 10


def test_every_image_is_for_the_test_under_some_seed():
    labels = [0] * 5 + [1] * 5
    seen = {
        pixel
        for seed in range(100)
        for pixel in pixels(complete_splits({"train": split_of(labels)}, 0.2, 0.2, seed)["test"])
    }
    assert seen == set(range(10))


@pytest.mark.parametrize("kept", [(), ("validation",), ("test",), ("validation", "test")])
def test_splits_that_a_source_has_stay_as_they_are(kept):
    own = {"train": split_of([0, 1] * 20)} | {name: split_of([1, 0, 0], 100) for name in kept}
    splits = complete_splits(own, 0.25, 0.25, 0)
    for name in kept:
        assert pixels(splits[name]) == [100, 101, 102]
        assert splits[name].labels.tolist() == [1, 0, 0]
    # A quarter of both classes goes to each split that was missing.
    assert len(splits["train"]) == 40 - 10 * (2 - len(kept))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=20))
def test_take_gives_the_images_at_the_positions_in_that_order(positions):
    taken = split_of([7, 8] * 5).take(np.asarray(positions, int))
    assert pixels(taken) == positions
    assert taken.labels.tolist() == [7 + position % 2 for position in positions]
    assert list(taken.names) == [f"image {position}" for position in positions]
    assert len(taken) == len(positions)


def test_a_take_of_a_take():
    assert pixels(split_of([0] * 9).take(np.asarray([8, 6, 4])).take(np.asarray([2, 0]))) == [4, 8]


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_reach_the_reader_of_a_taken_split(channels):
    assert split_of([0, 0]).take(np.asarray([1])).read(0, channels).shape == (1, 1, channels)


def dataset(classes, sizes=(1, 1, 1)):
    splits = {name: split_of([0] * size) for name, size in zip(SPLITS, sizes, strict=True)}
    return ImageDataset("my data", classes, splits)


def test_a_single_class_is_refused_by_its_name():
    with pytest.raises(DataError, match="my data has a single class, 'cat'"):
        dataset(("cat",))


def test_no_classes_are_refused():
    with pytest.raises(DataError, match="my data has no classes"):
        dataset(())


@pytest.mark.parametrize("empty", range(3))
def test_an_empty_split_is_refused_by_its_name(empty):
    with pytest.raises(DataError, match=f"my data has no images for {SPLITS[empty]}"):
        dataset(("cat", "dog"), [int(index != empty) for index in range(3)])
