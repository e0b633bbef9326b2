"""Batches: which images, in which order, turned how, with which values; and the geometry of resize and crop."""

import dataclasses
import functools
import itertools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings, strategies as st
from made_images import PLAIN, coloured, numbered, numbered_images, split_of
from PIL import Image

from keras_inception.config import DataConfig
from keras_inception.data import pipeline
from keras_inception.data.crops import resized, test_crops as crops_of
from keras_inception.data.dataset import Split, file_split
from keras_inception.data.decode import decode
from keras_inception.data.images import read_images, read_split
from keras_inception.data.pipeline import crop_batches, evaluation_views, network_input, training_views
from keras_inception.errors import ConfigError


def training_batches(images, config, **options):
    """Inputs and labels as numbers; weights and one-hot labels have tests of their own."""
    return pipeline.training_batches(images, config, classes=9, **options).map(plain_labels)


def evaluation_batches(images, config, **options):
    return pipeline.evaluation_batches(images, config, classes=9, **options).map(plain_labels)


def plain_labels(inputs, labels, weights):
    return inputs, {name: tf.argmax(of_output, axis=-1, output_type=tf.int32) for name, of_output in labels.items()}


def batches(images, steps, *, batch_size, seed=0, first_epoch=0, outputs=("main",), **config):
    config = DataConfig(**PLAIN | {"flip_horizontal": False, "random_crop": False} | config)
    first_step = first_epoch * (len(images) // batch_size)
    stream = training_batches(images, config, batch_size=batch_size, seed=seed, outputs=outputs, first_step=first_step)
    return list(stream.take(steps).as_numpy_iterator())


def numbers(batch_list):
    """Which images, in order."""
    return [int(image[0, 0, 2]) for inputs, _ in batch_list for image in inputs]


@pytest.mark.usefixtures("where")
def test_broken_images_are_in_no_batch():
    arrays = numbered(6)
    arrays[0] = arrays[3] = None
    config = DataConfig(**PLAIN)
    images = read_images(split_of(arrays), config)
    found = list(evaluation_batches(images, config, batch_size=3, outputs=["main"]).as_numpy_iterator())
    assert numbers(found) == [1, 2, 4, 5]
    assert np.concatenate([labels["main"] for _, labels in found]).tolist() == [1, 2, 1, 2]
    assert sorted(numbers(batches(images, 2, batch_size=2))) == [1, 2, 4, 5]


def test_images_in_memory_and_from_files_give_the_same_batches(monkeypatch):
    random = np.random.default_rng(0)
    arrays = [random.integers(0, 256, (*random.integers(5, 40, 2), 3), dtype=np.uint8) for _ in range(10)]
    arrays[4] = None
    config = DataConfig(image_size=8, flip_vertical=True, random_crop=False)
    kept = read_images(split_of(arrays), config)
    monkeypatch.setattr("keras_inception.data.images._MEMORY_SHARE", 0)
    streamed = read_images(split_of(arrays), config)
    options = {"batch_size": 4, "outputs": ["main"]}
    for make in (
        lambda images: training_batches(images, config, seed=3, **options).take(6),
        lambda images: evaluation_batches(images, config, **options),
    ):
        for (first, labels), (second, others) in zip(make(kept), make(streamed), strict=True):
            np.testing.assert_array_equal(first, second)
            np.testing.assert_array_equal(labels["main"], others["main"])


def test_images_from_files_are_decoded_when_they_are_used(monkeypatch):
    monkeypatch.setattr("keras_inception.data.images._MEMORY_SHARE", 0)
    arrays = numbered(2)
    images = read_images(split_of(arrays), DataConfig(**PLAIN))
    arrays[1] = np.full_like(arrays[1], 200)
    (inputs, _), *_ = evaluation_batches(images, DataConfig(**PLAIN), batch_size=2, outputs=["main"])
    assert (inputs[1] == 200).numpy().all()


# Order of training.


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31 - 1))
@example(1, 1, 0)
@example(12, 12, 2**32 - 1)
def test_an_epoch_never_shows_an_image_twice(count, batch_size, seed):
    batch_size = min(batch_size, count)
    steps = count // batch_size
    shown = batches(numbered_images(count), 2 * steps, batch_size=batch_size, seed=seed)
    for epoch in (shown[:steps], shown[steps:]):
        order = numbers(epoch)
        assert len(set(order)) == len(order) == steps * batch_size
        assert all(label == number % 3 for number, label in zip(order, labels_of(epoch), strict=True))
    if count % batch_size == 0:
        assert sorted(numbers(shown[:steps])) == list(range(count))


