"""The arithmetic against Table 1 of arXiv:1409.4842, and against the layers of the model that is built."""

import dataclasses
import itertools
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

import keras_inception as ki
from keras_inception.errors import ArchitectureError

# Table 1: row, output, depth, weights, multiply-adds; the last two follow from its widths alone.
TABLE_1 = [
    ("conv1", (112, 112, 64), 1, 9_408, 118_013_952),
    ("pool1", (56, 56, 64), 0, 0, 0),
    ("conv2", (56, 56, 192), 2, 114_688, 359_661_568),
    ("pool2", (28, 28, 192), 0, 0, 0),
    ("inception 3a", (28, 28, 256), 2, 163_328, 128_049_152),
    ("inception 3b", (28, 28, 480), 2, 388_096, 304_267_264),
    ("pool3", (14, 14, 480), 0, 0, 0),
    ("inception 4a", (14, 14, 512), 2, 375_552, 73_608_192),
    ("inception 4b", (14, 14, 512), 2, 448_512, 87_908_352),
    ("inception 4c", (14, 14, 512), 2, 509_440, 99_850_240),
    ("inception 4d", (14, 14, 528), 2, 604_672, 118_515_712),
    ("inception 4e", (14, 14, 832), 2, 867_328, 169_996_288),
    ("pool4", (7, 7, 832), 0, 0, 0),
    ("inception 5a", (7, 7, 832), 2, 1_042_432, 51_079_168),
    ("inception 5b", (7, 7, 1024), 2, 1_442_816, 70_697_984),
    ("avg pool", (1, 1, 1024), 0, 0, 0),
    ("dropout 40%", (1, 1, 1024), 0, 0, 0),
    ("linear", (1, 1, 1000), 1, 1_024_000, 1_024_000),
    ("softmax", (1, 1, 1000), 0, 0, 0),
]
WIDTHS = [1 / 16, 0.1, 0.25]


def profiled(model):
    """Count the floating-point operations for one image by TensorFlow's own profiler, by kind."""
    profiler = tf.compat.v1.profiler
    call = tf.function(lambda images: model(images, training=False), autograph=False)
    graph = call.get_concrete_function(tf.TensorSpec((1, *model.input_shape[1:]))).graph
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation()).with_empty_output()
    found, left = Counter(), [profiler.profile(graph, cmd="op", options=options.build())]
    while left:
        node = left.pop()
        left += node.children
        found[node.name] += node.float_ops
    return +found


def expected_operations(model):
    """Count what the layers of a built model say of the same."""
    layers = model.layers
    convolutions = [layer for layer in layers if isinstance(layer, keras.layers.Conv2D)]
    numbers = sum(int(np.prod(layer.output.shape[1:])) for layer in convolutions)
    biased = sum(int(np.prod(layer.output.shape[1:])) for layer in convolutions if layer.use_bias)
    pools = [layer for layer in layers if isinstance(layer, keras.layers.MaxPooling2D)]
    normalized = sum(layer.gamma.shape[0] for layer in layers if isinstance(layer, keras.layers.BatchNormalization))
    dense = [layer for layer in layers if isinstance(layer, keras.layers.Dense)]
    mean = next(layer for layer in layers if isinstance(layer, keras.layers.GlobalAveragePooling2D))
    (classes,) = model.output.shape[1:]
    # Batch normalisation becomes y = x · scale + shift, with scale and shift from its four values a channel.
    after_each = numbers if normalized else 0
    return +Counter(
        {
            # Two operations, a multiplication and an addition, for each of the arithmetic's multiply-adds.
            "Conv2D": 2 * sum(layer_cost(layer)[1] for layer in convolutions),
            "MatMul": 2 * sum(layer_cost(layer)[1] for layer in dense),
            # What it counts and multiply-adds do not. It counts nothing for ReLU, LRN, padding and concatenation.
            "BiasAdd": biased + sum(layer.units for layer in dense),
            "MaxPool": sum(int(np.prod([*pool.pool_size, *pool.output.shape[1:]])) for pool in pools),
            "Mean": int(np.prod(mean.input.shape[1:])),
            "Softmax": 5 * classes,
            "Mul": after_each + 2 * normalized,
            "AddV2": after_each + normalized,
            "Sub": normalized,
            "Rsqrt": 2 * normalized,
        }
    )


def total(rows, field):
    return sum(getattr(row, field) for row in rows)


def without_conv2_reduction():
    """Table 1 without the 64-wide 1×1 in front of the second convolution."""
    rows = (ki.Conv("conv2", 192, kernel=3) if row.name == "conv2" else row for row in ki.GOOGLENET.rows)
    return ki.Architecture("googlenet-copied", tuple(rows))


