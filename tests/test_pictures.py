"""Pictures: that they are whole PNG files, show what they are given, and take every name a class may have."""

import math
from typing import get_args

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import keras_inception as ki
from keras_inception.analysis import ablation_page
from keras_inception.analysis.ablation import Question, Result, variants
from keras_inception.analysis.correlation import RowCorrelation
from keras_inception.analysis.gradients import RowNorm
from keras_inception.analysis.receptive_field import fields
from keras_inception.report.correlation_pictures import draw_correlation, draw_steps
from keras_inception.report.network_pictures import draw_fields, draw_maps, draw_norms
from keras_inception.report.pictures import (
    draw_confusion,
    draw_curves,
    draw_over_epochs,
    draw_reliability,
    whole_numbers,
)
from keras_inception.tuning import page
from keras_inception.tuning.front import Trial

HEADS = ("main", "aux1", "aux2")


def rows(count=3, heads=HEADS, value=lambda epoch: 1 / epoch):
    return [
        {"epoch": float(epoch)}
        | {f"{prefix}{head}_{name}": value(epoch) for prefix in ("", "val_") for head in heads for name in QUANTITIES}
        for epoch in range(1, count + 1)
    ]


QUANTITIES = ("loss", "top1")


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def drawn(tmp_path, matrix, classes, title="title"):
    path = tmp_path / "confusion.png"
    draw_confusion(np.asarray(matrix), classes, path, title=title)
    assert list(tmp_path.iterdir()) == [path]
    return pixels(path)


def blue_cells(picture):
    """Where the colour of a share of 1 stands: the darkest of matplotlib's Blues, without the colour bar."""
    darkest = (np.asarray(matplotlib.colormaps["Blues"](1.0)[:3]) * 255).round()
    return (np.abs(picture - darkest).max(axis=2) <= 1)[:, : int(picture.shape[1] * 0.75)]


def test_every_correct_answer_is_dark_on_the_diagonal(tmp_path):
    down, across = np.nonzero(blue_cells(drawn(tmp_path, np.eye(4, dtype=int) * 7, list("abcd"))))
    assert np.corrcoef(down, across)[0, 1] > 0.8


def test_answers_that_are_always_wrong_are_dark_off_the_diagonal(tmp_path):
    down, across = np.nonzero(blue_cells(drawn(tmp_path, np.eye(4, dtype=int)[::-1] * 7, list("abcd"))))
    assert np.corrcoef(down, across)[0, 1] < -0.8


def test_rows_are_the_true_class(tmp_path):
    # All images of both classes are taken for the first: a dark column.
    down, across = np.nonzero(blue_cells(drawn(tmp_path, [[5, 0], [50, 0]], ["first", "second"])))
    assert np.ptp(down) > 1.5 * np.ptp(across)


def test_a_class_without_images_is_drawn(tmp_path):
    assert drawn(tmp_path, [[3, 1], [0, 0]], ["a", "b"]).std() > 0


@pytest.mark.parametrize(
    "names",
    [
        ["US$ to C$", "x_1^2 $"],
        ["$_{$", "\\frac{"],
        ["猫", "犬"],
        ["größe", "a b"],
        ["a very long name of a class " * 4, "short"],
        ["_underscored", "#%&"],
    ],
)
def test_classes_may_be_called_anything(tmp_path, names):
    assert drawn(tmp_path, [[1, 2], [3, 4]], names, title=names[0]).std() > 0


def test_the_picture_of_many_classes_stays_of_a_size_that_can_be_opened(tmp_path):
    picture = drawn(tmp_path, np.eye(150, dtype=int), [f"class {index}" for index in range(150)])
    assert max(picture.shape) < 8_000


@pytest.mark.parametrize("heads", [HEADS, ("main",)])
@pytest.mark.parametrize("count", [1, 3])
def test_curves_are_drawn_for_the_heads_that_there_are(tmp_path, heads, count):
    path = tmp_path / "curves.png"
    draw_curves(rows(count, heads), path, title="run $_{$")
    picture = pixels(path)
    seen = {
        head: (np.abs(picture - (np.asarray(matplotlib.colors.to_rgb(colour)) * 255).round()).max(axis=2) <= 1).any()
        for head, colour in zip(HEADS, ("tab:blue", "tab:orange", "tab:green"), strict=True)
    }
    assert seen == {head: head in heads for head in HEADS}


