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
    compared, in whole arrays.

    Args:
        hashes: uint64 `(images, words)`.
        bits: At least 0.
    """
    unique, inverse = np.unique(hashes, axis=0, return_inverse=True)
    sets = np.arange(len(unique))
    first: list[np.ndarray] = []
    second: list[np.ndarray] = []
    for left, right in _candidates(unique, bits + 1):
        apart = sets[left] != sets[right]
        left, right = left[apart], right[apart]
        near = np.bitwise_count(unique[left] ^ unique[right]).sum(axis=1, dtype=int) <= bits
        first.append(left[near])
        second.append(right[near])
        if sum(map(len, first)) > _PAIRS:
            sets = _joined(sets, np.concatenate(first), np.concatenate(second))
            first, second = [], []
    if first:
        sets = _joined(sets, np.concatenate(first), np.concatenate(second))
    return sets[inverse.reshape(-1)].tolist()


def _candidates(hashes: np.ndarray, bands: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions of pairs of hashes that agree in one of `bands` bands."""
    every_bit = np.unpackbits(hashes.view(np.uint8), axis=1)
    for band in np.array_split(np.arange(every_bit.shape[1]), bands):
        packed = np.ascontiguousarray(np.packbits(every_bit[:, band], axis=1))
        _, numbers = np.unique(packed.view(np.dtype((np.void, packed.shape[1]))).reshape(-1), return_inverse=True)
        order = np.argsort(numbers, kind="stable")
        numbers = numbers[order]
        start, step = np.arange(len(order)), 1
        while len(start := _agreeing(numbers, start, step)):
            yield order[start], order[start + step]
            step += 1


def _agreeing(numbers: np.ndarray, start: np.ndarray, step: int) -> np.ndarray:
    """Return those of `start` whose number, in sorted numbers, stands `step` further on too."""
    start = start[: np.searchsorted(start, len(numbers) - step)]
    return start[numbers[start] == numbers[start + step]]


def _joined(sets: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    links = coo_array((np.ones(len(first), bool), (sets[first], sets[second])), shape=(len(sets), len(sets)))
    return connected_components(links, directed=False)[1][sets]