def layer_cost(layer):
    """Weights and multiply-adds of a Keras layer from the shapes of its kernel and output alone."""
    weights = int(np.prod(layer.kernel.shape))
    positions = int(np.prod(layer.output.shape[1:-1])) if isinstance(layer, keras.layers.Conv2D) else 1
    return weights, weights * positions


def row_of(layer_name, table):
    """Name of the row, as in Table 1, that a layer is named after."""
    for row in table.rows:
        if isinstance(row, ki.Inception) and layer_name.startswith(f"inception_{row.name}_"):
            return f"inception {row.name}"
        if layer_name in (row.name, f"{row.name}_reduce"):
            return row.name
    return {"main": "linear"}.get(layer_name) or next(h.name for h in table.auxiliary if layer_name.startswith(h.name))


def built_costs(model, table):
    """Weights and multiply-adds of every row that has any, read off the built model."""
    costs: dict[str, list[int]] = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            row = costs.setdefault(row_of(layer.name, table), [0, 0])
            for index, value in enumerate(layer_cost(layer)):
                row[index] += value
    return {name: tuple(values) for name, values in costs.items()}


def computed_costs(table, shape, classes, auxiliary):
    rows = ki.row_costs(table, shape, classes, auxiliary)
    return {row.name: (row.weights, row.multiply_adds) for row in rows if row.weights}


# ---------------------------------------------------------------------------------------------------------------------
# By arithmetic
# ---------------------------------------------------------------------------------------------------------------------


def test_rows_are_table_1_to_the_digit():
    rows = [
        (row.name, row.output, row.depth, row.weights, row.multiply_adds)
        for row in ki.row_costs(ki.GOOGLENET)
        if not row.name.startswith("norm")
    ]
    assert rows == TABLE_1


def test_the_lrn_rows_cost_nothing_and_keep_the_shape():
    rows = {row.name: row for row in ki.row_costs(ki.GOOGLENET)}
    assert (rows["norm1"].output, rows["norm2"].output) == ((56, 56, 64), (56, 56, 192))
    for name in ("norm1", "norm2"):
        assert (rows[name].parameters, rows[name].multiply_adds, rows[name].depth) == (0, 0, 0)


def test_totals_without_heads():
    rows = ki.row_costs(ki.GOOGLENET)
    assert total(rows, "weights") == 6_990_272
    assert total(rows, "biases") == 8_280
    assert total(rows, "parameters") == total(rows, "trainable") == 6_998_552
    assert total(rows, "multiply_adds") == 1_582_671_872


def test_the_network_is_22_layers_deep():
    assert total(ki.row_costs(ki.GOOGLENET), "depth") == 22


def test_heads_hold_3_188_840_and_3_190_888_parameters():
    rows = ki.row_costs(ki.GOOGLENET, auxiliary=True)
    assert [(row.name, row.parameters) for row in rows[-2:]] == [("aux1", 3_188_840), ("aux2", 3_190_888)]
    assert total(rows, "parameters") == 13_378_280


def test_the_widely_copied_figure_lacks_the_reduction_of_the_second_convolution():
    assert total(ki.row_costs(without_conv2_reduction()), "parameters") == 6_994_392 == 6_998_552 - 4_160


def test_batch_normalization_adds_scales_and_shifts_and_takes_biases():
    rows = ki.row_costs(ki.GOOGLENET_BN)
    assert total(rows, "trainable") == 7_005_832
    assert total(rows, "parameters") == 7_020_392
    assert total(rows, "biases") == 1_000  # the classifier's


def test_batch_normalization_of_the_heads_has_128_scales_shifts_means_and_variances():
    for row, plain in zip(ki.row_costs(ki.GOOGLENET_BN, auxiliary=True)[-2:], (3_188_840, 3_190_888), strict=True):
        assert row.trainable == plain - 128 + 2 * 128
        assert row.parameters == plain - 128 + 4 * 128


def test_ports_with_a_3x3_in_place_of_the_5x5_train_6_624_904_parameters_and_take_1_498_g_multiply_adds():
    trainable, multiply_adds = (total(ki.row_costs(ki.GOOGLENET_BN), field) for field in ("trainable", "multiply_adds"))
    sides = {row.name: row.output[0] for row in ki.row_costs(ki.GOOGLENET_BN)}
    for row in ki.GOOGLENET_BN.rows:
        if isinstance(row, ki.Inception):
            fewer = (5**2 - 3**2) * row.reduce5x5 * row.conv5x5
            trainable -= fewer
            multiply_adds -= fewer * sides[f"inception {row.name}"] ** 2
    assert trainable == 6_624_904
    assert round(multiply_adds / 1e9, 3) == 1.498


