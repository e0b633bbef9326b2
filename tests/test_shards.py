"""Shards: every image back as it was, from any thread; killed conversions; damaged and foreign folders."""

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image

from keras_inception.cli import main
from keras_inception.config import DataConfig
from keras_inception.data import conversion
from keras_inception.data.dataset import SPLITS, ImageDataset, Split, file_split
from keras_inception.data.sources import load_dataset
from keras_inception.errors import DataError


def load(path, **options):
    return load_dataset(DataConfig(source=str(path), **options))


def refusal(call, *arguments, **options):
    with pytest.raises(DataError) as caught:
        call(*arguments, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def content(folder):
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Two classes of 30 noisy JPEGs of about 5 kB."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for label in ("größe 猫", "dog"):
        (root / label).mkdir()
        for number in range(30):
            pixels = random.integers(0, 256, (60, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number:02}.jpg", quality=90)
    return root


@pytest.fixture(scope="session")
def undisturbed(photos, tmp_path_factory):
    """The photos in shards of 20 kB; tests must not change them."""
    folder = tmp_path_factory.mktemp("undisturbed") / "shards"
    conversion.convert(load(photos), folder, shard_bytes=20_000)
    return folder


@pytest.fixture
def copy(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "copy")
    return tmp_path / "copy"


def test_every_image_comes_back_as_it_was(photos, undisturbed):
    before, after = load(photos), load(undisturbed)
    assert after.classes == before.classes
    assert after.counts() == before.counts()
    for name in SPLITS:
        old, new = before.splits[name], after.splits[name]
        assert list(new.names) == list(old.names)
        assert new.labels.tolist() == old.labels.tolist()
        assert new.labels.dtype == np.int32
        assert new.groups is None
        for index in reversed(range(len(new))):
            assert new.source(index) == Path(old.names[index]).read_bytes()
            assert new.digest(index) == old.digest(index)
        np.testing.assert_array_equal(new.read(3, 3), old.read(3, 3))


def test_fractions_and_seeds_no_longer_move_anything(undisturbed):
    other = load(undisturbed, validation_fraction=0.4, test_fraction=0.01, split_seed=9)
    assert other.counts() == load(undisturbed).counts()


def test_the_provenance_names_the_shards_and_their_source(photos, undisturbed):
    files = json.loads((undisturbed / "shards.json").read_text())["shards"]
    sha256 = hashlib.sha256("".join(file["sha256"] for file in files).encode()).hexdigest()
    assert load(undisturbed).provenance == {
        "kind": "shards",
        "place": str(undisturbed),
        "format": "1",
        "sha256": sha256,
        "left_out": "0",
        "source_kind": "folder",
        "source_place": str(photos),
        "source_name": str(photos),
        "source_fingerprint": load(photos).fingerprint(),
        "source_validation_fraction": "0.15",
        "source_test_fraction": "0.15",
        "source_split_seed": "0",
    }


def test_index_and_description_are_true(photos, undisturbed):
    description = json.loads((undisturbed / "shards.json").read_text(encoding="utf-8"))
    assert description["classes"] == ["dog", "größe 猫"]
    files = description["shards"]
    assert {file["file"] for file in files} | {"shards.json", "index.parquet"} == set(os.listdir(undisturbed))
    assert len(files) > 12
    for file in [*files, description["index"]]:
        data = (undisturbed / file["file"]).read_bytes()
        assert file["bytes"] == len(data)
        assert file["sha256"] == hashlib.sha256(data).hexdigest()
    rows = pq.read_table(undisturbed / "index.parquet").to_pylist()
    assert len(rows) == 60
    for file in files:
        reader = ArrayRecordReader(str(undisturbed / file["file"]))
        records = reader.read_all()
        of_file = [row for row in rows if row["shard"] == file["file"]]
        assert [row["record"] for row in of_file] == list(range(len(records)))
        assert file["records"] == len(records) == file["stop"] - file["start"]
        assert sum(map(len, records)) <= 20_000
        for row, record in zip(of_file, records, strict=True):
            assert record == Path(row["name"]).read_bytes()
            assert row["sha256"] == hashlib.sha256(record).digest()
            assert row["split"] == file["split"] == file["file"].split("-")[0]
            assert description["classes"][row["label"]] == Path(row["name"]).parent.name
            assert row["group"] == ""


def test_many_threads_read_at_once(photos, undisturbed):
    split = load(undisturbed).splits["train"]
    expected = [Path(name).read_bytes() for name in split.names]
    order = np.random.default_rng(0).integers(0, len(split), 4000)
    with ThreadPoolExecutor(16) as pool:
        for index, data in zip(order, pool.map(split.source, order.tolist()), strict=True):
            assert data == expected[index]


def test_pixels_become_png_and_groups_stay(tmp_path):
    shapes = [(4, 5), (3, 4, 1), (2, 3, 3)]
    images = [np.full(shapes[index % 3], index, np.uint8) for index in range(30)]
    groups = [f"burst {index % 10}" for index in range(30)]
    before = ImageDataset.from_arrays(images, [index % 2 for index in range(30)], groups=groups)
    conversion.convert(before, tmp_path / "out")
    after = load(tmp_path / "out")
    for name in SPLITS:
        assert list(after.splits[name].groups) == list(before.splits[name].groups)
        for index in range(len(after.splits[name])):
            assert after.splits[name].source(index).startswith(b"\x89PNG")
            np.testing.assert_array_equal(after.splits[name].read(index, 3), before.splits[name].read(index, 3))


def dirty(root):
    """Photos among which are broken images, and entries that cannot be read at all."""
    for label in "ab":
        (root / label).mkdir(parents=True)
        for number in range(10):
            Image.new("L", (8, 8), number).save(root / label / f"{number}.png")
    (root / "a" / "empty.jpg").write_bytes(b"")
    (root / "a" / "text.jpg").write_text("404")
    (root / "a" / "folder.png").mkdir()
    (root / "b" / "link\n.png").symlink_to(root / "none.png")
    return root


def test_broken_images_stay_and_unreadable_ones_are_listed(tmp_path):
    source = dirty(tmp_path / "in")
    written = conversion.convert(load(source), tmp_path / "out")
    left_out = sorted(line for shard in written for line in shard.left_out)
    assert left_out == [
        f"{source}/a/folder.png cannot be read: it is a folder",
        f"{source}/b/link\\n.png cannot be read: there is no such file",
    ]
    dataset = load(tmp_path / "out")
    assert dataset.provenance["left_out"] == "2"
    kept = {name: split.source(i) for split in dataset.splits.values() for i, name in enumerate(split.names)}
    assert len(kept) == 22
    assert kept[f"{source}/a/empty.jpg"] == b""
    assert kept[f"{source}/a/text.jpg"] == b"404"
    assert all(data == Path(name).read_bytes() for name, data in kept.items())


def test_names_that_are_no_utf_8(tmp_path):
    for label in (b"a", b"b\xff"):
        folder = os.path.join(os.fsencode(tmp_path / "in"), label)
        os.makedirs(folder)
        for number in range(10):
            Image.new("L", (8, 8), number).save(Path(os.fsdecode(folder)) / f"{number}\udcfe.png")
    output = tmp_path / "out\udcff"
    conversion.convert(load(tmp_path / "in"), output)
    dataset = load(output)
    assert dataset.classes == ("a", "b\\udcff")
    assert dataset.splits["train"].read(0, 3).shape == (8, 8, 3)
    assert [shard.records for shard in conversion.convert(load(tmp_path / "in"), output)] == [12, 4, 4]


# Runs the command line, and kills itself at the n-th file that takes its place or is brought to the disk.
KILLED = """
import os, signal, sys
from keras_inception.cli import main
left = int(sys.argv[1])
def counted(call):
    def then(*arguments):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments)
    return then
os.replace, os.fsync = counted(os.replace), counted(os.fsync)
sys.exit(main(sys.argv[2:]))
"""


def converted_in_pieces(source, output, steps, *options):
    """Convert through the command line, killed after every so many steps, until it ends; return how often."""
    command = [*("data", "convert", str(source), str(output), "--shard-size-mb", "1"), *options]
    for kills, step in enumerate(steps):
        child = subprocess.run(
            [sys.executable, "-c", KILLED, str(step), *command], capture_output=True, text=True, check=False
        )
        if child.returncode == 0:
            return kills
        assert child.returncode == -signal.SIGKILL, child.stderr
        assert (
            not (output / "shards.json").exists() or not (output / "unfinished" / "train-00000.array_record").exists()
        )
    raise AssertionError("never finished")


@pytest.fixture(scope="session")
def scans(tmp_path_factory):
    """Two classes of 20 BMPs of 196 kB: 5 to a shard of 1 MB."""
    root = tmp_path_factory.mktemp("scans")
    random = np.random.default_rng(1)
    for label in "ab":
        (root / label).mkdir()
        for number in range(20):
            pixels = random.integers(0, 256, (256, 256, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number:02}.bmp")
    return root


@pytest.fixture(scope="session")
def whole(scans, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "shards"
    assert main(["data", "convert", str(scans), str(folder), "--shard-size-mb", "1"]) == 0
    return content(folder)


def test_killed_again_and_again_it_ends_like_one_that_was_left_alone(scans, whole, tmp_path):
    # 1: before anything stands; then in shards, between a shard and its part of the index, and at the very end.
    kills = converted_in_pieces(scans, tmp_path / "out", [1, 4, 7, 10, 12, 999])
    assert kills == 5
    assert content(tmp_path / "out") == whole
    assert set(os.listdir(tmp_path)) == {"out"}


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 34, 2))
def test_killed_at_any_moment(scans, whole, tmp_path, step):
    converted_in_pieces(scans, tmp_path / "out", [step, step, 999])
    assert content(tmp_path / "out") == whole


def test_killed_from_outside_it_keeps_what_was_finished(scans, whole, tmp_path):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "keras_inception", "data", "convert", str(scans), str(output)]
    with subprocess.Popen([*command, "--shard-size-mb", "1"], stdout=subprocess.DEVNULL) as child:
        while child.poll() is None and not (output / "train-00002.array_record").exists():
            time.sleep(0.001)
        child.kill()
    kept = {path.name: path.stat().st_ino for path in (output).glob("train-0000[01].array_record")}
    assert len(kept) == 2
    assert main([*command[3:], "--shard-size-mb", "1"]) == 0
    assert content(output) == whole
    assert {name: (output / name).stat().st_ino for name in kept} == kept


def test_an_unfinished_folder_is_refused_as_a_source(copy):
    (copy / "shards.json").unlink()
    (copy / "unfinished").mkdir()
    (copy / "unfinished" / "conversion.json").write_text("{}")
    assert "'keras-inception data convert' again" in refusal(load, copy)


def convert(source, folder, shard_bytes=20_000, **options):
    return conversion.convert(load(source), folder, shard_bytes=shard_bytes, **options)


def test_a_finished_one_is_left_as_it_is(photos, copy, undisturbed):
    before = {path.name: path.stat().st_ino for path in copy.glob("*.array_record")}
    seen = []
    convert(photos, copy, on_images=lambda done, total: seen.append((done, total)))
    assert content(copy) == content(undisturbed)
    assert {path.name: path.stat().st_ino for path in copy.glob("*.array_record")} == before
    assert seen[-1] == (60, 60)


def test_progress_counts_every_image(photos, tmp_path):
    seen = []
    convert(photos, tmp_path / "out", on_images=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 60) for done in range(1, 61)]


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "index"])
def test_a_damaged_shard_is_written_anew_and_no_other(photos, copy, undisturbed, damage):
    file = copy / ("index.parquet" if damage == "index" else "train-00003.array_record")
    before = {path.name: path.stat().st_ino for path in copy.glob("*.array_record") if path != file}
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        os.truncate(file, 100)
    else:
        flip(file, 20_000 if damage == "flipped" else 200)
    convert(photos, copy)
    assert content(copy) == content(undisturbed)
    if damage != "index":
        assert {name: (copy / name).stat().st_ino for name in before} == before


