"""A published run: its card, that it loads back by path, and that nothing private is in it."""

import json
import shutil

import numpy as np
import pytest

from keras_inception.cli import main
from keras_inception.errors import RunError
from keras_inception.evaluation.predict import predict
from keras_inception.export.publish import publish
from keras_inception.run_folder import RunFolder


@pytest.fixture(scope="module")
def published(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "stripes"
    assert main(["publish", str(run), "--out", str(folder), "--licence", "CC-BY-4.0"]) == 0
    return folder


def test_it_answers_by_its_path_as_the_run_does(run, published, stripes):
    photos = [str(stripes / "lying" / "00.png"), str(stripes / "standing" / "01.png")]
    for mine, other in zip(predict(run, photos), predict(published, photos), strict=True):
        assert mine.answer == other.answer
        np.testing.assert_allclose([p for _, p in mine.top], [p for _, p in other.top], rtol=1e-6)
    assert RunFolder(published).labels() == RunFolder(run).labels()
    assert RunFolder(published).state() == "finished"


def test_what_was_published_can_be_published_again(published, tmp_path):
    again = publish(published, tmp_path / "again", licence="CC-BY-4.0")
    assert sorted(path.name for path in again.iterdir()) == sorted(path.name for path in published.iterdir())
    for path in again.iterdir():
        assert path.read_bytes() == (published / path.name).read_bytes(), path.name


def test_the_card_says_how_to_use_it_without_an_index_of_packages(published):
    card = (published / "README.md").read_text(encoding="utf-8")
    assert "pip install" not in card
    assert "In a checkout of keras_inception, after `tools/install`" in card


def test_nothing_of_this_machine_is_in_it(published, stripes):
    for path in published.iterdir():
        if path.suffix != ".keras":
            assert str(stripes.parent) not in path.read_text(encoding="utf-8"), path
    assert sorted(path.name for path in published.iterdir()) == [
        *("README.md", "architecture.json", "best.keras", "config.json", "data.json", "labels.txt"),
        *("metrics.csv", "summary.json"),
    ]


def test_the_card_says_what_it_is_what_it_saw_and_what_is_not_known(published):
    card = (published / "README.md").read_text(encoding="utf-8")
    assert card.startswith('---\nlibrary_name: keras\npipeline_tag: image-classification\nlicense: "CC-BY-4.0"\n')
    for part in ("# stripes", "## Use", "## Data", "## Measured", "## Limits", "## Licence"):
        assert f"\n{part}\n" in card
    assert "| lying | 28 | 6 | 6 |" in card
    assert "On the test split: not yet measured." in card
    assert "which of 2 classes a colour image shows. Images are resized to 28 px." in card
    assert "\nCC-BY-4.0. The images have their own." in card
    assert "lying, standing" in card


def test_figures_on_the_test_split_stand_in_the_card_where_they_were_measured(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    evaluation = {
        **{"split": "test", "images": 12, "crops": 1, "top1": 0.75, "top5": None, "macro_f1": 0.7},
        "intervals": {"top1": [0.5, 1.0], "macro_f1": [0.4, 0.9]},
        "per_class": {"lying": {"recall": 0.5, "images": 6}, "standing": {"recall": 1.0, "images": 6}},
        "calibration": {"ece": 0.125},
    }
    (tmp_path / "run" / "evaluation").mkdir()
    (tmp_path / "run" / "evaluation" / "evaluation.json").write_text(json.dumps(evaluation))
    card = (publish(tmp_path / "run", tmp_path / "out", licence="MIT") / "README.md").read_text(encoding="utf-8")
    assert "| test, top-1 | 75.0% | 50.0% to 100.0% |" in card
    assert "Found least on the test split: lying (50% of 6 found), standing (100% of 6 found)." in card
    assert "off by 12.5%" in card
    assert "not yet measured" not in card


def test_a_run_that_began_with_published_weights_names_their_licence(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    folder.config_json.write_text(folder.config().override({"model.start_from": "imagenet-caffe"}).to_json())
    card = (publish(folder.path, tmp_path / "out", licence="MIT") / "README.md").read_text(encoding="utf-8")
    assert "`imagenet-caffe`: unrestricted use (BVLC)" in card
    assert "It began with the weights of another network" in card


def test_what_would_be_lost_or_is_not_there_is_refused(run, published, tmp_path):
    with pytest.raises(RunError, match="exists; give --overwrite"):
        publish(run, published, licence="MIT")
    publish(run, shutil.copytree(published, tmp_path / "again"), licence="MIT", overwrite=True)
    assert 'license: "MIT"' in (tmp_path / "again" / "README.md").read_text(encoding="utf-8")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(RunError, match="holds something else than a published run"):
        publish(run, tmp_path / "other", licence="MIT", overwrite=True)
    with pytest.raises(RunError, match="no licence given"):
        publish(run, tmp_path / "out", licence=" ")
    with pytest.raises(RunError, match="there is no run folder"):
        publish(tmp_path / "absent", tmp_path / "out", licence="MIT")
    shutil.copytree(run, tmp_path / "begun")
    (tmp_path / "begun" / "summary.json").unlink()
    with pytest.raises(RunError, match="is not finished"):
        publish(tmp_path / "begun", tmp_path / "out", licence="MIT")
    assert not (tmp_path / "out").exists()
