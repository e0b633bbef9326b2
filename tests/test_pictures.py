"""Pictures: that they are whole PNG files, show what they are given, and take every name a class may have."""

import math

import matplotlib
import numpy as np
import pytest
from PIL import Image

from keras_inception.report.pictures import draw_confusion, draw_curves, draw_over_epochs, draw_reliability

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
