"""The page of an evaluation: its figures, thumbnails of its mistakes, and names that could break it."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_inception.evaluation.figures import figures
from keras_inception.report.mistakes import Mistake, thumbnail, write_mistakes

LABELS = np.asarray([0, 0, 1])
PROBABILITIES = np.asarray([[0.9, 0.1], [0.25, 0.75], [0.4, 0.6]])


def page(path, mistakes, count, **more):
    result = {**figures(LABELS, PROBABILITIES, ("cats", "<b>dogs")), "heads": None, "rejection": None, **more}
    write_mistakes(path, title="Evaluation", lead="3 images", result=result, mistakes=mistakes, count=count)
    return path.read_text()


def size(png):
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return image.size


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((320, 640, 3), (160, 80)),
        ((28, 28, 1), (140, 140)),
        ((128, 100, 3), (100, 128)),
        ((1, 1, 3), (160, 160)),
        ((2, 4000, 3), (160, 1)),
    ],
)
def test_thumbnails_fit_the_page(shape, expected):
    assert size(thumbnail(np.zeros(shape, np.uint8))) == expected


def test_a_small_image_is_enlarged_pixel_by_pixel():
    pixels = np.asarray([[[0], [255]], [[255], [0]]], np.uint8)
    with Image.open(io.BytesIO(thumbnail(pixels))) as image:
        assert np.array_equal(np.asarray(image), np.kron(pixels[..., 0], np.ones((80, 80), np.uint8)))


def test_the_page_shows_mistakes_with_truth_answer_and_probability(tmp_path):
    mistake = Mistake("/photos/cats/new\nline.jpg", np.zeros((8, 8, 3), np.uint8), "cats", "<b>dogs", 0.75)
    text = page(tmp_path / "mistakes.html", [mistake], 1)
    assert text.count("<img") == 1
    assert r"cats, taken for &lt;b&gt;dogs with 75.0%: cats/new\nline.jpg" in text
    assert "<b>dogs" not in text
    assert "0.6667" in text  # top-1
    assert "1 of 1 wrong answers" in text


def test_the_page_of_answers_that_are_all_right_says_so(tmp_path):
    assert "Every answer is right." in page(tmp_path / "mistakes.html", [], 0)


def test_heads_and_rejection_stand_on_the_page(tmp_path):
    heads = {"main": {"top1": 0.5, "log_loss": 1.5}, "aux1": {"top1": 0.125, "log_loss": 2.5}}
    rejection = {"below": 0.7, "answered": 2, "coverage": 0.375, "top1": None}
    text = page(tmp_path / "mistakes.html", [], 0, heads=heads, rejection=rejection)
    for part in ("aux1: top-1", "0.125", "at least 0.7", "0.375"):
        assert part in text
    assert "top-1 of the answered" not in text