def labels_of(batch_list):
    return [int(label) for _, labels in batch_list for label in labels["main"]]


def test_orders_differ_between_epochs_and_seeds_and_come_back_with_the_seed():
    images = numbered_images(16)
    first = numbers(batches(images, 8, batch_size=4, seed=1))
    assert first[:16] != first[16:]
    assert first[:16] != list(range(16))
    assert numbers(batches(images, 8, batch_size=4, seed=1)) == first
    assert numbers(batches(images, 8, batch_size=4, seed=2)) != first


def test_the_order_does_not_depend_on_the_size_of_a_batch_that_divides():
    images = numbered_images(12)
    assert numbers(batches(images, 12, batch_size=2)) == numbers(batches(images, 4, batch_size=6))


def test_every_order_of_three_images_occurs():
    order = numbers(batches(numbered_images(3), 150, batch_size=3))
    assert len({tuple(order[start : start + 3]) for start in range(0, 450, 3)}) == 6


def test_images_left_over_in_one_epoch_are_used_in_others():
    assert set(numbers(batches(numbered_images(5), 40, batch_size=3))) == set(range(5))


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 10), st.integers(1, 10), st.integers(0, 2**31 - 1), st.integers(0, 4))
@example(4, 2, 7, 1000)
def test_beginning_with_an_epoch_equals_skipping_those_before(count, batch_size, seed, epoch):
    batch_size = min(batch_size, count)
    steps = count // batch_size
    options = {"batch_size": batch_size, "seed": seed, "flip_horizontal": True, "flip_vertical": True}
    images = numbered_images(count)
    # Entered one epoch earlier, so that epoch 1000 needs no thousand epochs.
    start = max(0, epoch - 4)
    whole = batches(images, (epoch - start + 1) * steps, first_epoch=start, **options)[(epoch - start) * steps :]
    entered = batches(images, steps, first_epoch=epoch, **options)
    for (inputs, labels), (others, other_labels) in zip(entered, whole, strict=True):
        np.testing.assert_array_equal(inputs, others)
        np.testing.assert_array_equal(labels["main"], other_labels["main"])


def test_batches_are_endless_and_all_of_the_same_size():
    shown = batches(numbered_images(5), 30, batch_size=2)
    assert len(shown) == 30
    assert {inputs.shape for inputs, _ in shown} == {(2, 4, 4, 3)}


# Flips.


def variants(shown):
    """For every image shown, its number and whether it is turned (horizontally, vertically)."""
    source = numbered(1)[0][..., :2]
    kinds = {(h, v): source[:: 1 - 2 * v, :: 1 - 2 * h] for h in (0, 1) for v in (0, 1)}
    found = []
    for inputs, _ in shown:
        for image in inputs:
            (kind,) = [kind for kind, pixels in kinds.items() if np.array_equal(image[..., :2], pixels)]
            found.append((int(image[0, 0, 2]), kind))
    return found


@pytest.mark.parametrize(("horizontal", "vertical"), [(False, False), (True, False), (False, True), (True, True)])
def test_flips_are_those_that_were_asked_for_each_half_of_the_time(horizontal, vertical):
    shown = batches(numbered_images(8), 50, batch_size=8, flip_horizontal=horizontal, flip_vertical=vertical)
    kinds = [kind for _, kind in variants(shown)]
    assert set(kinds) == {(h, v) for h in range(1 + horizontal) for v in range(1 + vertical)}
    # 400 images: five standard deviations of a fair coin are 50; of two, 43.
    for kind in set(kinds):
        assert abs(kinds.count(kind) - 400 / len(set(kinds))) < 51


