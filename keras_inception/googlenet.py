"""The builder: it walks the rows of an `Architecture` and returns an ordinary functional `keras.Model`."""

import dataclasses
import logging
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from keras import layers

from keras_inception import blocks
from keras_inception.architecture import (
    GOOGLENET,
    LRN,
    Architecture,
    Conv,
    FullyConnected,
    Inception,
    MaxPool,
    MlpConv,
    Normalization,
    Row,
    get_architecture,
)
from keras_inception.errors import ArchitectureError, unknown
from keras_inception.layers import LocalResponseNormalization, channel_axis
from keras_inception.weights.published import PUBLISHED, PublishedWeights
from keras_inception.weights.read import published_weights

_LOG = logging.getLogger(__name__)

MAIN = "main"


def GoogLeNet(  # noqa: N802 - a constructor of models is called like a class, as throughout keras.applications
    *,
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    auxiliary: bool = False,
    architecture: Architecture | str | os.PathLike[str] | None = None,
    normalization: Normalization | None = None,
    dropout: float | None = None,
) -> keras.Model:
    """Build GoogLeNet (arXiv:1409.4842, Table 1) or another network of its family.

    >>> model = GoogLeNet(architecture="googlenet-small", classes=10, auxiliary=True)
    >>> {name: output.shape for name, output in model.output.items()}
    {'main': (None, 10), 'aux1': (None, 10), 'aux2': (None, 10)}

    Args:
        include_top: Whether the classifier is built; without it the output is the last feature map, or `pooling`'s.
        weights: None for random values; a name of `list_weights()`: "imagenet", "imagenet-slim" or "imagenet-caffe",
            which is fetched once and implies its architecture; or a `.keras` or `.weights.h5` file. From a `.keras`
            file the weights are taken by the names of the layers, so that a file with heads serves a model without. Of
            a name all that fits is taken: with other classes or input channels the classifiers or the first
            convolution are new, which is logged.
        input_tensor: A Keras tensor to build on, in place of a new input.
        input_shape: Height, width and channels (channels first where Keras is set so); by default the
            architecture's size with 3 channels. `(None, None, 3)` works without heads.
        pooling: With `include_top=False`: "avg" or "max" for global pooling, None for the feature map.
        classes: Number of classes, ≥ 1.
        classifier_activation: Activation of every output; None gives logits.
        name: Name of the model; by default the architecture's.
        auxiliary: Whether the two auxiliary heads are built; the output is then `{"main", "aux1", "aux2"}`.
        architecture: A table, the name of one, or the path of its JSON file; by default that of the weights' name, or
            Table 1.
        normalization: "none", "lrn" or "batch" rewrites the table before building; None leaves what it says.
        dropout: Share of features dropped in front of the classifier, in [0, 1); None leaves what the table says.

    Returns:
        A model from float32 RGB in [−1, 1], `(batch, height, width, channels)`, to `(batch, classes)`: one tensor,
        or a dictionary of three with `auxiliary=True`. What `weights="imagenet-caffe"` takes is
        `preprocess_input(x, mode="caffe")`.

    Raises:
        ArchitectureError: An argument is out of range, the image is too small, or the weights do not fit.
        WeightsError: The weights cannot be fetched.
    """
    published = PUBLISHED.get(weights) if isinstance(weights, str) else None
    table = _table(architecture, normalization, dropout, published)
    _check_arguments(include_top, pooling, classes, auxiliary, table)
    image = _input(input_tensor, input_shape, table)
    _check_image(image, table, auxiliary)

    # Functional Model
    x = image
    maps = {}
    for row in table.rows:
        x = maps[row.name] = _build_row(x, row, table.batch_normalization)
    outputs: Any = x
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(table.dropout, name="dropout")(x)
        outputs = blocks.classifier(x, classes, MAIN, activation=classifier_activation)
    elif pooling:
        pool = layers.GlobalAveragePooling2D if pooling == "avg" else layers.GlobalMaxPooling2D
        outputs = pool(name=f"{pooling}_pool")(x)
    if auxiliary:
        heads = {
            head.name: blocks.auxiliary_head(
                maps[head.after],
                classes,
                head.name,
                row=head,
                classifier_activation=classifier_activation,
                batch_normalization=table.batch_normalization,
            )
            for head in table.auxiliary
        }
        outputs = {MAIN: outputs, **heads}

    inputs = keras.utils.get_source_inputs(image)
    # A list of one input would make Keras warn at every call with a tensor.
    model = keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs, name=name or table.name)
    if published is not None:
        _take_published(model, published, classes, include_top)
    elif weights is not None:
        load_weights(model, weights)
    return model


def inference_model(model: keras.Model) -> keras.Model:
    """Return the model that is used after training: the same layers and weights, the main output alone.

    The auxiliary heads are not part of it, nor are their parameters. A model without heads comes back as it is.

    Args:
        model: A model of `GoogLeNet`, with or without heads.

    Returns:
        A model with one output tensor, `(batch, classes)`, that shares its layers with `model`.
    """
    if not isinstance(model.output, dict):
        return model
    return keras.Model(model.input, model.output[MAIN], name=model.name)


