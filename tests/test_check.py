"""The check of a collection, against sets made for it, and NumPy on the decoded pixels."""

import csv
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_inception.config import DataConfig
from keras_inception.data.check import NEAR_BITS, advice, check_dataset
from keras_inception.data.dataset import ImageDataset
from keras_inception.data.sources import load_dataset
from keras_inception.errors import DataError


def scene(seed: int, size: int = 120, channels: int = 3) -> np.ndarray:
    """A picture with structure at several scales, as photographs have it."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((size, size, channels))
    for cells in (3, 6, 12, 24):
        noise = random.normal(0, 60, (cells, cells, channels)).astype(np.float32)
        layers = [
            Image.fromarray(noise[..., c]).resize((size, size), Image.Resampling.BICUBIC) for c in range(channels)
        ]
        pixels += np.stack([np.asarray(layer) for layer in layers], axis=-1)
    return np.clip(128 + pixels, 0, 255).astype(np.uint8)


def recompressed(pixels: np.ndarray, quality: int = 50) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def arrays(images, labels, splits=None, groups=None) -> ImageDataset:
    """All images in train, but for those told, and one per class of their own in validation and test."""
    splits = list(splits or ["train"] * len(images))
    labels = list(labels)
    groups = list(groups or [""] * len(images))
    for number, label in enumerate(sorted(set(labels))):
        for offset, split in ((900, "validation"), (950, "test")):
            images = [*images, scene(offset + number)]
            labels.append(label)
            splits.append(split)
            groups.append("")
    return ImageDataset.from_arrays(images, labels, splits=splits, groups=groups)


def names(one) -> set[str]:
    return {image.name for image in one.images}


def test_exact_duplicates_are_told_with_what_they_spoil():
    images = [scene(0), scene(0), scene(1), scene(1), scene(2), scene(2), scene(3)]
    labels = ["a", "b", "a", "a", "b", "b", "b"]
    splits = ["train", "train", "train", "test", "train", "train", "train"]
    check = check_dataset(arrays(images, labels, splits))
    found = {frozenset(names(one)): (one.contradicts, one.leaks) for one in check.exact}
    assert found == {
        frozenset({"arrays/0", "arrays/1"}): (True, False),
        frozenset({"arrays/2", "arrays/3"}): (False, True),
        frozenset({"arrays/4", "arrays/5"}): (False, False),
    }
    assert not check.exact[-1].contradicts  # the harmless ones come last
    assert not check.exact[-1].leaks
    assert check.near == ()
    assert [line[:2] for line in advice(check)] == ["1 ", "1 ", "1 "]


def test_near_duplicates_are_copies_that_were_changed_a_little():
    original = scene(10, 240)
    half = np.asarray(Image.fromarray(original).resize((120, 120), Image.Resampling.LANCZOS))
    brighter = np.clip(original * 1.1, 0, 255).astype(np.uint8)
    others = [scene(seed) for seed in range(20, 30)]
    images = [original, recompressed(original), half, brighter, *others]
    check = check_dataset(arrays(images, ["a"] * 6 + ["b"] * 8))
    (one,) = check.near
    assert names(one) == {f"arrays/{number}" for number in range(4)}
    assert one.distances[0] == 0
    assert 0 < max(one.distances) <= 3 * NEAR_BITS
    assert len(one.thumbnails) == 4
    assert check.exact == ()


def test_the_same_file_twice_is_no_near_duplicate():
    check = check_dataset(arrays([scene(0), scene(0), scene(1)], ["a", "a", "b"]))
    assert len(check.exact) == 1
    assert check.near == ()


def test_images_of_one_colour_are_told_and_are_no_near_duplicates():
    flat = [np.full((30, 30, 3), value, np.uint8) for value in (0, 90, 255)]
    check = check_dataset(arrays([*flat, scene(0), scene(1)], ["a", "b", "a", "b", "a"]))
    assert {image.name for image in check.blank} == {"arrays/0", "arrays/1", "arrays/2"}
    assert check.near == ()
    assert "3 images of a single colour" in " ".join(advice(check))


def test_statistics_are_those_of_the_decoded_pixels():
    images = [scene(seed, size)[:, : size - 9] for seed, size in enumerate((40, 64, 100, 31))]
    check = check_dataset(arrays(images, ["a", "b", "a", "b"]))
    values = [image.reshape(-1, 3) / 255 for image in images]
    mean = np.mean([one.mean(axis=0) for one in values], axis=0)
    deviation = np.sqrt(np.mean([((one - mean) ** 2).mean(axis=0) for one in values], axis=0))
    np.testing.assert_allclose(check.means["train"], mean, rtol=1e-12)
    np.testing.assert_allclose(check.deviations["train"], deviation, rtol=1e-9)
    widths = sorted([image.shape[1] for image in images] + [120] * 4)
    spread = check.spreads()["width"]
    assert (spread.smallest, spread.median, spread.largest) == (widths[0], np.median(widths), widths[-1])
    assert check.spreads()["aspect"].smallest == 22 / 31
    assert check.formats == {"pixels RGB": 8}


def test_imbalance_and_what_a_guess_is_worth():
    images = [scene(seed) for seed in range(8)]
    check = check_dataset(arrays(images, ["a"] * 6 + ["b"] * 2, ["train"] * 4 + ["test"] * 2 + ["train"] * 2))
    assert check.totals() == {"a": 8, "b": 4}
    assert check.imbalance() == 2
    assert check.guess() == ("a", 3 / 4)
    assert "top-1 75.0%" in advice(check)[-1]


def test_nothing_to_mend_is_no_advice():
    assert advice(check_dataset(arrays([scene(0), scene(1)], ["a", "b"]))) == []


def test_groups_that_stand_in_several_splits():
    images = [scene(seed) for seed in range(6)]
    splits = ["train", "test", "train", "train", "validation", "train"]
    check = check_dataset(arrays(images, list("ababab"), splits, ["x", "x", "y", "y", "x", ""]))
    assert check.split_groups == {"x": {"train": 1, "validation": 1, "test": 1}}
    assert "1 group in several splits" in " ".join(advice(check))


def test_a_manifest_and_its_broken_rows(tmp_path):
    rows = [("path", "label", "split", "group")]
    for number in range(6):
        Image.fromarray(scene(number)).save(tmp_path / f"{number}.png")
        rows.append((f"{number}.png", "ab"[number % 2], ("train", "validation", "test")[number // 2], f"g{number}"))
    rows.append(("missing.png", "a", "test", "g9"))
    with open(tmp_path / "all.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    check = check_dataset(load_dataset(DataConfig(source=str(tmp_path / "all.csv"))))
    ((image, reason),) = check.broken
    assert Path(image.name) == tmp_path / "missing.png"
    assert (image.split, image.label, reason) == ("test", "a", "there is no such file")
    assert check.images == 7
    assert check.counts["test"] == {"a": 2, "b": 1}
    assert check.readable["test"] == {"a": 1, "b": 1}
    assert check.passed_over == ()
    assert advice(check)[0] == "1 broken file: left out in training"


@pytest.mark.parametrize(
    ("broken", "refused"),
    [
        ({"validation": 2}, None),  # 2 of 200, though 2 of 50 in validation
        ({"validation": 3}, "1.5%"),
        ({"train": 1, "validation": 1}, None),
        ({"train": 2, "validation": 1}, "1.5%"),
        ({"test": 9}, None),
        ({"train": 3, "test": 9}, "1.5%"),
    ],
)
def test_it_says_that_training_will_refuse_where_training_does(broken, refused):
    from made_images import PLAIN, numbered, split_of

    from keras_inception.data.images import check_broken, read_images

    images = {"train": numbered(150), "validation": numbered(50), "test": numbered(10)}
    for split, count in broken.items():
        images[split][:count] = [None] * count
    splits = {split: split_of(arrays) for split, arrays in images.items()}
    said = advice(check_dataset(ImageDataset("made", ("a", "b", "c"), splits)))[0]
    read = [read_images(splits[split], DataConfig(**PLAIN)) for split in ("train", "validation")]
    if refused is None:
        check_broken(read, DataConfig().max_broken)
        assert "max-broken" not in said
    else:
        with pytest.raises(DataError, match=re.escape(refused)):
            check_broken(read, DataConfig().max_broken)
        assert f"; {refused} of train and validation together is more than --max-broken 1.0% allows" in said


@pytest.mark.parametrize("source", ["../photos", "../link/../photos", "../photos/", "../other/photos"])
def test_files_passed_over_are_those_that_are_no_images_however_the_folder_is_spelt(tmp_path, monkeypatch, source):
    for label in "ab":
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(scene(number)).save(tmp_path / "photos" / label / f"{number}.png")
    (tmp_path / "photos" / "a" / "notes.txt").write_text("text")
    (tmp_path / "here").mkdir()
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far")
    (tmp_path / "other").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path / "here")
    check = check_dataset(load_dataset(DataConfig(source=source)))
    assert [os.path.relpath(os.path.realpath(name), tmp_path) for name in check.passed_over] == ["photos/a/notes.txt"]


def test_a_collection_without_a_readable_image(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(3):
            (tmp_path / label / f"{number}.jpg").write_bytes(bytes([number]))
    check = check_dataset(load_dataset(DataConfig(source=str(tmp_path))))
    assert len(check.broken) == check.images == 6
    assert check.spreads() == check.means == {}
    assert check.to_json()["imbalance"]["largest_over_smallest"] is None
    assert check.thumbnails == {"a": [], "b": []}


def test_thumbnails_are_few_small_and_spread_over_the_class():
    images = [np.full((200, 100, 3), number, np.uint8) for number in range(100)]
    check = check_dataset(arrays([*images, scene(0)], ["a"] * 100 + ["b"]))
    assert [len(check.thumbnails[label]) for label in "ab"] == [40, 3]
    values = [int(image[0, 0, 0]) for image in check.thumbnails["a"][:-2]]
    assert {image.shape for image in check.thumbnails["a"][:-2]} == {(96, 48, 3)}
    assert values[0] == 0
    assert set(np.diff(values)) <= {2, 3}


def test_progress_counts_every_image_once():
    seen = []
    check_dataset(arrays([scene(0), scene(1)], ["a", "b"]), lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]


@pytest.mark.slow
def test_cells_of_elpv_that_are_not_the_same_stay_apart():
    pytest.importorskip("elpv_dataset")
    check = check_dataset(load_dataset(DataConfig(source="elpv")))
    assert check.exact == ()
    assert max(len(one.images) for one in check.near) < 10
    assert sum(len(one.images) for one in check.near) < 0.1 * check.images
