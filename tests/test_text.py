"""Tables as text, Markdown and CSV: everything stands in them, at any width."""

import csv
import io
import re

import pytest
from hypothesis import given, settings, strategies as st

from keras_inception.report.page import Table
from keras_inception.report.text import as_csv, as_markdown, as_text

TABLE = Table(
    ("row", "what it is", "weights", "share %"),
    (("conv1", "a convolution, the first one of all", 9_408, 0.5), ("total", "", 6_990_272, "")),
    "Costs",
)


def test_without_an_end_every_row_is_one_line():
    lines = as_text(TABLE).splitlines()
    assert lines[0] == "Costs"
    assert sum(line.startswith(("conv1", "total")) for line in lines) == 2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(20, 120),
    st.lists(
        st.tuples(st.integers(0, 10**9), st.text("abc ", max_size=30), st.integers(0, 99)), min_size=1, max_size=4
    ),
)
def test_at_any_width_no_word_and_no_figure_is_cut(width, rows):
    table = Table(("number", "words", "small number"), rows)
    text = as_text(table, width)
    assert "…" not in text
    words = set(re.split(r"\s+", text))
    for number, said, small in rows:
        assert {f"{number:,}", str(small), *said.split()} <= words


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_no_line_is_wider_than_the_terminal(width):
    assert max(map(len, as_text(TABLE, width).splitlines())) <= width


def test_the_columns_that_do_not_fit_follow_below_with_the_first():
    parts = as_text(TABLE, 30).split("\n\n")[1:]
    assert len(parts) > 1
    for part in parts:
        assert [line.split()[0] for line in part.splitlines() if line.startswith(("conv1", "total"))] == [
            "conv1",
            "total",
        ]


def test_a_table_of_two_columns_is_no_wider_than_the_terminal_either():
    words = "parameters of one network, to the parameters of another one, which has many more of them"
    text = as_text(Table(("ratio", "times"), ((words, 8.711),)), 60)
    assert max(map(len, text.splitlines())) <= 60
    assert text.count("8.711") == text.count("ratio") == 1


@pytest.mark.parametrize("width", [20, 30, 40, 50, 60])
def test_some_columns_are_not_parted_from_the_one_in_front(width):
    table = Table(("row", "weights", "biases", "multiply-adds", "printed"), (("a", 1, 2, 3, "4M"),), beside=["printed"])
    (line,) = [line for line in as_text(table, width).splitlines() if "printed" in line]
    assert "multiply-adds" in line


def test_numbers_stand_right_and_words_left():
    lines = as_text(Table(("name", "count"), (("a", 5), ("bb", 1234)))).splitlines()
    assert lines[2:] == ["a         5", "bb    1,234"]


def test_markdown_escapes_what_would_end_a_cell():
    assert "a\\|b" in as_markdown(Table(("x", "y"), (("a|b", 1),)))


def test_csv_reads_back_as_it_was():
    read = list(csv.reader(io.StringIO(as_csv(TABLE))))
    assert read == [list(TABLE.columns), ["conv1", TABLE.rows[0][1], "9408", "0.5"], ["total", "", "6990272", ""]]
