"""GoogLeNet among its neighbours: counts by arithmetic, against keras.applications where it has the network."""

import csv
import io

import keras
import numpy as np
import pytest
from PIL import Image

from keras_inception.analysis.compare import googlenet_cost, ratios, systems
from keras_inception.analysis.published import ALEXNET, NIN_IMAGENET, VGG16, VGG19, Layer, NetworkCost, network_cost
from keras_inception.cli import main


def walked(model: keras.Model) -> NetworkCost:
    """Read off a built model what it costs: kernels by output positions, and the longest way through them."""
    multiply_adds, depths = 0, {}
    for layer in model.layers:
        own = isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)
        if own:
            multiply_adds += int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:-1]))
        above = [
            depths[tensor._keras_history.operation.name]
            for node in layer._inbound_nodes
            for tensor in node.input_tensors
        ]
        depths[layer.name] = own + max(above, default=0)
    return NetworkCost(model.count_params(), multiply_adds, max(depths.values()))


def built(layers: tuple[Layer, ...], sizes: list[int]) -> keras.Model:
    """Build layers in Keras, each on a map of the side that its kernel needs to put out its own."""
    total = []
    inputs = 3
    for layer, size in zip(layers, sizes, strict=True):
        image = keras.Input((size, size, inputs))
        convolution = keras.layers.Conv2D(layer.filters, layer.kernel, groups=layer.groups)
        total.append((keras.Model(image, convolution(image)), convolution))
        inputs = layer.filters
    return total


def by_name():
    return {one.name: one for one in systems()}


@pytest.mark.parametrize(
    ("layers", "parameters", "multiply_adds", "depth"),
    [
        (ALEXNET, 60_965_224, 724_406_816, 8),
        (NIN_IMAGENET, 7_595_176, 1_100_188_800, 12),
        (VGG16, 138_357_544, 15_470_264_320, 16),
        (VGG19, 143_667_240, 19_632_062_464, 19),
    ],
)
def test_networks_cost_what_is_known_of_them(layers, parameters, multiply_adds, depth):
    assert network_cost(layers) == NetworkCost(parameters, multiply_adds, depth)


@pytest.mark.parametrize("layers", [ALEXNET, NIN_IMAGENET])
def test_layers_cost_what_keras_builds_of_them(layers):
    parameters = multiply_adds = 0
    for model, convolution in built(layers, [layer.side + layer.kernel - 1 for layer in layers]):
        parameters += model.count_params()
        multiply_adds += int(np.prod(convolution.kernel.shape)) * int(np.prod(model.output.shape[1:3]))
    cost = network_cost(layers)
    assert (parameters, multiply_adds) == (cost.parameters, cost.multiply_adds)


def test_alexnets_two_groups_save_1_413_120_weights():
    whole = network_cost(tuple(Layer(layer.filters, layer.kernel, layer.side) for layer in ALEXNET))
    assert (
        whole.parameters - network_cost(ALEXNET).parameters
        == 25 * 48 * 256 + 9 * 192 * 384 + 9 * 192 * 256
        == 1_413_120
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "application"),
    [("VGG-16", "VGG16"), ("VGG-19", "VGG19"), ("Inception v3", "InceptionV3"), ("ResNet-50", "ResNet50")],
)
def test_networks_cost_what_keras_applications_builds(name, application):
    model = getattr(keras.applications, application)(weights=None)
    assert by_name()[name].cost == walked(model)
    assert by_name()[name].image_size == model.input_shape[1]


def test_inception_v3_and_resnet_50_are_pinned():
    found = by_name()
    assert found["Inception v3"].cost == NetworkCost(23_851_784, 5_713_216_096, 48)
    assert found["ResNet-50"].cost == NetworkCost(25_636_712, 3_857_973_248, 50)


def test_googlenet_is_the_papers_network():
    assert googlenet_cost() == NetworkCost(6_998_552, 1_582_671_872, 22)


def test_googlenet_has_about_a_twentieth_of_vgg_16s_parameters():
    assert round(ratios()[0].value) == 20


def test_alexnet_has_12_times_the_5_million_that_are_told_and_8_7_times_the_true_count():
    told, true = (one.value for one in ratios()[1:3])
    assert round(told) == 12
    assert round(true, 1) == 8.7
    assert true == 60_965_224 / 6_998_552


def test_every_error_has_its_protocol_and_its_source_and_the_paper_without_one_has_none():
    for one in systems():
        for error in one.errors:
            assert error.protocol
            assert error.source
    assert by_name()["Network in Network"].errors == ()


def test_googlenets_errors_are_the_papers():
    errors = {error.protocol.split(" of ")[0]: error.top5 for error in by_name()["GoogLeNet"].errors}
    assert errors == {"1 crop": 10.07, "10 crops": 9.15, "144 crops": 7.89}


def test_the_command_prints_ratios_and_draws_a_picture(tmp_path, capsys):
    picture = tmp_path / "new" / "networks.png"
    assert main(["analyze", "compare", "--output", str(picture)]) == 0
    text = capsys.readouterr().out
    for figure in ("138,357,544", "60,965,224", "6,998,552", "19.77", "12.19", "8.711", "arXiv:1512.00567", "9.15"):
        assert figure in text
    with Image.open(picture) as image:
        assert np.asarray(image.convert("RGB")).std() > 10


def test_csv_leaves_what_is_not_published_blank(capsys):
    assert main(["analyze", "compare", "--format", "csv"]) == 0
    first = capsys.readouterr().out.split("\n\n")[0]
    rows = {row["network"]: row for row in csv.DictReader(io.StringIO(first))}
    assert rows["Network in Network"]["top-5 error %"] == ""
    assert rows["VGG-16"]["parameters"] == "138357544"


def test_a_picture_that_is_no_png_is_refused(tmp_path, capsys):
    assert main(["analyze", "compare", "--output", str(tmp_path / "x.jpg")]) == 2
    assert ".png" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("place", "said"), [("notes/x.png", "notes' is a file"), ("x.png", "that is a folder")])
def test_a_place_that_takes_no_picture_is_refused_before_anything_is_done(place, said, tmp_path, capsys):
    (tmp_path / "notes").touch()
    (tmp_path / "x.png").mkdir()
    assert main(["analyze", "compare", "--output", str(tmp_path / place)]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""
    assert main(["analyze", "compare", "--output", "/proc/x.png"]) == 2
    assert "cannot be written" in capsys.readouterr().err
