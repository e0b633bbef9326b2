"""What a user may name as data: class folders made here, the packaged sets, and what is told apart by its name."""

import csv
import errno
import hashlib
import importlib.metadata
import io
import os
import re
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image

from keras_inception.config import DataConfig
from keras_inception.data.sources import folder_split, image_files, is_tfds, load_dataset
from keras_inception.errors import DataError


def draw(path, red=0, green=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (red, green, 0)).save(path)


def fill(folder, classes, images=10, ending=".png"):
    """Class folders whose images have the class's position as their red and their own number as their green."""
    for red, name in enumerate(classes):
        for index in range(images):
            draw(folder / name / f"{index:02}{ending}", red, index)


def load(source, **options):
    return load_dataset(DataConfig(source=str(source), **options))


def refusal(source, **options):
    with pytest.raises(DataError) as caught:
        load(source, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def sizes(dataset):
    return {name: len(split) for name, split in dataset.splits.items()}


def test_class_folders_are_split_and_sorted_by_name(tmp_path):
    fill(tmp_path, ["zebra", "my cat", "größe 猫"])
    dataset = load(tmp_path, validation_fraction=0.2, test_fraction=0.3)
    assert dataset.classes == ("größe 猫", "my cat", "zebra")
    assert sizes(dataset) == {"train": 15, "validation": 6, "test": 9}
    reds = {"zebra": 0, "my cat": 1, "größe 猫": 2}
    for split in dataset.splits.values():
        for index, (name, label) in enumerate(zip(split.names, split.labels, strict=True)):
            assert Path(name).parent.name == dataset.classes[label]
            colour = [reds[dataset.classes[label]], int(Path(name).stem), 0]
            np.testing.assert_array_equal(split.read(index, 3), np.broadcast_to(colour, (3, 4, 3)))
    assert len({name for split in dataset.splits.values() for name in split.names}) == 30


@pytest.mark.parametrize("validation", ["validation", "val", "valid"])
def test_folders_named_like_splits_are_the_splits(tmp_path, validation):
    for name, count in (("train", 4), (validation, 3), ("test", 2)):
        fill(tmp_path / name, ["a", "b"], count)
    dataset = load(tmp_path)
    assert dataset.classes == ("a", "b")
    assert sizes(dataset) == {"train": 8, "validation": 6, "test": 4}
    for name, split in dataset.splits.items():
        folder = validation if name == "validation" else name
        assert {Path(image).relative_to(tmp_path).parts[0] for image in split.names} == {folder}


def test_split_folders_may_be_written_with_capitals(tmp_path):
    for name in ("Train", "Val", "Test"):
        fill(tmp_path / name, ["a", "b"], 2)
    dataset = load(tmp_path)
    assert dataset.classes == ("a", "b")
    assert sizes(dataset) == {"train": 4, "validation": 4, "test": 4}


def test_a_split_that_is_missing_is_carved_out_of_train(tmp_path):
    fill(tmp_path / "train", ["a", "b"], 10)
    fill(tmp_path / "test", ["a", "b"], 1)
    assert sizes(load(tmp_path, validation_fraction=0.2)) == {"train": 16, "validation": 4, "test": 2}


def test_a_class_may_be_missing_from_the_test(tmp_path):
    fill(tmp_path / "train", ["a", "b", "c"], 10)
    fill(tmp_path / "test", ["a", "c"], 1)
    assert load(tmp_path).splits["test"].labels.tolist() == [0, 2]


def test_a_class_in_the_test_alone_is_refused_by_its_name(tmp_path):
    fill(tmp_path / "train", ["a", "b"])
    fill(tmp_path / "test", ["a", "new one"])
    message = refusal(tmp_path)
    assert "'new one'" in message
    assert "a, b" in message


def test_a_class_may_be_called_train(tmp_path):
    # As in CIFAR-100, whose classes include the vehicle.
    fill(tmp_path, ["bicycle", "bus", "train"])
    assert load(tmp_path).classes == ("bicycle", "bus", "train")


def test_only_image_files_count_and_hidden_ones_do_not(tmp_path):
    fill(tmp_path, ["a", "b"], 5)
    (tmp_path / "README.md").write_text("text")
    (tmp_path / "a" / "notes.txt").write_text("text")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    os.mkfifo(tmp_path / "a" / "pipe.png")  # which would block who reads it
    draw(tmp_path / "a" / ".hidden.png")
    draw(tmp_path / "a" / ".cache" / "x.png")
    draw(tmp_path / ".hidden class" / "x.png")
    (tmp_path / "empty class").mkdir()
    dataset = load(tmp_path)
    assert dataset.classes == ("a", "b")
    assert sum(sizes(dataset).values()) == 10


def test_a_folder_or_a_broken_link_named_like_an_image_counts_so_that_it_is_reported(tmp_path):
    fill(tmp_path, ["a", "b"], 5)
    (tmp_path / "a" / "folder.png").mkdir()
    (tmp_path / "b" / "link.jpg").symlink_to(tmp_path / "none.jpg")
    said = []
    for split in load(tmp_path).splits.values():
        for index in range(len(split)):
            try:
                split.read(index, 3)
            except DataError as error:
                said.append(str(error))
    assert sorted(said) == [
        f"{tmp_path}/a/folder.png cannot be decoded: it is a folder",
        f"{tmp_path}/b/link.jpg cannot be decoded: there is no such file",
    ]


def test_images_may_lie_deeper_and_be_of_every_format(tmp_path):
    for number, ending in enumerate([".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp", ".JPG", ".Png"]):
        draw(tmp_path / "a" / "deep" / f"er {number}" / f"x{ending}", 0, 20 * number)
        draw(tmp_path / "b" / f"{number}{ending}", 200, 20 * number)
    dataset = load(tmp_path)
    assert sum(sizes(dataset).values()) == 16
    for split in dataset.splits.values():
        assert all(split.read(index, 1).shape == (3, 4, 1) for index in range(len(split)))


def test_a_folder_below_a_hidden_one_can_be_given(tmp_path):
    fill(tmp_path / ".cache" / "data", ["a", "b"])
    assert load(tmp_path / ".cache" / "data").classes == ("a", "b")


@pytest.fixture
def lock(monkeypatch):
    """Imitate what may not be read: as root, who may run this, may read all."""
    locked = []

    def is_locked(path):
        return not isinstance(path, int) and any(Path(path).is_relative_to(folder) for folder in locked)

    def guarded(call):
        def then(path, *arguments, **options):
            if is_locked(path):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return call(path, *arguments, **options)

        return then

    for module, name in ((os, "scandir"), (os, "listdir"), (os, "stat"), (io, "open")):
        monkeypatch.setattr(module, name, guarded(getattr(module, name)))
    monkeypatch.setattr(os, "access", lambda path, mode: not is_locked(path))
    return locked.append


def test_a_class_folder_that_may_not_be_read_is_refused_and_not_left_out(tmp_path, monkeypatch):
    fill(tmp_path, ["a", "b", "c"])
    scandir = os.scandir

    def guarded(path):
        if Path(path) == tmp_path / "b":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    message = f"{str(tmp_path / 'b')!r} may not be read; give yourself the permission"
    assert refusal(tmp_path).startswith(message)
    for call in (image_files, lambda folder: folder_split(folder, ["a", "b", "c"])):
        with pytest.raises(DataError, match=re.escape(message)):
            call(tmp_path)


def test_a_hidden_folder_that_may_not_be_read_is_in_nobodys_way(tmp_path, lock):
    fill(tmp_path, ["a", "b"])
    draw(tmp_path / "a" / ".cache" / "x.png")
    lock(tmp_path / "a" / ".cache")
    assert sum(sizes(load(tmp_path)).values()) == 20


@pytest.mark.parametrize("source", ["locked/photos", "locked/photos/", "./locked/photos", "locked"])
def test_a_folder_that_may_not_be_entered_is_refused(tmp_path, monkeypatch, lock, source):
    fill(tmp_path / "locked" / "photos", ["a", "b"])
    monkeypatch.chdir(tmp_path)
    lock(Path("locked"))
    message = "'locked' may not be read; give yourself the permission"
    assert refusal(source).startswith(message)
    with pytest.raises(DataError, match=message):
        folder_split(Path(source), ["a", "b"])


def test_image_files_are_sorted(tmp_path):
    for name in ("b.png", "a.png", "c/a.png"):
        draw(tmp_path / name)
    assert image_files(tmp_path) == [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c" / "a.png"]


def test_a_broken_image_is_found_when_it_is_read(tmp_path):
    fill(tmp_path, ["a", "b"], 4)
    for path in (tmp_path / "a").iterdir():
        path.write_bytes(path.name.encode())
    split = load(tmp_path).splits["train"]
    index = split.labels.tolist().index(0)
    with pytest.raises(DataError, match=re.escape(split.names[index])):
        split.read(index, 3)


def test_names_of_folders_and_files_may_be_of_any_kind(tmp_path):
    names = ["with space", "größe 猫", "two\nlines", "latin-1 \udcff", "'quoted'"]
    fill(tmp_path, names)
    for name in names:
        for number in range(10):
            (tmp_path / name / f"{number:02}.png").rename(tmp_path / name / f"{number:02} {name}.png")
    dataset = load(tmp_path)
    # A class's name is text on one line: it stands in labels.txt and on the terminal.
    assert set(dataset.classes) == {"with space", "größe 猫", "two\\nlines", "latin-1 \\udcff", "'quoted'"}
    assert sum(sizes(dataset).values()) == 50
    for split in dataset.splits.values():
        for index, path in enumerate(split.paths):
            red, green, _ = split.read(index, 3)[0, 0]
            assert names[red] == path.parent.name
            assert green == int(path.name[:2])
    assert len(dataset.fingerprint()) == 16


def test_the_provenance_of_a_folder(tmp_path, monkeypatch):
    fill(tmp_path / "photos", ["a", "b"])
    monkeypatch.chdir(tmp_path)
    assert load("photos", split_seed=3).provenance == {
        "kind": "folder",
        "place": str(tmp_path / "photos"),
        "validation_fraction": "0.15",
        "test_fraction": "0.15",
        "split_seed": "3",
    }


def test_the_home_folder_can_be_written_as_a_tilde(tmp_path, monkeypatch):
    fill(tmp_path / "photos", ["a", "b"])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("~/photos").provenance["place"] == str(tmp_path / "photos")
    assert "there is no folder" in refusal("~/none")


def test_equal_images_do_not_leak_across_splits(tmp_path):
    fill(tmp_path, ["a", "b"])
    for copy in (tmp_path / "a").glob("0[0-4].png"):
        (tmp_path / "a" / f"copy of {copy.name}").write_bytes(copy.read_bytes())
        (tmp_path / "b" / f"wrong {copy.name}").write_bytes(copy.read_bytes())
    for seed in range(5):
        sides = {}
        for name, split in load(tmp_path, split_seed=seed).splits.items():
            for path in split.paths:
                sides.setdefault(path.read_bytes(), set()).add(name)
        assert len(sides) == 20
        assert all(len(names) == 1 for names in sides.values())


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("mnist", True),
        ("imagenet2012:5.1.0", True),
        ("image_folder", True),
        ("digits", False),
        ("elpv", False),
        ("./mnist", False),
        ("/mnist", False),
        ("~/mnist", False),
        ("mnist/", False),
        ("list.csv", False),
        ("list.JSONL", False),
        ("here", False),
    ],
)
def test_what_is_a_tfds_name(tmp_path, monkeypatch, source, expected):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert is_tfds(source) is expected


