"""The built model: counts and shapes of the paper, keyword arguments as in keras.applications, weights and files."""

import dataclasses
import json
import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

import keras_inception as ki
from keras_inception.errors import ArchitectureError
from keras_inception.googlenet import copy_weights, load_weights


def narrow(name, width=1 / 16):
    """The named table with its stem, its pools and the modules 4a and 4d of the heads alone: quick to build."""
    table = ki.get_architecture(name).scaled(width)
    rows = tuple(row for row in table.rows if not isinstance(row, ki.Inception) or row.name in {"4a", "4d"})
    return dataclasses.replace(table, name="narrow", rows=rows)


SMALL = narrow("googlenet")
SIZE = 65  # the smallest side that the heads take
TABLES = pytest.mark.parametrize("name", ["googlenet", "googlenet-bn", "googlenet-small"])
RNG = np.random.default_rng(0)


def build(**arguments):
    return ki.GoogLeNet(**{"architecture": SMALL, "input_shape": (SIZE, SIZE, 3), "classes": 7, **arguments})


def images(*shape):
    return RNG.uniform(-1, 1, (2, *shape)).astype("float32")


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def layer_names(model):
    return [layer.name for layer in model.layers]


def distinct(model):
    """Give every weight a value of its own, so that no two layers can be taken for each other."""
    model.set_weights([RNG.uniform(0.05, 0.3, weight.shape) for weight in model.weights])
    return model


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def paper():
    return ki.GoogLeNet(input_shape=(224, 224, 3), classes=1000, auxiliary=True)


@pytest.fixture(scope="module")
def paper_bn():
    return ki.GoogLeNet(architecture="googlenet-bn", auxiliary=True)


# ---------------------------------------------------------------------------------------------------------------------
# The paper's network
# ---------------------------------------------------------------------------------------------------------------------


def test_paper_has_13_378_280_parameters_with_heads_and_6_998_552_without(paper):
    assert paper.count_params() == 13_378_280
    assert ki.inference_model(paper).count_params() == 6_998_552


def test_heads_hold_3_188_840_and_3_190_888_parameters(paper):
    held = {name: sum(x.count_params() for x in paper.layers if x.name.startswith(name)) for name in ("aux1", "aux2")}
    assert held == {"aux1": 3_188_840, "aux2": 3_190_888}


def test_paper_without_the_reduction_of_conv2_has_the_widely_copied_count():
    rows = tuple(ki.Conv("conv2", 192, kernel=3) if row.name == "conv2" else row for row in ki.GOOGLENET.rows)
    model = ki.GoogLeNet(architecture=ki.Architecture("copied", rows))
    assert model.count_params() == 6_994_392


def test_batch_normalised_network_trains_7_005_832_of_7_020_392_parameters(paper_bn):
    model = ki.inference_model(paper_bn)
    assert model.count_params() == 7_020_392
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 7_005_832


def test_batch_normalised_network_has_no_bias_in_any_convolution_heads_included(paper_bn):
    convolutions = layers_of(paper_bn, keras.layers.Conv2D)
    assert len(convolutions) == 57 + 2
    assert not any(layer.use_bias for layer in convolutions)
    assert len(layers_of(paper_bn, keras.layers.BatchNormalization)) == 57 + 2
    # Each head loses 128 biases and gains scale, shift, mean and variance of its 128 channels.
    assert paper_bn.count_params() == 7_020_392 + 3_188_840 + 3_190_888 + 2 * 3 * 128


