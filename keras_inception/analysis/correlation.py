"""How the channels of a row go together over many images: their correlation, its clusters, and how far it reaches.

The design of GoogLeNet goes back to Arora et al. (arXiv:1310.6343): layer by layer, the correlation of the last layer's
units is analysed, and those that go together become a unit of the next. arXiv:1409.4842, section 3, expects correlated
units of lower rows at the same place, and those of higher rows further apart. Here both are measured. A channel is a
unit that is looked at in every image and at every position; it is silent where it never varies.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, silhouette_score

from keras_inception.analysis.branches import BRANCHES, branch_layer, modules, output_layer
from keras_inception.architecture import Architecture, Inception, Row
from keras_inception.data.images import read_split
from keras_inception.data.pipeline import evaluation_batches
from keras_inception.errors import ArchitectureError, unknown
from keras_inception.predictor import run_model
from keras_inception.run_folder import RunFolder

#: Steps that are looked at to every side: the patches of section 3 are of 1×1, 3×3 and 5×5.
REACH = 2
#: No channels are parted into more clusters.
MOST_CLUSTERS = 64

_BATCH = 16  # images that the network sees at a time
_CHANNELS = 256  # of a row, for steps: one matrix for each would be too much of all
_DEALINGS = 1000
_STILL = 1e-12  # of the mean square: the variance of a channel that does not vary, after rounding


class CoMoments:
    """The co-moments of two groups of variables, from parts of the observations (Chan, Golub and LeVeque, 1979).

    It holds one matrix whatever the number of observations, and rounds no worse than two passes over all of them.

    Args:
        variables: In each of the groups.
    """

    def __init__(self, variables: int):
        self.count = 0
        self._means = np.zeros((2, variables))
        self._squares = np.zeros((2, variables))  # sums of squared deviations from the mean
        self._products = np.zeros((variables, variables))

    def update(self, first: np.ndarray, second: np.ndarray) -> None:
        """Take in observations.

        Args:
            first: `(observations, variables)`.
            second: The same of the other group, row by row observed together.
        """
        if not len(first):
            return
        parts = np.stack([first, second]).astype(np.float64)
        means = parts.mean(axis=1)
        parts -= means[:, None]
        apart, total = means - self._means, self.count + len(first)
        share = self.count * len(first) / total
        self._products += parts[0].T @ parts[1] + share * np.outer(apart[0], apart[1])
        self._squares += np.square(parts).sum(axis=1) + share * np.square(apart)
        self._means += apart * (len(first) / total)
        self.count = total

    def varies(self) -> np.ndarray:
        """Return which variables are not the same in all observations, bool `(2, variables)`."""
        mean_squares = np.square(self._means) + self._squares / max(self.count, 1)
        return self._squares / max(self.count, 1) > _STILL * mean_squares

    def correlation(self) -> np.ndarray:
        """Return Pearson's correlation, float64 `(variables, variables)`: nan where one of the two does not vary."""
        norms = np.where(self.varies(), np.sqrt(self._squares), np.nan)
        return np.clip(self._products / np.outer(norms[0], norms[1]), -1, 1)


@dataclass(frozen=True)
class Clusters:
    """Channels that go together.

    Args:
        labels: Of every channel the number of its cluster, from 0 in the order of a dendrogram; −1 of silent ones.
        order: The channels that are not silent, so that those of a cluster, and like clusters, stand together.
        silhouette: Mean over the channels, from −1 to 1; nan where there are too few to part.
    """

    labels: np.ndarray
    order: np.ndarray
    silhouette: float

    @property
    def count(self) -> int:
        return int(self.labels.max(initial=-1)) + 1


@dataclass(frozen=True)
class Agreement:
    """How far clusters coincide with the branches of a module.

    Args:
        rand: Adjusted Rand index: 1 where they are the same, 0 in the mean where branches are dealt at random.
        rand_by_chance: What 95% of random dealings of the same branches stay below.
        information: Adjusted mutual information, on the same scale; it minds less that there are more clusters.
        within: Mean correlation of two channels of the same branch.
        between: Of two channels of different branches.
    """

    rand: float
    rand_by_chance: float
    information: float
    within: float
    between: float


