"""The page of a run: read back as a reader sees it, in a run's middle and at its end."""

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from keras_inception.architecture import get_architecture
from keras_inception.config import RunConfig
from keras_inception.files import write_json
from keras_inception.report import run as report
from keras_inception.report.run import write_run_report
from keras_inception.run_folder import RunFolder

CLASSES = ("cats", "<b>dogs", "third")
HEADS = ("main", "aux1", "aux2")
# The third image is wrong and the hardest; the second is right with little.
ANSWERS = np.asarray([[0.9, 0.05, 0.05], [0.3, 0.4, 0.3], [0.1, 0.875, 0.025], [0.2, 0.2, 0.6]])
LABELS = np.asarray([0, 1, 2, 2])
VIEWS = np.stack([np.full((32, 32, 3), shade, np.uint8) for shade in (10, 20, 30, 40)])
NAMES = [f"/photos/x/{name}.png" for name in ("a", "b", "new\nline", "d")]


def rows(count):
    quantities = ("loss", "top1")
    every = [f"{split}{head}_{name}" for split in ("", "val_") for head in HEADS for name in quantities]
    # The best top-1 is in the second epoch.
    return [
        {"epoch": epoch, "learning_rate": 0.1 / epoch, "loss": 1.0, "val_loss": 1.0}
        | {name: (0.75 if epoch == 2 else 0.5) if name.endswith("top1") else 1 / epoch for name in every}
        for epoch in range(1, count + 1)
    ]


def run(path, *, done=3, given=()):
    config = RunConfig.of_recipe("paper").override({"name": "a <run>", "training.epochs": 3, **dict(given)})
    folder = RunFolder(path / "run")
    folder.start(config, get_architecture("googlenet-small"), CLASSES)
    if done:
        folder.write_metrics(rows(done))
        folder.write_gradients([{"epoch": n + 1, "conv1": 0.0, "main": math.nan, "aux1": 0.1} for n in range(done)])
    return folder


def page(folder, answers=None, labels=None, views=None, names=()):
    shown = None if views is None else views.__getitem__
    write_run_report(folder, answers=answers, labels=labels, views=shown, names=names)
    return folder.report_html.read_text(encoding="utf-8")


def cells(text, after):
    """The cells of the table row whose first cell is `after`."""
    row = text.split(f"<td>{after}</td>")[1].split("</tr>")[0]
    return [cell.split(">")[1].split("<")[0] for cell in row.split("<td")[1:]]


def test_a_finished_run_shows_its_course_and_what_its_best_model_answers(tmp_path):
    text = page(run(tmp_path), ANSWERS, LABELS, VIEWS, NAMES)
    assert "a &lt;run&gt;" in text
    assert "Finished: 3 of 3 epochs of the recipe &#39;paper&#39;." in text
    assert "Best top-1 on validation: 75.0%, in epoch 2." in text
    for title in ("Curves", "Gradients", "Confusion", "Hardest images", "Classes", "Configuration"):
        assert f"<h2>{title}</h2>" in text
    assert "75.0% of 4 validation images" in text
    assert text.count("<img") == 2 + 1 + 1 + len(LABELS)  # curves and rate, gradients, confusion, images
    assert cells(text, "main: top-1") == ["0.75", "0.5", "0.5"]
    assert cells(text, "aux2: loss") == ["0.5", "0.3333", "0.3333"]


def test_the_hardest_images_come_first_with_truth_and_answer(tmp_path):
    folder = run(tmp_path)
    text = page(folder, ANSWERS, LABELS, VIEWS, NAMES)
    captions = [
        r"third (2.5%), taken for &lt;b&gt;dogs with 87.5%: new\nline.png",
        "&lt;b&gt;dogs, answered with 40.0%: b.png",
        "third, answered with 60.0%: d.png",
        "cats, answered with 90.0%: a.png",
    ]
    places = [text.index(f"<figcaption>{caption}</figcaption>") for caption in captions]
    assert places == sorted(places)
    assert "cats, answered with 90.0%</figcaption>" in page(folder, ANSWERS, LABELS, VIEWS)


def test_figures_of_classes_are_scikit_learns(tmp_path):
    text = page(run(tmp_path), ANSWERS, LABELS)
    assert "Hardest images" not in text
    guesses = ANSWERS.argmax(axis=1)
    for position, name in enumerate(("cats", "&lt;b&gt;dogs", "third")):
        known = {"labels": [position], "average": None, "zero_division": 0}
        expected = [float(f(LABELS, guesses, **known)[0]) for f in (precision_score, recall_score, f1_score)]
        images, *figures = map(float, cells(text, name))
        assert images == LABELS.tolist().count(position)
        assert figures == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("done", [0, 2])
def test_a_run_in_its_middle_has_a_page(tmp_path, done):
    text = page(run(tmp_path, done=done))
    assert f"Not finished when this page was written: {done} of 3 epochs" in text
    assert ("Best top-1" in text) == (done > 0)
    assert "<h2>Configuration</h2>" in text
    for title in ("Confusion", "Classes", "Data", "Environment"):
        assert f"<h2>{title}</h2>" not in text


def test_what_differs_from_the_recipe_is_marked_and_comes_first(tmp_path):
    given = {"training.momentum": 0.5, "data.flip_vertical": True, "data.image_size": 96}
    text = page(run(tmp_path, given=given.items()))
    assert cells(text, "training.momentum") == ["0.5", "0.9"]
    assert cells(text, "data.flip_vertical") == ["yes", "no"]
    assert cells(text, "data.image_size") == ["96", "none"]
    assert cells(text, "training.nesterov") == ["no", ""]  # the recipe's, though it is no default
    assert cells(text, "training.loss_weights") == ["1, 0.3, 0.3", ""]
    assert text.index("<td>training.momentum</td>") < text.index("<td>data.channels</td>")


def test_data_and_environment_are_listed(tmp_path):
    folder = run(tmp_path)
    write_json(folder.data_json, {"name": "new\nline", "images": {"train": {"cats": 7}}, "fingerprint": "0123"})
    write_json(folder.environment_json, {"packages": {"keras": "3.15"}, "devices": ["CPU:0", "CPU:1"]})
    text = page(folder)
    assert cells(text, "name") == [r"new\nline"]
    assert cells(text, "images.train.cats") == ["7"]
    assert cells(text, "packages.keras") == ["3.15"]
    assert cells(text, "devices") == ["CPU:0, CPU:1"]


def test_gradients_are_drawn_in_the_order_of_the_network(tmp_path, monkeypatch):
    folder = run(tmp_path)
    names = ["aux1", "conv1", "inception_3a", "inception_5b", "main", "conv2"]
    folder.write_gradients([{"epoch": 1.0} | dict.fromkeys(names, 1.0)])
    drawn = []
    monkeypatch.setattr(report, "draw_over_epochs", lambda rows, path, **_: (drawn.append(list(rows[0])), path.touch()))
    page(folder)
    assert drawn[1] == ["epoch", "conv1", "conv2", "inception_3a", "inception_5b", "main", "aux1"]


def test_metrics_without_a_rate_or_gradients_are_drawn(tmp_path):
    folder = run(tmp_path)
    folder.write_metrics([{name: value for name, value in row.items() if name != "learning_rate"} for row in rows(1)])
    folder.gradients_csv.unlink()
    assert page(folder).count("<img") == 1
