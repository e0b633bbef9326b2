"""What a run is: frozen dataclasses that are checked when they are made and written beside every result.

Nothing here imports TensorFlow. A `RunConfig` read back from a run's config.json starts the same run again.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from keras_inception.architecture import Architecture, Normalization, get_architecture
from keras_inception.errors import ConfigError, InceptionError, unknown

#: Of every configuration: no field that is not known, and numbers alone.
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Part = Annotated[float, Field(gt=0, le=1)]
Bound = float | tuple[float, float, float]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy and Keras take


def _in_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("the first should be no larger than the second")
    return bounds


_ORDERED = pydantic.AfterValidator(_in_order)


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    """Where images come from and how they become the network's input."""

    # A folder of class folders, a manifest (.csv, .jsonl), a folder of shards, a TFDS name, "elpv" or "digits", as the
    # user typed it.
    source: str = ""
    data_dir: str | None = None  # where TFDS keeps its sets; None is its own default, ~/tensorflow_datasets
    image_size: Count | None = None  # side of the square input, px; None is the architecture's own
    channels: Literal[1, 3] = 3  # grey images become three equal channels where it is 3
    # What 0 and 255 become: a number, or three for red, green and blue, as the public checkpoints want.
    value_range: tuple[Bound, Bound] = (-1.0, 1.0)
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
    # RandAugment (arXiv:1909.13719): how many of its operations an image goes through, and how far each goes; the paper
    # has 2 and 9 for ResNet-50 on ImageNet.
    randaugment: Annotated[int, Field(ge=0)] = 0
    randaugment_magnitude: Annotated[float, Field(ge=0, le=10)] = 9.0
    random_erasing: Share = 0.0  # probability of a random box of noise (arXiv:1708.04896); torchvision has 0.1
    # Pairs of images are blended (mixup, arXiv:1710.09412) or a box of one is put into the other (CutMix,
    # arXiv:1905.04899), labels with them: alpha of the Beta distribution of the shares; 0 is off. torchvision has 0.2
    # and 1.0, each for half of the pairs, in trainings of 600 epochs.
    mixup: Weight = 0.0
    cutmix: Weight = 0.0  # as mixup
    max_broken: Annotated[float, Field(ge=0, le=1)] = (
        0.01  # largest share of the images for training and validation that may be undecodable
    )
    validation_fraction: Share = 0.15  # of all images, where the source has no such split of its own
    test_fraction: Share = 0.15  # of all images, where the source has no such split of its own
    split_seed: Seed = 0  # which images they are

    def __post_init__(self) -> None:
        if self.channels == 1 and not all(isinstance(bound, float | int) for bound in self.value_range):
            raise ConfigError("data.value_range has bounds for red, green and blue; with data.channels 1 it takes two")


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """Which network is built."""

    architecture: str = "googlenet-bn"  # name of a table, or a file that Architecture.to_json wrote: *.json
    width: Annotated[float, Field(gt=0)] = 1.0  # factor on every width of the table
    normalization: Normalization | None = None  # None is what the table says
    dropout: Share | None = None  # in front of the classifier; None is what the table says (paper: 0.4)
    auxiliary_dropout: Share | None = None  # in the auxiliary heads; None is what the table says (paper: 0.7)
    auxiliary: bool = True  # whether the auxiliary heads, where the table has any, are trained with it
    # A run's folder or a .keras file whose weights the network starts with; layers of another shape there, such as
    # classifiers of other classes, start at random.
    start_from: str | None = None

    def table(self) -> Architecture:
        """Return the architecture that these fields describe."""
        table = get_architecture(self.architecture).scaled(self.width)
        if self.normalization is not None:
            table = table.with_normalization(self.normalization)
        return table.with_dropout(self.dropout, self.auxiliary_dropout)

    @property
    def heads(self) -> bool:
        """Whether auxiliary heads are trained."""
        return self.auxiliary and bool(self.table().auxiliary)


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """How it is trained. The values here are the recipe "modern"; the others, in RECIPES, say what differs."""

    recipe: Literal["paper", "modern", "finetune"] = "modern"  # whose values hold where none were given
    epochs: Count = 30
    batch_size: Count = 32  # images per step over all devices and workers; BVLC's reproduction used 32
    accumulation: Count = 1  # parts that a batch is computed in, one after the other: less memory, same step
    optimizer: Literal["sgd", "adamw"] = "sgd"
    # Peak rate; None is reference_rate × batch_size / reference_batch (linear scaling, arXiv:1706.02677).
    learning_rate: Positive | None = None
    # None is the optimizer's and the network's: see reference_rate below.
    reference_rate: Positive | None = None
    reference_batch: Count = 256
    schedule: Literal["cosine", "exponential"] = "cosine"  # to zero (arXiv:1608.03983); or by decay_factor
    decay_factor: Part = 0.96  # of the exponential schedule: arXiv:1409.4842, section 6
    decay_epochs: Positive = 8.0  # after each of which it falls: the same
    warmup_epochs: Weight = 1.0  # from 0 to the peak rate (arXiv:1706.02677; its 5 of 90 epochs, for short trainings)
    momentum: Share = 0.9  # of SGD: arXiv:1409.4842, section 6
    nesterov: bool = True  # look-ahead momentum of SGD (arXiv:1812.01187)
    # Of kernels alone. None is the optimizer's: 0.0002 for SGD (BVLC's reproduction), 0.05 for AdamW (DeiT).
    weight_decay: Weight | None = None
    clip_norm: Positive | None = None  # largest norm of all gradients together; None does not clip
    label_smoothing: Share = 0.1  # arXiv:1512.00567, section 7
    # Decay of the moving average of all weights that is evaluated and exported; 0 is the last weights themselves. It
    # is warmed up as TensorFlow does, min(decay, (1 + step) / (10 + step)). 0.9999 is TF-Slim's for Inception.
    average: Share = 0.9999
    loss_weights: tuple[Weight, Weight, Weight] = (1.0, 0.3, 0.3)  # main, aux1, aux2: arXiv:1409.4842, section 5
    # The heads' weights stay, fall to zero along a line, or go to zero at once, at auxiliary_epochs; None is the end.
    auxiliary_schedule: Literal["constant", "linear", "off"] = "constant"
    auxiliary_epochs: Positive | None = None
    # Of an image's loss; "balanced" is images / (classes · images of its class).
    class_weights: Literal["none", "balanced"] = "none"
    freeze_until: str | None = None  # rows up to this one keep their weights for freeze_epochs
    freeze_epochs: Count = 5
    body_rate: Part = 1.0  # learning rate of all but the classifiers, as a share of theirs
    # auto is float32 on the CPU and older GPUs, and mixed_bfloat16 or mixed_float16 where a GPU has the units.
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = "auto"
    devices: str = "auto"  # "auto", "all": all GPUs or the CPU; "gpu:0,1"; "cpu:2" for two logical CPUs
    steps_per_execution: Count = 1  # steps between two looks at what the run does; more are faster for tiny networks
    deterministic: bool = False  # the same bits on every run, at some speed
    fused: bool = True  # batch normalisation and SGD's step in one operation each: equal to Keras's within rounding
    # oneDNN's kernels on the CPU, which must be chosen before TensorFlow is loaded: the command line does so, and fills
    # this in. None is TensorFlow's choice, or that of TF_ENABLE_ONEDNN_OPTS.
    onednn: bool | None = None
    seed: Seed = 0  # of weights, order, augmentation and dropout