def test_paper_has_57_convolutions_9_concatenations_and_13_max_pools(paper):
    model = ki.inference_model(paper)
    kinds = (keras.layers.Conv2D, keras.layers.Concatenate, keras.layers.MaxPooling2D, keras.layers.Dense)
    assert [len(layers_of(model, kind)) for kind in kinds] == [57, 9, 13, 1]
    assert [len(layers_of(paper, kind)) for kind in kinds] == [59, 9, 13, 5]
    assert len(layers_of(model, ki.LocalResponseNormalization)) == 2


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ("conv1", (112, 112, 64)),
        ("pool1", (56, 56, 64)),
        ("norm1", (56, 56, 64)),
        ("conv2_reduce", (56, 56, 64)),
        ("conv2", (56, 56, 192)),
        ("norm2", (56, 56, 192)),
        ("pool2", (28, 28, 192)),
        ("inception_3a", (28, 28, 256)),
        ("inception_3b", (28, 28, 480)),
        ("pool3", (14, 14, 480)),
        ("inception_4a", (14, 14, 512)),
        ("inception_4b", (14, 14, 512)),
        ("inception_4c", (14, 14, 512)),
        ("inception_4d", (14, 14, 528)),
        ("inception_4e", (14, 14, 832)),
        ("pool4", (7, 7, 832)),
        ("inception_5a", (7, 7, 832)),
        ("inception_5b", (7, 7, 1024)),
        ("avg_pool", (1024,)),
        ("dropout", (1024,)),
        ("main", (1000,)),
        ("aux1_pool", (4, 4, 512)),
        ("aux1_1x1", (4, 4, 128)),
        ("aux1_dense", (1024,)),
        ("aux1", (1000,)),
        ("aux2_pool", (4, 4, 528)),
        ("aux2_1x1", (4, 4, 128)),
        ("aux2", (1000,)),
    ],
)
def test_output_of_the_row_is_that_of_table_1(paper, layer, shape):
    assert paper.get_layer(layer).output.shape == (None, *shape)


def test_longest_path_of_the_built_network_has_22_layers_with_weights(paper):
    model = ki.inference_model(paper)
    depths = {}
    for layer in model.get_config()["layers"]:  # in topological order
        text = json.dumps(layer["inbound_nodes"], default=str)
        parents = [name for name in depths if f'"keras_history": ["{name}"' in text]
        weighted = isinstance(model.get_layer(layer["name"]), keras.layers.Conv2D | keras.layers.Dense)
        depths[layer["name"]] = max([depths[name] for name in parents], default=0) + weighted
    assert depths["main"] == max(depths.values()) == 22


def test_dropouts_are_the_papers(paper):
    rates = {layer.name: layer.rate for layer in layers_of(paper, keras.layers.Dropout)}
    assert rates == {"dropout": 0.4, "aux1_dropout": 0.7, "aux2_dropout": 0.7}


def test_heads_read_the_modules_4a_and_4d(paper):
    assert paper.get_layer("aux1_pool").input is paper.get_layer("inception_4a").output
    assert paper.get_layer("aux2_pool").input is paper.get_layer("inception_4d").output


@pytest.mark.parametrize(
    ("name", "shape", "total"),
    [("googlenet", (3, 224, 224), 13_378_280), ("googlenet-bn", (3, 224, 224), 13_400_888)],
)
def test_channels_first_has_the_same_parameters_and_transposed_maps(name, shape, total):
    keras.config.set_image_data_format("channels_first")
    model = ki.GoogLeNet(architecture=name, auxiliary=True)
    assert model.input_shape == (None, *shape)
    assert model.count_params() == total
    assert model.get_layer("inception_3b").output.shape == (None, 480, 28, 28)
    assert model.get_layer("inception_5b").output.shape == (None, 1024, 7, 7)
    assert model.get_layer("aux1_pool").output.shape == (None, 512, 4, 4)


def test_channels_first_answers_as_channels_last_where_the_cpu_can_run_it():
    code = f"""
import keras, numpy as np, keras_inception as ki
arguments = dict(architecture=ki.GOOGLENET.scaled(1 / 16), classes=7, auxiliary=True)
# So wide that the heads flatten maps of 1×2 px, whose order matters.
x = np.random.default_rng(0).uniform(-1, 1, (2, {SIZE}, {SIZE + 63}, 3)).astype("float32")
last = ki.GoogLeNet(input_shape=x.shape[1:], **arguments)
keras.config.set_image_data_format("channels_first")
first = ki.GoogLeNet(input_shape=(3, *x.shape[1:3]), **arguments)
first.set_weights(last.get_weights())
expected, received = last(x), first(x.transpose(0, 3, 1, 2))
assert set(expected) == set(received) == {{"main", "aux1", "aux2"}}
for head in expected:
    np.testing.assert_allclose(received[head], expected[head], rtol=1e-4, atol=1e-6)
print("equal")
"""
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"}  # without it TensorFlow has no such convolution
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.stdout.strip() == "equal", result.stderr


# ---------------------------------------------------------------------------------------------------------------------
# Keyword arguments
# ---------------------------------------------------------------------------------------------------------------------


