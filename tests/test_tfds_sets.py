"""Sets that TensorFlow Datasets itself prepares on the disk, from classes registered here, without a network."""

import http.server
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_inception.config import DataConfig
from keras_inception.data.sources import load_dataset
from keras_inception.data.tfds_sets import from_tfds
from keras_inception.errors import DataError


def load(source, **options):
    return load_dataset(DataConfig(source=str(source), **options))


def refusal(source, **options):
    with pytest.raises(DataError) as caught:
        load(source, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def sizes(dataset):
    return {name: len(split) for name, split in dataset.splits.items()}


@pytest.fixture(scope="module", autouse=True)
def builders():
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

    class KiSought(Base):
        SPLITS = {"train": 20, "test": 6}  # noqa: RUF012 - TFDS reads it from the class

        def _split_generators(self, dl_manager):
            hidden = ((key, {**example, "label": -1}) for key, example in self._generate_examples(6))
            return {"train": self._generate_examples(20), "test": hidden}

    class KiTestOnly(Base):
        SPLITS = {"test": 6}  # noqa: RUF012 - TFDS reads it from the class

    class KiNumbers(Base):
        def features(self):
            return tfds.features.FeaturesDict({"x": np.float32, "label": tfds.features.ClassLabel(names=["a", "b"])})

    class KiPairs(Base):
        def features(self):
            return tfds.features.FeaturesDict({"image": tfds.features.Image(), "caption": tfds.features.Text()})

    class KiGone(Base):
        url = ""

        def _split_generators(self, dl_manager):
            dl_manager.download(type(self).url)

    return {"gone": KiGone}


def numbers(dataset):
    """Of every split the numbers of its images, which are their pixels; labels must fit."""
    found = {}
    for name, split in dataset.splits.items():
        found[name] = [int(split.read(index, 1)[0, 0, 0]) for index in range(len(split))]
        assert [number % 2 for number in found[name]] == split.labels.tolist()
    return found


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_set_is_prepared_and_read(tmp_path):
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


def test_a_prepared_set_is_read_in_the_same_order_again(tmp_path):
    first, second = (load("ki_pictures", data_dir=str(tmp_path)).splits["train"] for _ in range(2))
    assert list(first.names) == list(second.names)
    assert [first.read(i, 1)[0, 0, 0] for i in range(16)] == [second.read(i, 1)[0, 0, 0] for i in range(16)]


@pytest.mark.parametrize("name", ["ki_pictures/other", "ki_pictures:1.0.0", "ki_pictures/other:1.0.0"])
def test_a_set_can_be_named_with_its_configuration_and_version(tmp_path, name):
    assert load(name, data_dir=str(tmp_path)).classes == ("cat", "dog")


def test_images_without_labels_are_not_tested_on(tmp_path):
    # As the test split of imagenet2012, whose labels are all -1.
    dataset = load("ki_unlabelled_test", data_dir=str(tmp_path), test_fraction=0.2)
    assert all(split.labels.min() >= 0 for split in dataset.splits.values())
    assert len(dataset.splits["test"]) == 4


def test_a_set_without_train_is_refused(tmp_path):
    message = refusal("ki_test_only", data_dir=str(tmp_path))
    assert "no split 'train'" in message
    assert "test" in message


@pytest.mark.parametrize(("name", "features"), [("ki_numbers", ["x", "label"]), ("ki_pairs", ["image", "caption"])])
def test_a_set_without_images_or_without_classes_is_refused_and_not_prepared(tmp_path, name, features):
    message = refusal(name, data_dir=str(tmp_path))
    assert all(repr(feature) in message for feature in features)
    assert not list(tmp_path.iterdir())


def test_a_set_of_texts_is_refused_before_it_is_downloaded(tmp_path):
    assert "no image with one class" in refusal("imdb_reviews", data_dir=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_set_whose_files_are_gone_from_their_server_is_refused(tmp_path, builders, monkeypatch):
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


def test_a_known_set_without_a_network_is_refused_in_one_line(tmp_path, monkeypatch):
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
def test_an_unknown_name_lists_the_nearest(name):
    message = refusal(name)
    assert repr(name) in message
    assert "fashion_mnist" in message


def test_a_misspelt_packaged_set_is_suggested():
    assert "elpv" in refusal("elvp").split("did you mean")[1]


def test_a_set_is_written_to_shards_once(tmp_path, caplog):
    caplog.set_level("INFO", logger="keras_inception")
    first = load("ki_pictures", data_dir=str(tmp_path))
    folder = tmp_path / "keras_inception" / "ki_pictures" / "plain" / "1.0.0"
    (said,) = [
        record.getMessage()
        for record in caplog.records
        if "shards" in record.getMessage() or "once" in record.getMessage()
    ]
    assert str(folder) in said
    assert "ki_pictures/plain/1.0.0" in said
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert set(before) == {"index.parquet", "shards.json", "test-00000.array_record", "train-00000.array_record"}
    caplog.clear()
    # Another seed carves another validation split, out of the same shards.
    other = load("ki_pictures", data_dir=str(tmp_path), split_seed=1, validation_fraction=0.3)
    assert not [record for record in caplog.records if "once" in record.getMessage()]
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert sizes(other) == {"train": 14, "validation": 6, "test": 6}
    assert sorted(numbers(other)["train"] + numbers(other)["validation"]) == list(range(20))
    assert first.provenance["place"] == str(folder)
    assert first.provenance["source_kind"] == "tfds"
    assert first.provenance["source_place"] == str(tmp_path / "ki_pictures" / "plain" / "1.0.0")
    assert first.provenance["source_examples"] == "test 6, train 20"


def test_images_are_kept_encoded_as_tfds_holds_them(tmp_path):
    import tensorflow_datasets as tfds

    split = load("ki_pictures", data_dir=str(tmp_path)).splits["test"]
    builder = tfds.builder("ki_pictures", data_dir=str(tmp_path))
    examples = builder.as_dataset(split="test", decoders={"image": tfds.decode.SkipDecoding()}).as_numpy_iterator()
    assert [split.source(index) for index in range(6)] == [example["image"] for example in examples]


def test_a_conversion_that_was_stopped_goes_on(tmp_path, monkeypatch):
    load("ki_pictures", data_dir=str(tmp_path / "whole"))
    folder = Path("keras_inception/ki_pictures/plain/1.0.0")
    replace = os.replace

    def stopped(beside, place):
        if Path(place).name == "test-00000.array_record":
            raise KeyboardInterrupt
        replace(beside, place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            load("ki_pictures", data_dir=str(tmp_path / "stopped"))
    unfinished = tmp_path / "stopped" / folder
    assert not (unfinished / "shards.json").exists()
    kept = (unfinished / "train-00000.array_record").stat().st_ino
    assert (
        numbers(load("ki_pictures", data_dir=str(tmp_path / "stopped")))["test"]
        == numbers(load("ki_pictures", data_dir=str(tmp_path / "whole")))["test"]
    )
    assert (unfinished / "train-00000.array_record").stat().st_ino == kept
    whole = content(tmp_path / "whole" / folder)
    for name, data in content(unfinished).items():
        if name != "shards.json":  # which names its source's place
            assert data == whole[name]


def test_damaged_shards_of_a_set_are_written_anew(tmp_path, caplog):
    caplog.set_level("INFO", logger="keras_inception")
    expected = numbers(load("ki_pictures", data_dir=str(tmp_path)))
    folder = tmp_path / "keras_inception" / "ki_pictures" / "plain" / "1.0.0"
    before = content(folder)
    (folder / "train-00000.array_record").unlink()
    assert numbers(load("ki_pictures", data_dir=str(tmp_path))) == expected
    assert content(folder) == before
    assert "is missing" in caplog.text


def test_a_set_that_was_prepared_anew_is_converted_anew(tmp_path):
    load("ki_pictures", data_dir=str(tmp_path))
    description = tmp_path / "keras_inception" / "ki_pictures" / "plain" / "1.0.0" / "shards.json"
    value = json.loads(description.read_text())
    value["source"]["bytes"] = "1"
    description.write_text(json.dumps(value))
    assert sizes(load("ki_pictures", data_dir=str(tmp_path))) == {"train": 16, "validation": 4, "test": 6}
    assert json.loads(description.read_text())["source"]["bytes"] != "1"


def test_a_set_in_array_record_files_is_read_as_it_is(tmp_path):
    import tensorflow_datasets as tfds

    tfds.builder("ki_sought", data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    dataset = load("ki_sought", data_dir=str(tmp_path), validation_fraction=0.2, test_fraction=0.2)
    assert sizes(dataset) == {"train": 12, "validation": 4, "test": 4}  # the set's own test is hidden
    assert sorted(number for found in numbers(dataset).values() for number in found) == list(range(20))
    assert dataset.provenance["kind"] == "tfds"
    assert dataset.provenance["set"] == "ki_sought/1.0.0"
    assert not (tmp_path / "keras_inception").exists()


def test_from_a_builder(tmp_path):
    import tensorflow_datasets as tfds

    builder = tfds.builder("ki_pictures/other", data_dir=str(tmp_path))
    dataset = from_tfds(builder, validation_fraction=0.3, seed=5)
    assert dataset.name == "ki_pictures/other/1.0.0"
    assert sizes(dataset) == {"train": 14, "validation": 6, "test": 6}
    assert dataset.provenance["split_seed"] == "5"
    assert (tmp_path / "keras_inception" / "ki_pictures" / "other" / "1.0.0" / "shards.json").exists()
    # Without the set's code, from its files alone.
    again = from_tfds(tfds.builder_from_directory(str(builder.data_dir)), validation_fraction=0.3, seed=5)
    assert again.fingerprint() == dataset.fingerprint()


def test_a_builders_folder_of_any_name_has_its_shards_beside_it(tmp_path):
    import tensorflow_datasets as tfds

    builder = tfds.builder("ki_pictures", data_dir=str(tmp_path))
    builder.download_and_prepare()
    moved = Path(builder.data_dir).rename(tmp_path / "moved")
    from_tfds(tfds.builder_from_directory(str(moved)))
    assert (tmp_path / "keras_inception" / "ki_pictures" / "plain" / "1.0.0" / "shards.json").exists()


class TestImageFolder:
    """The layout split/class/image, as `tfds.folder_dataset.ImageFolder` finds it."""

    @pytest.fixture
    def folder(self, tmp_path):
        for split, count in (("train", 20), ("val", 4)):
            for number in range(count):
                path = tmp_path / split / ["cat", "größe 猫"][number % 2] / f"{number:02}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (4, 3), number).save(path)
        return tmp_path

    def test_it_is_read_by_name(self, folder):
        dataset = load("image_folder", data_dir=str(folder), test_fraction=0.2)
        assert dataset.classes == ("cat", "größe 猫")
        assert sizes(dataset) == {"train": 16, "validation": 4, "test": 4}
        assert sorted(numbers(dataset)["validation"]) == [0, 1, 2, 3]
        assert dataset.splits["train"].paths is not None
        assert dataset.provenance["kind"] == "tfds image_folder"
        assert dataset.provenance["place"] == str(folder)
        assert {path.name for path in folder.iterdir()} == {"train", "val"}

    def test_it_is_read_from_python(self, folder):
        import tensorflow_datasets as tfds

        dataset = from_tfds(tfds.folder_dataset.ImageFolder(str(folder)), test_fraction=0.2)
        assert sizes(dataset) == {"train": 16, "validation": 4, "test": 4}

    def test_broken_files_are_found_when_they_are_read(self, folder):
        (folder / "val" / "cat" / "broken.jpg").symlink_to(folder / "none")
        split = load("image_folder", data_dir=str(folder)).splits["validation"]
        said = []
        for index in range(len(split)):
            try:
                split.read(index, 3)
            except DataError as error:
                said.append(str(error))
        assert said == [f"{folder}/val/cat/broken.jpg cannot be decoded: there is no such file"]

    def test_a_class_in_the_test_alone_is_refused(self, folder):
        (folder / "val" / "new").mkdir()
        Image.new("L", (4, 3)).save(folder / "val" / "new" / "x.png")
        assert "class 'new' that train lacks" in refusal("image_folder", data_dir=str(folder))

    def test_two_folders_for_one_split_are_refused(self, folder):
        (folder / "val").rename(folder / "Validation")
        (folder / "valid" / "cat").mkdir(parents=True)
        Image.new("L", (4, 3)).save(folder / "valid" / "cat" / "x.png")
        assert "two folders for the split 'validation'" in refusal("image_folder", data_dir=str(folder))

    def test_without_a_folder_or_without_train_it_is_refused(self, folder):
        assert "--data-dir" in refusal("image_folder")
        assert "there is no folder" in refusal("image_folder", data_dir=str(folder / "none"))
        assert "no images for train" in refusal("image_folder", data_dir=str(folder / "train"))


def test_the_command_line_converts_a_set(tmp_path, capfd):
    from keras_inception.cli import main

    assert main(["data", "convert", "ki_pictures", str(tmp_path / "out"), "--data-dir", str(tmp_path / "sets")]) == 0
    assert "26 images in 3 shards" in capfd.readouterr().out
    assert sizes(load(tmp_path / "out")) == {"train": 16, "validation": 4, "test": 6}
