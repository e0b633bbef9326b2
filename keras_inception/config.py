"""What a run is: frozen dataclasses that are checked when they are made and written beside every result.

Nothing here imports TensorFlow. A `RunConfig` read back from a run's config.json starts the same run again.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from keras_inception.architecture import Architecture, Normalization, get_architecture
from keras_inception.errors import ConfigError, unknown

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Part = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy and Keras take


def _in_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("the first should be no larger than the second")
    return bounds


_ORDERED = pydantic.AfterValidator(_in_order)


@dataclass(frozen=True, config=_STRICT)
class DataConfig:
    """Where images come from and how they become the network's input."""

    # A folder of class folders, a manifest (.csv, .jsonl), a folder of shards, a TFDS name, "elpv" or "digits", as the
    # user typed it.
    source: str = ""
    data_dir: str | None = None  # where TFDS keeps its sets; None is its own default, ~/tensorflow_datasets
    image_size: Count | None = None  # side of the square input, px; None is the architecture's own
    channels: Literal[1, 3] = 3  # grey images become three equal channels where it is 3
    value_range: tuple[float, float] = (-1.0, 1.0)  # what 0 and 255 become
    resize: Literal["bilinear", "bicubic", "area", "lanczos3"] = "bilinear"  # antialiased, of the shorter side
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0  # share of the resized shorter side in the centre crop
    # Training sees a patch of every image, drawn anew in every epoch (arXiv:1409.4842, section 6); without, what
    # evaluation sees.
    random_crop: bool = True
    crop_area: Annotated[tuple[Part, Part], _ORDERED] = (0.08, 1.0)  # of the patch, as a share of the image
    crop_aspect: Annotated[tuple[Positive, Positive], _ORDERED] = (3 / 4, 4 / 3)  # width / height of the patch
    # Of patches. "area" averages where it shrinks and is bilinear where it enlarges, as OpenCV advises; "random" is one
    # of the paper's four for every patch.
    interpolation: Literal["area", "bilinear", "bicubic", "nearest", "random"] = "area"
    flip_horizontal: bool = True  # at random in training
    flip_vertical: bool = False  # at random in training
    # Photometric distortion in training, in random order (section 6; after Howard, arXiv:1312.5402).
    brightness: Share = 0.0  # largest shift, as a share of the range
    contrast: Share = 0.0  # largest change; 0.2 is a factor of 0.8 to 1.2
    saturation: Share = 0.0  # as contrast, towards and away from grey
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # largest turn of the colour circle, as a share of it
    max_broken: Annotated[float, Field(ge=0, le=1)] = (
        0.01  # largest share of the images for training and validation that may be undecodable
    )
    validation_fraction: Share = 0.15  # of all images, where the source has no such split of its own
    test_fraction: Share = 0.15  # of all images, where the source has no such split of its own
    split_seed: Seed = 0  # which images they are


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """Which network is built."""

    architecture: str = "googlenet-bn"  # name of a table
    width: Annotated[float, Field(gt=0)] = 1.0  # factor on every width of the table
    normalization: Normalization | None = None  # None is what the table says
    dropout: Share | None = None  # in front of the classifier; None is what the table says (paper: 0.4)
    auxiliary_dropout: Share | None = None  # in the auxiliary heads; None is what the table says (paper: 0.7)
    auxiliary: bool = True  # whether the two auxiliary heads are trained with it

    def table(self) -> Architecture:
        """Return the architecture that these fields describe."""
        table = get_architecture(self.architecture).scaled(self.width)
        if self.normalization is not None:
            table = table.with_normalization(self.normalization)
        return table.with_dropout(self.dropout, self.auxiliary_dropout)


@dataclass(frozen=True, config=_STRICT)
class TrainingConfig:
    """How it is trained: SGD with momentum, a linear warm-up and a cosine to zero (arXiv:1608.03983)."""

    epochs: Count = 30
    batch_size: Count = 32  # images per step over all devices; BVLC's reproduction used 32
    # Peak rate; None is 0.1 with batch normalisation (torchvision's reference) and 0.01 without (BVLC's reproduction).
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0  # from 0 to the peak rate
    momentum: Share = 0.9  # arXiv:1409.4842, section 6
    weight_decay: Annotated[float, Field(ge=0)] = 2e-4  # of kernels alone; BVLC's reproduction
    loss_weights: tuple[Weight, Weight, Weight] = (1.0, 0.3, 0.3)  # main, aux1, aux2: arXiv:1409.4842, section 5
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    devices: str = "auto"  # "auto": all GPUs or the CPU; "gpu:0,1"; "cpu:2" for two logical CPUs
    seed: Seed = 0  # of weights, order, augmentation and dropout


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """A whole run."""

    name: str = "run"
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()

    def to_json(self) -> str:
        """Return the configuration as JSON text that `from_json` reads back to an equal value."""
        return _ADAPTER.dump_json(self, indent=2).decode() + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RunConfig":
        """Return the configuration that `to_json` wrote.

        Raises:
            ConfigError: The text is no JSON, a field is unknown, or a value is out of range.
        """
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"a configuration must be JSON text: {error}") from None
        if not isinstance(value, dict):
            raise ConfigError("a configuration must be a JSON object, such as the config.json of a run")
        return _validated(value)

    def override(self, values: Mapping[str, Any]) -> "RunConfig":
        """Return this configuration with fields replaced, each named as "section.field".

        >>> RunConfig().override({"training.epochs": 3, "data.flip_vertical": "true"}).training.epochs
        3

        Args:
            values: Field to value; text is read as the field's type.

        Raises:
            ConfigError: A field is unknown (the nearest are named) or a value is out of range.
        """
        tree = _ADAPTER.dump_python(self)
        known = [key for key, value in tree.items() if not isinstance(value, dict)]
        known += [f"{key}.{field}" for key, value in tree.items() if isinstance(value, dict) for field in value]
        for name, value in values.items():
            if name not in known:
                raise ConfigError(unknown("field", name, known))
            *section, field = name.split(".")
            owner = getattr(self, section[0]) if section else self
            kind = owner.__dataclass_fields__[field].type
            (tree[section[0]] if section else tree)[field] = _parsed(value, kind)
        return _validated(tree)


_ADAPTER = pydantic.TypeAdapter(RunConfig)


def _parsed(value: Any, kind: Any) -> Any:
    """Read text as JSON where it is JSON, so that numbers, true, null and lists can be typed; a name stays a name."""
    if not isinstance(value, str) or kind is str or (kind == (str | None) and value != "null"):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _validated(value: Any) -> RunConfig:
    try:
        return _ADAPTER.validate_python(value)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("function-", "constrained-")))
        if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            raise ConfigError(f"the configuration has an unknown field {field!r}; remove it") from None
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise ConfigError(f"{field} is {first['input']!r}: {message}") from None