@TABLES
def test_default_is_one_output_with_the_classifier_last(name):
    table = ki.get_architecture(name).scaled(1 / 16)
    model = ki.GoogLeNet(architecture=table)
    assert model.input_shape == (None, table.image_size, table.image_size, 3)
    assert model.output.shape == (None, 1000)
    assert isinstance(model.layers[-1], keras.layers.Dense)
    assert model.layers[-1].output is model.output
    assert model.name == table.name


@TABLES
def test_outputs_are_probabilities_of_every_head(name):
    table = narrow(name)
    size = table.smallest_image(auxiliary=True)
    outputs = build(architecture=table, input_shape=(size, size, 3), auxiliary=True)(images(size, size, 3))
    assert set(outputs) == {"main", "aux1", "aux2"}
    for output in outputs.values():
        assert output.shape == (2, 7)
        np.testing.assert_allclose(np.sum(output, axis=-1), [1, 1], rtol=1e-5)
        assert np.min(output) > 0


def test_name_of_the_model():
    assert build(name="mine").name == "mine"
    assert build().name == SMALL.name


def test_architecture_is_taken_by_its_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(dataclasses.replace(SMALL, name="mine").to_json())
    assert build(architecture=path).name == build(architecture=str(path)).name == "mine"


def test_architecture_is_taken_by_name_or_as_a_table():
    by_name = ki.GoogLeNet(architecture="googlenet-small", include_top=False)
    as_table = ki.GoogLeNet(architecture=ki.GOOGLENET_SMALL, include_top=False)
    assert by_name.name == "googlenet-small"
    assert [weight.path for weight in by_name.weights] == [weight.path for weight in as_table.weights]


@pytest.mark.parametrize(
    ("pooling", "shape", "last"), [(None, (3, 3, 33), "pool4"), ("avg", (33,), None), ("max", (33,), None)]
)
def test_without_top_the_output_is_the_last_map_or_its_pool(pooling, shape, last):
    model = build(include_top=False, pooling=pooling)
    assert model.output_shape == (None, *shape)
    assert layers_of(model, keras.layers.Dense) == []
    assert model.layers[-1].name == (last or f"{pooling}_pool")


def test_pooling_takes_the_mean_or_the_maximum_of_the_last_map():
    feature_map = distinct(build(include_top=False))
    x = images(SIZE, SIZE, 3)
    expected = np.asarray(feature_map(x))
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        model = build(include_top=False, pooling=pooling)
        model.set_weights(feature_map.get_weights())
        np.testing.assert_allclose(model(x), reduce(expected, axis=(1, 2)), rtol=1e-4)


def test_pooling_is_left_alone_with_the_top():
    assert build(pooling="max").output_shape == (None, 7)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_change_the_first_kernel_alone(channels):
    model, usual = build(input_shape=(SIZE, SIZE, channels)), build()
    assert model(images(SIZE, SIZE, channels)).shape == (2, 7)
    assert model.count_params() - usual.count_params() == (channels - 3) * 7 * 7 * 4
    assert model.get_layer("conv1").kernel.shape == (7, 7, channels, 4)


@pytest.mark.parametrize("normalization", ["lrn", "batch"])
def test_unknown_size_runs_at_any_size(normalization):
    model = build(input_shape=(None, None, 3), normalization=normalization)
    fixed = build(input_shape=(96, 64, 3), normalization=normalization)
    fixed.set_weights(model.get_weights())
    x = images(96, 64, 3)
    np.testing.assert_allclose(model(x), fixed(x), rtol=1e-5)
    assert model(images(33, 40, 3)).shape == (2, 7)


def test_oblong_images_run_with_heads():
    outputs = build(input_shape=(SIZE, 100, 3), auxiliary=True)(images(SIZE, 100, 3))
    assert {name: output.shape for name, output in outputs.items()} == dict.fromkeys(("main", "aux1", "aux2"), (2, 7))


def test_input_tensor_is_built_on():
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    model = build(input_tensor=keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels), auxiliary=True)
    plain = build(auxiliary=True)
    plain.set_weights(model.get_weights())
    x = RNG.uniform(0, 255, (2, SIZE, SIZE, 3)).astype("float32")
    for name, output in plain(x / 127.5 - 1).items():
        np.testing.assert_allclose(model(x)[name], output, rtol=1e-4)
    inference = ki.inference_model(model)
    np.testing.assert_allclose(inference(x), model(x)["main"], rtol=1e-6)