def test_a_flip_is_of_the_seed_the_epoch_and_the_image_and_not_of_the_batch():
    images = numbered_images(8)

    def turned(seed=0, batch_size=4, first_epoch=0):
        options = {"flip_horizontal": True, "flip_vertical": True, "first_epoch": first_epoch}
        return dict(variants(batches(images, 8 // batch_size, batch_size=batch_size, seed=seed, **options)))

    assert turned(batch_size=2) == turned(batch_size=8)
    assert turned(seed=1) != turned(seed=2)
    assert turned(first_epoch=1) != turned(first_epoch=2)
    assert len(set(turned().values())) > 1


@functools.cache
def grey_images(*tones):
    """Two hundred images whose columns have these tones in turn."""
    image = np.zeros((4, 4, 3), np.uint8)
    for start, tone in enumerate(tones):
        image[:, start :: len(tones)] = tone
    return read_images(split_of([image] * 200), DataConfig(**PLAIN))


@pytest.mark.parametrize(("tone", "low", "high"), [(128, 77, 179), (10, 0, 61), (250, 199, 255)])
def test_brightness_moves_all_pixels_alike_by_at_most_its_share_and_never_past_black_or_white(tone, low, high):
    ((inputs, _),) = batches(grey_images(tone), 1, batch_size=200, brightness=0.2)
    assert (inputs == inputs[:, :1, :1, :1]).all()
    found = inputs[:, 0, 0, 0]
    # Of 200 even draws between the ends, some are surely within a tenth of each end.
    assert low - 1 <= found.min() <= low + (high - low) / 10
    assert high - (high - low) / 10 <= found.max() <= high + 1


def test_contrast_stretches_about_the_mean_by_at_most_its_share():
    ((inputs, _),) = batches(grey_images(78, 178), 1, batch_size=200, contrast=0.2)
    np.testing.assert_allclose(inputs.mean(axis=(1, 2, 3)), 128, atol=1)
    factors = (inputs[:, 0, 1, 0] - inputs[:, 0, 0, 0]) / 100
    assert 0.79 <= factors.min() <= 0.84
    assert 1.16 <= factors.max() <= 1.21


def test_brightness_and_contrast_differ_between_images_and_epochs_and_come_back_with_the_seed():
    options = {"batch_size": 200, "brightness": 0.3, "contrast": 0.3, "seed": 4}
    (first, _), (second, _) = batches(grey_images(78, 178), 2, **options)
    assert len({tuple(image[0, :2, 0]) for image in first}) > 100
    assert not np.array_equal(first, second)
    ((again, _),) = batches(grey_images(78, 178), 1, first_epoch=1, **options)
    np.testing.assert_array_equal(again, second)


def test_evaluation_is_never_augmented():
    config = DataConfig(**PLAIN, flip_horizontal=True, flip_vertical=True, brightness=0.5, contrast=0.5)
    shown = list(evaluation_batches(numbered_images(12), config, batch_size=5, outputs=["main"]).as_numpy_iterator())
    assert variants(shown) == [(number, (0, 0)) for number in range(12)]


# Values, labels and batches.


@pytest.mark.parametrize(
    ("bounds", "channels"),
    [
        *itertools.product([(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0), (1.0, -1.0)], [1, 3]),
        (((-123.0, -117.0, -104.0), (132.0, 138.0, 151.0)), 3),
    ],
)
def test_0_and_255_become_the_ends_of_the_range(bounds, channels):
    config = DataConfig(image_size=4, channels=channels, value_range=bounds)
    images = read_images(split_of([np.full((4, 4, 3), value, np.uint8) for value in (0, 255, 51)]), config)
    ((inputs, _),) = evaluation_batches(images, config, batch_size=3, outputs=["main"]).as_numpy_iterator()
    assert inputs.dtype == np.float32
    assert inputs.shape == (3, 4, 4, channels)
    low, high = map(np.asarray, bounds)
    for image, value in zip(inputs, (low, high, low + (high - low) / 5), strict=True):
        np.testing.assert_allclose(image, np.broadcast_to(value, image.shape), atol=1e-6 * np.abs(bounds).max())


@pytest.mark.parametrize("outputs", [("main", "aux1", "aux2"), ("main",), ()])
def test_every_output_gets_the_same_labels(outputs):
    images = numbered_images(6)
    config = DataConfig(**PLAIN)
    evaluation = evaluation_batches(images, config, batch_size=6, outputs=outputs).as_numpy_iterator()
    for shown in (batches(images, 1, batch_size=6, outputs=outputs), list(evaluation)):
        ((_, labels),) = shown
        assert list(labels) == list(outputs)
        for name in outputs:
            assert labels[name].dtype == np.int32
            assert labels[name].tolist() == [number % 3 for number in numbers(shown)]


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 12), st.integers(1, 15))
def test_evaluation_shows_every_image_once_in_order(count, batch_size):
    stream = evaluation_batches(numbered_images(count), DataConfig(**PLAIN), batch_size=batch_size, outputs=["main"])
    shown = list(stream.as_numpy_iterator())
    assert numbers(shown) == list(range(count))
    assert [len(inputs) for inputs, _ in shown] == [
        min(batch_size, count - start) for start in range(0, count, batch_size)
    ]


@pytest.mark.parametrize("crop_fraction", [1.0, 0.875])
@pytest.mark.parametrize("channels", [1, 3])
def test_prediction_sees_a_file_as_evaluation_does(tmp_path, crop_fraction, channels):
    config = DataConfig(
        source=str(tmp_path), image_size=32, channels=channels, crop_fraction=crop_fraction, value_range=(-2.0, 3.0)
    )
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(5):
            pixels = random.integers(0, 256, (*random.integers(3, 90, 2), 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.jpg")
    images = read_split(config, ["a", "b"], "train")
    shown = [inputs for inputs, _ in evaluation_batches(images, config, batch_size=4, outputs=()).as_numpy_iterator()]
    predicted = [network_input(decode(path, channels), config) for path in map(tmp_path.__class__, images.names)]
    np.testing.assert_array_equal(np.concatenate(shown), np.stack(predicted))


# Resize and crop.


def cut(image, **config):
    return resized(tf.constant(image), DataConfig(**config)).numpy()


def coordinates(height, width):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "crop_fraction", "size", "top", "left"),
    [
        (8, 20, 1.0, 8, 0, 6),  # landscape
        (20, 8, 1.0, 8, 6, 0),  # portrait
        (8, 8, 1.0, 8, 0, 0),  # square: the image itself
        (8, 21, 1.0, 8, 0, 6),  # an odd pixel is left over on the right
        (32, 32, 0.875, 28, 2, 2),
        (32, 64, 0.875, 28, 2, 18),
        (64, 32, 0.875, 28, 18, 2),
        (8, 20, 0.5, 4, 2, 8),
        (4, 200, 1.0, 4, 0, 98),  # strips
        (201, 4, 1.0, 4, 98, 0),
    ],
)
def test_the_crop_is_the_centre(height, width, crop_fraction, size, top, left):
    # The shorter side is size / crop_fraction already: nothing is resized.
    image = coordinates(height, width)
    result = cut(image, image_size=size, crop_fraction=crop_fraction)
    np.testing.assert_array_equal(result, image[top : top + size, left : left + size])


FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
    "area": Image.Resampling.BOX,
}