@dataclass(frozen=True)
class Directions:
    """How many uncorrelated directions the channels of a branch span.

    Args:
        row: Name of the module.
        branch: "1×1", "3×3", "5×5" or "pool".
        channels: How many the branch has.
        silent: How many of them never vary.
        effective: Participation ratio of the eigenvalues of the correlation matrix of the others, (Σλ)² / Σλ²: their
            number where none is correlated, 1 where all say the same; 0 where all are silent.
        expected: The same of as many channels of the module whatever their branch, with its mean squared correlation.
    """

    row: str
    branch: str
    channels: int
    silent: int
    effective: float
    expected: float


@dataclass(frozen=True)
class RowCorrelation:
    """The correlation of the channels of a row over images and positions.

    Args:
        row: Name of the row.
        branches: Of every channel the branch, as "3×3"; empty for a row that has none.
        matrix: Pearson's correlation, float64 `(channels, channels)`; nan where one of the two is silent.
        observations: Images times positions.
        own: Mean correlation of a channel with itself some steps away, float64 `(5, 5)` with 0 steps in the middle,
            rows downwards; nan where the map has no such steps.
        others: Root mean square correlation of two different channels, the same. Of rows with more than 256 channels,
            both are of 256, spread evenly.
    """

    row: str
    branches: tuple[str, ...]
    matrix: np.ndarray
    observations: int
    own: np.ndarray
    others: np.ndarray

    @cached_property
    def silent(self) -> np.ndarray:
        """Which channels never vary, bool `(channels,)`."""
        return np.isnan(np.diag(self.matrix))

    @property
    def own_by_distance(self) -> list[float]:
        """Root mean square of `own` at 0 steps, and around at 1 and at 2; nan where there are none."""
        return _by_distance(self.own)

    @property
    def others_by_distance(self) -> list[float]:
        """The same of `others`."""
        return _by_distance(self.others)

    @cached_property
    def clusters(self) -> Clusters:
        """The clusters of the channels."""
        return clusters(self.matrix)

    @cached_property
    def agreement(self) -> Agreement | None:
        """How far the clusters coincide with the branches; None of a row without branches."""
        return agreement(self.matrix, self.branches, self.clusters.labels) if self.branches else None

    @cached_property
    def directions(self) -> tuple[Directions, ...]:
        """What every branch spans, in their order; none of a row without branches."""
        if not self.branches:
            return ()
        members = np.asarray(self.branches)
        squares = np.square(self.matrix[np.ix_(~self.silent, ~self.silent)])
        active = members[~self.silent]
        mean_square = _mean_of_pairs(squares)
        return tuple(
            Directions(
                row=self.row,
                branch=branch,
                channels=int(np.sum(members == branch)),
                silent=int(np.sum(members == branch) - np.sum(active == branch)),
                effective=participation_ratio(squares[np.ix_(active == branch, active == branch)]),
                expected=_expected_ratio(int(np.sum(active == branch)), mean_square),
            )
            for branch in dict.fromkeys(self.branches)
        )


def correlations(
    model: keras.Model,
    table: Architecture,
    batches: Iterable[np.ndarray],
    row: str | None = None,
    on_progress: Callable[[int], None] = lambda images: None,
) -> list[RowCorrelation]:
    """Measure how the channels of every Inception module go together over images, seeing each image once.

    Args:
        model: The network.
        table: Its architecture.
        batches: float32 `(batch, size, size, channels)`, the network's input; at least one.
        row: Name of a further row that is measured too, such as "conv2".
        on_progress: Called with the number of images that have been seen.

    Returns:
        The rows from the image up.

    Raises:
        ArchitectureError: The network has no Inception module, or no such row.
    """
    rows = _measured(table, row)
    outputs = [model.get_layer(output_layer(one)).output for one in rows]
    inside = keras.Model(model.input, outputs)

    @tf.function(input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)])
    def maps(images: tf.Tensor) -> list[tf.Tensor]:
        return inside(images, training=False)

    sums = [_RowMoments(output.shape[-1]) for output in outputs]
    seen = 0
    for batch in batches:
        for of_row, found in zip(sums, maps(batch), strict=True):
            of_row.update(found.numpy())
        seen += len(batch)
        on_progress(seen)
    return [of_row.result(one.name, _branches(model, one)) for of_row, one in zip(sums, rows, strict=True)]