@dataclass(frozen=True, config=STRICT)
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

    @classmethod
    def of_recipe(cls, name: str) -> "RunConfig":
        """Return the configuration of a recipe: "paper", "modern" or "finetune".

        Raises:
            ConfigError: There is no such recipe.
        """
        if name not in RECIPES:
            raise ConfigError(unknown("recipe", name, RECIPES))
        return cls().override(RECIPES[name])

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

    def with_table(self, path: Path) -> "RunConfig":
        """Return this configuration with the network that an architecture file holds, as it stands there.

        Args:
            path: What `Architecture.to_json` wrote; its name ends in .json.
        """
        return self.override(
            {
                "model.architecture": str(path),
                "model.width": 1.0,
                "model.normalization": None,
                "model.dropout": None,
            }
        )


_ADAPTER = pydantic.TypeAdapter(RunConfig)

#: Weight decay of each optimizer where a recipe gives none.
WEIGHT_DECAYS = {"sgd": 2e-4, "adamw": 0.05}

# Rates for 256 images a step. The first two were published for batches of 32: 0.045 as BN-x30, the best single network
# of arXiv:1502.03167, section 4.2.2, and 0.01 in BVLC's quick solver for a GoogLeNet with LRN.
_SGD_BATCH_NORMALIZED, _SGD, _ADAMW = 0.36, 0.08, 2.5e-4  # the last is DeiT's, arXiv:2012.12877, from 512 images


def reference_rate(optimizer: str, batch_normalization: bool) -> float:
    """Return the rate for 256 images a step where a recipe gives none."""
    if optimizer == "adamw":
        return _ADAMW
    return _SGD_BATCH_NORMALIZED if batch_normalization else _SGD


#: What each recipe changes.
RECIPES: dict[str, dict[str, Any]] = {
    # arXiv:1409.4842, section 6. What it leaves open: rate, batch and weight decay are BVLC's (bvlc_googlenet's quick
    # solver); the distortion's strength and the decay of Polyak averaging are TF-Slim's for Inception.
    "paper": {
        "training.recipe": "paper",
        "model.architecture": "googlenet",  # with local response normalisation and dropout 0.4 and 0.7
        "data.interpolation": "random",
        "data.brightness": 32 / 255,
        "data.contrast": 0.5,
        "data.saturation": 0.5,
        "data.hue": 0.2,
        "training.reference_rate": 0.01,
        "training.reference_batch": 32,
        "training.schedule": "exponential",
        "training.warmup_epochs": 0.0,
        "training.nesterov": False,
        "training.label_smoothing": 0.0,
    },
    "modern": {"training.recipe": "modern"},
    # Rates of Caffe's example finetune_flickr_style: 0.01 for the new classifier, a tenth for the body, batches of 50.
    "finetune": {
        "training.recipe": "finetune",
        "training.reference_rate": 0.01,
        "training.reference_batch": 50,
        "training.body_rate": 0.1,
    },
}


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
        raise first_of(error) from None


def first_of(error: pydantic.ValidationError) -> InceptionError:
    """Return the first of what a validation found as one line that names the field, its value and what it takes."""
    first = error.errors()[0]
    raised = first.get("ctx", {}).get("error")
    if isinstance(raised, InceptionError):
        return raised
    field = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("function-", "constrained-")))
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return ConfigError(f"the configuration has an unknown field {field!r}; remove it")
    message = first["msg"][:1].lower() + first["msg"][1:]
    return ConfigError(f"{field} is {first['input']!r}: {message}")
