"""(in − F + 2P) / S + 1, against the shapes that Keras builds and against windows counted one by one."""

import keras
import pytest
from hypothesis import given, settings, strategies as st

from keras_inception.analysis.output_size import Window, exact, output_sizes, parse_windows
from keras_inception.architecture import GOOGLENET, Conv, MaxPool
from keras_inception.cli import main
from keras_inception.errors import ArchitectureError

WINDOWS = st.builds(
    Window,
    st.sampled_from(["conv", "pool"]),
    st.integers(1, 7),
    st.integers(1, 4),
    st.one_of(st.integers(0, 4), st.sampled_from(["same", "valid"])),
)


def keras_sizes(size: int, windows: list[Window]) -> list[int]:
    """Build the chain in Keras and read off the side of every map."""
    x, sizes = keras.Input((size, size, 1)), []
    for window in windows:
        if window.padding not in ("same", "valid"):
            x = keras.layers.ZeroPadding2D(window.padding)(x)
        padding = "same" if window.padding == "same" else "valid"
        if window.kind == "conv":
            x = keras.layers.Conv2D(1, window.size, window.stride, padding=padding)(x)
        else:
            x = keras.layers.MaxPooling2D(window.size, window.stride, padding=padding)(x)
        sizes.append(x.shape[1])
    return sizes


def counted(size: int, window: Window) -> int:
    """Count the windows that begin inside the image or in front of it, of which some reach beyond its padding."""
    first, last = -window.padding, size + window.padding
    starts = [first]
    while starts[-1] + window.size < last and starts[-1] + window.stride < size:
        starts.append(starts[-1] + window.stride)
    return len(starts)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.lists(WINDOWS, min_size=1, max_size=3))
def test_every_chain_has_the_sizes_that_keras_builds(size, windows):
    try:
        found = [step.output for step in output_sizes(size, windows)]
    except ArchitectureError:
        with pytest.raises(ValueError, match=r"non-positive|[Nn]egative dimension|output size"):
            keras_sizes(size, windows)
        return
    assert found == keras_sizes(size, windows)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 5), st.integers(0, 3))
def test_ceil_keeps_every_window_that_begins_inside(size, side, stride, padding):
    window = Window("pool", side, stride, min(padding, side // 2), "ceil")
    if size + 2 * window.padding >= side:
        assert output_sizes(size, [window])[0].output == counted(size, window)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(7, 60), WINDOWS)
def test_exact_is_refused_just_where_the_formula_is_no_whole_number(size, window):
    step = output_sizes(size, [window])[0]
    if step.quotient == int(step.quotient):
        assert output_sizes(size, exact([window]))[0].output == step.output == step.quotient
    else:
        with pytest.raises(ArchitectureError, match="no whole number"):
            output_sizes(size, exact([window]))


def test_googlenets_stem_and_pools_have_the_sizes_of_table_1():
    text = "conv 7 2 3, pool 3 2 same, conv 3 1 same, pool 3 2 same, pool 3 2 same, pool 3 2 same, pool 7 1"
    assert [step.output for step in output_sizes(224, parse_windows(text))] == [112, 56, 56, 28, 14, 7, 1]


def test_same_pools_have_the_sizes_of_caffes_ceil_at_224_px():
    same, ceil = (output_sizes(112, parse_windows(f"pool 3 2 {how}, pool 3 2 {how}")) for how in ("same", "0 ceil"))
    assert [step.output for step in same] == [step.output for step in ceil] == [56, 28]


@pytest.mark.parametrize("size", range(1, 40))
def test_rows_of_architectures_have_the_same_arithmetic(size):
    for row in GOOGLENET.rows:
        if isinstance(row, Conv):
            window = Window("conv", row.kernel, row.stride, row.kernel // 2)
            assert row.output_size(size) == output_sizes(size, [window])[0].output
        if isinstance(row, MaxPool):
            assert row.output_size(size) == output_sizes(size, [Window("pool", row.size, row.stride, "same")])[0].output


def test_a_step_shows_the_formula_with_its_numbers():
    first, second = output_sizes(224, parse_windows("conv 7 2 3, pool 3 2 same"))
    assert first.formula == "(224 − 7 + 2·3) / 2 + 1 = 112.5"
    assert second.formula == "(112 − 3 + 0 + 1) / 2 + 1 = 56"


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.lists(
        st.builds(
            Window,
            st.just("conv"),
            st.integers(1, 9),
            st.integers(1, 9),
            st.integers(0, 9),
            st.sampled_from(["floor", "ceil", "exact"]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_windows_read_back_as_they_are_written(windows):
    assert parse_windows(", ".join(map(str, windows))) == windows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no window"),
        ("con 3 1", "did you mean conv?"),
        ("conv", "has not a size"),
        ("conv 3 1 1 1", "has not a size"),
        ("conv three", "its size is 'three'"),
        ("conv 3 0", "its stride is '0'"),
        ("conv 3 1 -1", "its padding is '-1'.*same or valid"),
        ("pool 9 1", "a window of 9 px does not fit 8 px"),
        ("conv 3 2 0 exact", r"\(8 − 3 \+ 2·0\) / 2 \+ 1 = 3.5 is no whole number"),
    ],
)
def test_what_is_no_window_is_refused_with_its_words(text, said):
    with pytest.raises(ArchitectureError, match=said):
        output_sizes(8, parse_windows(text))


def test_a_side_below_1_is_refused():
    with pytest.raises(ArchitectureError, match="a side of 0 px"):
        output_sizes(0, [])


@pytest.mark.parametrize("words", [["conv 7 2 3, pool 3 2 same"], ["conv", "7", "2", "3,", "pool", "3", "2", "same"]])
def test_the_command_takes_windows_quoted_or_not(words, capsys):
    assert main(["analyze", "output-size", "224", *words]) == 0
    table, note = capsys.readouterr().out.strip().rsplit("\n\n", 1)
    assert [line.split()[-1] for line in table.splitlines()[-2:]] == ["112", "56"]
    assert note == "conv 7 2 3: 112.5 is rounded down: the last window would fit in part, and is left out."


def test_the_command_says_where_a_last_window_is_kept(capsys):
    assert main(["analyze", "output-size", "112", "pool 3 2 0 ceil, conv 1"]) == 0
    assert capsys.readouterr().out.strip().endswith("pool 3 2 0 ceil: 55.5 is rounded up.")


def test_the_command_refuses_what_does_not_divide_if_asked_for_exact(capsys):
    assert main(["analyze", "output-size", "224", "conv 7 2 3", "--exact"]) == 2
    error = capsys.readouterr().err
    assert "(224 − 7 + 2·3) / 2 + 1 = 112.5 is no whole number" in error
    assert error.count("\n") == 1