def test_normalization_changes_neither_weights_nor_multiply_adds():
    costs = {
        (total(rows, "weights"), total(rows, "multiply_adds"), total(rows, "depth"))
        for rows in (ki.row_costs(ki.GOOGLENET.with_normalization(n), auxiliary=True) for n in ("none", "lrn", "batch"))
    }
    assert len(costs) == 1


def test_network_takes_about_a_twentieth_of_vgg_16():
    assert round(138_357_544 / total(ki.row_costs(ki.GOOGLENET), "parameters")) == 20


def test_classes_change_the_classifier_and_the_heads_alone():
    thousand, ten = (ki.row_costs(ki.GOOGLENET, classes=classes, auxiliary=True) for classes in (1000, 10))
    for row, other in zip(thousand, ten, strict=True):
        outputs = {"linear": 1024, "aux1": 1024, "aux2": 1024}.get(row.name, 0)
        assert row.weights - other.weights == 990 * outputs
        assert row.biases - other.biases == (990 if outputs else 0)


def test_grey_images_take_a_third_of_the_first_rows_weights():
    assert ki.row_costs(ki.GOOGLENET, (224, 224, 1))[0].weights * 3 == 9_408


def test_a_naive_module_is_one_layer_deep_and_hands_on_the_channels_of_its_input():
    """The weights that REFERENCE has for a naive 3a on 192 channels, whose pool keeps all of them."""
    rows = (ki.Conv("conv1", 192, kernel=1), ki.Inception("3a", 64, 0, 128, 0, 32, 0))
    module = ki.row_costs(ki.Architecture("naive", rows), (28, 28, 3))[1]
    assert (module.weights, module.output, module.depth) == (387_072, (28, 28, 64 + 128 + 32 + 192), 1)


def test_a_fully_connected_layer_of_1024_has_the_51_380_224_weights_that_averaging_saves():
    table = dataclasses.replace(ki.GOOGLENET, rows=(*ki.GOOGLENET.rows, ki.FullyConnected("fc", 1024)))
    (layer,) = (row for row in ki.row_costs(table) if row.name == "fc")
    assert (layer.weights, layer.multiply_adds, layer.biases, layer.depth) == (51_380_224, 51_380_224, 1024, 1)
    assert layer.output == (1, 1, 1024)


def test_doubling_the_side_of_the_image_costs_four_times_the_convolutions():
    small, large = (ki.row_costs(ki.GOOGLENET, (size, size, 3))[:17] for size in (224, 448))
    assert total(large, "multiply_adds") == 4 * total(small, "multiply_adds")
    assert total(large, "parameters") == total(small, "parameters")


def test_height_and_width_are_kept_apart():
    outputs = {row.name: row.output for row in ki.row_costs(ki.GOOGLENET, (224, 96, 3))}
    assert outputs["conv1"] == (112, 48, 64)
    assert outputs["inception 5b"] == (7, 3, 1024)


@pytest.mark.parametrize(("size", "auxiliary", "smallest"), [(31, False, 32), (64, True, 65)])
def test_a_small_image_is_refused_with_the_smallest_that_works(size, auxiliary, smallest):
    with pytest.raises(ArchitectureError, match=f"{smallest}×{smallest}"):
        ki.row_costs(ki.GOOGLENET, (224, size, 3), auxiliary=auxiliary)
    assert ki.row_costs(ki.GOOGLENET, (smallest, smallest, 3), auxiliary=auxiliary)


def test_an_image_smaller_than_a_window_in_ceil_mode_is_refused():
    rows = (ki.Conv("conv1", 4, kernel=3), ki.MaxPool("pool1", 3, 1, padding="ceil"))
    table = ki.Architecture("ceil", rows)
    with pytest.raises(ArchitectureError, match="2×9 px is too small for 'ceil'; the smallest is 3×3 px"):
        ki.row_costs(table, (2, 9, 3))
    assert ki.row_costs(table, (3, 9, 3))[1].output == (1, 7, 4)


