"""How much gradient reaches every row: at initialisation under each loss and normalisation, and through a training.

The auxiliary heads are there "to increase the gradient signal that gets propagated back" (arXiv:1409.4842, section 5).
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import keras
import numpy as np
import tensorflow as tf

from keras_inception.architecture import Architecture, Conv, Normalization
from keras_inception.config import DataConfig
from keras_inception.data.dataset import TRAIN
from keras_inception.errors import RunError
from keras_inception.googlenet import MAIN, GoogLeNet
from keras_inception.report.run import by_depth
from keras_inception.run_folder import RunFolder
from keras_inception.training.model import rows_of

#: Weight of an auxiliary head's loss (arXiv:1409.4842, section 5).
AUXILIARY_WEIGHT = 0.3
#: What joins the names of outputs whose losses are summed.
PLUS = " + "


@dataclass(frozen=True)
class Batch:
    """What gradients are measured on.

    Args:
        images: float32 `(batch, size, size, channels)`, the network's input.
        labels: Integers of shape `(batch,)`.
        classes: How many there are.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: int


@dataclass(frozen=True)
class RowNorm:
    """The norm of a row's gradient: of all weights, biases, scales and shifts of the row together.

    Args:
        normalization: Of the network.
        losses: The outputs whose losses are summed, as in "main + aux1".
        row: Prefix of the row's layers, as in "inception_4a", or an output.
        mean: Over drawn weights.
        sd: Standard deviation over drawn weights, of the sample; nan of one.
        by_seed: With each of the drawn weights.
    """

    normalization: str
    losses: str
    row: str
    mean: float
    sd: float
    by_seed: tuple[float, ...] = ()


@dataclass(frozen=True)
class HeadGain:
    """How many times the gradient of the row nearest to the image is with heads what it is with the main loss alone.

    Args:
        network: The normalisation of one that has not been trained, or "best" or "last" of a run.
        losses: As in `RowNorm`.
        row: The row.
        mean: Over drawn weights, compared one by one.
        sd: Standard deviation over them, of the sample; nan of one.
    """

    network: str
    losses: str
    row: str
    mean: float
    sd: float


def noise(table: Architecture, image_size: int | None = None, *, images: int = 8, classes: int = 1000) -> Batch:
    """Return normal noise with random labels, the same at every call.

    Args:
        table: The network, for its size.
        image_size: Side of the images, px; by default the table's own.
        images: How many.
        classes: How many the labels are of.
    """
    random, side = np.random.default_rng(0), table.image_size if image_size is None else image_size
    pixels = random.standard_normal((images, side, side, 3)).astype(np.float32)
    return Batch(pixels, random.integers(classes, size=images), classes)


def batch_of_run(run: str | Path, images: int = 32) -> Batch:
    """Return images of a run's training split, spread evenly over it, as evaluation sees them.

    Raises:
        RunError: There is no such run.
        DataError: Its images are gone.
    """
    from keras_inception.data.images import read_split
    from keras_inception.data.pipeline import evaluation_views
    from keras_inception.data.sizing import scaled

    folder = RunFolder(Path(run))
    config: DataConfig = folder.config().data
    found = read_split(config, folder.labels(), TRAIN, limit=images)
    return Batch(scaled(evaluation_views(found, config), config), found.labels, len(folder.labels()))


def normalizations(table: Architecture) -> list[Normalization]:
    """Return the normalisations that a table can be built with."""
    takes_lrn = any(isinstance(row, Conv) for row in table.stem)
    return [name for name in get_args(Normalization) if name != "lrn" or takes_lrn]


