"""Networks that take their weights from a larger one: the same answers as if they had been built by themselves."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from keras_inception.architecture import (
    GOOGLENET,
    LRN,
    WIDTHS,
    Architecture,
    AuxiliaryHead,
    Conv,
    FullyConnected,
    Inception,
    MaxPool,
)
from keras_inception.errors import ArchitectureError
from keras_inception.tuning.supernet import Supernet

ROWS = (
    Conv("conv1", 6, 7, stride=2),
    MaxPool("pool1"),
    Conv("conv2", 8, 3, reduce=5),
    Inception("3a", 6, 5, 7, 3, 4, 4),
    MaxPool("pool3"),
    Inception("4a", 5, 4, 6, 2, 3, 4),
)
BATCH = Architecture("largest", ROWS, (AuxiliaryHead("aux1", after="4a"),), batch_normalization=True)
BIASES = Architecture("largest", ROWS)
#: Modules without reductions, without a projection, and a fully connected layer.
NAIVE = Architecture(
    "largest",
    (
        *ROWS[:3],
        Inception("3a", 6, 0, 7, 3, 4, 0),
        MaxPool("pool3"),
        Inception("4a", 5, 4, 6, 0, 3, 0),
        FullyConnected("fc", 6),
    ),
    batch_normalization=True,
)
#: The paddings of the ports, and their kernel of the third branch.
PORTED = Architecture(
    "largest",
    (
        Conv("conv1", 6, 7, stride=2, padding="same"),
        MaxPool("pool1", padding="ceil"),
        Inception("3a", 6, 5, 7, 3, 4, 4, kernel5x5=3),
        MaxPool("pool3", size=2, padding="ceil"),
    ),
)
SHAPE, CLASSES = (32, 32, 3), 4


def images(count, seed=1):
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


def shaken(supernet):
    """Give every weight a value of its own: no scale of 1, no shift of 0."""
    random = np.random.default_rng(7)
    for variable in supernet.network.variables:
        variable.assign(variable.numpy() + 0.1 * random.random(variable.shape))
    return supernet


@pytest.fixture(scope="module")
def supernets():
    return {table: shaken(Supernet(table, SHAPE, CLASSES)) for table in (BATCH, BIASES, NAIVE)}


@st.composite
def smaller(draw, largest):
    """The same rows with any smaller widths."""

    def less(row):
        widths = {name: getattr(row, name) for name in WIDTHS.get(type(row), ())}
        drawn = {name: draw(st.integers(1, most)) if most else 0 for name, most in widths.items()}
        return type(row)(**vars(row) | drawn)

    return Architecture("smaller", tuple(map(less, largest.rows)), batch_normalization=largest.batch_normalization)


def cut_off(supernet, table):
    """The largest network of Keras, where the channels that `table` lacks are zero after every ReLU."""
    network = keras.models.clone_model(supernet.network)
    network.set_weights(supernet.network.get_weights())
    kept = {}
    for row in table.rows:
        match row:
            case Conv():
                kept |= {row.name: row.filters, f"{row.name}_reduce": row.reduce}
            case Inception():
                name = f"inception_{row.name}"
                kept |= {f"{name}_1x1": row.conv1x1, f"{name}_pool_projection": row.pool_projection}
                kept |= {f"{name}_3x3": row.conv3x3, f"{name}_3x3_reduce": row.reduce3x3}
                kept |= {f"{name}_5x5": row.conv5x5, f"{name}_5x5_reduce": row.reduce5x5}
            case FullyConnected():
                kept |= {row.name: row.units}
    for name, width in kept.items():
        for layer in network.layers:
            if layer.name == name:
                kernel, *bias = layer.get_weights()
                kernel[..., width:] = 0
                layer.set_weights([kernel, *(np.where(np.arange(len(b)) < width, b, 0) for b in bias)])
            elif layer.name == f"{name}_bn":
                gamma, beta, mean, variance = layer.get_weights()
                gamma[width:] = beta[width:] = 0
                layer.set_weights([gamma, beta, mean, variance])
    return network


def statistics_of(network):
    """The moving statistics that a network of Keras has."""
    found = []
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            found.append((layer.moving_mean.numpy(), layer.moving_variance.numpy()))
    return found


@pytest.mark.parametrize("table", [BATCH, BIASES, NAIVE], ids=["batch", "biases", "naive"])
def test_the_largest_network_is_the_one_that_keras_computes(supernets, table):
    supernet, pixels = supernets[table], images(5)
    found = supernet.probabilities(table, statistics_of(supernet.network), [pixels[:3], pixels[3:]])
    np.testing.assert_allclose(found, supernet.network.predict(pixels, verbose=0), atol=1e-5)


@settings(deadline=None, max_examples=4)
@given(st.data())
def test_a_smaller_network_is_the_largest_without_some_channels(supernets, data):
    """Against Keras's network with these channels at zero, which knows nothing of cutting kernels."""
    for largest, supernet in supernets.items():
        table, pixels = data.draw(smaller(largest)), images(3)
        statistics = supernet.calibrated(table, [images(16, seed=2)])
        found = supernet.probabilities(table, statistics, [pixels])
        built = supernet.inherited(table, statistics)
        assert built.count_params() < supernet.network.count_params() or table.rows == largest.rows
        np.testing.assert_allclose(found, built.predict(pixels, verbose=0), atol=1e-5)
        reference = cut_off(supernet, table)
        for layer in reference.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                mean, variance = statistics[supernet._normalized.index(layer.name)]
                gamma, beta, old_mean, old_variance = layer.get_weights()
                old_mean[: len(mean)], old_variance[: len(variance)] = mean, variance
                layer.set_weights([gamma, beta, old_mean, old_variance])
        np.testing.assert_allclose(found, reference.predict(pixels, verbose=0), atol=1e-5)