def test_a_loss_that_is_no_number_is_no_obstacle(tmp_path):
    draw_curves(rows(2, value=lambda epoch: float("nan")), tmp_path / "curves.png", title="diverged")
    assert pixels(tmp_path / "curves.png").std() > 0


def bins(*shares):
    """Of every bin the share of right answers; None where it is empty."""
    width = 1 / len(shares)
    return [
        {
            "above": place * width,
            "up_to": (place + 1) * width,
            "images": 0 if share is None else 10,
            "probability": None if share is None else (place + 0.5) * width,
            "top1": share,
        }
        for place, share in enumerate(shares)
    ]


def reliability(tmp_path, *shares, title="title"):
    path = tmp_path / "reliability.png"
    draw_reliability(bins(*shares), path, title=title)
    return pixels(path)


def bars(picture):
    """How many pixels of every column are of the bars' colour."""
    colour = (np.asarray(matplotlib.colors.to_rgb("tab:blue")) * 255).round()
    return (np.abs(picture - colour).max(axis=2) <= 1)[picture.shape[0] // 5 :].sum(axis=0)


def test_the_bars_of_a_reliability_diagram_are_as_high_as_the_share_of_right_answers(tmp_path):
    heights = bars(reliability(tmp_path, 0.2, None, 0.4, 0.8))
    first, second, third, fourth = (np.median(part) for part in np.array_split(np.trim_zeros(heights), 4))
    assert second == 0
    assert third / first == pytest.approx(2, rel=0.15)
    assert fourth / third == pytest.approx(2, rel=0.15)


@pytest.mark.parametrize("shares", [(1.0,), (None, None, 0.0), (None, 1.0)])
def test_a_reliability_diagram_of_little_is_drawn(tmp_path, shares):
    assert reliability(tmp_path, *shares, title="US$ $_{$").std() > 0


def test_the_users_own_matplotlib_settings_stay(tmp_path):
    before = dict(matplotlib.rcParams)
    draw_curves(rows(), tmp_path / "curves.png", title="run")
    assert dict(matplotlib.rcParams) == before


def over_epochs(tmp_path, rows, **more):
    path = tmp_path / "epochs.png"
    draw_over_epochs(rows, path, title="title", quantity="norm", **more)
    return pixels(path)


def heights_of(picture, share):
    """The rows of the picture in which a column's colour stands, by its share of the colours."""
    colour = (np.asarray(matplotlib.colormaps["viridis"](share)[:3]) * 255).round()
    return np.flatnonzero((np.abs(picture - colour).max(axis=2) <= 1).any(axis=1))


def test_equal_factors_are_equal_distances_on_a_logarithmic_axis(tmp_path):
    rows = [{"epoch": epoch, "a": 0.01, "b": 0.1, "c": 1.0} for epoch in (1.0, 2.0)]
    picture = over_epochs(tmp_path, rows, scale="log")[:, :700]  # without the legend
    a, b, c = (np.median(heights_of(picture, share)) for share in (0, 0.475, 0.95))
    assert a > b > c
    assert a - b == pytest.approx(b - c, abs=3)


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_values_that_a_logarithm_lacks_are_left_out(tmp_path, scale, value):
    assert over_epochs(tmp_path, [{"epoch": 1.0, "a": value}, {"epoch": 2.0, "a": value}], scale=scale).std() > 0
    assert over_epochs(tmp_path, [{"epoch": 1.0, "a": 1.0, "b": value}], scale=scale).std() > 0


def test_the_only_epoch_of_a_training_is_seen(tmp_path):
    def curves(training):
        """Draw one epoch between validation's 0 and 1, which set the limits."""
        values = {"main": training, "aux1": 0.5, "aux2": 0.5} | {"val_main": 0.0, "val_aux1": 1.0, "val_aux2": 0.5}
        row = {f"{head}_{name}": value for head, value in values.items() for name in QUANTITIES}
        draw_curves([{"epoch": 1.0} | row], tmp_path / "curves.png", title="")
        return pixels(tmp_path / "curves.png")

    assert np.any(curves(0.2) != curves(0.3))


@pytest.mark.parametrize(("epochs", "ticks"), [([1], [1]), ([1, 2], [1, 2]), ([1, 4], [1, 2, 3, 4])])
def test_epochs_are_whole_numbers(epochs, ticks):
    axes = Figure().subplots()
    axes.plot(epochs, epochs, ".")
    whole_numbers(axes.xaxis)
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == ticks


# ---------------------------------------------------------------------------------------------------------------------
# Of networks, searches and ablations
# ---------------------------------------------------------------------------------------------------------------------

TITLE = "Ablation of googlenet-small-w0.25 on /home/somebody/photographs/of-solar-cells, with all that it takes"
BRANCHES = ("1×1", "3×3", "5×5", "pool")


def results(*questions):
    """Three epochs of two seeds of every network."""
    found = [Result(one) for one in variants(ki.GOOGLENET_SMALL.scaled(0.25), questions)]
    for one in found:
        one.seeds, one.epochs = [1, 2], [[0.5, 0.7, 0.8], [0.4, 0.7, 0.81]]
    return found


def steps(path):
    draw_steps([RowCorrelation("5b", (), np.eye(8), 10, np.eye(5), np.eye(5))], path, title=TITLE)


def silent(path):
    nothing = np.full((4, 4), np.nan)
    draw_correlation(RowCorrelation("5b", BRANCHES, nothing, 10, nothing, nothing), path, title=TITLE)


def norms(path):
    losses = ("main", "main + aux1", "main + aux2", "main + aux1 + aux2")
    draw_norms([RowNorm("batch", loss, row, 1.0, 0.1) for loss in losses for row in ("conv1", "4a")], path, title=TITLE)


def maps(path):
    values = np.random.default_rng(0).uniform(size=(4, 4, 2)).astype(np.float32)
    draw_maps(np.zeros((8, 8, 3), np.uint8), dict.fromkeys(BRANCHES, values), path, title=TITLE)


def epochs(path):
    ablation_page.draw_epochs(results("naive"), path, title=TITLE)


@pytest.mark.parametrize("draw", [steps, silent, norms, maps, epochs])
def test_no_title_or_legend_is_cut_by_the_border_of_a_narrow_picture(tmp_path, draw):
    draw(tmp_path / "picture.png")
    picture = pixels(tmp_path / "picture.png")
    assert picture.std() > 0
    for border in (picture[:, :2], picture[:, -2:], picture[:2], picture[-2:]):
        assert (border == 255).all()


def test_rows_without_branches_have_a_colour_of_their_own_in_the_legend(tmp_path):
    pixels_below = {}
    for name, table in (("modules", ki.GOOGLENET), ("none", ki.NIN)):
        path = tmp_path / f"{name}.png"
        draw_fields(np.full((64, 64, 3), 235, np.uint8), fields(table, 64), (), path, title="")
        pixels_below[name] = pixels(path)[-60:]
    seen = {
        (name, colour): (np.abs(below - np.round(np.asarray(matplotlib.colors.to_rgb(colour)) * 255)) <= 1)
        .all(axis=2)
        .any()
        for name, below in pixels_below.items()
        for colour in ("tab:purple", "tab:red")
    }
    assert seen == {
        ("modules", "tab:purple"): True,
        ("modules", "tab:red"): True,
        ("none", "tab:purple"): True,
        ("none", "tab:red"): False,
    }


def test_every_panel_of_an_odd_number_has_its_epochs(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(ablation_page, "save", lambda figure, path: drawn.append(figure))
    questions = get_args(Question)[:3]
    ablation_page.draw_epochs(results(*questions), tmp_path / "epochs.png", title="")
    panels = [axes for axes in drawn[0].axes if axes.lines]
    assert len(panels) == 3
    assert all(axes.xaxis.get_tick_params()["labelbottom"] for axes in panels)


def test_the_legend_of_a_search_covers_no_trial(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(page, "save", lambda figure, path: drawn.append(figure))
    page.draw_progress([Trial(n, {}, 1, 1, {}, "scored", top1) for n, top1 in enumerate((0.5, 0.9, 0.6))], tmp_path)
    (axes,) = drawn[0].axes
    drawn[0].draw_without_rendering()
    assert not axes.get_legend().get_window_extent().overlaps(axes.get_window_extent())