@pytest.mark.parametrize("resize", FILTERS)
@pytest.mark.parametrize(("height", "width"), [(96, 96), (96, 144), (192, 96)])
@pytest.mark.parametrize("crop_fraction", [1.0, 0.75])
def test_reduction_is_antialiased_as_pillows(resize, height, width, crop_fraction):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    size = round(32 * crop_fraction)
    factor = 32 / min(height, width)
    target = (round(width * factor), round(height * factor))
    left, top = ((side - size) // 2 for side in target)
    expected = Image.fromarray(image).resize(target, FILTERS[resize]).crop((left, top, left + size, top + size))
    result = cut(image, image_size=size, crop_fraction=crop_fraction, resize=resize)
    np.testing.assert_allclose(result.astype(int), np.asarray(expected).astype(int), atol=2)


@pytest.mark.parametrize("resize", ["bilinear", "bicubic", "lanczos3"])
def test_enlargement_is_as_pillows(resize):
    # Of little contrast: Pillow cuts off what shoots over between its two passes.
    image = np.random.default_rng(0).integers(80, 176, (8, 12, 3), dtype=np.uint8)
    expected = Image.fromarray(image).resize((48, 32), FILTERS[resize]).crop((8, 0, 40, 32))
    result = cut(image, image_size=32, resize=resize)
    np.testing.assert_allclose(result.astype(int), np.asarray(expected).astype(int), atol=2)


@pytest.mark.parametrize("resize", ["bicubic", "lanczos3"])
def test_what_shoots_over_at_an_edge_stays_black_or_white(resize):
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 255
    expected = np.asarray(Image.fromarray(image).resize((32, 32), FILTERS[resize])).astype(int)
    np.testing.assert_allclose(cut(image, image_size=32, resize=resize).astype(int), expected, atol=2)


@functools.cache
def graph(size, crop_fraction, resize):
    """As in the pipeline, where sizes are not known beforehand."""
    config = DataConfig(image_size=size, crop_fraction=crop_fraction, resize=resize)
    return tf.function(lambda image: resized(image, config), input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.sampled_from([(1, 1.0, "area"), (32, 1.0, "bilinear"), (65, 0.875, "bicubic"), (7, 0.3, "lanczos3")]),
)
@example(3, 1000, (32, 1.0, "bilinear"))
@example(1000, 3, (65, 0.875, "bicubic"))
@example(1, 1, (65, 0.875, "bicubic"))
@example(1, 1, (1, 1.0, "area"))
@example(2, 3000, (7, 0.3, "lanczos3"))
def test_images_of_every_size_give_the_networks_and_plain_ones_stay_plain(height, width, target):
    size, crop_fraction, resize = target
    image = np.broadcast_to(np.asarray([0, 100, 255], np.uint8), (height, width, 3))
    result = graph(size, crop_fraction, resize)(tf.constant(image)).numpy()
    assert result.shape == (size, size, 3)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, np.broadcast_to([0, 100, 255], (size, size, 3)))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200))