def test_input_tensor_may_be_an_input():
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    model = build(input_tensor=pixels)
    assert model.inputs == [pixels]
    assert model(images(SIZE, SIZE, 3)).shape == (2, 7)


def test_no_activation_gives_logits_in_every_head():
    probabilities, logits = (build(classifier_activation=x, auxiliary=True) for x in ("softmax", None))
    logits.set_weights(probabilities.get_weights())
    x = images(SIZE, SIZE, 3)
    for name, output in logits(x).items():
        np.testing.assert_allclose(keras.ops.softmax(output), probabilities(x)[name], rtol=1e-4)


def test_dropout_replaces_the_classifiers_and_leaves_the_heads():
    model = build(dropout=0.1, auxiliary=True)
    rates = {layer.name: layer.rate for layer in layers_of(model, keras.layers.Dropout)}
    assert rates == {"dropout": 0.1, "aux1_dropout": 0.7, "aux2_dropout": 0.7}


@TABLES
@pytest.mark.parametrize("normalization", ["none", "lrn", "batch"])
def test_normalization_rewrites_every_table_before_building(name, normalization):
    table = narrow(name, 1 / 32)
    size = table.smallest_image(auxiliary=True)
    model = build(architecture=table, normalization=normalization, input_shape=(size, size, 3), auxiliary=True)
    convolutions = layers_of(model, keras.layers.Conv2D)
    normalised = normalization == "batch"
    assert len(layers_of(model, ki.LocalResponseNormalization)) == (2 if normalization == "lrn" else 0)
    assert len(layers_of(model, keras.layers.BatchNormalization)) == (len(convolutions) if normalised else 0)
    assert {layer.use_bias for layer in convolutions} == {not normalised}
    assert np.all(np.isfinite(model(images(size, size, 3))["main"]))


def test_lrn_of_the_table_is_that_of_the_layer():
    rows = (ki.Conv("conv1", 4, kernel=3), ki.LRN("norm1", depth_radius=1, bias=2.0, alpha=0.5, beta=0.25))
    layer = ki.GoogLeNet(architecture=ki.Architecture("one", rows), include_top=False).get_layer("norm1")
    assert (layer.depth_radius, layer.bias, layer.alpha, layer.beta) == (1, 2.0, 0.5, 0.25)


# ---------------------------------------------------------------------------------------------------------------------
# Refusals
# ---------------------------------------------------------------------------------------------------------------------


@TABLES
@pytest.mark.parametrize("auxiliary", [False, True])
@pytest.mark.parametrize("side", [0, 1])
def test_the_smallest_image_works_and_one_pixel_less_is_refused(name, auxiliary, side):
    smallest = {"googlenet": (32, 65), "googlenet-bn": (32, 65), "googlenet-small": (8, 17)}[name][auxiliary]
    table = narrow(name, 1 / 32)
    shape = [smallest + 20, smallest + 20, 3]
    shape[side] = smallest
    model = build(architecture=table, input_shape=tuple(shape), auxiliary=auxiliary)
    assert np.all(np.isfinite(ki.inference_model(model)(images(*shape))))
    shape[side] = smallest - 1
    with pytest.raises(ArchitectureError, match=f"smallest is {smallest}×{smallest} px"):
        build(architecture=table, input_shape=tuple(shape), auxiliary=auxiliary)


