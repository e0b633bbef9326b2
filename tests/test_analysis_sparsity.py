"""A sparse matrix as dense blocks: the same result with fewer multiplications; and products that can be measured."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from keras_inception.analysis.sparsity import (
    BLOCKS,
    KERNEL,
    MATRIX,
    POPULAR_BLOCKS,
    Block,
    BlockSparse,
    Timing,
    assembled,
    convolve,
    convolve_blocks,
    dense_wins_from,
    measure,
    split,
)
from keras_inception.cli import main
from keras_inception.errors import ConfigError


def timing(size: int, density: float, dense_ms: float, sparse_ms: float) -> Timing:
    return Timing(size, density, 8, round(density * size**2) * 8, dense_ms, sparse_ms, None)


def test_the_matrix_is_the_published_one_and_its_blocks_make_it_up():
    assert MATRIX == (
        (2, 3, 0, 0, 0, 0),
        (0, 2, 0, 0, 0, 0),
        (0, 0, 1, 2, 0, 0),
        (0, 0, 2, 0, 3, 0),
        (0, 0, 0, 0, 1, 0),
        (0, 0, 0, 0, 0, 0),
    )
    assert (assembled(BLOCKS, (6, 6)) == np.array(MATRIX)).all()
    assert KERNEL == ((4, 1), (3, 2))


def test_two_dense_blocks_give_the_same_with_52_multiplications_for_144():
    found = split()
    assert (found.blocks.result == found.whole.result).all()
    assert (found.whole.multiplications, found.blocks.multiplications) == (144, 52)


def test_the_convolution_is_scipys():
    assert (split().whole.result == scipy.signal.convolve2d(np.array(MATRIX), np.array(KERNEL), "full")).all()


def test_the_popular_first_block_counts_the_element_at_3_3_twice_and_is_not_equal():
    assert POPULAR_BLOCKS[0] == Block(1, 1, ((2, 3, 0), (0, 2, 0), (0, 0, 1)))
    found = split()
    assert found.wrong_block_places == ((3, 3),)
    assert found.wrong_result_places == ((3, 3), (3, 4), (4, 3), (4, 4))
    assert (found.popular.result[2:4, 2:4] - found.whole.result[2:4, 2:4] == np.array(KERNEL)).all()
    assert found.popular.multiplications == 72


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_any_matrix_and_kernel_convolve_as_in_scipy(data):
    sides = st.integers(1, 6)
    numbers = st.integers(-5, 5)
    matrix = data.draw(arrays(np.int64, st.tuples(sides, sides), elements=numbers))
    kernel = data.draw(arrays(np.int64, st.tuples(sides, sides), elements=numbers))
    found = convolve(matrix, kernel)
    assert (found.result == scipy.signal.convolve2d(matrix, kernel, "full")).all()
    assert found.multiplications == matrix.size * kernel.size


@settings(max_examples=40, deadline=None, derandomize=True)
@given(arrays(np.int64, (4, 4), elements=st.integers(-3, 3)), st.integers(1, 3), st.integers(1, 3))
def test_a_matrix_cut_into_four_blocks_anywhere_convolves_to_the_same(matrix, down, across):
    blocks = []
    for rows in (slice(0, down), slice(down, 4)):
        for columns in (slice(0, across), slice(across, 4)):
            values = tuple(map(tuple, matrix[rows, columns].tolist()))
            blocks.append(Block(rows.start + 1, columns.start + 1, values))
    kernel = np.array(KERNEL)
    found = convolve_blocks(blocks, kernel, (4, 4))
    assert (found.result == convolve(matrix, kernel).result).all()
    assert found.multiplications == matrix.size * kernel.size


@pytest.mark.parametrize("count", [1, 5, 16])
def test_a_product_of_blocks_is_the_dense_product(count):
    random = np.random.default_rng(count)
    blocks = BlockSparse(128, count, random)
    right = random.standard_normal((128, 3), np.float32)
    np.testing.assert_allclose(blocks @ right, blocks.toarray() @ right, rtol=1e-4, atol=1e-4)
    assert np.count_nonzero(blocks.toarray()) == count * 32 * 32


def test_what_is_measured_counts_its_multiplications_and_takes_some_time():
    done = []
    found = measure((64, 96), (0.01, 0.5), columns=3, rounds=2, on_progress=lambda *numbers: done.append(numbers))
    assert [(one.size, one.density) for one in found] == [(64, 0.01), (64, 0.5), (96, 0.01), (96, 0.5)]
    for one in found:
        assert one.dense_multiplications == one.size**2 * 3
        assert one.multiplications == round(one.density * one.size**2) * 3
        assert min(one.dense_ms, one.sparse_ms) > 0
    assert [one.blocks_ms is None for one in found] == [True, False, True, False]
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_dense_wins_from_the_density_on_beyond_which_it_is_never_slower():
    timings = [timing(64, 0.1, 1, 0.9), timing(64, 0.2, 1, 1.1), timing(64, 0.3, 1, 0.8), timing(64, 0.4, 1, 2)]
    assert dense_wins_from(timings, 64) == 0.4
    assert dense_wins_from(timings[:2], 64) == 0.2
    assert dense_wins_from(timings[:1], 64) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sizes": (100,)}, "multiples of 32"),
        ({"densities": (0.0,)}, "densities has 0.0"),
        ({"densities": (1.5,)}, "densities has 1.5"),
        ({"rounds": 0}, "rounds is 0"),
        ({"columns": 0}, "columns is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, said):
    with pytest.raises(ConfigError, match=said):
        measure(**arguments)


# ---------------------------------------------------------------------------------------------------------------------
# On the command line
# ---------------------------------------------------------------------------------------------------------------------


def test_the_command_shows_the_blocks_and_the_popular_figures_error(capsys):
    assert main(["analyze", "sparsity"]) == 0
    text = capsys.readouterr().out
    for said in ("2 3 0 0 0 0", "144", "52", "72", "(3, 3)", "counted twice"):
        assert said in text


def test_the_command_measures_and_draws(tmp_path, capsys):
    picture = tmp_path / "sparsity.png"
    words = ["--sizes", "64,96", "--densities", "0.05,0.5", "--rounds", "2", "--columns", "4"]
    assert main(["analyze", "sparsity", "--measure", *words, "--output", str(picture)]) == 0
    text = capsys.readouterr().out
    assert "64×64" in text
    assert "Medians of 2 alternating rounds" in text
    with Image.open(picture) as image:
        assert np.asarray(image.convert("RGB")).std() > 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--output", "x.png"], "give --measure"),
        (["--measure", "--sizes", "64,big"], "sizes has 'big'"),
        (["--measure", "--sizes", "33"], "multiples of 32"),
    ],
)
def test_what_cannot_be_measured_ends_in_one_line(words, said, capsys):
    assert main(["analyze", "sparsity", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