@pytest.mark.parametrize("relative", ["data", "./data", "data/"])
def test_a_folder_can_be_named_from_where_one_stands(tmp_path, monkeypatch, relative):
    fill(tmp_path / "data", ["a", "b"])
    monkeypatch.chdir(tmp_path)
    assert load(relative).classes == ("a", "b")


def test_a_single_class_is_refused(tmp_path):
    fill(tmp_path, ["only"])
    assert "'only'" in refusal(tmp_path)


@pytest.mark.parametrize("inside", ["", "a/notes.txt", "loose.png", "a/.hidden.png"])
def test_a_folder_without_images_in_class_folders_is_refused(tmp_path, inside):
    if inside:
        (tmp_path / inside).parent.mkdir(exist_ok=True)
        (tmp_path / inside).write_bytes(b"x")
    message = refusal(tmp_path)
    assert repr(str(tmp_path)) in message
    assert ".jpg" in message


def test_a_missing_folder_is_refused(tmp_path):
    message = refusal(tmp_path / "none")
    assert repr(str(tmp_path / "none")) in message
    assert "there is no folder" in message


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    draw(tmp_path / "x.png")
    assert "is a file" in refusal(tmp_path / "x.png")


def test_no_source_lists_what_there_is():
    message = refusal("")
    assert all(word in message for word in ("--data", "elpv", "digits", "TFDS", "folder", ".csv", ".jsonl", "shards"))


