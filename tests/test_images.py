"""The images of a split: which are read, where they are kept, and which part of them is cut out."""

import math

import numpy as np
import psutil
import pytest
import tensorflow as tf
from made_images import PLAIN, numbered, numbered_images, split_of
from PIL import Image

from keras_inception.config import DataConfig
from keras_inception.data.dataset import file_split
from keras_inception.data.decode import decode
from keras_inception.data.images import _allowed_memory, check_broken, lost_image, read_images, read_split
from keras_inception.data.pipeline import training_batches
from keras_inception.errors import DataError


@pytest.mark.usefixtures("where")
def test_broken_images_are_left_out_and_named():
    arrays = numbered(6)
    arrays[0] = arrays[3] = None
    images = read_images(split_of(arrays), DataConfig(**PLAIN))
    assert len(images) == 4
    assert list(images.names) == ["image 1", "image 2", "image 4", "image 5"]
    assert images.labels.tolist() == [1, 2, 1, 2]
    assert list(images.broken) == [
        f"image {i} cannot be decoded: its content is no JPEG, PNG, WebP, BMP or GIF" for i in (0, 3)
    ]
    assert [int(images.image(tf.constant(index))[0, 0, 2]) for index in range(4)] == [1, 2, 4, 5]


@pytest.mark.usefixtures("where")
def test_a_split_without_a_readable_image_is_refused_with_the_first():
    with pytest.raises(
        DataError, match="none of 3 images can be decoded; the first: image 0 cannot be decoded: its content"
    ):
        read_images(split_of([None] * 3), DataConfig(**PLAIN))


@pytest.mark.usefixtures("where")
def test_progress_counts_every_image():
    calls = []
    read_images(split_of([*numbered(3), None]), DataConfig(**PLAIN), lambda *call: calls.append(call))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_size_must_be_given():
    with pytest.raises(DataError, match=r"data\.image_size"):
        read_images(split_of(numbered(1)), DataConfig())


def make_folder(path, classes=("a", "b"), count=8):
    for name in classes:
        (path / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (6, 5), (index, 0, 0)).save(path / name / f"{index}.png")
    return DataConfig(source=str(path), image_size=4, validation_fraction=0.25, test_fraction=0.25)


def test_read_split_gives_the_images_of_that_split(tmp_path):
    config = make_folder(tmp_path)
    names = {name: set(read_split(config, ["a", "b"], name).names) for name in ("train", "validation", "test")}
    assert [len(split) for split in names.values()] == [8, 4, 4]
    assert len(set.union(*names.values())) == 16


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (3, 3), (4, 4), (100, 4), (None, 4)])
def test_read_split_spreads_a_limit_over_the_classes(tmp_path, limit, count):
    images = read_split(make_folder(tmp_path), ["a", "b"], "test", limit=limit)
    assert len(set(images.names)) == count
    if count > 1:
        assert set(images.labels.tolist()) == {0, 1}


@pytest.mark.parametrize("classes", [["a"], ["a", "c"], ["b", "a"], ["a", "b", "c"]])
def test_read_split_refuses_data_with_other_classes(tmp_path, classes):
    config = make_folder(tmp_path)
    with pytest.raises(DataError, match=f"trained on {', '.join(classes)}; .* now has a, b"):
        read_split(config, classes, "test")


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize("channels", [1, 3])
def test_any_window_of_any_file_is_what_pillow_shows_there(jpegs, channels):
    images = read_images(file_split(jpegs, [0] * 7), DataConfig(**PLAIN, channels=channels), whole=True)
    window = tf.function(images.window)
    random = np.random.default_rng(1)
    for index, path in enumerate(jpegs):
        pixels = decode(path, channels)
        assert tuple(images.shapes[index]) == pixels.shape[:2]
        np.testing.assert_array_equal(images.image(tf.constant(index)), pixels)
        for _ in range(12):
            top, left = (int(random.integers(0, side)) for side in pixels.shape[:2])
            height, width = (
                int(random.integers(1, side + 1)) for side in (pixels.shape[0] - top, pixels.shape[1] - left)
            )
            found = window(tf.constant(index, tf.int64), tf.constant([top, left, height, width]))
            np.testing.assert_array_equal(found, pixels[top : top + height, left : left + width])


