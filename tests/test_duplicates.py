"""Sets of near hashes, against a search pair by pair."""

import numpy as np
from hypothesis import given, settings, strategies as st

from keras_inception.data.duplicates import near_sets

BITS = 256


def _pair_by_pair(hashes: np.ndarray, bits: int) -> list[set[int]]:
    sets = [{index} for index in range(len(hashes))]
    for left in range(len(hashes)):
        for right in range(left):
            difference = bytes(a ^ b for a, b in zip(hashes[left].tobytes(), hashes[right].tobytes(), strict=True))
            if int.from_bytes(difference).bit_count() <= bits and sets[left] is not sets[right]:
                sets[left] |= sets[right]
                for member in sets[right]:
                    sets[member] = sets[left]
    return sets


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 5), st.integers(0, 30))
def test_near_sets_are_those_of_a_search_pair_by_pair(seed, count, originals, flips):
    random = np.random.default_rng(seed)
    bits = random.integers(0, 2, (originals, BITS), np.uint8)[random.integers(0, originals, count)]
    for row in bits:
        row[random.integers(0, BITS, random.integers(0, flips + 1))] ^= 1
    hashes = np.packbits(bits, axis=1).view(np.uint64)
    found = near_sets(hashes, 12)
    for index, expected in enumerate(_pair_by_pair(hashes, 12)):
        assert {other for other, number in enumerate(found) if number == found[index]} == expected


def test_no_hashes_have_no_sets():
    assert near_sets(np.zeros((0, BITS // 64), np.uint64), 12) == []


def test_many_pairs_are_joined_on_the_way(monkeypatch):
    monkeypatch.setattr("keras_inception.data.duplicates._PAIRS", 3)
    bits = np.tri(40, BITS, -1, dtype=np.uint8)  # each one bit from the next
    assert len(set(near_sets(np.packbits(bits, axis=1).view(np.uint64), 1))) == 1


def test_thousands_that_are_alike_are_one_set():
    random = np.random.default_rng(0)
    bits = np.tile(random.integers(0, 2, BITS, np.uint8), (5_000, 1))
    for row in bits:
        row[random.integers(0, BITS, 4)] ^= 1
    assert set(near_sets(np.packbits(bits, axis=1).view(np.uint64), 12)) == {0}