# ---------------------------------------------------------------------------------------------------------------------
# Against the built model
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "table", "auxiliary"),
    [
        (width, table, auxiliary)
        for width, (table, auxiliary) in zip(
            itertools.cycle(WIDTHS),
            itertools.product((ki.GOOGLENET, ki.GOOGLENET_BN, ki.GOOGLENET_SMALL), (False, True)),
            strict=False,
        )
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_row_costs_what_the_layers_of_the_built_model_cost(width, table, auxiliary):
    table = table.scaled(width)
    shape = (table.smallest_image(auxiliary) + 3, table.smallest_image(auxiliary) + 14, 3)
    model = ki.GoogLeNet(architecture=table, input_shape=shape, classes=11, auxiliary=auxiliary)
    assert built_costs(model, table) == computed_costs(table, shape, 11, auxiliary)
    rows = ki.row_costs(table, shape, 11, auxiliary)
    assert total(rows, "parameters") == model.count_params()
    assert total(rows, "trainable") == sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize(
    ("name", "multiply_adds", "parameters"),
    [
        ("googlenet", 1_582_671_872, 6_998_552),
        ("googlenet-bn", 1_582_671_872, 7_020_392),
        ("googlenet-small", 480_714_752, 7_012_712),
        ("nin", 222_555_648, 1_158_056),
    ],
)
def test_tensorflows_profiler_counts_two_operations_for_each_multiply_add(name, multiply_adds, parameters):
    model = ki.GoogLeNet(architecture=name, classes=1000)
    found = profiled(model)
    assert found["Conv2D"] + found["MatMul"] == 2 * multiply_adds
    assert found == expected_operations(model)
    assert model.count_params() == parameters
    rows = ki.row_costs(ki.ARCHITECTURES[name])
    assert (total(rows, "multiply_adds"), total(rows, "parameters")) == (multiply_adds, parameters)


@st.composite
def architectures(draw):
    """Any table of up to four small rows, with up to two heads, and an image that it takes."""
    widths, optional = st.integers(1, 5), st.integers(0, 3)
    chosen = [0, *draw(st.lists(st.integers(0, 4), max_size=3))]
    before = chosen.index(4) if 4 in chosen else len(chosen)  # rows in front of a fully connected one
    paddings = st.sampled_from(["same", "ceil"] if before == len(chosen) else ["same"])
    kinds = [
        lambda name: st.builds(
            ki.Conv,
            *(st.just(name), widths, st.sampled_from([1, 3, 5]), st.integers(1, 2), st.integers(0, 3)),
            st.sampled_from(["symmetric", "same"]),
        ),
        lambda name: st.builds(ki.MaxPool, st.just(name), st.integers(2, 3), st.integers(1, 2), paddings),
        lambda name: st.just(ki.LRN(name)),
        lambda name: st.builds(ki.Inception, st.just(name), widths, optional, widths, optional, widths, optional),
        lambda name: st.builds(ki.FullyConnected, st.just(name), widths),
    ]
    rows = tuple(draw(kinds[kind](f"row{index}")) for index, kind in enumerate(chosen))
    after = draw(st.lists(st.sampled_from([row.name for row in rows[:before]]), max_size=2))
    heads = tuple(
        ki.AuxiliaryHead(f"aux{index}", name, filters=draw(widths), units=draw(widths), pool_size=2, pool_stride=2)
        for index, name in enumerate(after)
    )
    table = ki.Architecture("drawn", rows, heads, batch_normalization=draw(st.booleans()))
    smallest = table.smallest_image(bool(heads))
    sizes = st.integers(smallest, smallest + 9)
    return table, (draw(sizes), draw(sizes), draw(st.integers(1, 4))), draw(st.integers(1, 6))


@given(architectures())
@settings(max_examples=15, deadline=None, derandomize=True)
def test_any_table_costs_what_its_model_costs(drawn):
    table, shape, classes = drawn
    auxiliary = bool(table.auxiliary)
    model = ki.GoogLeNet(architecture=table, input_shape=shape, classes=classes, auxiliary=auxiliary)
    computed = ki.row_costs(table, shape, classes, auxiliary)
    assert total(computed, "parameters") == model.count_params()
    assert computed_costs(table, shape, classes, auxiliary) == built_costs(model, table)
    for row in computed[: len(table.rows)]:
        layer = row.name if "inception" not in row.name else row.name.replace(" ", "_")
        suffix = "_relu" if f"{layer}_relu" in {layer.name for layer in model.layers} else ""
        assert model.get_layer(f"{layer}{suffix}").output.shape[1:] == row.output


def test_network_in_network_has_966_986_parameters_and_9_layers():
    """Counted by hand from the layers of its authors' model for CIFAR-10: kernel, inputs, outputs, side of the map."""
    layers = [
        *((5, 3, 192, 32), (1, 192, 160, 32), (1, 160, 96, 32)),
        *((5, 96, 192, 16), (1, 192, 192, 16), (1, 192, 192, 16)),
        *((3, 192, 192, 8), (1, 192, 192, 8), (1, 192, 10, 1)),
    ]
    rows = ki.row_costs(ki.NIN, classes=10)
    assert sum(row.parameters for row in rows) == sum(k * k * i * o + o for k, i, o, _ in layers) == 966_986
    assert sum(row.multiply_adds for row in rows) == sum(k * k * i * o * side**2 for k, i, o, side in layers)
    assert sum(row.depth for row in rows) == 9
    assert ki.GoogLeNet(architecture="nin", classes=10).count_params() == 966_986