def test_the_middle_of_a_gradient_stays_in_the_middle(height, width):
    image = np.broadcast_to(np.linspace(0, 250, width)[None, :, None], (height, width, 3)).round().astype(np.uint8)
    result = graph(32, 1.0, "bilinear")(tf.constant(image)).numpy().astype(int)
    columns = result.mean(axis=(0, 2))
    assert abs(columns.mean() - image.mean()) <= 250 / 32 + 1
    assert (np.diff(columns) >= 0).all()


# Patches, and JPEGs that TensorFlow decodes.


def test_encoded_bytes_are_decoded_as_the_files_are(jpegs, monkeypatch):
    monkeypatch.setattr("keras_inception.data.images._MEMORY_SHARE", 0)
    contents = [path.read_bytes() for path in jpegs]
    config = DataConfig(**PLAIN | {"image_size": 16}, contrast=0.5, hue=0.1)
    options = {"batch_size": 7, "seed": 2, "outputs": ["main"]}
    shown = []
    for split in (
        file_split(jpegs, range(7)),
        Split(list(map(str, jpegs)), np.arange(7, dtype=np.int32), contents.__getitem__),
    ):
        images = read_images(split, config, whole=True)
        shown.append(next(training_batches(images, config, **options).as_numpy_iterator()))
    np.testing.assert_array_equal(shown[0][0], shown[1][0])
    np.testing.assert_array_equal(shown[0][1]["main"], shown[1][1]["main"])


SAMPLED = {
    "brightness": 0.1,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
    "flip_vertical": True,
    "random_crop": True,
}


@pytest.mark.parametrize("interpolation", ["area", "random"])
def test_patches_from_memory_and_from_files_are_the_same(jpegs, interpolation, monkeypatch):
    config = DataConfig(image_size=16, interpolation=interpolation, **SAMPLED)
    options = {"batch_size": 7, "seed": 2, "outputs": ["main"]}
    shown = []
    for share in (0.4, 0):
        monkeypatch.setattr("keras_inception.data.images._MEMORY_SHARE", share)
        images = read_images(file_split(jpegs, range(7)), config, whole=True)
        shown.append(list(training_batches(images, config, **options).take(3).as_numpy_iterator()))
    for (first, _), (second, _) in zip(*shown, strict=True):
        np.testing.assert_array_equal(first, second)
        assert first.shape == (7, 16, 16, 3)
        assert first.min() >= -1
        assert first.max() <= 1


