"""What the paper's motivation promises of sparse matrices (arXiv:1409.4842, section 3), by arithmetic and measured.

A sparse matrix whose elements stand in few dense blocks costs no more than the blocks; without such order, fewer
multiplications may take as long.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_inception.errors import ConfigError


@dataclass(frozen=True)
class Block:
    """A dense part of a matrix.

    Args:
        row: Of its first element, from 1.
        column: Of its first element, from 1.
        values: Its rows.
    """

    row: int
    column: int
    values: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Convolved:
    """A full convolution.

    Args:
        result: `(rows + kernel − 1, columns + kernel − 1)`.
        multiplications: Every element of what is convolved by every one of the kernel.
    """

    result: np.ndarray
    multiplications: int


@dataclass(frozen=True)
class Split:
    """A matrix convolved as it is, and as a sum of dense blocks.

    Args:
        whole: With all its elements.
        blocks: With those of the blocks alone.
        popular: With the blocks as a popular figure has them.
        wrong_block_places: Row and column, from 1, of the elements that its blocks count twice.
        wrong_result_places: Row and column, from 1, where its result is another.
    """

    whole: Convolved
    blocks: Convolved
    popular: Convolved
    wrong_block_places: tuple[tuple[int, int], ...]
    wrong_result_places: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Timing:
    """A product of a square matrix, sparse in one way or another, with a dense one.

    Args:
        size: Rows and columns of the sparse matrix.
        density: Share of its elements that are not zero.
        columns: Of the dense matrix.
        multiplications: Of the sparse product; `dense_multiplications` of the dense one.
        dense_ms: Median time of NumPy's dense product.
        sparse_ms: Median time of SciPy's, compressed rows, elements anywhere.
        blocks_ms: Median time of `BlockSparse`, as many elements in dense blocks; None where they do not fill one.
    """

    size: int
    density: float
    columns: int
    multiplications: int
    dense_ms: float
    sparse_ms: float
    blocks_ms: float | None

    @property
    def dense_multiplications(self) -> int:
        """Multiplications of the dense product."""
        return self.size**2 * self.columns


#: A sparse matrix, the kernel it is convolved with, and the dense blocks that it consists of.
MATRIX = (
    (2, 3, 0, 0, 0, 0),
    (0, 2, 0, 0, 0, 0),
    (0, 0, 1, 2, 0, 0),
    (0, 0, 2, 0, 3, 0),
    (0, 0, 0, 0, 1, 0),
    (0, 0, 0, 0, 0, 0),
)
KERNEL = ((4, 1), (3, 2))
BLOCKS = (Block(1, 1, ((2, 3), (0, 2))), Block(3, 3, ((1, 2, 0), (2, 0, 3), (0, 0, 1))))

#: The same blocks as a popular figure draws them: the first one takes in an element of the second.
POPULAR_BLOCKS = (Block(1, 1, ((2, 3, 0), (0, 2, 0), (0, 0, 1))), BLOCKS[1])

#: What is measured unless something else is asked for.
SIZES = (256, 512, 1024, 2048)
DENSITIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5)

#: Side of the dense blocks that are measured.
BLOCK_SIDE = 32


def convolve(matrix: np.ndarray, kernel: np.ndarray) -> Convolved:
    """Convolve in full: every element of the matrix lays a kernel of its own weight.

    >>> convolve(np.array([[2, 3], [0, 2]]), np.array(KERNEL)).result
    array([[ 8, 14,  3],
           [ 6, 21,  8],
           [ 0,  6,  4]])
    """
    rows, columns = (sum(sides) - 1 for sides in zip(matrix.shape, kernel.shape, strict=True))
    result = np.zeros((rows, columns), np.result_type(matrix, kernel))
    for (row, column), weight in np.ndenumerate(kernel):
        result[row : row + matrix.shape[0], column : column + matrix.shape[1]] += weight * matrix
    return Convolved(result, matrix.size * kernel.size)


def convolve_blocks(blocks: Sequence[Block], kernel: np.ndarray, shape: tuple[int, int]) -> Convolved:
    """Convolve blocks by themselves and add them up at their places.

    Args:
        blocks: The dense parts.
        kernel: As in `convolve`.
        shape: Of the matrix that they are parts of.
    """
    parts = [(block, convolve(np.array(block.values), kernel)) for block in blocks]
    result = convolve(np.zeros(shape, int), kernel).result
    for block, part in parts:
        rows, columns = part.result.shape
        result[block.row - 1 : block.row - 1 + rows, block.column - 1 : block.column - 1 + columns] += part.result
    return Convolved(result, sum(part.multiplications for _, part in parts))


def assembled(blocks: Sequence[Block], shape: tuple[int, int]) -> np.ndarray:
    """Return the sum of blocks at their places."""
    return convolve_blocks(blocks, np.ones((1, 1), int), shape).result


def split() -> Split:
    """Return the matrix convolved whole, in its blocks, and in those of the popular figure."""
    matrix, kernel = np.array(MATRIX), np.array(KERNEL)
    shape = (len(MATRIX), len(MATRIX[0]))
    whole, popular = convolve(matrix, kernel), convolve_blocks(POPULAR_BLOCKS, kernel, shape)
    return Split(
        whole,
        convolve_blocks(BLOCKS, kernel, shape),
        popular,
        _places(assembled(POPULAR_BLOCKS, shape) != matrix),
        _places(popular.result != whole.result),
    )


def measure(
    sizes: Sequence[int] = SIZES,
    densities: Sequence[float] = DENSITIES,
    *,
    columns: int = 64,
    rounds: int = 7,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Timing]:
    """Measure products of sparse matrices in float32, dense and sparse, each size and density by itself.

    In every round each way is timed once, in another order; the median over rounds is given.

    Args:
        sizes: Rows and columns of the sparse matrix, ≥ 32.
        densities: Shares that are not zero, in (0, 1].
        columns: Of the dense matrix, such as images in a batch.
        rounds: How often each is timed.
        seed: Of the values and places.
        on_progress: Is told how many of all are done.

    Raises:
        ConfigError: A number is out of its range.
    """
    _check(sizes, densities, columns=columns, rounds=rounds)
    random, timings = np.random.default_rng(seed), []
    for size in sizes:
        for density in densities:
            timings.append(_timing(size, density, columns, rounds, random))
            if on_progress is not None:
                on_progress(len(timings), len(sizes) * len(densities))
    return timings


def dense_wins_from(timings: Sequence[Timing], size: int) -> float | None:
    """Return the lowest measured density from which on dense is never slower than compressed rows; None for none."""
    wins = None
    for one in sorted((one for one in timings if one.size == size), key=lambda one: one.density, reverse=True):
        if one.dense_ms > one.sparse_ms:
            break
        wins = one.density
    return wins


class BlockSparse:
    """A square matrix of dense blocks at places of a grid, those of one row of the grid side by side.

    Args:
        size: Rows and columns, a multiple of 32.
        count: How many blocks.
        random: Draws their places and values.
    """

    def __init__(self, size: int, count: int, random: np.random.Generator):
        self._size, self._across = size, size // BLOCK_SIDE
        places = np.sort(random.choice(self._across**2, count, replace=False))
        self._places = {
            int(row): places[places // self._across == row] % self._across for row in places // self._across
        }
        self._values = {
            row: random.standard_normal((BLOCK_SIDE, BLOCK_SIDE * len(columns)), np.float32)
            for row, columns in self._places.items()
        }

    def __matmul__(self, right: np.ndarray) -> np.ndarray:
        """Multiply: one dense product for every row of the grid that has blocks."""
        parts = right.reshape(self._across, BLOCK_SIDE, -1)
        result = np.zeros_like(parts)
        for row, columns in self._places.items():
            result[row] = self._values[row] @ parts[columns].reshape(-1, parts.shape[2])
        return result.reshape(self._size, -1)

    def toarray(self) -> np.ndarray:
        """Return the matrix with its zeros."""
        matrix = np.zeros((self._across, BLOCK_SIDE, self._across, BLOCK_SIDE), np.float32)
        for row, columns in self._places.items():
            matrix[row][:, columns] = self._values[row].reshape(BLOCK_SIDE, len(columns), BLOCK_SIDE)
        return matrix.reshape(self._size, self._size)


def _timing(size: int, density: float, columns: int, rounds: int, random: np.random.Generator) -> Timing:
    from scipy.sparse import random_array

    sparse = random_array((size, size), density=density, format="csr", dtype=np.float32, rng=random)
    matrices: dict[str, Any] = {"dense": sparse.toarray(), "sparse": sparse}
    if count := round(density * (size // BLOCK_SIDE) ** 2):
        matrices["blocks"] = BlockSparse(size, count, random)
    medians = _medians(matrices, random.standard_normal((size, columns), np.float32), rounds)
    multiplications = int(sparse.nnz) * columns
    return Timing(size, density, columns, multiplications, medians["dense"], medians["sparse"], medians.get("blocks"))


def _medians(matrices: Mapping[str, Any], right: np.ndarray, rounds: int) -> dict[str, float]:
    """Time the product of each matrix in rounds that begin with another one each; the medians are in ms."""
    seconds: dict[str, list[float]] = {name: [] for name in matrices}
    names = list(matrices)
    for matrix in matrices.values():  # the first time pays for memory and threads
        matrix @ right
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(place + turn) % len(names)]
            begun = time.perf_counter()
            matrices[name] @ right
            seconds[name].append(time.perf_counter() - begun)
    return {name: 1000 * statistics.median(times) for name, times in seconds.items()}


def _check(sizes: Sequence[int], densities: Sequence[float], **counts: int) -> None:
    for size in sizes:
        if size < BLOCK_SIDE or size % BLOCK_SIDE:
            raise ConfigError(f"sizes has {size}; it takes multiples of {BLOCK_SIDE}, the side of a block")
    for density in densities:
        if not 0 < density <= 1:
            raise ConfigError(f"densities has {density}; it takes shares above 0 and no more than 1")
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name} is {count}; it takes a number ≥ 1")


def _places(wrong: np.ndarray) -> tuple[tuple[int, int], ...]:
    return tuple((int(row) + 1, int(column) + 1) for row, column in np.argwhere(wrong))