@pytest.mark.parametrize(
    ("broken", "allowed", "passes"), [(1, 0.1, True), (2, 0.1, False), (1, 0, False), (0, 0, True)]
)
def test_more_broken_images_than_allowed_are_refused(broken, allowed, passes):
    arrays = [None] * broken + numbered(5 - broken)
    parts = [read_images(split_of(arrays), DataConfig(**PLAIN)), numbered_images(5)]
    if passes:
        check_broken(parts, allowed)
    else:
        with pytest.raises(DataError, match=f"{broken} of 10 images .* more than .* --max-broken; the first: image 0"):
            check_broken(parts, allowed)


@pytest.mark.parametrize(("share", "said"), [(0.4, "are kept in memory"), (0, "do not fit in memory")])
def test_where_images_are_kept_is_logged(share, said, monkeypatch, caplog):
    monkeypatch.setattr("keras_inception.data.images._MEMORY_SHARE", share)
    with caplog.at_level("INFO", logger="keras_inception"):
        read_images(split_of(numbered(3)), DataConfig(**PLAIN))
    assert f"3 images, 0 MB decoded, {said}" in caplog.text


def test_what_is_kept_is_given_up_once_it_does_not_fit(monkeypatch):
    arrays = numbered(5)
    free = psutil.virtual_memory()._replace(available=3 * arrays[0].size)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr("keras_inception.data.images._MEMORY_SHARE", 1)
    images = read_images(split_of(arrays), DataConfig(**PLAIN))
    arrays[0] = np.full_like(arrays[0], 200)  # read again
    assert (images.image(tf.constant(0)).numpy() == 200).all()


@pytest.mark.parametrize(
    ("groups", "limit", "allowed"),
    [
        ("0::/\n", "512000000\n", 512_000_000),
        ("0::/job/one\n", "8\n", 8),
        ("0::/\n", "max\n", math.inf),
        ("4:memory:/a\n0::/\n", "9\n", 9),
        ("4:memory:/a\n", None, math.inf),
        (None, None, math.inf),
    ],
)
def test_a_container_limits_what_is_kept(groups, limit, allowed, tmp_path, monkeypatch):
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
    if limit is not None:
        folder = tmp_path / "sys/fs/cgroup" / groups.strip().rpartition("::/")[2]
        folder.mkdir(parents=True)
        (folder / "memory.max").write_text(limit)
    assert _allowed_memory(tmp_path) == allowed
    monkeypatch.setattr("keras_inception.data.images._allowed_memory", lambda: allowed)
    images = read_images(split_of(arrays := numbered(5)), DataConfig(**PLAIN))
    arrays[0] = np.full_like(arrays[0], 200)
    decoded_again = bool((images.image(tf.constant(0)).numpy() == 200).all())
    assert decoded_again == (allowed < 2 * sum(array.size for array in arrays))


@pytest.mark.parametrize(("ending", "reason"), [("jpg", "No such file or directory"), ("png", "there is no such file")])
def test_an_image_that_goes_after_it_was_read_is_named(ending, reason, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_inception.data.images._MEMORY_SHARE", 0)
    paths = [tmp_path / f"a photo: {index}.{ending}" for index in range(3)]
    for path in paths:
        Image.new("RGB", (9, 9)).save(path)
    config = DataConfig(**PLAIN)
    images = read_images(file_split(paths, [0] * 3), config, whole=True)
    paths[1].unlink()
    with pytest.raises(tf.errors.OpError) as caught:
        next(iter(training_batches(images, config, batch_size=3, seed=0, outputs=[], classes=1)))
    said = lost_image(caught.value)
    assert said.startswith(str(paths[1]))
    assert said.endswith(reason)


def test_other_errors_name_no_image():
    assert lost_image(tf.errors.InternalError(None, None, "something else")) is None