def test_networks_with_lrn_and_the_papers_table_are_cut_too():
    largest = GOOGLENET.scaled(1 / 8)
    supernet = shaken(Supernet(largest, (64, 64, 3), CLASSES))
    table = GOOGLENET.scaled(1 / 16)
    assert any(isinstance(row, LRN) for row in table.rows)
    pixels = np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype(np.float32)
    found = supernet.probabilities(table, [], [pixels])
    np.testing.assert_allclose(found, supernet.inherited(table, []).predict(pixels, verbose=0), atol=1e-5)


@pytest.mark.parametrize("side", [32, 37])
def test_paddings_and_kernels_of_the_public_ports_are_computed_as_keras_does(side):
    supernet = shaken(Supernet(PORTED, (side, side, 3), CLASSES))
    pixels = np.random.default_rng(1).normal(size=(2, side, side, 3)).astype(np.float32)
    found = supernet.probabilities(PORTED, [], [pixels])
    np.testing.assert_allclose(found, supernet.network.predict(pixels, verbose=0), atol=1e-5)


def test_calibration_finds_the_statistics_that_keras_would(supernets):
    """Keras's moving averages after a batch, from a momentum of 0: mean and variance of that batch."""
    supernet, pixels = supernets[BATCH], images(16)
    network = supernet.inherited(BATCH, statistics_of(supernet.network))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    network(pixels, training=True)
    for found, expected in zip(supernet.calibrated(BATCH, [pixels]), statistics_of(network), strict=True):
        np.testing.assert_allclose(found[0], expected[0], atol=1e-4)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-3, atol=1e-4)


