"""Proposed widths: never dearer than the given ones, in proportion to what was asked, the given where nothing is."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from keras_inception.analysis.branches import BRANCHES, modules
from keras_inception.analysis.correlation import Directions
from keras_inception.analysis.proposal import LARGEST, WIDTHS_OF_BRANCH, WidthChange, changes, proposal, wanted
from keras_inception.architecture import GOOGLENET, GOOGLENET_BN, GOOGLENET_SMALL, Inception
from keras_inception.cost import row_costs

NAMES = [(row.name, branch) for row in modules(GOOGLENET) for branch in BRANCHES]


def multiply_adds(table, shape, classes):
    return sum(row.multiply_adds for row in row_costs(table, shape, classes))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 400)), min_size=36, max_size=36),
    st.sampled_from([1 / 16, 0.25, 1.0]),
    st.sampled_from([(GOOGLENET, 224), (GOOGLENET_BN, 96), (GOOGLENET_SMALL, 28)]),
    st.integers(2, 1000),
)
def test_a_proposal_never_has_more_multiply_adds_than_the_given_network(asked, width, of, classes):
    table, side = of[0].scaled(width), of[1]
    shape = (side, side, 3)
    found = proposal(table, dict(zip(NAMES, asked, strict=True)), shape, classes)
    assert multiply_adds(found, shape, classes) <= multiply_adds(table, shape, classes)
    for old, new in zip(table.rows, found.rows, strict=True):
        if isinstance(old, Inception):
            pairs = [
                (getattr(old, name), getattr(new, name)) for widths in WIDTHS_OF_BRANCH.values() for name in widths
            ]
            assert all(1 <= after <= max(LARGEST * before, 1) for before, after in pairs)
        else:
            assert new == old, "the stem stays"
    assert found.auxiliary == table.auxiliary


@settings(deadline=None, max_examples=15)
@given(st.lists(st.floats(0.7, 1.5), min_size=36, max_size=36))
def test_what_was_asked_is_given_and_the_multiply_adds_are_used_up(multiples):
    own = {
        (row.name, branch): getattr(row, WIDTHS_OF_BRANCH[branch][-1])
        for row in modules(GOOGLENET)
        for branch in BRANCHES
    }
    asked = {name: own[name] * multiple for name, multiple in zip(NAMES, multiples, strict=True)}
    found = proposal(GOOGLENET, asked, (224, 224, 3), 1000)
    limit = multiply_adds(GOOGLENET, (224, 224, 3), 1000)
    assert 0.99 * limit <= multiply_adds(found, (224, 224, 3), 1000) <= limit
    for row in modules(found):
        widths = np.asarray([getattr(row, WIDTHS_OF_BRANCH[branch][-1]) for branch in BRANCHES])
        wished = np.asarray([asked[row.name, branch] for branch in BRANCHES])
        factor = widths.sum() / wished.sum()
        np.testing.assert_allclose(widths, factor * wished, atol=16)


@pytest.mark.parametrize("table", [GOOGLENET, GOOGLENET_BN.scaled(0.25)], ids=lambda table: table.name)
@pytest.mark.parametrize("silent", [False, True])
def test_the_given_widths_are_the_proposal_where_nothing_is_asked_or_just_they(table, silent):
    asked = {
        (row.name, branch): 0.0 if silent else 3 * getattr(row, WIDTHS_OF_BRANCH[branch][-1])
        for row in modules(table)
        for branch in BRANCHES
    }
    assert proposal(table, asked, (224, 224, 3), 1000) == table


def test_a_branch_that_is_silent_as_a_whole_keeps_one_channel():
    asked = {(row.name, branch): float(branch != "pool") for row in modules(GOOGLENET) for branch in BRANCHES}
    found = proposal(GOOGLENET, asked, (224, 224, 3), 1000)
    assert found.name == "googlenet-correlation"
    assert found != dataclasses.replace(GOOGLENET, name=found.name)
    assert {row.pool_projection for row in modules(found)} <= {1, 2}


@pytest.mark.parametrize(
    ("directions", "channels"),
    [
        (Directions("4a", "3×3", 52, 0, effective=8.0, expected=8.0), 52),
        (Directions("4a", "3×3", 52, 0, effective=4.0, expected=8.0), 26),
        (Directions("4a", "3×3", 52, 12, effective=8.0, expected=8.0), 40),
        (Directions("4a", "3×3", 52, 52, effective=0.0, expected=0.0), 0),
    ],
)
def test_channels_are_wanted_for_what_they_span_beside_as_many_others(directions, channels):
    assert wanted(directions) == channels


def test_reductions_and_projections_that_are_not_there_do_not_come():
    naive = dataclasses.replace(
        GOOGLENET_SMALL,
        rows=tuple(
            dataclasses.replace(row, reduce3x3=0, reduce5x5=0, pool_projection=0)
            if row in modules(GOOGLENET_SMALL)[:2]
            else row
            for row in GOOGLENET_SMALL.rows
        ),
    )
    asked = {name: 1.0 + place % 3 for place, name in enumerate(NAMES)}
    found = proposal(naive, asked, (32, 32, 3), 10)
    assert found != naive
    assert [(row.reduce3x3, row.reduce5x5, row.pool_projection) for row in modules(found)[:2]] == [(0, 0, 0)] * 2
    assert multiply_adds(found, (32, 32, 3), 10) <= multiply_adds(naive, (32, 32, 3), 10)


def test_changes_are_told_of_every_branch():
    found = changes(GOOGLENET, GOOGLENET.scaled(0.5))
    assert len(found) == 36
    assert found[:2] == [WidthChange("3a", "1×1", None, (64, 32)), WidthChange("3a", "3×3", (96, 48), (128, 64))]
