"""Splits: every image on exactly one side, class by class, by content alone; and the one value that describes data."""

import dataclasses
import hashlib
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from keras_inception.data.dataset import SPLITS, Collection, ImageDataset, Split, complete_splits, file_split
from keras_inception.errors import DataError


def split_of(labels, start=0, contents=None, groups=None):
    """A split whose image at position i has 24 bits of its own, start + i, as its one pixel."""
    contents = list(range(start, start + len(labels))) if contents is None else contents
    return Split(
        names=[f"image {start + index}" for index in range(len(labels))],
        labels=np.asarray(labels, np.int32),
        source=lambda index: np.frombuffer(contents[index].to_bytes(3, "big"), np.uint8).reshape(1, 1, 3),
        groups=groups,
    )


def pixels(split):
    return [int.from_bytes(split.read(index, 3).tobytes(), "big") for index in range(len(split))]


def everything(splits):
    return {name: pixels(split) for name, split in splits.items()}


# Distinct images.
LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60)
FRACTIONS = st.tuples(st.floats(0, 0.98), st.floats(0, 0.98)).filter(lambda pair: sum(pair) < 0.99)
SEEDS = st.integers(0, 2**32 - 1)
# (label, content, group) of images some of which are equal or belong together.
RELATED = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 12), st.sampled_from(["", "", "a", "b", "c", "d"])),
    min_size=1,
    max_size=40,
)


@settings(max_examples=30, deadline=None)
@given(LABELS, FRACTIONS, SEEDS)
def test_every_image_stands_in_exactly_one_split_with_its_label_and_its_name(labels, fractions, seed):
    splits = complete_splits({"train": split_of(labels)}, *fractions, seed)
    assert set(splits) == set(SPLITS)
    assert sorted(pixel for split in splits.values() for pixel in pixels(split)) == list(range(len(labels)))
    for split in splits.values():
        assert [labels[pixel] for pixel in pixels(split)] == split.labels.tolist()
        assert [f"image {pixel}" for pixel in pixels(split)] == list(split.names)
        assert split.labels.dtype == np.int32


@settings(max_examples=30, deadline=None)
@given(LABELS, FRACTIONS, SEEDS)
def test_every_class_has_its_share_of_every_split_to_within_one_image(labels, fractions, seed):
    splits = complete_splits({"train": split_of(labels)}, *fractions, seed)
    for label in set(labels):
        count = labels.count(label)
        assert label in splits["train"].labels
        for name, share in zip(("validation", "test"), fractions, strict=True):
            number = int((splits[name].labels == label).sum())
            assert abs(number - share * count) <= 1
            if not share:
                assert number == 0


@pytest.mark.parametrize(
    ("images", "fractions", "expected"),
    [
        (100, (0.15, 0.15), (70, 15, 15)),
        (10, (0.2, 0.3), (5, 2, 3)),
        (3, (0.15, 0.15), (1, 1, 1)),  # at least one, where it is asked for
        (2, (0.15, 0.15), (1, 1, 0)),
        (1, (0.15, 0.15), (1, 0, 0)),  # training first
        (3, (0.5, 0.4), (1, 1, 1)),
        (20, (0.0, 0.1), (18, 0, 2)),
    ],
)
def test_sizes_by_hand(images, fractions, expected):
    splits = complete_splits({"train": split_of([0] * images)}, *fractions, 5)
    assert tuple(len(splits[name]) for name in SPLITS) == expected


@settings(max_examples=30, deadline=None)
@given(LABELS, FRACTIONS, SEEDS, st.randoms(use_true_random=False))
def test_neither_names_nor_order_decide_where_an_image_goes(labels, fractions, seed, random):
    order = list(range(len(labels)))
    random.shuffle(order)
    first = complete_splits({"train": split_of(labels)}, *fractions, seed)
    renamed = dataclasses.replace(split_of([labels[i] for i in order], contents=order), names=[f"x{i}" for i in order])
    second = complete_splits({"train": renamed}, *fractions, seed)
    assert everything(first) == {name: sorted(found) for name, found in everything(second).items()}


