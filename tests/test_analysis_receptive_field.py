"""Receptive fields: by arithmetic against the gradients of built networks, and the effective ones inside them."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_inception.analysis.branches import branch_layer, output_layer
from keras_inception.analysis.receptive_field import (
    Field,
    effective_fields,
    fields,
    measured_at_random,
    measured_on_run,
    side_of_energy,
)
from keras_inception.architecture import (
    GOOGLENET,
    LRN,
    NIN,
    Architecture,
    Conv,
    FullyConnected,
    Inception,
    MaxPool,
    MlpConv,
)
from keras_inception.cli import main
from keras_inception.errors import ArchitectureError
from keras_inception.googlenet import GoogLeNet

SMALL = Architecture(
    "small",
    (
        Conv("conv1", 2, kernel=5, stride=2),
        MaxPool("pool1"),
        LRN("norm1"),
        Conv("conv2", 2, kernel=3, reduce=1),
        Inception("3a", 1, 1, 2, 1, 1, 1),
        MaxPool("pool3", size=2),
        Inception("4a", 2, 1, 1, 1, 2, 1),
    ),
)
#: A table with a window of even side, rows of Network in Network, and strides at odd places.
MIXED = Architecture(
    "mixed",
    (MlpConv("conv1", 2, kernel=5, mlp1=1, mlp2=2), MaxPool("pool1", size=2), Conv("conv2", 1, kernel=3, stride=2)),
)
#: A naive module, and a layer that sees the whole map.
NAIVE = Architecture(
    "naive", (Conv("conv1", 2, kernel=3, stride=2), Inception("3a", 1, 0, 1, 0, 1, 0), FullyConnected("fc", 2))
)
#: Both ports' paddings, and their kernel of the third branch.
PORTED = Architecture(
    "ported",
    (
        Conv("conv1", 2, kernel=5, stride=2, padding="same"),
        MaxPool("pool1", padding="ceil"),
        Inception("3a", 1, 1, 2, 1, 1, 1, kernel5x5=3),
        MaxPool("pool3", size=2, padding="ceil"),
    ),
)


def linear(table: Architecture, side: int) -> keras.Model:
    """Build a table so that every weight is positive and a pool takes the mean: all that a unit sees has a gradient."""

    def clone(layer):
        if not isinstance(layer, keras.layers.MaxPooling2D):
            return type(layer).from_config(layer.get_config())
        config = {name: layer.get_config()[name] for name in ("pool_size", "strides", "padding", "name")}
        return keras.layers.AveragePooling2D(**config)

    model = GoogLeNet(architecture=table, input_shape=(side, side, 3), classes=2)
    model = keras.models.clone_model(model, clone_function=clone)
    model.set_weights([np.ones_like(value) for value in model.get_weights()])
    return model


def support(model: keras.Model, layer: str, down: int, across: int) -> np.ndarray:
    """Return the places of the image whose change changes a unit: bool of shape `(side, side)`."""
    inside = keras.Model(model.input, model.get_layer(layer).output)
    image = tf.ones((1, *model.input_shape[1:]))
    with tf.GradientTape() as tape:
        tape.watch(image)
        unit = tf.reduce_sum(inside(image)[0, down, across])
    return (tape.gradient(unit, image).numpy()[0] != 0).any(axis=-1)


def layer_of(table: Architecture, field: Field) -> str:
    (row,) = (row for row in table.rows if row.name == field.row)
    return branch_layer(row, field.branch) if field.branch else output_layer(row)


@pytest.mark.parametrize(
    ("table", "side"),
    [(SMALL, 64), (SMALL, 53), (MIXED, 24), (MIXED, 23), (NAIVE, 12), (PORTED, 32), (PORTED, 27)],
)
def test_a_field_is_where_the_gradient_of_a_unit_is_not_zero(table, side):
    model = linear(table, side)
    for field in fields(table, side):
        for unit in {0, field.centre, field.units - 1}:
            first, end = (min(max(place, 0), side) for place in field.span(unit))
            expected = np.zeros((side, side), bool)
            expected[first:end, first:end] = True
            np.testing.assert_array_equal(support(model, layer_of(table, field), unit, unit), expected, str(field))


def test_the_fields_of_the_papers_rows():
    """Sums of (kernel − 1) · stride by hand: 7, +2·2, +2·4, +2·4, then +4·8 per module at 28 px, 4·16 and 4·32."""
    sizes = {field.row: field.size for field in fields(GOOGLENET) if not field.branch}
    assert sizes == {
        **{"conv1": 7, "pool1": 11, "conv2": 19, "pool2": 27, "3a": 59, "3b": 91, "pool3": 107, "4a": 171},
        **{"4b": 235, "4c": 299, "4d": 363, "4e": 427, "pool4": 459, "5a": 587, "5b": 715},
    }
    assert {field.branch: field.size for field in fields(GOOGLENET) if field.row == "3b"} == {
        "": 91,
        "1×1": 59,
        "3×3": 75,
        "5×5": 91,
        "pool": 75,
    }
    assert [field.stride for field in fields(GOOGLENET) if not field.branch][-1] == 32


def test_sizes_do_not_depend_on_the_image():
    small, large = ([(field.size, field.stride) for field in fields(GOOGLENET, side)] for side in (64, 299))
    assert small == large


def test_the_middle_unit_is_the_nearest_to_the_middle_of_the_image():
    for field in fields(GOOGLENET, 224):
        middles = [sum(field.span(unit)) / 2 for unit in range(field.units)]
        assert abs(middles[field.centre] - 112) == min(abs(middle - 112) for middle in middles)


def test_an_image_that_is_too_small_is_refused():
    with pytest.raises(ArchitectureError, match="31×31 px is too small for 'googlenet'; the smallest is 32×32 px"):
        fields(GOOGLENET, 31)


def test_the_energy_of_a_network_lies_inside_its_fields():
    wide = SMALL.scaled(8)  # one channel of a narrow branch may be silent
    effective = measured_at_random(wide, 64, images=2, seeds=2)
    assert [one.field for one in effective] == fields(wide, 64)
    for one in effective:
        assert one.energy.sum() == pytest.approx(1, abs=1e-4)
        first, end = one.field.span(one.field.centre)
        assert one.energy[max(first, 0) : end, max(first, 0) : end].sum() == pytest.approx(1, abs=1e-4)
        assert 1 <= one.side <= one.field.size


def test_measurements_can_be_repeated():
    first, second = (measured_at_random(SMALL, 32, images=1, seeds=2) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.energy, other.energy)


def test_the_energy_of_a_convolution_is_that_of_its_kernel():
    """The gradient of a channel is its kernel where all is positive; random signs have the energy of all channels."""
    table = Architecture("one", (Conv("conv1", 8, kernel=5),), batch_normalization=True)
    model = GoogLeNet(architecture=table, input_shape=(9, 9, 1), classes=2)
    kernel = np.random.default_rng(0).uniform(0, 1, (5, 5, 1, 8)).astype(np.float32)
    model.get_layer("conv1").set_weights([kernel])
    images = np.ones((200, 9, 9, 1), np.float32)
    (one,) = effective_fields(model, table, images)
    expected = np.square(kernel[..., 0, :]).sum(axis=-1)
    # Signs are drawn anew for every image.
    np.testing.assert_allclose(one.energy[2:7, 2:7], expected / expected.sum(), rtol=0.5)
    np.testing.assert_allclose(one.energy[2:7, 2:7].sum(), 1, rtol=1e-5)


def test_the_side_of_an_energy():
    field = Field("a", "", size=7, stride=1, start=-3, units=21, image=21)
    assert field.span(field.centre) == (7, 14)
    energy = np.zeros((21, 21))
    energy[10, 10] = 0.94
    energy[10, 12] = 0.06
    assert side_of_energy(energy, field) == 5
    assert side_of_energy(energy, field, 0.9) == 1
    assert side_of_energy(np.zeros((21, 21)), field) is None


def test_a_field_of_even_side_has_squares_of_even_side():
    field = Field("a", "", size=4, stride=2, start=0, units=9, image=20)
    assert field.span(field.centre) == (8, 12)
    energy = np.zeros((20, 20))
    energy[9:11, 9:11] = 1
    assert side_of_energy(energy, field) == 2


def test_a_network_that_gives_no_gradient_has_no_effective_field():
    model = GoogLeNet(architecture=MIXED, input_shape=(24, 24, 3), classes=2)
    model.set_weights([np.zeros_like(value) for value in model.get_weights()])
    for one in effective_fields(model, MIXED, np.ones((2, 24, 24, 3), np.float32)):
        assert one.side is None
        assert not one.energy.any()


def test_the_fields_of_a_run_are_measured_with_its_weights_on_its_images(run):
    effective = measured_on_run(run, images=2)
    assert {one.field.row for one in effective} == {"conv1", "conv2", "pool2", "3a", "pool3", "4a", "pool4", "5b"}
    assert all(one.energy.shape == (28, 28) for one in effective)
    assert all(one.side <= 28 for one in effective if one.side)


# ---------------------------------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table(capsys):
    assert main(["analyze", "receptive-field"]) == 0
    said = capsys.readouterr().out
    assert "715" in said
    assert "224 px" in said
    assert main(["analyze", "receptive-field", "nin"]) == 0
    assert fields(NIN)[-1].size == 27  # 5, +2·1, +4·2, +2·2, +2·4


def test_the_command_draws_over_a_photograph(tmp_path, stripes, capsys):
    (tmp_path / "small.json").write_text(SMALL.to_json())
    words = ["--image-size", "48", "--measure", "--images", "1", "--seeds", "1", "--output", str(tmp_path / "out")]
    photograph = str(stripes / "lying" / "00.png")
    assert main(["analyze", "receptive-field", str(tmp_path / "small.json"), "--photograph", photograph, *words]) == 0
    assert "effective" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"fields.html", "fields.json", "fields.png"}
    with Image.open(tmp_path / "out" / "fields.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 5
    values = json.loads((tmp_path / "out" / "fields.json").read_text())
    assert [one["field"]["row"] for one in values][:2] == ["conv1", "pool1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["googlenett"], "'googlenett'"),
        (["--photograph", "cat.jpg"], "--output"),
        (["--photograph", "missing.jpg", "--output", "o"], "missing.jpg"),
        (["--image-size", "8"], "8×8"),
        (["--image-size", "0"], "0×0 px is too small"),
        (["--images", "0"], "images is 0"),
        (["--run", "missing"], "no run folder 'missing'"),
        (["nin", "--run", "missing"], "leave out an architecture (nin)"),
    ],
)
def test_a_wrong_word_ends_in_one_line(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["analyze", "receptive-field", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(Path().iterdir()) == []