def test_a_patch_is_a_part_of_its_image_and_not_always_the_same():
    images = read_images(split_of(numbered(4, 32)), DataConfig(**PLAIN | {"image_size": 32}), whole=True)
    config = {"image_size": 8, "random_crop": True, "interpolation": "nearest"}
    shown = batches(images, 10, batch_size=4, **config)
    heights = set()
    for inputs, labels in shown:
        for image, label in zip(inputs, labels["main"], strict=True):
            assert len(np.unique(image[..., 2])) == 1  # of one image
            assert image[0, 0, 2] % 3 == label
            assert (np.diff(image[..., 0], axis=0) >= 0).all()
            assert (np.diff(image[..., 1], axis=1) >= 0).all()
            heights.add(int(image[-1, 0, 0] - image[0, 0, 0]))
    assert len(heights) > 5


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 60), st.integers(0, 2**31 - 1))
def test_beginning_at_a_step_equals_skipping_those_before(count, batch_size, step, seed):
    batch_size = min(batch_size, count)
    images = numbered_images(count)
    config = DataConfig(**PLAIN | SAMPLED | {"random_crop": False})
    options = {"batch_size": batch_size, "seed": seed, "outputs": ["main"]}
    whole = training_batches(images, config, **options).skip(step).take(3).as_numpy_iterator()
    entered = training_batches(images, config, first_step=step, **options).take(3).as_numpy_iterator()
    for (inputs, labels), (others, other_labels) in zip(entered, whole, strict=True):
        np.testing.assert_array_equal(inputs, others)
        np.testing.assert_array_equal(labels["main"], other_labels["main"])


def test_one_dataset_serves_all_epochs_by_variables_that_are_read_when_it_is_begun():
    images, config = numbered_images(7), DataConfig(**PLAIN)
    options = {"batch_size": 2, "seed": 5, "outputs": ["main"]}
    first, end = tf.Variable(0, dtype=tf.int64), tf.Variable(0, dtype=tf.int64)
    stream = training_batches(images, config, first_step=first, end_step=end, **options)
    for start, stop in ((0, 3), (4, 6), (3, 3), (1, 3)):
        first.assign(start)
        end.assign(stop)
        shown = list(stream.as_numpy_iterator())
        alone = training_batches(images, config, first_step=start, **options).take(stop - start)
        assert len(shown) == stop - start
        for (inputs, _), (others, _) in zip(shown, alone.as_numpy_iterator(), strict=True):
            np.testing.assert_array_equal(inputs, others)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_share_every_batch(workers):
    images = numbered_images(13)
    config = DataConfig(**PLAIN | SAMPLED | {"random_crop": False})
    options = {"batch_size": 6, "seed": 5, "outputs": ["main"], "first_step": 1}
    alone = list(training_batches(images, config, **options).take(4).as_numpy_iterator())
    parts = [
        list(training_batches(images, config, worker=worker, workers=workers, **options).take(4).as_numpy_iterator())
        for worker in range(workers)
    ]
    for step, (inputs, labels) in enumerate(alone):
        np.testing.assert_array_equal(np.concatenate([part[step][0] for part in parts]), inputs)
        np.testing.assert_array_equal(np.concatenate([part[step][1]["main"] for part in parts]), labels["main"])


MIXED = {"mixup": 0.4, "cutmix": 1.0, "randaugment": 2, "random_erasing": 0.5}


@pytest.mark.parametrize(
    ("workers", "replicas"), [*(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((1, 2), (2, 1))), (2, 2)]
)
def test_a_batch_is_the_same_however_it_is_divided(workers, replicas):
    """Also mixed, erased and with RandAugment: every device gets its part, in the order of the batch.

    To a rounding: noise is no whole number, and how colours are multiplied follows how many pixels there are.
    """
    images = numbered_images(13, size=8)
    config = DataConfig(**PLAIN | SAMPLED | MIXED | {"random_crop": False, "image_size": 8})
    options = {"batch_size": 8, "seed": 5, "outputs": ["main"], "first_step": 1, "classes": 3}
    alone = list(pipeline.training_batches(images, config, **options).take(2).as_numpy_iterator())
    parts = [
        list(
            pipeline.training_batches(images, config, worker=worker, workers=workers, replicas=replicas, **options)
            .take(2 * replicas)
            .as_numpy_iterator()
        )
        for worker in range(workers)
    ]
    for step, (inputs, labels, weights) in enumerate(alone):
        together = [part for of_worker in parts for part in of_worker[step * replicas : (step + 1) * replicas]]
        np.testing.assert_allclose(np.concatenate([part[0] for part in together]), inputs, rtol=1e-6)
        np.testing.assert_array_equal(np.concatenate([part[1]["main"] for part in together]), labels["main"])
        np.testing.assert_array_equal(np.concatenate([part[2] for part in together]), weights)