def test_too_few_images_to_split_are_refused(tmp_path):
    fill(tmp_path, ["a", "b"], 1)
    message = refusal(tmp_path)
    assert "validation" in message
    assert "2 images" in message


@pytest.mark.parametrize("name", ["validation", "test"])
def test_a_fraction_of_0_is_named_where_the_source_lacks_the_split(tmp_path, name):
    fill(tmp_path, ["a", "b"])
    assert f"data.{name}_fraction" in refusal(tmp_path, **{f"{name}_fraction": 0})


def test_digits_are_the_1797_of_scikit_learn():
    from sklearn.datasets import load_digits

    dataset = load("digits")
    assert dataset.classes == tuple("0123456789")
    assert sum(sizes(dataset).values()) == 1797
    counts = np.bincount(np.concatenate([split.labels for split in dataset.splits.values()]))
    np.testing.assert_array_equal(counts, np.bincount(load_digits().target))
    split = dataset.splits["test"]
    for index in (0, 100, len(split) - 1):
        number = int(split.names[index].split("/")[1])
        grey = split.read(index, 1)
        assert grey.dtype == np.uint8
        np.testing.assert_allclose(grey[..., 0], load_digits().images[number] / 16 * 255, atol=0.5)
        np.testing.assert_array_equal(split.read(index, 3), np.repeat(grey, 3, axis=2))
        assert load_digits().target[number] == split.labels[index]


