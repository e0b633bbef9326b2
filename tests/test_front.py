"""The front of trials, the best of them, and their table."""

import csv
import io

from hypothesis import given, strategies as st

from keras_inception.tuning.front import Trial, as_csv, best, front, front_of, interval

POINTS = st.lists(st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float)), max_size=20)


def trial(number, top1, cost, **changes):
    return Trial(number, {"width_all": 1.0}, cost, 10, {"3": 1.0}, "scored", top1, **changes)


def beats(one, other):
    return one[0] >= other[0] and one[1] <= other[1] and one != other


@given(POINTS)
def test_the_front_is_what_no_point_beats(points):
    """Against the definition, point by point."""
    kept = [points[place] for place in front(points)]
    assert set(kept) == {point for point in points if not any(beats(other, point) for other in points)}
    assert len(kept) == len(set(kept))
    assert kept == sorted(kept, key=lambda point: point[1])


def test_the_best_is_the_most_accurate_and_then_the_cheapest():
    failed = Trial(4, {}, 1, 1, {}, "failed", message="no memory")
    trials = [trial(0, 0.7, 5), trial(1, 0.8, 9), trial(2, 0.8, 7), trial(3, 0.8, 7), failed]
    assert best(trials) == trials[2]
    assert best([failed]) is None
    assert [one.number for one in front_of(trials)] == [0, 2]


def test_costs_that_a_budget_was_found_for_are_equal():
    trials = [trial(0, 0.70, 3_271_750), trial(1, 0.85, 3_275_353), trial(2, 0.80, 3_273_717), trial(3, 0.9, 6_551_264)]
    assert [one.number for one in front_of(trials)] == [1, 3]


def test_the_interval_is_wilsons():
    """Figures of statsmodels.stats.proportion.proportion_confint(80, 100, method="wilson")."""
    low, high = interval(80, 100)
    assert (round(low, 4), round(high, 4)) == (0.7112, 0.8666)
    assert interval(0, 10)[0] == 0


def test_the_table_has_a_column_for_every_hyperparameter():
    rows = list(csv.DictReader(io.StringIO(as_csv([trial(0, 0.7, 5, interval=(0.6, 0.8)), trial(1, None, 5)]))))
    assert rows[0]["width_all"] == "1.0"
    assert (rows[0]["low"], rows[0]["high"], rows[1]["low"]) == ("0.6", "0.8", "")
    assert rows[0]["stage 3"] == "1.0"
    assert as_csv([]) == ""