@pytest.mark.parametrize(("workers", "replicas"), [(1, 2), (2, 1), (2, 2)])
def test_evaluation_is_the_same_however_it_is_divided(workers, replicas):
    images = numbered_images(9)
    options = {"batch_size": 8, "outputs": ["main"], "classes": 3, "remainder": "pad"}
    alone = list(pipeline.evaluation_batches(images, DataConfig(**PLAIN), **options).as_numpy_iterator())
    divided = [
        list(
            pipeline.evaluation_batches(
                images, DataConfig(**PLAIN), worker=worker, workers=workers, replicas=replicas, **options
            ).as_numpy_iterator()
        )
        for worker in range(workers)
    ]
    assert {len(of_worker) for of_worker in divided} == {2 * replicas}
    for step, (inputs, labels, weights) in enumerate(alone):
        together = [part for of_worker in divided for part in of_worker[step * replicas : (step + 1) * replicas]]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in together]), inputs)
        np.testing.assert_array_equal(np.concatenate([part[2] for part in together]), weights)
        real = weights == 1
        np.testing.assert_array_equal(
            np.concatenate([part[1]["main"] for part in together])[real], labels["main"][real]
        )


def test_labels_are_one_hot_and_weights_one():
    ((inputs, labels, weights),) = (
        pipeline.training_batches(
            numbered_images(6),
            DataConfig(**PLAIN, random_crop=False),
            batch_size=6,
            seed=0,
            outputs=["main"],
            classes=4,
        )
        .take(1)
        .as_numpy_iterator()
    )
    expected = np.eye(4, dtype=np.float32)[[int(image[0, 0, 2]) % 3 for image in inputs]]
    np.testing.assert_array_equal(labels["main"], expected)
    np.testing.assert_array_equal(weights, np.ones(6, np.float32))


def test_weights_are_those_of_the_images_times_those_of_their_classes():
    split = dataclasses.replace(split_of(numbered(6)), weights=np.arange(6, dtype=np.float32))
    images = read_images(split, DataConfig(**PLAIN))
    ((inputs, _, weights),) = (
        pipeline.training_batches(
            images,
            DataConfig(**PLAIN, random_crop=False),
            batch_size=6,
            seed=0,
            outputs=["main"],
            classes=3,
            class_weights=np.array([1, 10, 100], np.float32),
        )
        .take(1)
        .as_numpy_iterator()
    )
    shown = np.array([int(image[0, 0, 2]) for image in inputs])
    np.testing.assert_array_equal(weights, shown * 10.0 ** (shown % 3))