def test_the_provenance_of_the_digits():
    provenance = load("digits").provenance
    assert provenance["kind"] == "package"
    assert Path(provenance["place"]).parts[-2:] == ("sklearn", "datasets")
    assert provenance["version"] == importlib.metadata.version("scikit-learn")
    assert len(provenance["sha256"]) == 64
    assert provenance["split_seed"] == "0"


class TestElpv:
    """Photographs of solar cells, against its own labels.csv."""

    @pytest.fixture(scope="class")
    def dataset(self):
        pytest.importorskip("elpv_dataset")
        return load("elpv")

    @pytest.fixture(scope="class")
    def truth(self):
        """Number of the cell to class, by the definition: defective from a probability of 0.5."""
        package = pytest.importorskip("elpv_dataset")
        with open(Path(package.__file__).parent / "data" / "labels.csv", newline="") as file:
            rows = [[cell for cell in row if cell] for row in csv.reader(file, delimiter=" ")]
        return {
            int(
                Path(path).stem.removeprefix("cell")
            ): f"{crystal}-{'defective' if float(chance) > 0.5 else 'functional'}"
            for path, chance, crystal in rows
        }

    @staticmethod
    def cells(split):
        return np.asarray([int(Path(name).stem.removeprefix("cell")) for name in split.names])

    def test_counts_of_the_whole(self, truth):
        counts = {name: list(truth.values()).count(name) for name in sorted(set(truth.values()))}
        assert counts == {"mono-defective": 369, "mono-functional": 705, "poly-defective": 452, "poly-functional": 1098}

    def test_sizes_of_the_splits(self, dataset):
        assert sizes(dataset) == {"train": 1504, "validation": 300, "test": 360}

    def test_every_label_is_that_of_labels_csv(self, dataset, truth):
        for split in dataset.splits.values():
            labels = [dataset.classes[label] for label in split.labels]
            assert labels == [truth[cell] for cell in self.cells(split)]

    def test_no_module_of_60_cells_stands_in_two_splits(self, dataset):
        cells = {name: self.cells(split) for name, split in dataset.splits.items()}
        for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
            distance = np.abs(cells[first][:, None] - cells[second][None])
            assert distance.min() > 60

    def test_no_cell_stands_in_two_splits_in_another_photograph(self, dataset):
        hashes = {
            name: np.array([np.packbits(imagehash.phash(Image.open(path), hash_size=16).hash) for path in split.paths])
            for name, split in dataset.splits.items()
        }
        for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
            different = np.bitwise_count(hashes[first][:, None] ^ hashes[second][None]).sum(axis=-1)
            assert different.min() > 20  # of 256 bits: two photographs of a cell differ in 6 to 20, other cells in 118

    def test_every_class_stands_in_every_split_about_as_often_as_in_the_whole(self, dataset, truth):
        for split in dataset.splits.values():
            for label, name in enumerate(dataset.classes):
                share = list(truth.values()).count(name) / len(truth)
                assert abs((split.labels == label).mean() - share) < 0.1

    def test_the_provenance_names_the_package_and_its_labels(self, dataset):
        table = Path(dataset.provenance["place"]) / "labels.csv"
        assert dataset.provenance == {
            "kind": "package",
            "place": str(table.parent),
            "version": importlib.metadata.version("elpv-dataset"),
            "sha256": hashlib.sha256(table.read_bytes()).hexdigest(),
        }

    def test_images_are_300_px_of_one_channel(self, dataset):
        assert dataset.splits["test"].read(0, 1).shape == (300, 300, 1)

    def test_fractions_do_not_move_it(self, dataset):
        other = load("elpv", validation_fraction=0.4, test_fraction=0.4, split_seed=5)
        assert sizes(other) == sizes(dataset)


def test_two_folders_for_one_split_are_refused(tmp_path):
    for split in ("train", "val", "validation"):
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / label / "a.png")
    with pytest.raises(DataError, match="two folders for one split among train, val, validation"):
        load_dataset(DataConfig(source=str(tmp_path)))


def test_fractions_that_leave_nothing_for_training_are_refused():
    with pytest.raises(DataError, match="leave nothing for training"):
        load_dataset(DataConfig(source="digits", validation_fraction=0.6, test_fraction=0.4))