def run_correlations(
    run: str | Path,
    *,
    split: Literal["train", "validation"] = "train",
    row: str | None = None,
    limit: int | None = None,
    on_images: Callable[[int, int], None] = lambda done, total: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[RowCorrelation]:
    """Measure how the channels of a run's best model go together over its images, as evaluation sees them.

    Args:
        run: The run's folder.
        split: Of the run's data.
        row: Name of a row that is measured beside the Inception modules.
        limit: At most that many images, spread evenly; None is all.
        on_images: Called with the number of images read and of all.
        on_progress: Called with the number of images answered and of all.

    Raises:
        RunError: There is no trained run.
        DataError: Its images are gone.
        ArchitectureError: The network has no Inception module, or no such row.
    """
    folder = RunFolder(Path(run))
    table, config = folder.architecture(), folder.config().data
    _measured(table, row)
    model = run_model(folder)
    images = read_split(config, folder.labels(), split, on_images, limit)
    batches = evaluation_batches(images, config, batch_size=_BATCH, outputs=(), classes=len(folder.labels()))
    pixels = (batch[0].numpy() for batch in batches)
    return correlations(model, table, pixels, row, lambda done: on_progress(done, len(images)))


def clusters(matrix: np.ndarray) -> Clusters:
    """Cluster channels by their correlation: Ward's method, in as many clusters as have the largest silhouette.

    The distance of two channels is √(2 − 2r), that of their standardised values up to a factor, which Ward's method
    takes. From 2 to 64 clusters are tried, and the number with the largest mean silhouette is taken.

    Args:
        matrix: Correlation, `(channels, channels)`; silent channels are nan.
    """
    active = np.flatnonzero(~np.isnan(np.diag(matrix)))
    labels = np.full(len(matrix), -1)
    if len(active) < 3:
        labels[active] = 0
        return Clusters(labels, active, float("nan"))
    distances = np.sqrt(np.maximum(2 - 2 * matrix[np.ix_(active, active)], 0))
    np.fill_diagonal(distances, 0)
    distances = (distances + distances.T) / 2
    tree = hierarchy.linkage(squareform(distances, checks=False), "ward")
    best, silhouette = np.zeros(len(active), int), float("nan")
    for count in range(2, min(MOST_CLUSTERS, len(active) - 1) + 1):
        found = hierarchy.fcluster(tree, count, "maxclust")
        if not 1 < len(set(found)) < len(active):  # equal distances are not parted
            continue
        value = float(silhouette_score(distances, found, metric="precomputed"))
        if np.isnan(silhouette) or value > silhouette:
            best, silhouette = found, value
    order = hierarchy.leaves_list(tree)
    numbers = {label: number for number, label in enumerate(dict.fromkeys(best[order]))}
    labels[active] = [numbers[label] for label in best]
    return Clusters(labels, active[order], silhouette)


def agreement(matrix: np.ndarray, branches: Sequence[str], labels: np.ndarray, seed: int = 0) -> Agreement:
    """Compare clusters of channels with their branches; silent channels are left out.

    Args:
        matrix: Correlation, `(channels, channels)`; silent channels are nan.
        branches: Of every channel.
        labels: Of every channel the number of its cluster.
        seed: Of the random dealings.
    """
    active = ~np.isnan(np.diag(matrix))
    if active.sum() < 2:
        return Agreement(*[float("nan")] * 5)
    members, found = np.unique(branches, return_inverse=True)[1][active], labels[active]
    values, same = matrix[np.ix_(active, active)], members[:, None] == members
    pairs = ~np.eye(len(members), dtype=bool)
    return Agreement(
        rand=float(adjusted_rand_score(members, found)),
        rand_by_chance=float(np.quantile(_rand_of_dealings(members, found, seed), 0.95)),
        information=float(adjusted_mutual_info_score(members, found)),
        within=_mean(values[same & pairs]),
        between=_mean(values[~same]),
    )


def participation_ratio(squares: np.ndarray) -> float:
    """Return (Σλ)² / Σλ² of the eigenvalues λ of a correlation matrix: the squared trace over the sum of squares.

    >>> participation_ratio(np.eye(5)), participation_ratio(np.ones((5, 5)))
    (5.0, 1.0)

    Args:
        squares: The matrix with every element squared, `(channels, channels)`; without channels the ratio is 0.
    """
    return float(len(squares) ** 2 / squares.sum()) if len(squares) else 0.0


class _RowMoments:
    """The co-moments of the channels of a row, at the same position and some steps apart."""

    def __init__(self, channels: int):
        self._whole = CoMoments(channels)
        self._chosen = np.unique(np.linspace(0, channels - 1, min(channels, _CHANNELS)).round().astype(int))
        self._steps = {step: CoMoments(len(self._chosen)) for step in _steps()}

    def update(self, maps: np.ndarray) -> None:
        """Take in maps, float32 `(batch, height, width, channels)`."""
        flat = maps.reshape(-1, maps.shape[-1])
        self._whole.update(flat, flat)
        chosen = maps[..., self._chosen]
        for (down, right), moments in self._steps.items():
            first, second = (part.reshape(-1, len(self._chosen)) for part in _windows(chosen, down, right))
            moments.update(first, second)

    def result(self, name: str, branches: tuple[str, ...]) -> RowCorrelation:
        matrix = self._whole.correlation()
        own, others = np.full((2, 2 * REACH + 1, 2 * REACH + 1), np.nan)
        parts = {step: moments.correlation() for step, moments in self._steps.items() if moments.count}
        parts[0, 0] = matrix[np.ix_(self._chosen, self._chosen)]
        for (down, right), part in parts.items():
            # The steps back are the same pairs the other way round.
            for place in ((REACH + down, REACH + right), (REACH - down, REACH - right)):
                own[place] = _mean(np.diag(part))
                others[place] = np.sqrt(_mean_of_pairs(np.square(part)))
        return RowCorrelation(name, branches, matrix, self._whole.count, own, others)


def _steps() -> list[tuple[int, int]]:
    """Return steps down and to the right, of two opposite ones one, without the one that stays."""
    return [step for step in product(range(REACH + 1), range(-REACH, REACH + 1)) if step > (0, 0)]


def _windows(maps: np.ndarray, down: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all positions from which a step stays on the map, and where it leads to."""
    height, width = (max(side - abs(step), 0) for side, step in zip(maps.shape[1:3], (down, right), strict=True))
    top, left = max(-down, 0), max(-right, 0)
    first = maps[:, top : top + height, left : left + width]
    return first, maps[:, top + down : top + down + height, left + right : left + right + width]


def _measured(table: Architecture, name: str | None) -> list[Row]:
    """Return the Inception modules and the row of that name, from the image up."""
    modules(table)
    known = [row.name for row in table.rows]
    if name is not None and name not in known:
        raise ArchitectureError(unknown("row", name, known))
    return [row for row in table.rows if isinstance(row, Inception) or row.name == name]


def _branches(model: keras.Model, row: Row) -> tuple[str, ...]:
    if not isinstance(row, Inception):
        return ()
    widths: Mapping[str, int] = {
        branch: model.get_layer(branch_layer(row, branch)).output.shape[-1] for branch in BRANCHES
    }
    return tuple(branch for branch, width in widths.items() for _ in range(width))


def _by_distance(values: np.ndarray) -> list[float]:
    """Return the root mean square of a map of steps over every ring around its middle."""
    away = np.abs(np.arange(-REACH, REACH + 1))
    rings = np.maximum(away[:, None], away)
    return [float(np.sqrt(_mean(np.square(values[rings == steps])))) for steps in range(REACH + 1)]


def _expected_ratio(channels: int, mean_square: float) -> float:
    """Return the participation ratio of channels whose squared correlations have this mean."""
    if channels < 2:
        return float(channels)
    return channels / (1 + (channels - 1) * mean_square)


def _rand_of_dealings(members: np.ndarray, found: np.ndarray, seed: int) -> np.ndarray:
    """Return the adjusted Rand index of many random dealings; only the pairs that agree differ between them."""

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    first, second, every = pairs(np.bincount(members)), pairs(np.bincount(found)), pairs(np.asarray([len(found)]))
    expected, most = first * second / every, (first + second) / 2
    if most == expected:  # all in one group, either way
        return np.ones(_DEALINGS)
    random, groups = np.random.default_rng(seed), members * (found.max() + 1)
    agreeing = [pairs(np.bincount(random.permutation(groups) + found)) for _ in range(_DEALINGS)]
    return (np.asarray(agreeing) - expected) / (most - expected)


def _mean_of_pairs(values: np.ndarray) -> float:
    """Return the mean of what is not on the diagonal, without nan."""
    return _mean(values[~np.eye(len(values), dtype=bool)])


def _mean(values: np.ndarray) -> float:
    """Return the mean of what is not nan; nan where there is nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
