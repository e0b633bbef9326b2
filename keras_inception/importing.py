"""A public checkpoint becomes a `.keras` file with its labels and preprocessing inside."""

from pathlib import Path

import keras
import numpy as np

from keras_inception.card import Card, put_into_zip
from keras_inception.config import DataConfig
from keras_inception.errors import WeightsError
from keras_inception.files import file_sha256, written_beside
from keras_inception.googlenet import GoogLeNet, set_weights
from keras_inception.weights.imagenet import class_names
from keras_inception.weights.layout import LayerWeights
from keras_inception.weights.published import (
    CROP_FRACTION,
    IMPORTED_ARCHITECTURE,
    MODE_OF,
    TRANSFORM_INPUT,
    VALUE_RANGES,
    Source,
)
from keras_inception.weights.read import read_weights


def import_weights(
    path: str | Path,
    source: Source,
    out: str | Path,
    *,
    transform_input: bool = False,
    background: bool = False,
    overwrite: bool = False,
) -> LayerWeights:
    """Turn a public checkpoint into a `.keras` file that answers like its original, at 224 px.

    The file is one of `predict`, `evaluate` and `train --from`; its outputs are "main", "aux1" and "aux2" where the
    checkpoint has the auxiliary heads.

    Args:
        path: The checkpoint.
        source: "torchvision", "slim" or "caffe".
        out: The file to write, which ends in .keras.
        transform_input: Of torchvision: bring normalised images to [−1, 1] inside, as its published checkpoint wants.
        background: Of TF-Slim: keep the background, the first of 1001 classes.
        overwrite: Replace what stands at `out`.

    Returns:
        What was read; `left_over` are the tensors that are no part of the network.

    Raises:
        WeightsError: `path` as in `read_weights`; `out` is there or has another ending; or an option is of another
            source.
    """
    path, out = Path(path), Path(out)
    _check(source, out, transform_input, background, overwrite)
    read = read_weights(path, source, background=background)
    model = build(read, transform_input=transform_input)
    data = DataConfig(
        image_size=read.table.image_size,
        channels=3 if read.channels == 3 else 1,
        value_range=VALUE_RANGES[MODE_OF[source]],
        crop_fraction=CROP_FRACTION,
    )
    about = {"source": source, "file": path.name, "sha256": _digest(path)}
    provenance = {**about, IMPORTED_ARCHITECTURE: read.table.name, TRANSFORM_INPUT: str(transform_input).lower()}
    with written_beside(out) as beside:
        model.save(beside)
        put_into_zip(Card(out, path.stem, class_names(read.classes), data, provenance), beside)
    return read


def build(read: LayerWeights, *, transform_input: bool = False, image_size: int | None = None) -> keras.Model:
    """Build the network of weights that were read, and give it them.

    Args:
        read: The weights.
        transform_input: As in `import_weights`.
        image_size: Side of the square input, px; by default the architecture's.
    """
    side = read.table.image_size if image_size is None else image_size
    image = keras.Input((side, side, read.channels), name="image")
    model = GoogLeNet(
        input_tensor=_transformed(image) if transform_input else image,
        architecture=read.table,
        classes=read.classes,
        auxiliary=read.heads,
    )
    set_weights(model, read.weights)
    return model


def _transformed(image: keras.KerasTensor) -> keras.KerasTensor:
    """Turn images of torchvision's mean and deviation into those of [−1, 1]."""
    low, high = map(np.asarray, VALUE_RANGES["torch"])
    lowest, highest = map(np.asarray, VALUE_RANGES["tf"])
    scale = (highest - lowest) / (high - low)
    offset = lowest - low * scale
    return keras.layers.Rescaling(scale.tolist(), offset.tolist(), name=TRANSFORM_INPUT)(image)


def _check(source: Source, out: Path, transform_input: bool, background: bool, overwrite: bool) -> None:
    for option, of, asked in (("transform-input", "torchvision", transform_input), ("background", "slim", background)):
        if asked and source != of:
            raise WeightsError(f"--{option} is of --from {of}; leave it out with --from {source}")
    if out.suffix != ".keras":
        raise WeightsError(f"{str(out)!r} does not end in .keras; give --out such a file")
    if out.exists() and not overwrite:
        raise WeightsError(f"{str(out)!r} exists; give --overwrite to replace it")


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file; "" for a checkpoint of several files, which is named by what they begin with."""
    return file_sha256(path) if path.is_file() else ""