def norms_at_initialization(
    table: Architecture,
    batch: Batch,
    *,
    kinds: Sequence[Normalization] | None = None,
    seeds: int = 3,
    weights: Mapping[str, float] | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[RowNorm]:
    """Measure the gradients of a network that has not been trained, for every normalisation and sum of losses.

    Args:
        table: The network; its own normalisation is replaced.
        batch: What is measured on.
        kinds: Normalisations; by default all that the table can be built with.
        seeds: How many times weights are drawn: the same number is the same weights.
        weights: Of an output's loss; by default 1 for the main and 0.3 for others.
        on_progress: Called with the number of networks measured and of all.

    Returns:
        By normalisation, then losses, then rows from the image up, with the outputs after them.
    """
    kinds = normalizations(table) if kinds is None else kinds
    found, total = [], len(kinds) * seeds
    for done, kind in enumerate(kinds):
        network = _network(table.with_normalization(kind), batch)
        parts = []
        for seed in range(seeds):
            draw_weights(network, seed)
            parts.append(norms(network, table, batch, weights))
            on_progress(done * seeds + seed + 1, total)
        for losses, rows in parts[0].items():
            for row in rows:
                values = [part[losses][row] for part in parts]
                found.append(RowNorm(kind, losses, row, float(np.mean(values)), _sd(values), tuple(values)))
    return found


def head_gains(
    found: Sequence[RowNorm], checkpoints: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None
) -> list[HeadGain]:
    """Tell how much the heads add to what reaches the row nearest to the image; nothing of a network without heads.

    Args:
        found: From `norms_at_initialization`.
        checkpoints: From `norms_of_checkpoints`.
    """
    norms_by = {
        kind: {(one.losses, one.row): one.by_seed for one in found if one.normalization == kind}
        for kind in dict.fromkeys(one.normalization for one in found)
    }
    for name, of_losses in (checkpoints or {}).items():
        norms_by[name] = {(losses, row): (norm,) for losses, rows in of_losses.items() for row, norm in rows.items()}
    gains = []
    for network, by in norms_by.items():
        first = next(row for _, row in by)
        for losses, row in by:
            if row == first and losses != MAIN:
                times = [some / alone for some, alone in zip(by[losses, first], by[MAIN, first], strict=True) if alone]
                gains.append(HeadGain(network, losses, first, float(np.mean(times or [np.nan])), _sd(times)))
    return gains


def norms_of_checkpoints(run: str | Path, batch: Batch) -> dict[str, dict[str, dict[str, float]]]:
    """Measure the gradients of the models that a run has saved.

    Args:
        run: The run's folder.
        batch: As in `norms_at_initialization`.

    Returns:
        "best" and "last", those that there are, to what `norms` gives with the weights of the run's losses.

    Raises:
        RunError: There is no run, or no epoch of it has ended.
    """
    folder = RunFolder(Path(run))
    config, table = folder.config(), folder.architecture()
    if not config.model.heads:
        table = _without_heads(table)
    weights = dict(zip((MAIN, "aux1", "aux2"), config.training.loss_weights, strict=True))
    files = {"best": folder.best_keras, "last": folder.last_keras}
    if not any(path.exists() for path in files.values()):
        raise RunError(f"{str(folder.path)!r} has no best.keras: no epoch has ended; go on with train --resume")
    return {
        name: norms(_network(table, batch, path), table, batch, weights)
        for name, path in files.items()
        if path.exists()
    }


def logged_norms(run: str | Path) -> list[dict[str, float]]:
    """Return the norms that the training logged: a row per epoch, "epoch" and the mean over its steps of every row.

    They are of the training's own batches, losses, smoothing of labels and dropout. Rows stand from the image up, with
    the outputs after them.

    Raises:
        RunError: There is no run, or no epoch of it has ended.
    """
    folder = RunFolder(Path(run))
    table, rows = folder.architecture(), folder.gradients()
    if not rows:
        raise RunError(f"{str(folder.path)!r} has no gradients.csv: no epoch has ended; go on with train --resume")
    return by_depth(rows, table)


def norms(
    network: keras.Model, table: Architecture, batch: Batch, weights: Mapping[str, float] | None = None
) -> dict[str, dict[str, float]]:
    """Measure the norm of every row's gradient under the main loss alone, with each head's, and with all of them.

    The loss is the cross entropy, a mean over the images. Batch normalisation takes the statistics of the batch, as in
    training, and changes its moving averages.

    Args:
        network: With a dictionary of outputs that are probabilities, or the main output alone.
        table: Its architecture.
        batch: What is measured on.
        weights: As in `norms_at_initialization`.

    Returns:
        Names of the outputs with a " + " between them to the rows with their norms.
    """
    variables = network.trainable_variables
    gradients = _gradients_of_outputs(network, batch)
    factors = {name: 1.0 if name == MAIN else AUXILIARY_WEIGHT for name in gradients} | dict(weights or {})
    places = {variable.path: place for place, variable in enumerate(variables)}
    found = {}
    for outputs in _sums(list(gradients)):
        total = [sum(factors[name] * gradients[name][place] for name in outputs) for place in range(len(variables))]
        found[PLUS.join(outputs)] = {
            row: float(np.sqrt(sum(np.square(total[places[path]], dtype=np.float64).sum() for path in paths)))
            for row, paths in rows_of(network, table).items()
        }
    return found


def draw_weights(network: keras.Model, seed: int) -> None:
    """Draw the kernels of a network anew by their own initialisers, in place; the same seed draws the same.

    No random state but the network's own weights is touched.
    """
    for place, layer in enumerate(network.layers):
        initializer = getattr(layer, "kernel_initializer", None)
        if initializer is not None:
            config = {
                **initializer.get_config(),
                "seed": int(np.random.SeedSequence([seed, place]).generate_state(1)[0]),
            }
            layer.kernel.assign(type(initializer).from_config(config)(layer.kernel.shape))


def _sd(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _network(table: Architecture, batch: Batch, weights: Path | None = None) -> keras.Model:
    """Build a network with its heads and without dropout, so that a measurement can be repeated."""
    return GoogLeNet(
        architecture=table.with_dropout(0.0, 0.0),
        input_shape=batch.images.shape[1:],
        classes=batch.classes,
        auxiliary=bool(table.auxiliary),
        weights=weights,
    )


def _gradients_of_outputs(network: keras.Model, batch: Batch) -> dict[str, list[np.ndarray]]:
    """Return the gradients of every output's loss alone; zeros where a variable has no part in it."""
    variables = network.trainable_variables
    truth = tf.one_hot(batch.labels, batch.classes)
    with tf.GradientTape(persistent=True) as tape:
        answers = network(batch.images, training=True)
        answers = answers if isinstance(answers, dict) else {MAIN: answers}
        losses = {
            name: tf.reduce_mean(keras.losses.categorical_crossentropy(truth, values))
            for name, values in answers.items()
        }
    found = {}
    for name in sorted(losses, key=lambda name: (name != MAIN, name)):
        gradients = tape.gradient(
            losses[name], [variable.value for variable in variables], unconnected_gradients="zero"
        )
        found[name] = [gradient.numpy() for gradient in gradients]
    return found


def _sums(outputs: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield which losses are summed: the main alone, with each of the others, with all of them."""
    main, *heads = outputs
    counts = sorted({0, 1, len(heads)} & set(range(len(heads) + 1)))
    for count in counts:
        yield from ((main, *some) for some in itertools.combinations(heads, count))


def _without_heads(table: Architecture) -> Architecture:
    from dataclasses import replace

    return replace(table, auxiliary=())