def test_a_damaged_record_is_a_broken_image(copy, undisturbed):
    flip(copy / "train-00000.array_record", 8_000)
    split, intact = load(copy).splits["train"], load(undisturbed).splits["train"]
    broken = []
    for index in range(len(split)):
        try:
            assert split.source(index) == intact.source(index)
        except DataError as error:
            broken.append(str(error))
    (message,) = broken
    assert len(message.splitlines()) == 1
    assert "train-00000.array_record" in message
    assert "convert the source again" in message


@pytest.mark.parametrize("channels", [3, 1])  # decoded by TensorFlow, and by Pillow
def test_a_record_damaged_while_it_is_used_is_named(copy, monkeypatch, channels):
    import tensorflow as tf

    from keras_inception.data.images import lost_image, read_images
    from keras_inception.data.pipeline import evaluation_batches

    monkeypatch.setattr("keras_inception.data.images._MEMORY_SHARE", 0)
    config = DataConfig(image_size=8, channels=channels)
    images = read_images(load(copy).splits["train"], config)
    assert images.broken == []
    flip(copy / "train-00000.array_record", 8_000)
    batches = evaluation_batches(images, config, batch_size=len(images), outputs=[], classes=2)
    with pytest.raises(tf.errors.OpError) as caught:
        next(iter(batches))
    said = lost_image(caught.value)
    assert re.match(rf"record \d of {re.escape(str(copy))}/train-00000\.array_record cannot be read; convert", said)
    assert len(said.splitlines()) == 1


