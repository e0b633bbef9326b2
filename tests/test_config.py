"""The configuration: what it accepts, what it refuses in one line, and that JSON text gives it back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

import keras_inception
from keras_inception.config import RunConfig
from keras_inception.errors import ConfigError

SHARES = st.floats(0, 0.999)
POSITIVE = st.floats(1e-6, 1e6)
# A valid value of every field.
PARTS = st.floats(0, 1, exclude_min=True)
VALUES = {
    "name": st.text(max_size=8),
    "data.source": st.text(max_size=8),
    "data.data_dir": st.none() | st.text(max_size=8).filter(lambda text: text != "null"),
    "data.image_size": st.none() | st.integers(1, 4096),
    "data.channels": st.sampled_from([1, 3]),
    "data.value_range": st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)),
    "data.resize": st.sampled_from(["bilinear", "bicubic", "area", "lanczos3"]),
    "data.crop_fraction": st.floats(0, 1, exclude_min=True),
    "data.flip_horizontal": st.booleans(),
    "data.flip_vertical": st.booleans(),
    "data.random_crop": st.booleans(),
    "data.crop_area": st.tuples(PARTS, PARTS).map(sorted).map(tuple),
    "data.crop_aspect": st.tuples(POSITIVE, POSITIVE).map(sorted).map(tuple),
    "data.interpolation": st.sampled_from(["area", "bilinear", "bicubic", "nearest", "random"]),
    "data.brightness": SHARES,
    "data.contrast": SHARES,
    "data.saturation": SHARES,
    "data.hue": st.floats(0, 0.5),
    "data.randaugment": st.integers(0, 5),
    "data.randaugment_magnitude": st.floats(0, 10),
    "data.random_erasing": SHARES,
    "data.mixup": st.floats(0, 10),
    "data.cutmix": st.floats(0, 10),
    "data.max_broken": st.floats(0, 1),
    "data.validation_fraction": SHARES,
    "data.test_fraction": SHARES,
    "data.split_seed": st.integers(0, 2**32 - 1),
    "model.architecture": st.sampled_from(["googlenet", "googlenet-bn", "googlenet-small", "nin"]),
    "model.width": POSITIVE,
    "model.normalization": st.sampled_from([None, "none", "lrn", "batch"]),
    "model.dropout": st.none() | SHARES,
    "model.auxiliary_dropout": st.none() | SHARES,
    "model.auxiliary": st.booleans(),
    "model.start_from": st.none() | st.text(max_size=8).filter(lambda text: text != "null"),
    "training.recipe": st.sampled_from(["paper", "modern", "finetune"]),
    "training.accumulation": st.integers(1, 64),
    "training.optimizer": st.sampled_from(["sgd", "adamw"]),
    "training.reference_rate": st.none() | POSITIVE,
    "training.reference_batch": st.integers(1, 10**6),
    "training.schedule": st.sampled_from(["cosine", "exponential"]),
    "training.decay_factor": PARTS,
    "training.decay_epochs": POSITIVE,
    "training.nesterov": st.booleans(),
    "training.clip_norm": st.none() | POSITIVE,
    "training.label_smoothing": SHARES,
    "training.average": SHARES,
    "training.auxiliary_schedule": st.sampled_from(["constant", "linear", "off"]),
    "training.auxiliary_epochs": st.none() | POSITIVE,
    "training.class_weights": st.sampled_from(["none", "balanced"]),
    "training.freeze_until": st.none() | st.sampled_from(["3b", "inception_4a"]),
    "training.freeze_epochs": st.integers(1, 100),
    "training.body_rate": PARTS,
    "training.steps_per_execution": st.integers(1, 100),
    "training.deterministic": st.booleans(),
    "training.fused": st.booleans(),
    "training.onednn": st.none() | st.booleans(),
    "training.epochs": st.integers(1, 10**6),
    "training.batch_size": st.integers(1, 10**6),
    "training.learning_rate": st.none() | POSITIVE,
    "training.warmup_epochs": st.floats(0, 1e3),
    "training.momentum": SHARES,
    "training.weight_decay": st.none() | st.floats(0, 1),
    "training.loss_weights": st.tuples(*[st.floats(0, 10)] * 3),
    "training.precision": st.sampled_from(["auto", "float32", "mixed_float16", "mixed_bfloat16"]),
    "training.devices": st.sampled_from(["auto", "gpu:0,1", "cpu:2"]),
    "training.seed": st.integers(0, 2**32 - 1),
}


def test_a_range_may_have_three_bounds_where_there_are_three_colours():
    text = "[[-123, -117, -104], [132, 138, 151]]"
    config = RunConfig().override({"data.value_range": text})
    assert config.data.value_range == ((-123.0, -117.0, -104.0), (132.0, 138.0, 151.0))
    assert RunConfig.from_json(config.to_json()) == config
    with pytest.raises(ConfigError, match=r"red, green and blue; with data\.channels 1"):
        config.override({"data.channels": "1"})


# Text that a user can type for a field, and a piece of the reason that must be given.
REFUSED = [
    ("data.image_size", "0", "greater than or equal to 1"),
    ("data.image_size", "-3", "greater than or equal to 1"),
    ("data.image_size", "32.5", "integer"),
    ("data.image_size", "big", "integer"),
    ("data.channels", "2", "1 or 3"),
    ("data.value_range", "[0]", ""),
    ("data.value_range", "[0, 1, 2]", ""),
    ("data.value_range", "[NaN, 1]", "finite"),
    ("data.resize", "nearest", "bilinear"),
    ("data.crop_fraction", "0", "greater than 0"),
    ("data.crop_fraction", "1.01", "less than or equal to 1"),
    ("data.flip_vertical", "maybe", "boolean"),
    ("data.brightness", "-0.1", "greater than or equal to 0"),
    ("data.contrast", "1", "less than 1"),
    ("data.validation_fraction", "1", "less than 1"),
    ("data.validation_fraction", "-0.1", "greater than or equal to 0"),
    ("data.test_fraction", "1.5", "less than 1"),
    ("data.split_seed", "-1", "greater than or equal to 0"),
    ("data.split_seed", "x", "integer"),
    ("model.width", "0", "greater than 0"),
    ("model.width", "Infinity", "finite"),
    ("model.normalization", "layer", "'batch'"),
    ("model.dropout", "1", "less than 1"),
    ("model.auxiliary_dropout", "-1", "greater than or equal to 0"),
    ("model.auxiliary", "2", "boolean"),
    ("training.epochs", "0", "greater than or equal to 1"),
    ("training.epochs", "null", "integer"),
    ("training.batch_size", "0", "greater than or equal to 1"),
    ("training.learning_rate", "0", "greater than 0"),
    ("training.learning_rate", "NaN", ""),
    ("training.learning_rate", "Infinity", "finite"),
    ("training.warmup_epochs", "-1", "greater than or equal to 0"),
    ("training.momentum", "1", "less than 1"),
    ("training.weight_decay", "-1", "greater than or equal to 0"),
    ("training.weight_decay", "Infinity", "finite"),
    ("training.loss_weights", "1", "tuple"),
    ("training.loss_weights", "[1, 0.3]", ""),
    ("training.loss_weights", "[1, -0.3, 0.3]", "greater than or equal to 0"),
    ("training.precision", "float16", "mixed_float16"),
    ("training.seed", "-1", "greater than or equal to 0"),
    ("training.seed", "4294967296", "less than"),  # numpy's and Keras's seeds have 32 bits
]


def typed(value):
    """What a user would type."""
    return value if isinstance(value, str) else json.dumps(value)


def field_of(config, name):
    for part in name.split("."):
        config = getattr(config, part)
    return config


def refusal(function):
    with pytest.raises(ConfigError) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message
    assert message == message.strip()
    return message


def test_every_field_has_a_value_to_try():
    tree = json.loads(RunConfig().to_json())
    fields = {"name"} | {f"{key}.{field}" for key in tree if key != "name" for field in tree[key]}
    assert fields == set(VALUES)


@settings(max_examples=25, deadline=None)
@given(st.fixed_dictionaries({}, optional=VALUES))
def test_a_configuration_comes_back_from_its_json(values):
    config = RunConfig().override(values)
    assert RunConfig.from_json(config.to_json()) == config
    for name, value in values.items():
        assert field_of(config, name) == value


@settings(max_examples=25, deadline=None)
@given(st.fixed_dictionaries({}, optional=VALUES))
def test_what_is_typed_is_read_as_the_type_of_its_field(values):
    config = RunConfig().override({name: typed(value) for name, value in values.items()})
    for name, value in values.items():
        assert field_of(config, name) == value
        assert type(field_of(config, name)) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("name", "null", "null"),
        ("data.flip_vertical", "true", True),
        ("training.epochs", "3", 3),
        ("training.momentum", "0.5", 0.5),
        ("training.loss_weights", "[1,0.3,0.3]", (1.0, 0.3, 0.3)),
        ("data.image_size", "null", None),
        ("training.learning_rate", "1e-2", 0.01),
        ("name", "plain words", "plain words"),
        ("data.data_dir", "null", None),
    ],
)
def test_typed_text(name, text, value):
    assert field_of(RunConfig().override({name: text}), name) == value


@pytest.mark.parametrize("text", ["5", "true", "1e3", "[1]", '"quoted"', "NaN", "2024"])
@pytest.mark.parametrize("name", ["name", "data.source", "data.data_dir"])
def test_a_name_that_looks_like_json_stays_the_name(name, text):
    assert field_of(RunConfig().override({name: text}), name) == text


def test_override_leaves_the_configuration_and_its_other_fields_alone():
    start = RunConfig().override({"training.epochs": 7})
    changed = start.override({"data.channels": "1"})
    assert (start.data.channels, start.training.epochs) == (3, 7)
    assert (changed.data.channels, changed.training.epochs) == (1, 7)


@pytest.mark.parametrize(("name", "text", "reason"), REFUSED)
def test_a_value_out_of_range_is_refused_by_name_and_value(name, text, reason):
    message = refusal(lambda: RunConfig().override({name: text}))
    assert message.startswith(name)
    assert reason in message
    shown = text.replace("NaN", "nan").replace("Infinity", "inf").replace("null", "None").strip("[]").split(", ")
    assert any(part in message for part in [*shown, f"{float(shown[0]):g}" if shown[0][:1].isdigit() else shown[0]])


@pytest.mark.parametrize(
    ("typo", "nearest"),
    [
        ("training.epoch", "training.epochs"),
        ("data.flip_horizontally", "data.flip_horizontal"),
        ("model.widht", "model.width"),
        ("nam", "name"),
    ],
)
def test_an_unknown_field_lists_the_nearest(typo, nearest):
    message = refusal(lambda: RunConfig().override({typo: "1"}))
    assert repr(typo) in message
    assert nearest in message
    assert len(message) < 150


@pytest.mark.parametrize("section", ["data", "model", "training", "", ".", "data.", "data.channels.x"])
def test_a_section_is_no_field(section):
    assert "unknown field" in refusal(lambda: RunConfig().override({section: "{}"}))


def test_a_field_of_a_later_version_is_refused_by_its_name():
    tree = json.loads(RunConfig().to_json())
    tree["training"]["sharpness"] = 0.1
    assert "training.sharpness" in refusal(lambda: RunConfig.from_json(json.dumps(tree)))


@pytest.mark.parametrize(
    "text", ["", "{", "hello", "[]", "5", "null", '"text"', "[1, 2]", '{"version": 2}', '{"data": 5}', '{"data": null}']
)
def test_another_file_is_no_configuration(text):
    assert refusal(lambda: RunConfig.from_json(text))


def test_fields_that_a_file_lacks_take_their_defaults():
    assert RunConfig.from_json('{"training": {"epochs": 2}}') == RunConfig().override({"training.epochs": 2})


@pytest.mark.parametrize("recipe", ["paper", "modern", "finetune"])
def test_a_recipe_is_a_configuration_that_says_its_name(recipe):
    config = RunConfig.of_recipe(recipe)
    assert config.training.recipe == recipe
    assert RunConfig.from_json(config.to_json()) == config


def test_an_unknown_recipe_is_refused_with_the_nearest():
    assert "did you mean modern" in refusal(lambda: RunConfig.of_recipe("moderne"))


def test_the_paper_is_what_section_6_says():
    config = RunConfig.of_recipe("paper")
    assert config.model.table() == keras_inception.GOOGLENET
    training, data = config.training, config.data
    assert (training.optimizer, training.momentum, training.nesterov) == ("sgd", 0.9, False)
    assert (training.schedule, training.decay_factor, training.decay_epochs) == ("exponential", 0.96, 8)
    assert training.loss_weights == (1, 0.3, 0.3)
    assert training.average > 0
    assert (training.label_smoothing, data.mixup, data.cutmix, data.randaugment) == (0, 0, 0, 0)
    assert (data.crop_area, data.crop_aspect, data.interpolation) == ((0.08, 1.0), (3 / 4, 4 / 3), "random")
    assert min(data.brightness, data.contrast, data.saturation, data.hue) > 0


@pytest.mark.parametrize("architecture", ["googlenet", "googlenet-bn", "googlenet-small"])
@pytest.mark.parametrize("width", [0.5, 1.0])
def test_table_is_the_architecture_with_the_fields_of_the_model(architecture, width):
    fields = {"architecture": architecture, "width": width, "normalization": "batch", "dropout": 0.125}
    table = RunConfig().override({f"model.{key}": value for key, value in fields.items()}).model.table()
    expected = keras_inception.get_architecture(architecture).scaled(width).with_normalization("batch")
    assert table == expected.with_dropout(0.125, None)
    assert table.dropout == 0.125


def test_reading_a_configuration_imports_neither_tensorflow_nor_keras():
    program = (
        "import sys\nfrom keras_inception.config import RunConfig\nRunConfig.from_json(RunConfig().to_json())\n"
        "RunConfig().model.table()\nprint(sorted({'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)))"
    )
    root = Path(keras_inception.__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True)
    assert result.stdout == "[]\n"
