"""Other sizes with the same weights: the run's own as `evaluate` has it, others as a network built for them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_inception.analysis.other_sizes import any_size, default_sizes, other_sizes
from keras_inception.architecture import GOOGLENET_BN
from keras_inception.cli import main
from keras_inception.cost import row_costs
from keras_inception.errors import ArchitectureError
from keras_inception.evaluation.evaluate import evaluate
from keras_inception.googlenet import GoogLeNet, copy_weights
from keras_inception.run_folder import RunFolder


def test_at_another_size_it_answers_like_a_network_built_for_it():
    table = GOOGLENET_BN.scaled(1 / 16)
    own, other = (GoogLeNet(architecture=table, input_shape=(side, side, 3), classes=3) for side in (32, 57))
    copy_weights(own, other)
    images = np.random.default_rng(0).standard_normal((2, 57, 57, 3)).astype(np.float32)
    np.testing.assert_allclose(any_size(own)(images), other(images), atol=1e-6)


def test_the_runs_own_size_is_what_evaluate_says(run, tmp_path):
    expected = evaluate(run, "validation", output=tmp_path / "evaluation")
    (found,) = other_sizes(run, [28])
    assert found.top1 == pytest.approx(expected["top1"])
    assert found.log_loss == pytest.approx(expected["log_loss"], rel=1e-4)
    assert found.interval == pytest.approx(tuple(expected["intervals"]["top1"]))
    assert found.images == expected["images"]


def test_larger_images_cost_more_by_arithmetic(run):
    calls = []
    found = other_sizes(run, [24, 40], on_progress=lambda *count: calls.append(count))
    table = RunFolder(run).architecture()
    for one, side in zip(found, (24, 40), strict=True):
        assert one.image_size == side
        assert one.multiply_adds == sum(row.multiply_adds for row in row_costs(table, (side, side, 3), 2))
        assert 0 <= one.interval[0] <= one.top1 <= one.interval[1] <= 1
    assert calls == [(12, 12), (12, 12)]


def test_by_default_sizes_are_around_the_runs(run):
    assert default_sizes(run) == [21, 28, 35, 42]


def test_a_size_that_is_too_small_is_refused_before_anything_is_read(run):
    with pytest.raises(ArchitectureError, match="7×7 px is too small for 'tiny'; the smallest is 8×8 px"):
        other_sizes(run, [28, 7], on_images=lambda *count: pytest.fail("an image was read"))


def test_a_fully_connected_network_takes_one_size_alone(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    table = json.loads((copy / "architecture.json").read_text())
    table["rows"].append({"kind": "FullyConnected", "name": "fc", "units": 8})
    (copy / "architecture.json").write_text(json.dumps(table))
    assert main(["analyze", "other-sizes", str(copy), "--sizes", "28"]) == 2
    error = capsys.readouterr().err
    assert "row 'fc' of 'tiny' is fully connected, so that the network takes images of one size alone" in error
    assert error.count("\n") == 1


def test_default_sizes_leave_out_what_is_too_small(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    config = json.loads((copy / "config.json").read_text())
    config["data"]["image_size"] = 9
    (copy / "config.json").write_text(json.dumps(config))
    assert default_sizes(copy) == [9, 11, 14]


def test_the_command_prints_and_draws_every_size(run, tmp_path, capsys):
    words = [str(run), "--sizes", "20,28", "--output", str(tmp_path / "out")]
    assert main(["analyze", "other-sizes", *words]) == 0
    said = capsys.readouterr().out
    assert "28 (trained)" in said
    assert "20 " in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"sizes.html", "sizes.json", "sizes.png"}
    with Image.open(tmp_path / "out" / "sizes.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 5
    assert [one["image_size"] for one in json.loads((tmp_path / "out" / "sizes.json").read_text())] == [20, 28]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [("7", "7×7 px is too small"), ("28,big", "sizes has 'big'"), ("0", "sizes has '0'"), ("2.5", "sizes has '2.5'")],
)
def test_a_wrong_size_ends_in_one_line(run, sizes, said, capsys):
    assert main(["analyze", "other-sizes", str(run), "--sizes", sizes]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