@pytest.mark.parametrize("shape", [(None, None, 3), (None, 224, 3), (224, None, 3)])
def test_heads_on_an_unknown_size_are_refused(shape):
    with pytest.raises(ArchitectureError, match="known size"):
        build(input_shape=shape, auxiliary=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"auxiliary": True, "include_top": False}, "include_top=True"),
        ({"pooling": "mean"}, "pooling is 'mean'"),
        ({"classes": 0}, "classes is 0"),
        ({"classes": 2.5}, "classes is 2.5"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"input_shape": (SIZE, SIZE)}, "height, width and channels"),
        ({"input_shape": (SIZE, SIZE, None)}, "channels must be known"),
        ({"input_tensor": np.zeros((1, SIZE, SIZE, 3), "float32")}, "input_tensor"),
        ({"architecture": 7}, "architecture takes a table, the name of one or the path .* got a int"),
        ({"architecture": ["googlenet"]}, "got a list"),
        ({"architecture": "googlenet-smal"}, "did you mean googlenet-small"),
        ({"normalization": "lnr"}, "did you mean lrn"),
        ({"architecture": ki.Architecture("bare", SMALL.rows), "auxiliary": True}, "'bare' has no auxiliary heads"),
        ({"weights": "imagenet"}, "'imagenet'"),
        ({"weights": "absent.keras"}, "'absent.keras'"),
    ],
)
def test_arguments_that_cannot_be_built_are_refused_naming_the_value(arguments, message):
    with pytest.raises(ArchitectureError, match=message) as error:
        build(**arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_no_row_may_have_the_name_of_a_layer_of_the_network(normalization):
    rows = (
        ki.Conv("conv1", 2, kernel=3, stride=2, reduce=2),
        ki.MaxPool("pool1", padding="ceil"),
        ki.Inception("3a", 1, 1, 1, 1, 1, 1),
        ki.MlpConv("mlp", 2, kernel=3, mlp1=2, mlp2=2, stride=2),
        ki.FullyConnected("fc", 2),
    )
    heads = (ki.AuxiliaryHead("aux1", after="3a", filters=2, units=2, pool_size=1),)
    table = ki.Architecture("all", rows, heads).with_normalization(normalization)
    model = build(architecture=table, auxiliary=True)
    pooled = [
        layers_of(build(architecture=table, include_top=False, pooling=pool), keras.layers.Layer)[-1].name
        for pool in ("avg", "max")
    ]
    names = {*layer_names(model), *pooled}
    assert len(names) > 30
    for name in names:
        with pytest.raises(ArchitectureError, match=f"layer '{name}'|named '{name}'") as error:
            dataclasses.replace(table, rows=(*rows, ki.LRN(name)))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((ki.Conv("main", 2, kernel=3),), "'main' would have a layer 'main', which is one of the network itself"),
        (
            (ki.Conv("conv2", 2, kernel=3, reduce=2), ki.Conv("conv2_reduce", 2, kernel=3)),
            "'conv2_reduce' would have a layer 'conv2_reduce', which is one of 'conv2'",
        ),
        ((ki.Inception("a", *[1] * 6), ki.Inception("a_1x1", *[1] * 6)), "layer 'inception_a_1x1'"),
    ],
)
def test_rows_whose_layers_would_have_one_name_are_refused(rows, message):
    with pytest.raises(ArchitectureError, match=message):
        ki.Architecture("twice", rows)


# ---------------------------------------------------------------------------------------------------------------------
# Maps of rows
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [
        SMALL,
        ki.NIN.scaled(1 / 16),
        ki.Architecture("fc", (ki.Conv("conv1", 2, kernel=3, reduce=2), ki.MaxPool("p"), ki.FullyConnected("fc", 5))),
    ],
    ids=lambda table: table.name,
)
def test_the_maps_of_every_row_have_the_sizes_of_the_table(table):
    model = build(architecture=table, auxiliary=bool(table.auxiliary))
    rows = [row.name for row in table.rows]
    found = ki.feature_extractor(model, rows).output
    costs = ki.row_costs(table, (SIZE, SIZE, 3), 7)
    assert [found[row].shape[1:] for row in rows] == [cost.output for cost in costs[: len(rows)]]
    others = {name.removeprefix("inception_") for name in layer_names(model)} - set(rows)
    assert len(others) > 5
    for name in others:
        with pytest.raises(ArchitectureError, match=f"unknown row '{name}'"):
            ki.feature_extractor(model, [name])


def test_an_unknown_row_lists_the_nearest():
    with pytest.raises(ArchitectureError, match="unknown row 'conv9'; did you mean conv2 or conv1"):
        ki.feature_extractor(build(), ["conv9"])


# ---------------------------------------------------------------------------------------------------------------------
# Inference
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalization", ["lrn", "batch"])
def test_inference_model_shares_layers_and_gives_the_same_main_output(normalization):
    model = distinct(build(auxiliary=True, normalization=normalization))
    inference = ki.inference_model(model)
    own = {layer.name: layer for layer in model.layers}
    assert all(layer is own[layer.name] for layer in inference.layers)
    assert {name for name in own if name not in layer_names(inference)} == {x for x in own if x.startswith("aux")}
    x = images(SIZE, SIZE, 3)
    np.testing.assert_allclose(inference(x), model(x)["main"], rtol=1e-6)
    model.get_layer("main").bias.assign(np.arange(7.0))
    np.testing.assert_allclose(inference(x), model(x)["main"], rtol=1e-6)


