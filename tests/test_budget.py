"""A budget is read, and met by every choice of widths: never exceeded, and nearly used up."""

import pytest
from hypothesis import given, settings, strategies as st

from keras_inception.architecture import GOOGLENET, GOOGLENET_BN, GOOGLENET_SMALL
from keras_inception.budget import Budget, Fitting, choices, cost, widened
from keras_inception.cost import row_costs
from keras_inception.errors import ConfigError
from keras_inception.tuning.space import MULTIPLES, Space

SHAPE, CLASSES = (224, 224, 3), 1000


@pytest.mark.parametrize(
    ("text", "given_cost", "limit"),
    [
        ("multiply_adds=0.5x", 1_000, 500),
        ("multiply_adds = 800M", 1_000, 800e6),
        ("parameters=3e6", 1_000, 3e6),
        ("parameters=.25X", 1_000, 250),
        ("parameters=2.5k", 1_000, 2_500),
        ("latency=5ms", 20, 5),
        ("latency=0.6x", 20, 12),
    ],
)
def test_budgets_are_read(text, given_cost, limit):
    assert Budget.parse(text).limit(given_cost) == pytest.approx(limit)
    assert Budget.parse(str(Budget.parse(text))) == Budget.parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("multiply_add=0.5x", "did you mean multiply_adds"),
        ("0.5x", "unknown budget '0.5x'; known: latency, multiply_adds, parameters"),
        ("multiply_adds", "multiply_adds is ''"),
        ("multiply_adds=half", "is 'half'; it takes a share as in 0.5x, or an amount as in 800M"),
        ("multiply_adds=0x", "is '0x'"),
        ("multiply_adds=-1x", "is '-1x'"),
        ("multiply_adds=5ms", "is '5ms'"),
        ("latency=5M", "an amount as in 5ms"),
    ],
)
def test_what_is_no_budget_is_named(text, said):
    with pytest.raises(ConfigError, match=said):
        Budget.parse(text)


def test_costs_are_those_of_the_table():
    assert cost(GOOGLENET, "multiply_adds", SHAPE, CLASSES) == 1_582_671_872
    assert cost(GOOGLENET, "parameters", SHAPE, CLASSES) == 6_998_552


def test_heads_do_not_count():
    alone = sum(row.parameters for row in row_costs(GOOGLENET, SHAPE, CLASSES, auxiliary=False))
    assert cost(GOOGLENET, "parameters", SHAPE, CLASSES) == alone


def test_widths_are_multiples_of_8_or_the_given_one():
    assert choices(96) == (*range(1, 17), *range(24, 121, 8))
    assert choices(12) == tuple(range(1, 16))
    assert choices(30) == (*range(1, 17), 24, 30, 32)


@given(st.integers(1, 400), st.floats(0, 6), st.floats(0, 6))
def test_a_larger_factor_never_makes_a_width_smaller(width, one, other):
    table = GOOGLENET.scaled(width / 64)
    smaller, larger = (widened(table, lambda row, name: 1.0, factor) for factor in sorted((one, other)))
    assert smaller.rows[0].filters <= larger.rows[0].filters <= 1.25 * table.rows[0].filters


@pytest.mark.parametrize("quantity", ["multiply_adds", "parameters"])
@pytest.mark.parametrize("table", [GOOGLENET, GOOGLENET_BN, GOOGLENET_SMALL], ids=lambda table: table.name)
def test_all_of_the_budget_is_the_given_architecture(table, quantity):
    size = table.image_size
    assert Fitting(table, Budget(quantity, 1.0, relative=True), (size, size, 3), 10)(table) == table


POINTS = st.lists(st.sampled_from(MULTIPLES), min_size=54, max_size=54)


@settings(deadline=None, max_examples=25)
@given(POINTS, st.floats(0.05, 1.2), st.sampled_from(["multiply_adds", "parameters"]), st.sampled_from([0.25, 1.0]))
def test_no_point_exceeds_the_budget(values, share, quantity, width):
    space = Space(GOOGLENET_BN.scaled(width))
    fit = Fitting(space.table, Budget(quantity, share, relative=True), (128, 128, 3), 4)
    names = [parameter.name for parameter in space.parameters]
    table = space.point(dict(zip(names, values, strict=True)), fit).architecture
    # Counted by the table itself.
    assert sum(getattr(row, quantity) for row in row_costs(table, (128, 128, 3), 4)) <= fit.limit


@settings(deadline=None, max_examples=15)
@given(POINTS, st.floats(0.25, 0.5))
def test_the_budget_is_used_up(values, share):
    space = Space(GOOGLENET_BN)
    fit = Fitting(GOOGLENET_BN, Budget("multiply_adds", share, relative=True), SHAPE, CLASSES)
    names = [parameter.name for parameter in space.parameters]
    found = fit.cost(space.point(dict(zip(names, values, strict=True)), fit).architecture)
    assert 0.995 * fit.limit <= found <= fit.limit


@settings(deadline=None, max_examples=10)
@given(POINTS, st.sampled_from([0.4, 0.7, 1.0]))
def test_a_share_of_the_budget_is_kept_too(values, size):
    space = Space(GOOGLENET_BN, size=True)
    fit = Fitting(GOOGLENET_BN, Budget.parse("multiply_adds=0.5x"), SHAPE, CLASSES)
    names = [parameter.name for parameter in space.parameters]
    table = space.point(dict(zip(names, [*values, size], strict=True)), fit).architecture
    assert 0.95 * size * fit.limit <= fit.cost(table) <= size * fit.limit


def test_relative_widths_stay_what_they_are_relative_to():
    """Twice as wide a branch stays about twice as wide under any factor."""
    space = Space(GOOGLENET_BN, sharing="branch")
    fit = Fitting(GOOGLENET_BN, Budget.parse("multiply_adds=0.5x"), SHAPE, CLASSES)
    table = space.point(space.defaults() | {"width_1x1": 0.5}, fit).architecture
    module = next(row for row in table.rows if row.name == "5b")
    assert module.conv1x1 / module.conv3x3 == pytest.approx(0.5, rel=0.1)


def test_a_budget_that_no_network_meets_is_named():
    with pytest.raises(ConfigError, match="with a width of 1 everywhere 'googlenet' still costs"):
        Fitting(GOOGLENET, Budget("parameters", 10), SHAPE, CLASSES)


def test_a_latency_is_not_computed():
    with pytest.raises(ConfigError, match="a latency is measured"):
        Fitting(GOOGLENET, Budget.parse("latency=5ms"), SHAPE, CLASSES)