def test_neither_does_the_place_of_the_files(tmp_path):
    found = []
    for folder, ending in (("a", "{}.png"), ("b/c", "x{}.jpg")):
        (tmp_path / folder).mkdir(parents=True)
        paths = [tmp_path / folder / ending.format(index) for index in range(20)]
        for index, path in enumerate(paths):
            path.write_bytes(bytes([index]))
        splits = complete_splits({"train": file_split(paths, [0, 1] * 10)}, 0.2, 0.2, 0)
        found.append({name: [path.read_bytes() for path in split.paths] for name, split in splits.items()})
    assert found[0] == found[1]


def test_an_image_that_is_added_moves_few_others():
    labels = [0] * 1000
    before = complete_splits({"train": split_of(labels)}, 0.2, 0.2, 0)
    after = complete_splits({"train": split_of([*labels, 0])}, 0.2, 0.2, 0)
    for name in SPLITS:
        assert len(set(pixels(before[name])) ^ set(pixels(after[name]))) <= 3


@settings(max_examples=60, deadline=None)
@given(RELATED, FRACTIONS, SEEDS)
def test_images_of_equal_content_or_of_one_group_are_never_parted(images, fractions, seed):
    labels, contents, groups = zip(*images, strict=True)
    numbered = split_of(labels, contents=contents, groups=groups)
    splits = complete_splits({"train": numbered}, *fractions, seed)
    side = {name: split_name for split_name, split in splits.items() for name in split.names}
    assert len(side) == len(images)
    assert set(splits["train"].labels) == set(labels)
    # What hangs together, also by way of others, found by walking.
    neighbours = defaultdict(set)
    for one, (_, content, group) in enumerate(images):
        for two, (_, other_content, other_group) in enumerate(images):
            if content == other_content or (group and group == other_group):
                neighbours[one].add(two)
    for start in range(len(images)):
        reached, waiting = set(), [start]
        while waiting:
            reached.add(here := waiting.pop())
            waiting.extend(neighbours[here] - reached)
        assert len({side[f"image {index}"] for index in reached}) == 1


@settings(max_examples=30, deadline=None)
@given(RELATED, FRACTIONS, SEEDS, st.randoms(use_true_random=False))
def test_the_order_of_related_images_does_not_matter_either(images, fractions, seed, random):
    def placed(some):
        labels, contents, groups = zip(*some, strict=True)
        splits = complete_splits({"train": split_of(labels, contents=contents, groups=groups)}, *fractions, seed)
        return {
            name: Counter(zip(pixels(split), split.groups, split.labels.tolist(), strict=True))
            for name, split in splits.items()
        }

    shuffled = list(images)
    random.shuffle(shuffled)
    assert placed(images) == placed(shuffled)


def test_groups_come_near_their_share():
    # 40 patients with 1 to 9 images each: no split is off by more than half a patient for each class.
    random = np.random.default_rng(0)
    groups = [f"patient {number}" for number in range(40) for _ in range(random.integers(1, 10))]
    labels = [int(group.split()[1]) % 2 for group in groups]
    splits = complete_splits({"train": split_of(labels, groups=groups)}, 0.2, 0.2, 0)
    for label in (0, 1):
        for name in ("validation", "test"):
            assert abs((splits[name].labels == label).sum() - 0.2 * labels.count(label)) <= 4.5


def test_a_class_of_few_large_groups_is_in_every_split_all_the_same():
    groups = [f"{label}{group}" for label in "ab" for group in range(5) for _ in range(20)]
    labels = [int(group[0] == "b") for group in groups]
    splits = complete_splits({"train": split_of(labels, groups=groups)}, 0.05, 0.05, 0)
    assert {name: np.bincount(split.labels).tolist() for name, split in splits.items()} == {
        "train": [60, 60],
        "validation": [20, 20],
        "test": [20, 20],
    }


def test_a_class_of_one_group_stays_for_training():
    splits = complete_splits({"train": split_of([0] * 9 + [1] * 9, groups=["a"] * 9 + [""] * 9)}, 0.2, 0.2, 0)
    assert [len(splits[name]) for name in SPLITS] == [14, 2, 2]
    assert (splits["train"].labels == 0).sum() == 9


def test_another_seed_gives_other_splits_and_the_same_the_same():
    labels = [index % 2 for index in range(40)]
    found = [tuple(pixels(complete_splits({"train": split_of(labels)}, 0.2, 0.2, seed)["test"])) for seed in range(10)]
    assert len(set(found)) == 10
    assert tuple(pixels(complete_splits({"train": split_of(labels)}, 0.2, 0.2, 3)["test"])) == found[3]