def batches(seed=1, size=16):
    """Endless images of one of four bright quarters, and which."""
    random = np.random.default_rng(seed)
    while True:
        labels = random.integers(0, CLASSES, size)
        pixels = random.normal(0, 0.5, (size, *SHAPE)).astype(np.float32)
        for image, label in zip(pixels, labels, strict=True):
            row, column = divmod(label, 2)
            image[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += 1
        yield tf.constant(pixels), tf.one_hot(labels, CLASSES)


SMALLEST = Architecture(
    "smallest",
    (
        Conv("conv1", 3, 7, stride=2),
        MaxPool("pool1"),
        Conv("conv2", 4, 3, reduce=3),
        Inception("3a", 3, 2, 3, 1, 2, 2),
        MaxPool("pool3"),
        Inception("4a", 2, 2, 3, 1, 1, 2),
    ),
    batch_normalization=True,
)


def trained(seed=0, steps=60):
    supernet = Supernet(BATCH, SHAPE, CLASSES, seed=seed)
    dice = np.random.default_rng(seed)

    def draw():
        rows = []
        for most, least in zip(BATCH.rows, SMALLEST.rows, strict=True):
            names = WIDTHS.get(type(most), ())
            drawn = {name: int(dice.integers(getattr(least, name), getattr(most, name) + 1)) for name in names}
            rows.append(type(most)(**vars(most) | drawn))
        return Architecture("drawn", tuple(rows), batch_normalization=True)

    losses = []
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(supernet.network.trainable_variables)
    supernet.train(
        batches(), steps, draw, smallest=SMALLEST, optimizer=optimizer, on_step=lambda step, loss: losses.append(loss)
    )
    return supernet, losses, draw


def test_all_networks_learn_and_need_statistics_of_their_own():
    supernet, losses, draw = trained()
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    pixels, labels = next(batches(seed=2, size=64))
    truth = labels.numpy().argmax(axis=1)

    def top1(table, statistics):
        return (supernet.probabilities(table, statistics, [pixels]).argmax(axis=1) == truth).mean()

    for table in (BATCH, draw(), SMALLEST):
        calibrated = supernet.calibrated(table, [next(batches(seed=3, size=64))[0]])
        assert top1(table, calibrated) > 0.7
    others = [
        (mean[: len(own)], variance[: len(own)])
        for (mean, variance), (own, _) in zip(statistics_of(supernet.network), calibrated, strict=True)
    ]
    assert top1(SMALLEST, others) < top1(SMALLEST, calibrated)


def test_the_same_seed_gives_the_same_weights():
    one, other = (trained(steps=3)[0].network.get_weights() for _ in range(2))
    for weight, again in zip(one, other, strict=True):
        np.testing.assert_array_equal(weight, again)


def test_widths_change_without_a_new_trace(supernets):
    supernet = supernets[BATCH]
    for table in (BATCH, SMALLEST):
        supernet.probabilities(table, supernet.calibrated(table, [images(4)]), [images(4)])
    assert supernet._moments.experimental_get_tracing_count() == 1
    assert supernet._answer.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("largest", [BATCH, BIASES], ids=["batch", "biases"])
def test_a_step_goes_down_the_sum_of_the_networks_gradients(largest):
    """Against Keras's gradients of each network."""
    supernet = shaken(Supernet(largest, SHAPE, CLASSES))
    drawn = [replace(largest, rows=SMALLEST.rows), replace(largest, rows=(*SMALLEST.rows[:3], *largest.rows[3:]))]
    pixels, targets = tf.constant(images(6)), 0.9 * tf.one_hot([0, 1, 2, 3, 0, 1], CLASSES) + 0.1 / CLASSES
    before = [variable.numpy() for variable in supernet.network.trainable_variables]
    expected = [np.zeros_like(value) for value in before]
    for number, table in enumerate([largest, drawn[0], *drawn]):
        network = cut_off(supernet, table)
        network.get_layer("dropout").rate = 0.0
        with tf.GradientTape() as tape:
            answers = network(pixels, training=True)
            loss = tf.reduce_mean(keras.losses.categorical_crossentropy(targets, answers))
        if number == 0:
            first = float(loss)
        gradients = tape.gradient(loss, [variable.value for variable in network.trainable_variables])
        for total, gradient, variable in zip(expected, gradients, network.trainable_variables, strict=True):
            total += np.where(variable.numpy() == 0, 0, gradient)
    optimizer, losses, left = keras.optimizers.SGD(1.0), [], iter(drawn)
    optimizer.build(supernet.network.trainable_variables)
    supernet.train(
        iter([(pixels, tf.one_hot([0, 1, 2, 3, 0, 1], CLASSES))]),
        1,
        lambda: next(left),
        smallest=drawn[0],
        optimizer=optimizer,
        label_smoothing=0.1,
        on_step=lambda step, loss: losses.append(loss),
    )
    assert losses == pytest.approx([first], rel=1e-4)
    for old, variable, total in zip(before, supernet.network.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(old - variable.numpy(), total, atol=2e-5 + 1e-3 * np.abs(total).max())


def changed(place, **values):
    rows = list(ROWS)
    rows[place] = replace(rows[place], **values)
    return replace(BATCH, rows=tuple(rows), auxiliary=())


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (changed(2, filters=9), "filters of row 'conv2' is 9; the shared network has 8"),
        (changed(2, reduce=0), "reduce of row 'conv2' is 0; the shared network has 5"),
        (changed(5, name="4b"), "has other rows than the shared network"),
        (changed(0, kernel=5), "has other rows than the shared network"),
        (changed(0, stride=1), "has other rows than the shared network"),
        (changed(1, size=2), "has other rows than the shared network"),
        (replace(BATCH, rows=ROWS[:-1], auxiliary=()), "5 in place of 6"),
        (BIASES, "has batch_normalization=False; the shared network has True"),
    ],
)
def test_a_network_that_is_not_within_the_largest_is_named(supernets, table, said):
    with pytest.raises(ArchitectureError, match=said):
        supernets[BATCH].calibrated(table, [images(4)])


def test_statistics_of_another_network_are_refused(supernets):
    statistics = supernets[BATCH].calibrated(SMALLEST, [images(4)])
    with pytest.raises(ArchitectureError, match="the statistics are of another network"):
        supernets[BATCH].probabilities(BATCH, statistics, [images(4)])
    with pytest.raises(ArchitectureError, match="the statistics are of another network"):
        supernets[BATCH].inherited(BATCH, statistics)
