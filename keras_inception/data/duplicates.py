"""Which hashes of many are near each other."""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Pairs that are kept before they are joined to sets.
_PAIRS = 1_000_000


def near_sets(hashes: np.ndarray, bits: int) -> list[int]:
    """Return the number of the set of each hash: hashes that differ in at most `bits` bits are linked.

    Hashes this near agree wholly in at least one of `bits` + 1 bands of theirs: only those that agree in a band are
    compared, in whole arrays, and no longer when they have come into one set.

    Args:
        hashes: uint64 `(images, words)`.
        bits: At least 0.
    """
    unique, inverse = np.unique(hashes, axis=0, return_inverse=True)
    sets = np.arange(len(unique))
    for order, runs in _bands(unique, bits + 1):
        sets = _linked(unique, bits, sets, order, runs)
    return sets[inverse.reshape(-1)].tolist()


def _bands(hashes: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, for each band of the bits, the order that brings equal ones together, and the number of each one's run."""
    every_bit = np.unpackbits(hashes.view(np.uint8), axis=1)
    for band in np.array_split(np.arange(every_bit.shape[1]), count):
        packed = np.ascontiguousarray(np.packbits(every_bit[:, band], axis=1))
        _, numbers = np.unique(packed.view(np.dtype((np.void, packed.shape[1]))).reshape(-1), return_inverse=True)
        order = np.argsort(numbers, kind="stable")
        yield order, numbers[order]


def _linked(hashes: np.ndarray, bits: int, sets: np.ndarray, order: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Return the sets joined by what is near within the runs of a band: each is compared with the next, and so on."""
    links: list[tuple[np.ndarray, np.ndarray]] = []
    start, step = np.arange(len(order)), 1
    while len(start := _within(runs, start, step)):
        left, right = order[start], order[start + step]
        apart = sets[left] != sets[right]
        left, right = left[apart], right[apart]
        near = np.bitwise_count(hashes[left] ^ hashes[right]).sum(axis=1, dtype=int) <= bits
        links.append((left[near], right[near]))
        if step.bit_count() == 1 or sum(len(pairs) for pairs, _ in links) > _PAIRS:  # now and then
            sets, links = _joined(sets, links), []
            start = start[_parted(sets[order], runs)[start]]
        step += 1
    return _joined(sets, links)


def _within(runs: np.ndarray, start: np.ndarray, step: int) -> np.ndarray:
    """Return those of `start` that are in the run of what stands `step` further on."""
    start = start[: np.searchsorted(start, len(runs) - step)]
    return start[runs[start] == runs[start + step]]


def _parted(sets: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Return for each position whether its run holds several sets."""
    first = np.searchsorted(runs, np.arange(runs[-1] + 1))
    return (np.minimum.reduceat(sets, first) != np.maximum.reduceat(sets, first))[runs]


def _joined(sets: np.ndarray, links: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    if not any(len(left) for left, _ in links):
        return sets
    left, right = (sets[np.concatenate(side)] for side in zip(*links, strict=True))
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(len(sets), len(sets)))
    return connected_components(graph, directed=False)[1][sets]