def test_images_are_mixed_within_pairs_alone():
    config = DataConfig(**PLAIN | {"random_crop": False, "flip_horizontal": False, "mixup": 1.0})
    options = {"batch_size": 6, "seed": 3, "outputs": ["main"], "classes": 3}
    images = numbered_images(6)
    plain = dataclasses.replace(config, mixup=0.0)
    for mixed_part, part in zip(
        pipeline.training_batches(images, config, **options).take(3).as_numpy_iterator(),
        pipeline.training_batches(images, plain, **options).take(3).as_numpy_iterator(),
        strict=True,
    ):
        pairs, before = mixed_part[0].reshape(3, 2, 4, 4, 3), part[0].reshape(3, 2, 4, 4, 3)
        np.testing.assert_allclose(pairs.mean(axis=1), before.mean(axis=1), atol=1e-4)
        assert not np.allclose(pairs, before)
        np.testing.assert_allclose(mixed_part[1]["main"].sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("division", [{"batch_size": 5}, {"batch_size": 6, "replicas": 2}])
def test_what_cannot_be_paired_is_refused_with_what_can(division):
    with pytest.raises(ConfigError, match="takes a multiple of"):
        pipeline.training_batches(
            numbered_images(6), DataConfig(**PLAIN, mixup=0.2), seed=0, outputs=["main"], classes=3, **division
        )


@pytest.mark.parametrize(("count", "sizes"), [(7, [3, 3, 1]), (6, [3, 3])])
def test_the_last_batch_is_kept_or_padded_as_asked(count, sizes):
    images, options = numbered_images(count), {"batch_size": 3, "outputs": ["main"]}
    kept = list(evaluation_batches(images, DataConfig(**PLAIN), **options).as_numpy_iterator())
    assert [len(inputs) for inputs, _ in kept] == sizes
    assert numbers(kept) == list(range(count))
    options |= {"remainder": "pad", "classes": 3}
    padded = list(pipeline.evaluation_batches(images, DataConfig(**PLAIN), **options).as_numpy_iterator())
    assert {len(inputs) for inputs, _, _ in padded} == {3}
    weights = np.concatenate([weights for _, _, weights in padded])
    assert weights.sum() == count
    assert weights.tolist() == sorted(weights.tolist(), reverse=True)
    np.testing.assert_array_equal(
        np.concatenate([i for i, _, _ in padded])[weights == 1], np.concatenate([i for i, _ in kept])
    )


def test_no_batches_are_tuned_by_tensorflow_whose_thread_the_end_of_an_iteration_would_wait_for():
    """An iterator that is tuned goes when that thread wakes, after up to a minute."""
    images, config = numbered_images(6), DataConfig(**PLAIN)
    common = {"batch_size": 2, "outputs": ["main"]}
    for made in (
        training_batches(images, config, seed=0, **common),
        evaluation_batches(images, config, **common),
        crop_batches(images, config, crops=1, batch_size=2),
    ):
        assert made.options().autotune.enabled is False


def test_views_are_what_training_and_evaluation_show():
    images = numbered_images(5)
    config = DataConfig(**PLAIN | SAMPLED | {"random_crop": False, "value_range": (-1.0, 1.0)})
    views = training_views(images, config, seed=4, epochs=3)
    assert views.shape == (5, 3, 4, 4, 3)
    plain = dataclasses.replace(config, value_range=(0.0, 255.0))
    for epoch in range(3):
        options = {"batch_size": 5, "seed": 4, "outputs": ["main"], "first_step": epoch}
        ((inputs, _),) = training_batches(images, plain, **options).take(1).as_numpy_iterator()
        assert sorted(v.tobytes() for v in views[:, epoch]) == sorted(
            i.round().astype(np.uint8).tobytes() for i in inputs
        )
    assert evaluation_views(images, config).tolist() == np.stack(numbered(5)).tolist()


@pytest.mark.parametrize("crops", [1, 10])
@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_crops_come_in_order_and_know_their_image(crops, batch_size):
    images = read_images(split_of(numbered(4, 9)), DataConfig(**PLAIN), whole=True)
    shown = list(crop_batches(images, DataConfig(**PLAIN), crops=crops, batch_size=batch_size).as_numpy_iterator())
    assert all(len(inputs) <= batch_size for inputs, _ in shown)
    index = np.concatenate([index for _, index in shown])
    assert index.tolist() == np.repeat(np.arange(4), crops).tolist()
    inputs = np.concatenate([inputs for inputs, _ in shown])
    assert (inputs[..., 2] == index[:, None, None]).all()
    np.testing.assert_array_equal(
        inputs[index == 1], crops_of(tf.constant(numbered(4, 9)[1]), DataConfig(**PLAIN), crops)
    )


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.4, 0.0])
def test_twenty_epochs_do_not_leak_memory(share, tmp_path):
    """Resident memory after every epoch, in a process of its own: the last fifteen add next to nothing."""
    for index, image in enumerate(coloured(64)):
        image.resize((300, 200)).save(tmp_path / f"{index}.{'png' if index % 4 == 0 else 'jpg'}")
    code = """if True:
        import pathlib, psutil, sys
        from keras_inception.config import DataConfig
        from keras_inception.data import images, pipeline
        from keras_inception.data.dataset import file_split

        images._MEMORY_SHARE = float(sys.argv[2])
        paths = sorted(pathlib.Path(sys.argv[1]).iterdir())
        distortion = dict(brightness=0.1, contrast=0.4, saturation=0.4, hue=0.1)
        config = DataConfig(image_size=96, interpolation="random", **distortion)
        read = images.read_images(file_split(paths, [0] * len(paths)), config, whole=True)
        batches = pipeline.training_batches(read, config, batch_size=16, seed=0, outputs=["main"], classes=2)
        for step, _ in enumerate(batches.take(20 * 20 * 4), start=1):
            if step % 80 == 0:  # an epoch of 1,280 images
                print(psutil.Process().memory_info().rss)
    """
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(share)], capture_output=True, text=True)
    resident = [int(line) / 1e6 for line in done.stdout.split()]
    assert len(resident) == 20, done.stderr
    assert max(resident[15:]) - max(resident[:5]) < 25, resident