def test_every_image_is_for_the_test_under_some_seed():
    labels = [0] * 5 + [1] * 5
    seen = {
        pixel
        for seed in range(100)
        for pixel in pixels(complete_splits({"train": split_of(labels)}, 0.2, 0.2, seed)["test"])
    }
    assert seen == set(range(10))


def test_files_that_cannot_be_read_are_split_by_their_names(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(20)]
    for path in paths[:10]:
        path.write_bytes(path.name.encode())
    paths[19] = tmp_path / "zero\0byte.png"
    splits = complete_splits({"train": file_split(paths, [0] * 20)}, 0.2, 0.2, 0)
    assert sorted(path for split in splits.values() for path in split.paths) == sorted(paths)
    assert [len(splits[name]) for name in SPLITS] == [12, 4, 4]


@pytest.mark.parametrize("kept", [(), ("validation",), ("test",), ("validation", "test")])
def test_splits_that_a_source_has_stay_as_they_are(kept):
    own = {"train": split_of([0, 1] * 20)} | {name: split_of([1, 0, 0], 100) for name in kept}
    splits = complete_splits(own, 0.25, 0.25, 0)
    for name in kept:
        assert pixels(splits[name]) == [100, 101, 102]
        assert splits[name].labels.tolist() == [1, 0, 0]
    # A quarter of both classes goes to each split that was missing.
    assert len(splits["train"]) == 40 - 10 * (2 - len(kept))


def test_a_digest_is_that_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4, example "abc"
    assert file_split([tmp_path / "a"], [0]).digest(0) == sha
    assert Split(["a"], np.zeros(1, np.int32), lambda index: b"abc").digest(0) == sha
    missing = file_split([tmp_path / "none"], [0])
    assert missing.digest(0) == hashlib.sha256(b"none").hexdigest()  # wherever it should have stood
    # The same values in another shape are another image.
    shapes = [np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), np.zeros((2, 3, 1), np.uint8)]
    split = Split(["x"] * 3, np.zeros(3, np.int32), lambda index: shapes[index])
    assert len({split.digest(index) for index in range(3)}) == 3


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=20))
def test_take_gives_the_images_at_the_positions_in_that_order(positions):
    whole = dataclasses.replace(split_of([7, 8] * 5, groups=list("abcdefghij")), digests=list("0123456789"))
    taken = whole.take(np.asarray(positions, int))
    assert pixels(taken) == positions
    assert taken.labels.tolist() == [7 + position % 2 for position in positions]
    assert list(taken.names) == [f"image {position}" for position in positions]
    assert list(taken.groups) == ["abcdefghij"[position] for position in positions]
    assert [taken.digest(index) for index in range(len(taken))] == [str(position) for position in positions]
    assert len(taken) == len(positions)


def test_a_take_of_a_take():
    assert pixels(split_of([0] * 9).take(np.asarray([8, 6, 4])).take(np.asarray([2, 0]))) == [4, 8]


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_reach_the_decoder_of_a_taken_split(channels):
    assert split_of([0, 0]).take(np.asarray([1])).read(0, channels).shape == (1, 1, channels)


@pytest.mark.parametrize(
    ("limit", "expected"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (10, [*range(10)]), (99, [*range(10)])]
)
def test_images_are_spread_over_the_split(limit, expected):
    assert pixels(split_of([0] * 10).spread(limit)) == expected


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


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(DataError, match="my data has two classes 'cat'"):
        dataset(("cat", "dog", "cat"))


def test_counts_are_by_split_and_class():
    splits = {"train": split_of([0, 1, 1]), "validation": split_of([1]), "test": split_of([0, 0])}
    assert ImageDataset("my data", ("cat", "dog"), splits).counts() == {
        "train": {"cat": 1, "dog": 2},
        "validation": {"cat": 0, "dog": 1},
        "test": {"cat": 2, "dog": 0},
    }