def feature_extractor(model: keras.Model, rows: Sequence[str]) -> keras.Model:
    """Return a model that answers with the maps of some rows: for detection, segmentation or a look inside.

    >>> extractor = feature_extractor(GoogLeNet(), rows=("3b", "4e", "5b"))
    >>> {row: output.shape for row, output in extractor.output.items()}
    {'3b': (None, 28, 28, 480), '4e': (None, 14, 14, 832), '5b': (None, 7, 7, 1024)}

    Args:
        model: A model of `GoogLeNet`, with or without classifier and heads.
        rows: Names of rows of its architecture, such as "conv1", "pool2" or "4e".

    Returns:
        A model from the same input to a dictionary of row to map, `(batch, height, width, channels)`; it shares its
        layers with `model`.

    Raises:
        ArchitectureError: There is no such row, or none is asked for.
    """
    known = _row_outputs(model)
    outputs = {}
    for row in rows:
        if row not in known:
            raise ArchitectureError(unknown("row", row, known))
        outputs[row] = known[row]
    if not outputs:
        raise ArchitectureError("no row given; name some, such as rows=('3b', '4e', '5b')")
    return keras.Model(model.input, outputs, name=f"{model.name}_features")


def load_weights(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Load weights from a file into `model`, in place.

    Args:
        model: Any model of `GoogLeNet`.
        path: A `.keras` file, whose weights are taken by the names of the layers, or a `.weights.h5` file, whose
            model must have had the same layers.

    Raises:
        ArchitectureError: The file is missing, is of another kind, lacks a layer, or has another shape for it.
    """
    path = Path(path)
    if not path.is_file():
        raise ArchitectureError(
            f"there is no weights file {str(path)!r}; give a .keras or .weights.h5 file, None, or one of "
            f"{', '.join(PUBLISHED)}"
        )
    if path.name.endswith(".weights.h5"):
        try:
            with warnings.catch_warnings():
                # Keras warns of groups the file lacks, and then raises for the layers in them.
                warnings.filterwarnings("ignore", message="Skipping nested container", category=UserWarning)
                model.load_weights(path)
        except (ValueError, OSError, KeyError, RuntimeError) as error:  # the last two of damaged files
            raise ArchitectureError(f"{path} does not fit the model {model.name!r}: {_first_line(error)}") from None
    elif path.suffix == ".keras":
        copy_weights(read_model(path), model)
    else:
        raise ArchitectureError(f"weights come from a .keras or .weights.h5 file, not from {str(path)!r}")


def read_model(path: str | os.PathLike[str]) -> keras.Model:
    """Return the model of a `.keras` file, as it answers: without losses and optimizer.

    Raises:
        ArchitectureError: The file is damaged or holds no model.
    """
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # damaged files and zips of other things raise errors of nearly every type
        raise ArchitectureError(f"{path} cannot be read as a Keras model: {_first_line(error)}") from None


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy weights from `source` into `target`, in place, by the names of the layers.

    `source` may have more layers (auxiliary heads); precision may differ, as variables are float32 in both.

    Raises:
        ArchitectureError: `source` lacks a layer of `target`, or has another shape for it.
    """
    set_weights(target, {layer.name: layer.get_weights() for layer in source.layers})


def set_weights(
    target: keras.Model, values: Mapping[str, list[np.ndarray]], replaceable: Collection[str] = ()
) -> tuple[str, ...]:
    """Give every layer of `target` its weights, in place.

    Args:
        target: Any model of `GoogLeNet`.
        values: Name of a layer to its arrays, as `get_weights` orders them; further layers are not used.
        replaceable: Layers that keep what they have where theirs are of another shape.

    Returns:
        The names of the layers that kept what they had.

    Raises:
        ArchitectureError: A layer of `target` is missing, or of another shape and not replaceable.
    """
    taking, kept = [], []
    for layer in target.layers:
        if not layer.weights:
            continue
        if layer.name not in values:
            raise ArchitectureError(f"the weights have no layer {layer.name!r}; they are of another architecture")
        expected, received = [tuple(w.shape) for w in layer.weights], [value.shape for value in values[layer.name]]
        if expected == received:
            taking.append(layer)
        elif layer.name in replaceable:
            kept.append(layer.name)
        else:
            raise ArchitectureError(f"layer {layer.name!r} takes weights of shape {expected}; received {received}")
    for layer in taking:
        layer.set_weights(values[layer.name])
    return tuple(kept)


def first_convolution(table: Architecture) -> str:
    """Return the name of the layer whose kernel has the image's channels."""
    row = next(row for row in table.rows if isinstance(row, Conv | Inception | MlpConv))
    return f"{row.name}_reduce" if isinstance(row, Conv) and row.reduce else row.name


def _row_outputs(model: keras.Model) -> dict[str, Any]:
    """Return the output of every row of a model's architecture, found by the names and kinds of its layers."""
    known = {layer.name: layer for layer in model.layers}
    modules = tuple(f"{name}_" for name, layer in known.items() if isinstance(layer, layers.Concatenate))
    heads = tuple(name.removesuffix("flatten") for name, layer in known.items() if isinstance(layer, layers.Flatten))
    found = {}
    for name, layer in known.items():
        if name.startswith((*modules, *heads)):
            continue
        if isinstance(layer, layers.Concatenate):
            found[name.removeprefix("inception_")] = layer.output
        elif isinstance(layer, layers.MaxPooling2D | LocalResponseNormalization):
            found[name] = layer.output
        elif isinstance(layer, layers.Conv2D) and not _is_part(name, known):
            # A row ends with its ReLU, an mlpconv row with that of its second 1×1.
            last = next((end for end in (f"{name}_mlp2_relu", f"{name}_relu") if end in known), name)
            found[name] = known[last].output
    return found


def _is_part(name: str, known: Collection[str]) -> bool:
    """Return whether a convolution is the reduction or a 1×1 of another row."""
    row, _, part = name.rpartition("_")
    return row in known and (part == "reduce" or (part in ("mlp1", "mlp2") and f"{row}_mlp2" in known))


def _take_published(model: keras.Model, published: PublishedWeights, classes: int, include_top: bool) -> None:
    """Give a model published weights; its classifiers or first convolution stay new where they are of other shapes."""
    table = get_architecture(published.architecture)
    background = include_top and classes == published.classes + 1
    values = published_weights(published.name, background=background).weights
    replaceable = (MAIN, *(head.name for head in table.auxiliary), first_convolution(table))
    if new := set_weights(model, values, replaceable):
        _LOG.warning("weights %s: %s new, for their shapes are others", published.name, ", ".join(new))


def _table(
    table: Architecture | str | os.PathLike[str] | None,
    normalization: Normalization | None,
    dropout: float | None,
    published: PublishedWeights | None,
) -> Architecture:
    if table is None:
        table = GOOGLENET if published is None else published.architecture
    if isinstance(table, str | os.PathLike):
        table = get_architecture(os.fspath(table))
    if not isinstance(table, Architecture):
        raise ArchitectureError(
            f"architecture takes a table, the name of one or the path of its JSON file; got a {type(table).__name__}"
        )
    if normalization is not None:
        table = table.with_normalization(normalization)
    if published is not None:
        own = get_architecture(published.architecture)
        if (table.rows, table.batch_normalization) != (own.rows, own.batch_normalization):
            raise ArchitectureError(
                f"weights {published.name!r} are of the architecture {own.name!r}, not of {table.name!r} with "
                f"normalization {table.normalization!r}; leave out architecture and normalization"
            )
    return table.with_dropout(dropout)


def _check_arguments(
    include_top: bool, pooling: str | None, classes: int, auxiliary: bool, table: Architecture
) -> None:
    if auxiliary and not include_top:
        raise ArchitectureError("auxiliary=True builds classifiers and needs include_top=True")
    if auxiliary and not table.auxiliary:
        raise ArchitectureError(f"architecture {table.name!r} has no auxiliary heads; build it with auxiliary=False")
    if pooling not in (None, "avg", "max"):
        raise ArchitectureError(f"pooling is {pooling!r}; it takes None, 'avg' or 'max'")
    if include_top and (type(classes) is not int or classes < 1):
        raise ArchitectureError(f"classes is {classes!r}; it takes a whole number ≥ 1")


def _input(input_tensor: Any, input_shape: tuple[int | None, ...] | None, table: Architecture) -> Any:
    if input_shape is None:
        size = (table.image_size, table.image_size)
        input_shape = (*size, 3) if channel_axis() == -1 else (3, *size)
    if input_tensor is None:
        if len(input_shape) != 3:
            raise ArchitectureError(f"input_shape is {input_shape!r}; it takes height, width and channels")
        return layers.Input(input_shape, name="image")
    if not keras.utils.is_keras_tensor(input_tensor):
        raise ArchitectureError(
            f"input_tensor takes a Keras tensor, such as keras.Input; got a {type(input_tensor).__name__}"
        )
    return input_tensor


def _check_image(image: Any, table: Architecture, auxiliary: bool) -> None:
    """Refuse an image too small for the network, with the smallest size that works."""
    height, width = image.shape[1:3] if channel_axis() == -1 else image.shape[2:4]
    if image.shape[channel_axis()] is None:
        raise ArchitectureError(f"the input has the shape {image.shape[1:]}; its number of channels must be known")
    if auxiliary and None in (height, width):
        raise ArchitectureError("auxiliary heads need an image of known size; give input_shape, such as (224, 224, 3)")
    table.check_image(height, width, auxiliary)


def _build_row(x: Any, row: Row, batch_normalization: bool) -> Any:
    match row:
        case Conv():
            return blocks.convolution_row(x, row, batch_normalization=batch_normalization)
        case MaxPool():
            return blocks.max_pool(x, row)
        case LRN():
            values = {k: v for k, v in dataclasses.asdict(row).items() if k != "name"}
            return LocalResponseNormalization(**values, name=row.name)(x)
        case Inception():
            return blocks.inception_block(x, row, batch_normalization=batch_normalization)
        case MlpConv():
            return blocks.mlpconv_block(x, row, batch_normalization=batch_normalization)
        case FullyConnected():
            return blocks.fully_connected(x, row)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
