"""What a user may name as data, on folders made here, on the packaged sets, and on TFDS without a network."""

import csv
import http.server
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_inception.config import DataConfig
from keras_inception.data.sources import image_files, load_dataset
from keras_inception.errors import DataError


def draw(path, colour=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (colour, colour, colour)).save(path, **options)


def fill(folder, classes, images=10, ending=".png"):
    """Class folders whose images have the class's position as their colour."""
    for colour, name in enumerate(classes):
        for index in range(images):
            draw(folder / name / f"{index:02}{ending}", colour)


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
    colours = {"zebra": 0, "my cat": 1, "größe 猫": 2}
    for split in dataset.splits.values():
        for index, (name, label) in enumerate(zip(split.names, split.labels, strict=True)):
            assert Path(name).parent.name == dataset.classes[label]
            image = split.read(index, 3)
            np.testing.assert_array_equal(image, np.full((3, 4, 3), colours[dataset.classes[label]]))
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
    (tmp_path / "a" / "folder.png").mkdir()
    draw(tmp_path / "a" / ".hidden.png")
    draw(tmp_path / "a" / ".cache" / "x.png")
    draw(tmp_path / ".hidden class" / "x.png")
    (tmp_path / "empty class").mkdir()
    dataset = load(tmp_path)
    assert dataset.classes == ("a", "b")
    assert sum(sizes(dataset).values()) == 10


def test_images_may_lie_deeper_and_be_of_every_format(tmp_path):
    for number, ending in enumerate([".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp", ".JPG", ".Png"]):
        draw(tmp_path / "a" / "deep" / f"er {number}" / f"x{ending}")
        draw(tmp_path / "b" / f"{number}{ending}")
    dataset = load(tmp_path)
    assert sum(sizes(dataset).values()) == 16
    for split in dataset.splits.values():
        assert all(split.read(index, 1).shape == (3, 4, 1) for index in range(len(split)))


def test_a_folder_below_a_hidden_one_can_be_given(tmp_path):
    fill(tmp_path / ".cache" / "data", ["a", "b"])
    assert load(tmp_path / ".cache" / "data").classes == ("a", "b")