def test_the_fingerprint_changes_with_all_that_a_data_set_is(tmp_path):
    def fingerprint(label=0, name="a", size=3, classes=("x", "y"), order=SPLITS, **provenance):
        (tmp_path / name).write_bytes(bytes(size))
        files = file_split([tmp_path / name], [label])
        splits = dict(zip(order, (files, split_of([0, 1]), split_of([1])), strict=True))
        return ImageDataset("my data", classes, splits, provenance).fingerprint()

    same = fingerprint()
    assert same == fingerprint()
    assert len(same) == 16
    assert int(same, 16) >= 0
    others = [
        fingerprint(label=1),
        fingerprint(name="b"),
        fingerprint(size=4),
        fingerprint(classes=("x", "z")),
        fingerprint(order=("validation", "train", "test")),
        fingerprint(version="2"),
    ]
    assert len({same, *others}) == 7


def test_what_was_carved_stands_in_the_provenance():
    train = {"train": split_of([0, 1] * 10)}
    own = {**train, "test": split_of([0, 1])}
    assert Collection(("a", "b"), train, {"kind": "x"}).completed("n", 0.2, 0.25, 7).provenance == {
        "kind": "x",
        "validation_fraction": "0.2",
        "test_fraction": "0.25",
        "split_seed": "7",
    }
    assert Collection(("a", "b"), own, {"kind": "x"}).completed("n", 0.2, 0.25, 7).provenance == {
        "kind": "x",
        "validation_fraction": "0.2",
        "split_seed": "7",
    }
    whole = {**own, "validation": split_of([0, 1])}
    assert Collection(("a", "b"), whole, {"kind": "x"}).completed("n", 0.2, 0.25, 7).provenance == {"kind": "x"}