def test_a_shard_that_goes_while_it_is_used_gives_broken_images(copy):
    split = load(copy).splits["train"]
    (copy / "train-00000.array_record").unlink()
    assert "cannot be read" in refusal(split.read, 0, 3)


@pytest.mark.parametrize("file", ["train-00001.array_record", "index.parquet"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_and_missing_shards_are_refused_when_they_are_opened(copy, file, damage):
    if damage == "gone":
        (copy / file).unlink()
    else:
        os.truncate(copy / file, 50)
    message = refusal(load, copy)
    assert file in message
    assert ("missing" if damage == "gone" else "damaged") in message


def test_a_damaged_index_or_description_is_refused(copy):
    flip(copy / "index.parquet", 200)
    assert "index.parquet' is damaged" in refusal(load, copy)
    (copy / "shards.json").write_text("{")
    assert "shards.json' is damaged" in refusal(load, copy)


def test_shards_of_a_later_format_are_refused(copy):
    description = json.loads((copy / "shards.json").read_text())
    (copy / "shards.json").write_text(json.dumps({**description, "format": 2}))
    assert "format 2; this version reads 1" in refusal(load, copy)


def test_a_folder_of_something_else_is_refused_and_kept(photos, tmp_path):
    (tmp_path / "precious\n.txt").write_text("x")
    message = refusal(convert, photos, tmp_path, overwrite=True)
    assert "holds something else" in message
    assert "precious\\n.txt" in message
    assert os.listdir(tmp_path) == ["precious\n.txt"]


def test_shards_without_a_description_and_files_among_shards_are_not_deleted(photos, copy):
    (copy / "notes.txt").write_text("x")
    assert "notes.txt" in refusal(convert, photos, copy, overwrite=True)
    (copy / "notes.txt").unlink()
    (copy / "shards.json").unlink()
    before = content(copy)
    assert "holds something else" in refusal(convert, photos, copy, overwrite=True)
    assert content(copy) == before


def test_a_file_in_place_of_the_folder_is_refused(photos, tmp_path):
    (tmp_path / "x").write_text("x")
    assert "is a file" in refusal(convert, photos, tmp_path / "x")


@pytest.mark.parametrize("spelt", ["copy", "./copy/", "here/../copy", "link", "link/../link", "above/copy"])
def test_the_source_itself_is_refused_however_it_is_spelt(copy, tmp_path, monkeypatch, spelt):
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(copy)
    (tmp_path / "above").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = content(copy)
    for source, output in ((copy, spelt), (spelt, copy), ("copy", spelt)):
        assert "is the source itself" in refusal(convert, source, Path(output), overwrite=True)
    assert content(copy) == before


@pytest.mark.parametrize("place", ["file/shards", "/proc/shards", "x" * 300])
def test_a_place_where_no_folder_can_be_made_is_refused(photos, tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("x")
    monkeypatch.chdir(tmp_path)
    message = refusal(convert, photos, Path(place))
    assert message.startswith(f"{place!r} cannot hold shards: ")
    assert message.endswith("; give another folder")


def test_a_folder_that_may_not_be_written_is_refused(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # as root, who may run this, may write all
    assert refusal(convert, photos, tmp_path / "out").startswith(f"{str(tmp_path / 'out')!r} may not be written; give")
    assert os.listdir(tmp_path / "out") == []


def test_a_description_that_may_not_be_read_is_refused(photos, copy, monkeypatch):
    def refused(path, *arguments, **options):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(Path, "read_text", refused)
    message = f"{str(copy / 'shards.json')!r} may not be read; give yourself the permission"
    assert refusal(load, copy) == refusal(convert, photos, copy) == message


def test_shards_without_images_for_train_are_refused(tmp_path):
    gone = file_split([tmp_path / f"{number}.png" for number in range(4)], [0, 1, 0, 1])
    there = Split(["x"] * 4, np.asarray([0, 1, 0, 1], np.int32), lambda index: b"x")
    splits = {"train": gone, "validation": there, "test": there}
    written = conversion.convert(ImageDataset("n", ("a", "b"), splits), tmp_path / "out")
    assert [shard.records for shard in written] == [0, 4, 4]
    assert "holds no images for train; delete it and convert the source again" in refusal(load, tmp_path / "out")


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_that_cannot_be_is_refused(photos, tmp_path, size):
    assert "give a size" in refusal(convert, photos, tmp_path / "out", size)


@pytest.mark.parametrize("other", ["source", "size"])
def test_a_finished_conversion_of_another_kind_is_replaced_only_on_demand(photos, scans, copy, other):
    source, size = (scans, 20_000) if other == "source" else (photos, 50_000)
    before = content(copy)
    assert "give --overwrite" in refusal(convert, source, copy, size)
    assert content(copy) == before
    convert(source, copy, size, overwrite=True)
    assert load(copy).counts() == load(source).counts()
    listed = {shard["file"] for shard in json.loads((copy / "shards.json").read_text())["shards"]}
    assert {path.name for path in copy.iterdir()} == listed | {"shards.json", "index.parquet"}


def test_an_unfinished_conversion_of_another_source_is_replaced_only_on_demand(photos, scans, whole, tmp_path):
    def stopped(done, total):
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(photos, tmp_path / "out", on_images=stopped)
    assert "an unfinished conversion of another source" in refusal(convert, scans, tmp_path / "out", 1_000_000)
    convert(scans, tmp_path / "out", 1_000_000, overwrite=True)
    assert content(tmp_path / "out") == whole


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 9))
@pytest.mark.parametrize("finished", [True, False])
def test_a_replacement_killed_at_any_moment_goes_on(photos, scans, whole, undisturbed, tmp_path, step, finished):
    output = tmp_path / "out"
    if finished:
        shutil.copytree(undisturbed, output)
    else:
        with pytest.raises(AssertionError, match="never finished"):
            converted_in_pieces(photos, output, [2])
    converted_in_pieces(scans, output, [step, 999], "--overwrite")
    assert content(output) == whole


def test_a_replacement_that_is_killed_goes_on(photos, scans, whole, copy):
    kills = converted_in_pieces(scans, copy, [2, 3, 9, 999], "--overwrite")
    assert kills == 3
    assert content(copy) == whole


def test_two_at_once_do_not_disturb_each_other(scans, whole, tmp_path):
    command = [sys.executable, "-m", "keras_inception", "data", "convert", str(scans), str(tmp_path / "out")]
    both = [
        subprocess.Popen([*command, "--shard-size-mb", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [child.wait() for child in both] == [0, 0]
    assert content(tmp_path / "out") == whole


def test_a_disk_that_is_full_ends_in_one_line(photos, tmp_path, monkeypatch):
    class Full:
        def __init__(self, path, options):
            pass

        def write(self, record):
            raise RuntimeError("write() failed: No space left on device;\nwriting x")

    monkeypatch.setattr("array_record.python.array_record_module.ArrayRecordWriter", Full)
    assert "No space left on device" in refusal(convert, photos, tmp_path / "out")


def test_shards_of_shards(photos, undisturbed, tmp_path):
    convert(undisturbed, tmp_path / "out", 10**9)
    again = load(tmp_path / "out")
    assert again.counts() == load(photos).counts()
    assert list(again.splits["test"].names) == list(load(photos).splits["test"].names)
    assert len(list((tmp_path / "out").glob("*.array_record"))) == 3


def test_a_damaged_record_is_left_out_of_shards_of_shards(copy, tmp_path):
    flip(copy / "train-00000.array_record", 8_000)
    written = convert(copy, tmp_path / "out")
    (line,) = [line for shard in written for line in shard.left_out]
    assert "train-00000.array_record" in line


def test_the_command_line_says_what_it_wrote_and_what_it_left_out(tmp_path, capsys):
    source = dirty(tmp_path / "in")
    assert main(["data", "convert", str(source), str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^22 images in 3 shards, 0\.\d MB, stand in .*out$", out, re.MULTILINE)
    assert f"left out: {source}/a/folder.png cannot be read: it is a folder" in out.splitlines()
    assert main(["data", "convert", str(source), str(tmp_path / "out"), "--shard-size-mb", "2"]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "give --overwrite" in err


def test_an_empty_image_stays_one(tmp_path):
    split = Split(["x"] * 4, np.asarray([0, 1, 0, 1], np.int32), lambda index: b"")
    dataset = ImageDataset("n", ("a", "b"), dict.fromkeys(SPLITS, split))
    conversion.convert(dataset, tmp_path / "out")
    assert [load(tmp_path / "out").splits["test"].source(index) for index in range(4)] == [b""] * 4


def test_originals_are_not_changed(photos, tmp_path):
    before = content(photos)
    convert(photos, tmp_path / "out")
    assert content(photos) == before
    name = next(name for name in before if name.endswith(".jpg"))
    assert Image.open(io.BytesIO(before[name])).format == "JPEG"
