"""The page about a search: its pictures, tables, and what matters among the widths."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from keras_inception.architecture import GOOGLENET, Inception
from keras_inception.tuning.front import GIVEN, Trial, interval
from keras_inception.tuning.page import draw_front, importances, write_search
from keras_inception.tuning.space import Space


def trials(count):
    """Top-1 hangs on the 3×3 branch alone."""
    random = np.random.default_rng(1)
    found = []
    for number in range(count):
        values = {f"width_{name}": float(random.choice([0.5, 0.75, 1.0])) for name in ("1x1", "3x3", "5x5")}
        right = round(50 + 40 * values["width_3x3"])
        bounds = interval(right, 100)
        found.append(
            Trial(number, values, 10**6 * (number + 5), 1_000, {"3": 0.7, "4": 0.8}, "scored", right / 100, bounds, 1.0)
        )
    return [*found, Trial(count, {}, 5, 5, {"3": 1.0, "4": 1.0}, "failed", message="no <memory>")]


def test_the_width_that_decides_is_found():
    shares = importances(trials(30))
    assert next(iter(shares)) == "width_3x3"
    assert shares["width_3x3"][0] > 10 * shares["width_5x5"][0]


def test_a_few_trials_or_equal_ones_tell_nothing():
    assert importances(trials(5)) == {}
    assert importances([Trial(n, {"width_all": 1.0}, 5, 5, {}, "scored", 0.5) for n in range(20)]) == {}


def test_the_page_has_all_of_it(tmp_path):
    space = Space(GOOGLENET, "branch", depth=True)
    tuned = space.point(space.defaults() | {"width_5x5": 0.5, "depth_5": 1}).architecture
    given = Trial(GIVEN, {}, 10**8, 10_000, {"3": 1.0, "4": 1.0}, "scored", 0.9, (0.8, 0.95), latency_ms=12.34)
    found = trials(30)
    write_search(
        tmp_path,
        title="Widths",
        lead="Read <this>.",
        trials=found,
        given=(GOOGLENET, given),
        tuned=(tuned, found[3]),
        uniform=found[0],
    )
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "16 (32)" in text  # the 5×5 of 3a
    assert "0 (256)" in text  # 5a, which was left out
    assert "no &lt;memory&gt;" in text
    assert "12.34" in text
    assert "Read &lt;this&gt;." in text
    assert "practised for the budget" in text
    assert "the same, scaled alike" in text
    assert text.count("data:image/png") == 4
    for name in ("front", "widths", "progress", "importance"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert min(picture.size) > 150
    assert not any(row.name == "5a" for row in tuned.rows if isinstance(row, Inception))


def test_a_latency_is_drawn_beside_the_multiply_adds(tmp_path):
    given = Trial(GIVEN, {}, 10**8, 10_000, {}, "scored", 0.9, (0.8, 0.95), latency_ms=12.0)
    found = [replace(trial, latency_ms=trial.multiply_adds / 1e6) for trial in trials(10)]
    draw_front(found, given, tmp_path / "plain.png", uniform=None)
    draw_front(found, given, tmp_path / "both.png", uniform=found[0], limit_ms=8.0)
    with Image.open(tmp_path / "plain.png") as one, Image.open(tmp_path / "both.png") as two:
        assert two.width == pytest.approx(2 * one.width, rel=0.02)