def test_inference_model_has_no_parameters_of_heads(paper):
    names = [weight.path for weight in ki.inference_model(paper).weights]
    assert [name for name in names if name.startswith("aux")] == []
    assert ki.inference_model(paper).layers[-1].name == "main"


def test_inference_model_of_a_model_without_heads_is_that_model():
    model = build()
    assert ki.inference_model(model) is model


# ---------------------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------------------


@TABLES
def test_saved_model_loads_with_equal_outputs(name, tmp_path):
    table = narrow(name)
    size = table.smallest_image(auxiliary=True)
    model = distinct(build(architecture=table, input_shape=(size, size, 3), auxiliary=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = images(size, size, 3)
    for head, output in model(x).items():
        np.testing.assert_array_equal(loaded(x)[head], output)


def test_saved_inference_model_loads_with_equal_outputs(tmp_path):
    model = ki.inference_model(distinct(build(auxiliary=True)))
    model.save(tmp_path / "model.keras")
    x = images(SIZE, SIZE, 3)
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(x), model(x))


def test_weights_of_a_keras_file_with_heads_serve_a_model_without(tmp_path):
    source = distinct(build(auxiliary=True))
    source.save(tmp_path / "heads.keras")
    model = build(weights=tmp_path / "heads.keras")
    x = images(SIZE, SIZE, 3)
    np.testing.assert_allclose(model(x), source(x)["main"], rtol=1e-6)
    features = build(weights=str(tmp_path / "heads.keras"), include_top=False, input_shape=(None, None, 3))
    np.testing.assert_allclose(features(x), keras.Model(model.input, model.get_layer("pool4").output)(x))


@pytest.mark.parametrize("auxiliary", [False, True])
def test_weights_of_an_h5_file_serve_a_model_of_the_same_layers(auxiliary, tmp_path):
    source = distinct(build(auxiliary=auxiliary))
    source.save_weights(tmp_path / "model.weights.h5")
    model = build(auxiliary=auxiliary, weights=tmp_path / "model.weights.h5")
    for weight, expected in zip(model.weights, source.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize("kind", ["keras", "weights.h5"])
@pytest.mark.parametrize(
    ("saved", "wanted", "layer"),
    [
        ({"classes": 8}, {}, "main"),
        ({"input_shape": (SIZE, SIZE, 1)}, {}, "conv1"),
        ({}, {"auxiliary": True}, "aux1"),
        ({"include_top": False}, {}, "main"),
        ({"normalization": "none"}, {"normalization": "batch"}, "conv1"),
        ({"normalization": "batch"}, {"normalization": "none"}, "conv1"),
        ({}, {"architecture": SMALL.scaled(2)}, "conv1"),
    ],
)
def test_weights_that_do_not_fit_are_refused_naming_a_layer(kind, saved, wanted, layer, tmp_path):
    path = tmp_path / f"model.{kind}"
    source = build(**saved)
    (source.save if kind == "keras" else source.save_weights)(path)
    with pytest.raises(ArchitectureError, match=rf"\b{layer}") as error:
        build(**wanted, weights=path)
    assert "\n" not in str(error.value)


def test_an_h5_file_with_heads_is_refused_by_a_model_without(tmp_path):
    build(auxiliary=True).save_weights(tmp_path / "heads.weights.h5")
    with pytest.raises(ArchitectureError, match="does not fit"):
        build(weights=tmp_path / "heads.weights.h5")


@pytest.mark.parametrize("name", ["broken.keras", "broken.weights.h5", "model.h5", "model.txt"])
def test_a_file_that_holds_no_weights_is_refused(name, tmp_path):
    (tmp_path / name).write_text("no weights")
    with pytest.raises(ArchitectureError, match=name) as error:
        build(weights=tmp_path / name)
    assert "\n" not in str(error.value)


def flipped(data):
    """A file with bytes flipped in its middle."""
    middle = slice(len(data) // 3, len(data) // 3 + 2000)
    return data[: middle.start] + bytes(byte ^ 0xFF for byte in data[middle]) + data[middle.stop :]


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_a_damaged_file_is_refused(name, tmp_path):
    source = build()
    (source.save if name.endswith(".keras") else source.save_weights)(tmp_path / name)
    (tmp_path / name).write_bytes(flipped((tmp_path / name).read_bytes()))
    with pytest.raises(ArchitectureError, match=name) as error:
        build(weights=tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_zip_that_holds_no_model_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(ArchitectureError, match=r"other\.keras cannot be read as a Keras model") as error:
        build(weights=tmp_path / "other.keras")
    assert "\n" not in str(error.value)


def test_refused_weights_leave_the_model_as_it_was(tmp_path):
    build(classes=8).save(tmp_path / "model.keras")
    model = build()
    before = model.get_weights()
    with pytest.raises(ArchitectureError, match="main"):
        load_weights(model, tmp_path / "model.keras")
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_weights_are_copied_by_name_whatever_the_order_of_layers():
    source, target = distinct(build(auxiliary=True)), build()
    copy_weights(source, target)
    for layer in target.layers:
        for weight, expected in zip(layer.weights, source.get_layer(layer.name).weights, strict=True):
            np.testing.assert_array_equal(weight, expected)


# ---------------------------------------------------------------------------------------------------------------------
# Precision and training
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("normalization", ["lrn", "batch"])
def test_mixed_precision_has_float32_variables_and_outputs(precision, normalization):
    exact = build(auxiliary=True, normalization=normalization)
    keras.config.set_dtype_policy(precision)
    model = build(auxiliary=True, normalization=normalization)
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert {output.dtype for output in model.output.values()} == {"float32"}
    assert model.get_layer("inception_4d").compute_dtype == precision.removeprefix("mixed_")
    copy_weights(exact, model)
    x = images(SIZE, SIZE, 3)
    for name, output in exact(x).items():
        np.testing.assert_allclose(model(x)[name], output, atol=0.03)


@TABLES
def test_every_trainable_weight_gets_a_gradient_from_some_head(name):
    import tensorflow as tf

    table = narrow(name, 1 / 4)
    size = table.smallest_image(auxiliary=True)
    model = build(architecture=table, input_shape=(size, size, 3), auxiliary=True)
    with tf.GradientTape() as tape:
        outputs = model(images(size, size, 3), training=True)
        loss = sum(tf.reduce_sum(output[:, 0]) for output in outputs.values())
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    silent = [w.path for w, g in zip(model.trainable_weights, gradients, strict=True) if g is None or not np.any(g)]
    assert silent == []


def test_two_models_live_side_by_side():
    first, second = build(), build()
    assert layer_names(first) == layer_names(second)
    second.get_layer("conv1").kernel.assign(np.zeros((7, 7, 3, 4)))
    assert np.any(np.asarray(first.get_layer("conv1").kernel))


def test_network_in_network_is_built_without_heads_and_refuses_them():
    model = ki.GoogLeNet(architecture="nin", classes=10)
    assert model.output_shape == (None, 10)
    assert [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)] == [
        *("conv1", "conv1_mlp1", "conv1_mlp2", "conv2", "conv2_mlp1", "conv2_mlp2", "conv3", "conv3_mlp1"),
    ]
    with pytest.raises(ArchitectureError, match="'nin' has no auxiliary heads"):
        ki.GoogLeNet(architecture="nin", classes=10, auxiliary=True)


def test_a_fully_connected_network_is_built_for_one_size_of_image():
    rows = (ki.Conv("conv1", 4, kernel=3, stride=2), ki.Inception("3a", 2, 0, 2, 0, 2, 0), ki.FullyConnected("fc", 5))
    table = ki.Architecture("naive", rows)
    model = ki.GoogLeNet(architecture=table, input_shape=(9, 12, 3), classes=2)
    assert model.get_layer("fc").output.shape == (None, 1, 1, 5)
    assert model.count_params() == sum(row.parameters for row in ki.row_costs(table, (9, 12, 3), 2))
    with pytest.raises(ArchitectureError, match="row 'fc' is fully connected and needs an image of known size"):
        ki.GoogLeNet(architecture=table, input_shape=(None, None, 3), classes=2)
