"""What branches answer to, against sums over all of their maps at once."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from keras_inception.analysis.activations import branch_activity, branch_maps, run_activity, run_maps
from keras_inception.analysis.branches import BRANCHES, module, modules
from keras_inception.architecture import GOOGLENET_BN, NIN, Architecture, Conv, Inception
from keras_inception.cli import main
from keras_inception.errors import ArchitectureError
from keras_inception.googlenet import GoogLeNet

#: The rows up to 4a.
TABLE = dataclasses.replace(GOOGLENET_BN, rows=GOOGLENET_BN.rows[:8], auxiliary=()).scaled(1 / 16)


def shifted(shift: float) -> keras.Model:
    """Return the network with a shift of the first channel of 4a's 3×3, the same at every call otherwise."""
    keras.utils.set_random_seed(0)
    model = GoogLeNet(architecture=TABLE, input_shape=(32, 32, 3), classes=2)
    for name, value in (("inception_4a_3x3_bn", shift), ("inception_3a_1x1_bn", 0.3)):
        scale, offset, *moving = model.get_layer(name).get_weights()
        offset[0] = value
        model.get_layer(name).set_weights([scale, offset, *moving])
    return model


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return shifted(-1e6)  # a channel that is never above 0, whatever comes


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((7, 32, 32, 3)).astype(np.float32)


def whole(model: keras.Model, images: np.ndarray, name: str) -> np.ndarray:
    """Return a module's output, whose channels are those of its branches one after the other."""
    return keras.Model(model.input, model.get_layer(f"inception_{name}").output)(images, training=False).numpy()


@pytest.mark.parametrize("cut", [[], [3, 6]])
def test_shares_are_those_of_all_images_at_once(model, images, cut):
    seen = []
    found = branch_activity(model, TABLE, np.split(images, cut), seen.append)
    assert seen[-1] == len(images)
    assert [(one.module, one.branch) for one in found] == [
        (row.name, branch) for row in modules(TABLE) for branch in BRANCHES
    ]
    for row in modules(TABLE):
        maps = whole(model, images, row.name)
        widths = (row.conv1x1, row.conv3x3, row.conv5x5, row.pool_projection)
        parts = np.split(maps, np.cumsum(widths)[:-1], axis=-1)
        energy = sum(np.square(part, dtype=np.float64).sum() for part in parts)
        of_row = [one for one in found if one.module == row.name]
        assert sum(one.energy for one in of_row) == pytest.approx(1)
        assert sum(one.width for one in of_row) == pytest.approx(1)
        for one, part in zip(of_row, parts, strict=True):
            assert one.channels == part.shape[-1]
            assert one.silent == pytest.approx(np.mean(part.max(axis=(0, 1, 2)) <= 0))
            assert one.active == pytest.approx(np.mean(part > 0), rel=1e-5)
            assert one.energy == pytest.approx(np.square(part, dtype=np.float64).sum() / energy, rel=1e-4)


def test_a_pool_without_projection_answers_with_the_channels_of_its_input(images):
    rows = (Conv("conv1", 5, kernel=3, stride=4), Inception("3a", 2, 1, 3, 0, 4, 0))
    table = Architecture("unprojected", rows)
    model = GoogLeNet(architecture=table, input_shape=(32, 32, 3), classes=2)
    found = branch_activity(model, table, [images])
    assert [one.channels for one in found] == [2, 3, 4, 5]
    assert sum(one.width for one in found) == pytest.approx(1)
    maps = branch_maps(model, images[0], module(table, "3a"))
    np.testing.assert_allclose(np.concatenate(list(maps.values()), axis=-1), whole(model, images[:1], "3a")[0])


def test_a_channel_that_never_answers_is_silent(model, images):
    silent, loud = (
        {(one.module, one.branch): one for one in branch_activity(network, TABLE, [images])}
        for network in (model, shifted(1e6))
    )
    planted = silent.pop(("4a", "3×3"))
    assert planted.silent - loud.pop(("4a", "3×3")).silent == pytest.approx(1 / planted.channels)
    assert {place: one.silent for place, one in silent.items()} == {place: one.silent for place, one in loud.items()}


def test_the_maps_of_branches_are_the_modules_output(model, images):
    maps = branch_maps(model, images[0], module(TABLE, "4a"))
    assert list(maps) == list(BRANCHES)
    np.testing.assert_allclose(np.concatenate(list(maps.values()), axis=-1), whole(model, images[:1], "4a")[0])


def test_a_network_without_modules_is_refused(images):
    model = GoogLeNet(architecture=NIN.scaled(1 / 32), input_shape=(32, 32, 3), classes=2)
    with pytest.raises(ArchitectureError, match="no Inception module"):
        branch_activity(model, NIN, [images])


def test_an_unknown_module_is_named():
    with pytest.raises(ArchitectureError, match="unknown module '4f'; known: 3a, 3b, 4a"):
        module(TABLE, "4f")


def test_a_run_is_measured_on_its_validation_images_or_others(run, stripes):
    own = run_activity(run)
    assert [one.module for one in own] == [name for name in ("3a", "4a", "5b") for _ in range(4)]
    calls = []
    few = run_activity(run, data=stripes / "lying", limit=3, on_progress=lambda *count: calls.append(count))
    assert calls == [(3, 3)]
    assert few != own


def test_the_maps_of_a_run_are_by_default_of_its_middle_module(run, stripes):
    name, maps = run_maps(run, stripes / "lying" / "00.png")
    assert name == "4a"
    assert maps["3×3"].shape == (7, 7, 13)


# ---------------------------------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------------------------------


def test_the_command_prints_every_branch_and_draws_maps(run, stripes, tmp_path, capsys):
    words = [str(run), str(stripes / "lying" / "00.png"), "--module", "3a", "--output", str(tmp_path / "maps")]
    assert main(["analyze", "activations", *words]) == 0
    said = capsys.readouterr().out
    assert said.count("pool") == 3
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {
        *("activations.html", "activations.json", "activations.png")
    }
    with Image.open(tmp_path / "maps" / "activations.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 5
    values = json.loads((tmp_path / "maps" / "activations.json").read_text())
    assert len(values) == 12


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--module", "9z"], "unknown module '9z'"),
        (["--images", "0"], "images is 0"),
        (["--data", "missing"], "no folder 'missing'"),
    ],
)
def test_a_wrong_word_ends_in_one_line(run, stripes, words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["analyze", "activations", str(run), str(stripes / "lying" / "00.png"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_broken_photograph_is_refused(run, tmp_path, capsys):
    fake = tmp_path / "fake.jpg"
    fake.write_text("not an image")
    assert main(["analyze", "activations", str(run), str(fake)]) == 2
    assert "fake.jpg" in capsys.readouterr().err
    assert main(["analyze", "activations", str(tmp_path), str(fake)]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_a_run_of_another_architecture_is_refused(run, stripes, tmp_path, capsys):
    other = shutil.copytree(run, tmp_path / "run")
    (other / "architecture.json").write_text(NIN.to_json())
    assert main(["analyze", "activations", str(other), str(stripes / "lying" / "00.png")]) == 2
    assert "no Inception module" in capsys.readouterr().err