def test_image_files_are_sorted(tmp_path):
    for name in ("b.png", "a.png", "c/a.png"):
        draw(tmp_path / name)
    assert image_files(tmp_path) == [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c" / "a.png"]


def test_a_broken_image_is_found_when_it_is_read(tmp_path):
    fill(tmp_path, ["a", "b"], 4)
    for path in (tmp_path / "a").iterdir():
        path.write_bytes(b"")
    split = load(tmp_path).splits["train"]
    index = split.labels.tolist().index(0)
    with pytest.raises(DataError, match=re.escape(split.names[index])):
        split.read(index, 3)


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
    assert all(word in message for word in ("--data", "elpv", "digits", "TFDS", "folder"))


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
        assert sizes(dataset) == {"train": 1604, "validation": 300, "test": 360}

    def test_every_label_is_that_of_labels_csv(self, dataset, truth):
        for split in dataset.splits.values():
            labels = [dataset.classes[label] for label in split.labels]
            assert labels == [truth[cell] for cell in self.cells(split)]

    def test_no_module_of_60_cells_stands_in_two_splits(self, dataset):
        cells = {name: self.cells(split) for name, split in dataset.splits.items()}
        for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
            distance = np.abs(cells[first][:, None] - cells[second][None])
            assert distance.min() > 60

    def test_every_class_stands_in_every_split_about_as_often_as_in_the_whole(self, dataset, truth):
        for split in dataset.splits.values():
            for label, name in enumerate(dataset.classes):
                share = list(truth.values()).count(name) / len(truth)
                assert abs((split.labels == label).mean() - share) < 0.1

    def test_images_are_300_px_of_one_channel(self, dataset):
        assert dataset.splits["test"].read(0, 1).shape == (300, 300, 1)

    def test_fractions_do_not_move_it(self, dataset):
        other = load("elpv", validation_fraction=0.4, test_fraction=0.4, split_seed=5)
        assert sizes(other) == sizes(dataset)


class TestTfds:
    """Sets that TensorFlow Datasets itself prepares on the disk, from classes registered here."""

    @pytest.fixture(scope="class", autouse=True)
    def builders(self):
        import tensorflow_datasets as tfds

        class Base(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            VERSION = tfds.core.Version("1.0.0")
            NAMES = ("cat", "dog")
            SPLITS: dict[str, int] = {}  # noqa: RUF012 - TFDS reads it from the class

            def _info(self):
                return tfds.core.DatasetInfo(builder=self, features=self.features(), supervised_keys=None)

            def features(self):
                image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
                return tfds.features.FeaturesDict({"label": tfds.features.ClassLabel(names=self.NAMES), "image": image})

            def _split_generators(self, dl_manager):
                return {name: self._generate_examples(count) for name, count in self.SPLITS.items()}

            def _generate_examples(self, count):
                for index in range(count):
                    yield index, {"image": np.full((4 + index, 5, 3), index, np.uint8), "label": index % 2}

        class KiPictures(Base):
            SPLITS = {"train": 20, "test": 6}  # noqa: RUF012 - TFDS reads it from the class
            BUILDER_CONFIGS = [  # noqa: RUF012 - TFDS reads it from the class
                tfds.core.BuilderConfig(name="plain", version="1.0.0"),
                tfds.core.BuilderConfig(name="other", version="1.0.0"),
            ]

        class KiUnlabelledTest(Base):
            SPLITS = {"train": 20, "test": 6}  # noqa: RUF012 - TFDS reads it from the class

            def _split_generators(self, dl_manager):
                hidden = ((key, {**example, "label": -1}) for key, example in self._generate_examples(6))
                return {"train": self._generate_examples(20), "test": hidden}

        class KiTestOnly(Base):
            SPLITS = {"test": 6}  # noqa: RUF012 - TFDS reads it from the class

        class KiNumbers(Base):
            def features(self):
                return tfds.features.FeaturesDict(
                    {"x": np.float32, "label": tfds.features.ClassLabel(names=["a", "b"])}
                )

        class KiPairs(Base):
            def features(self):
                return tfds.features.FeaturesDict({"image": tfds.features.Image(), "caption": tfds.features.Text()})

        class KiGone(Base):
            url = ""

            def _split_generators(self, dl_manager):
                dl_manager.download(type(self).url)

        return {"gone": KiGone}

    def test_a_set_is_prepared_and_read(self, tmp_path):
        dataset = load("ki_pictures", data_dir=str(tmp_path), validation_fraction=0.2)
        assert dataset.classes == ("cat", "dog")
        assert sizes(dataset) == {"train": 16, "validation": 4, "test": 6}
        seen = []
        for name, split in dataset.splits.items():
            for index in range(len(split)):
                image = split.read(index, 3)
                number = int(image[0, 0, 0])
                np.testing.assert_array_equal(image, np.full((4 + number, 5, 3), number))
                assert split.read(index, 1).shape == (4 + number, 5, 1)
                assert split.labels[index] == number % 2
                seen.append((name == "test", number))
        assert sorted(seen) == [(False, index) for index in range(20)] + [(True, index) for index in range(6)]

    def test_a_prepared_set_is_read_in_the_same_order_again(self, tmp_path):
        first, second = (load("ki_pictures", data_dir=str(tmp_path)).splits["train"] for _ in range(2))
        assert list(first.names) == list(second.names)
        assert [first.read(i, 1)[0, 0, 0] for i in range(16)] == [second.read(i, 1)[0, 0, 0] for i in range(16)]

    @pytest.mark.parametrize("name", ["ki_pictures/other", "ki_pictures:1.0.0", "ki_pictures/other:1.0.0"])
    def test_a_set_can_be_named_with_its_configuration_and_version(self, tmp_path, name):
        assert load(name, data_dir=str(tmp_path)).classes == ("cat", "dog")

    def test_images_without_labels_are_not_tested_on(self, tmp_path):
        # As the test split of imagenet2012, whose labels are all -1.
        dataset = load("ki_unlabelled_test", data_dir=str(tmp_path), test_fraction=0.2)
        assert all(split.labels.min() >= 0 for split in dataset.splits.values())
        assert len(dataset.splits["test"]) == 4

    def test_a_set_without_train_is_refused(self, tmp_path):
        message = refusal("ki_test_only", data_dir=str(tmp_path))
        assert "no split 'train'" in message
        assert "test" in message

    @pytest.mark.parametrize(("name", "features"), [("ki_numbers", ["x", "label"]), ("ki_pairs", ["image", "caption"])])
    def test_a_set_without_images_or_without_classes_is_refused_and_not_prepared(self, tmp_path, name, features):
        message = refusal(name, data_dir=str(tmp_path))
        assert all(repr(feature) in message for feature in features)
        assert not list(tmp_path.iterdir())

    def test_a_set_of_texts_is_refused_before_it_is_downloaded(self, tmp_path):
        assert "no image with one class" in refusal("imdb_reviews", data_dir=str(tmp_path))
        assert not list(tmp_path.iterdir())

    def test_a_set_whose_files_are_gone_from_their_server_is_refused(self, tmp_path, builders, monkeypatch):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        handler = type("Gone", (http.server.BaseHTTPRequestHandler,), {"log_message": lambda *args: None})
        handler.do_GET = lambda self: self.send_error(404)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever).start()
            try:
                monkeypatch.setattr(builders["gone"], "url", f"http://127.0.0.1:{server.server_port}/images.zip")
                message = refusal("ki_gone", data_dir=str(tmp_path))
            finally:
                server.shutdown()
        assert "'ki_gone'" in message
        assert str(tmp_path) in message
        assert "404" in message

    def test_a_known_set_without_a_network_is_refused_in_one_line(self, tmp_path, monkeypatch):
        # Every connection goes to a closed port of this machine; urllib3's waits between its ten attempts are left out.
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setattr("urllib3.util.retry.Retry.get_backoff_time", lambda self: 0)
        # A set of a single file: with several, the other attempts would go on after the test.
        message = refusal("cifar10", data_dir=str(tmp_path))
        assert "'cifar10' is not prepared" in message
        assert "could not be downloaded" in message
        assert str(tmp_path) in message

    @pytest.mark.parametrize("name", ["fashon_mnist", "fashion_mnst:3.0.1", "fashon_mnist/x"])
    def test_an_unknown_name_lists_the_nearest(self, name):
        message = refusal(name)
        assert repr(name) in message
        assert "fashion_mnist" in message

    def test_a_misspelt_packaged_set_is_suggested(self):
        assert "elpv" in refusal("elvp").split("did you mean")[1]


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