class TestFromArrays:
    @staticmethod
    def images(count=20, shape=(4, 5)):
        return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)

    @pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
    @pytest.mark.parametrize("listed", [False, True])
    def test_every_image_keeps_its_pixels_and_its_label(self, shape, listed):
        images = self.images(shape=shape)
        made = ImageDataset.from_arrays(list(images) if listed else images, ["b", "a"] * 10, name="mine")
        assert made.classes == ("a", "b")
        assert made.name == "mine"
        assert made.counts() == {name: dict.fromkeys("ab", n) for name, n in zip(SPLITS, (6, 2, 2), strict=True)}
        for split in made.splits.values():
            for index, (name, label) in enumerate(zip(split.names, split.labels, strict=True)):
                number = int(name.removeprefix("mine/"))
                assert label == (number + 1) % 2
                np.testing.assert_array_equal(split.source(index), images[number])
                channels = 3 if shape[-1] == 3 else 1
                if shape != (4, 5, 4):  # alpha lies on white
                    expected = images[number].reshape(4, 5, channels)
                    np.testing.assert_array_equal(split.read(index, channels), expected)

    def test_images_may_be_of_different_sizes_and_depths(self):
        images = [np.zeros((size, 2 * size, 3) if size % 2 else (size, 3), np.uint8) for size in range(1, 21)]
        made = ImageDataset.from_arrays(images, [0, 1] * 10)
        sizes = [split.read(index, 1).shape[0] for split in made.splits.values() for index in range(len(split))]
        assert sorted(sizes) == list(range(1, 21))

    def test_numbers_are_positions_in_the_classes(self):
        labels = np.asarray([2, 0] * 10, np.int64)
        assert ImageDataset.from_arrays(self.images(), labels).classes == ("0", "1", "2")
        made = ImageDataset.from_arrays(self.images(), labels, ["x", "y", "z"])
        assert made.classes == ("x", "y", "z")
        assert made.counts()["train"] == {"x": 6, "y": 0, "z": 6}

    def test_classes_keep_their_order(self):
        made = ImageDataset.from_arrays(self.images(), ["b", "a"] * 10, ["b", "a"])
        assert made.classes == ("b", "a")
        assert all(
            label == int(name.split("/")[1]) % 2
            for split in made.splits.values()
            for name, label in zip(split.names, split.labels, strict=True)
        )

    def test_splits_may_be_given(self):
        splits = ["train", "test", "validation", "train"] * 5
        made = ImageDataset.from_arrays(self.images(), [0, 1, 1, 1] * 5, splits=splits)
        assert {name: [int(image.split("/")[1]) for image in split.names] for name, split in made.splits.items()} == {
            name: [index for index, given in enumerate(splits) if given == name] for name in SPLITS
        }

    def test_groups_stay_together(self):
        groups = [f"burst {index // 2}" for index in range(20)]
        made = ImageDataset.from_arrays(self.images(), [0] * 10 + [1] * 10, groups=groups)
        sides = {(group, name) for name, split in made.splits.items() for group in split.groups}
        assert len(sides) == 10

    def test_the_fingerprint_is_of_the_pixels(self):
        images = self.images()
        first = ImageDataset.from_arrays(images, [0, 1] * 10).fingerprint()
        assert ImageDataset.from_arrays(list(images), [0, 1] * 10).fingerprint() == first
        images = images.copy()
        images[7, 0, 0] ^= 1
        assert ImageDataset.from_arrays(images, [0, 1] * 10).fingerprint() != first

    @pytest.mark.parametrize(
        ("images", "labels", "options", "said"),
        [
            (np.zeros((2, 4, 4)), [0, 1], {}, "images are float64; give uint8"),
            (np.zeros((2, 4), np.uint8), [0, 1], {}, "images are of shape (4,)"),
            (np.zeros((2, 4, 4, 2), np.uint8), [0, 1], {}, "images are of shape (4, 4, 2)"),
            (np.zeros((2, 0, 4), np.uint8), [0, 1], {}, "images are of shape (0, 4)"),
            ([np.zeros((4, 4), np.uint8), np.zeros((4, 4), bool)], [0, 1], {}, "image 1 is bool"),
            ([np.zeros((4, 4), np.uint8), [[1]]], [0, 1], {}, "image 1 is list; give NumPy arrays"),
            (np.zeros((2, 4, 4), np.uint8), [0], {}, "2 images and 1 labels"),
            (np.zeros((2, 4, 4), np.uint8), [0, 1], {"groups": ["a"]}, "2 images and 1 groups"),
            (np.zeros((2, 4, 4), np.uint8), [0, 1], {"splits": ["a"] * 3}, "2 images and 3 splits"),
            (np.zeros((2, 4, 4), np.uint8), [0.5, 1], {}, "labels are float64"),
            (np.zeros((2, 4, 4), np.uint8), [[0], [1]], {}, "labels are int64 of shape (2, 1)"),
            (np.zeros((2, 4, 4), np.uint8), [0, -1], {}, "a label -1"),
            (
                np.zeros((2, 4, 4), np.uint8),
                [0, 2],
                {"classes": ["a", "b"]},
                "a label 2; labels of 2 classes are 0 to 1",
            ),
            (np.zeros((2, 4, 4), np.uint8), ["cat", "dgo"], {"classes": ["cat", "dog"]}, "did you mean dog"),
            (np.zeros((2, 4, 4), np.uint8), ["cat", "dog"], {"splits": ["train", "tset"]}, "did you mean test"),
            (np.zeros((2, 4, 4), np.uint8), ["cat", "dog"], {"splits": ["test", "test"]}, "no image is of the split"),
            (np.zeros((2, 4, 4), np.uint8), ["cat", "cat"], {}, "a single class, 'cat'"),
            (np.zeros((0, 4, 4), np.uint8), [], {}, "arrays has no images"),
            (np.zeros((2, 4, 4), np.uint8), ["cat", "dog"], {}, "no images for validation"),
            (np.zeros((2, 4, 4), np.uint8), [0, 1], {"validation_fraction": 0.9}, "leave nothing for training"),
        ],
    )
    def test_what_does_not_fit_is_refused_in_one_line(self, images, labels, options, said):
        with pytest.raises(DataError) as caught:
            ImageDataset.from_arrays(images, labels, **options)
        assert said in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1

    def test_it_is_a_public_name(self):
        import keras_inception

        assert keras_inception.ImageDataset is ImageDataset


def test_weights_of_arrays_follow_their_images_into_the_splits():
    images = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    weights = np.linspace(0, 2, 20)
    dataset = ImageDataset.from_arrays(images, ["a", "b"] * 10, weights=weights)
    for split in dataset.splits.values():
        for index, weight in enumerate(split.weights):
            assert weight == np.float32(weights[split.source(index)[0, 0]])
    assert ImageDataset.from_arrays(images, ["a", "b"] * 10).fingerprint() != dataset.fingerprint()


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
def test_a_weight_that_is_none_is_refused_by_its_position(wrong):
    images = np.zeros((20, 8, 8), np.uint8)
    with pytest.raises(DataError, match=r"at position 3; weights are numbers from 0 on"):
        ImageDataset.from_arrays(images, ["a", "b"] * 10, weights=[1.0] * 3 + [wrong] + [1.0] * 16)
