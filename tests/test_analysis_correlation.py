"""Correlation against NumPy's over all values at once, clusters against planted ones, and the command."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from sklearn.metrics import adjusted_rand_score

from keras_inception.analysis.branches import BRANCHES, modules
from keras_inception.analysis.correlation import (
    CoMoments,
    RowCorrelation,
    agreement,
    clusters,
    correlations,
    participation_ratio,
    run_correlations,
)
from keras_inception.architecture import GOOGLENET_BN, NIN, Architecture
from keras_inception.cli import main
from keras_inception.config import RunConfig
from keras_inception.cost import row_costs
from keras_inception.errors import ArchitectureError
from keras_inception.googlenet import GoogLeNet

#: The rows up to 4a.
TABLE = dataclasses.replace(GOOGLENET_BN, rows=GOOGLENET_BN.rows[:8], auxiliary=()).scaled(1 / 16)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    model = GoogLeNet(architecture=TABLE, input_shape=(64, 64, 3), classes=2)
    scale, offset, *moving = model.get_layer("inception_4a_3x3_bn").get_weights()
    offset[1] = -1e6
    model.get_layer("inception_4a_3x3_bn").set_weights([scale, offset, *moving])
    return model


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((7, 64, 64, 3)).astype(np.float32)


def whole(model: keras.Model, images: np.ndarray, layer: str) -> np.ndarray:
    maps = keras.Model(model.input, model.get_layer(layer).output)(images, training=False)
    return np.asarray(maps, np.float64)


# ---------------------------------------------------------------------------------------------------------------------
# Moments
# ---------------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=6),
    st.sampled_from([0.0, 1.0, 1e4]),
)
def test_parts_are_the_whole(seed, sizes, mean):
    random = np.random.default_rng(seed)
    first, second = random.standard_normal((2, 3 + sum(sizes), 4)) * 3 + mean
    moments, start = CoMoments(4), 0
    for size in [*sizes, 3]:
        moments.update(first[start : start + size], second[start : start + size])
        start += size
    expected = np.corrcoef(first, second, rowvar=False)[:4, 4:]
    np.testing.assert_allclose(moments.correlation(), expected, rtol=1e-6, atol=1e-9)
    assert moments.count == len(first)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e5])
def test_what_never_varies_has_no_correlation(value):
    moments = CoMoments(2)
    for size in (3, 1, 40):
        part = np.stack([np.full(size, value), np.arange(size)], axis=1)
        moments.update(part, part)
    assert moments.varies().tolist() == [[False, True]] * 2
    np.testing.assert_array_equal(moments.correlation(), [[np.nan, np.nan], [np.nan, 1]])


# ---------------------------------------------------------------------------------------------------------------------
# Rows of a network
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [[], [3, 6]])
def test_the_correlation_of_a_row_is_that_of_all_images_at_once(model, images, cut):
    seen = []
    found = correlations(model, TABLE, np.split(images, cut), "conv2", seen.append)
    assert seen[-1] == len(images)
    assert [one.row for one in found] == ["conv2", "3a", "3b", "4a"]
    for one in found:
        maps = whole(model, images, "conv2_relu" if one.row == "conv2" else f"inception_{one.row}")
        flat = maps.reshape(-1, maps.shape[-1])
        assert one.observations == len(flat)
        assert one.silent.tolist() == (flat.std(axis=0) == 0).tolist()
        active = ~one.silent
        expected = np.corrcoef(flat[:, active], rowvar=False)
        np.testing.assert_allclose(one.matrix[np.ix_(active, active)], expected, atol=1e-6)
        assert np.isnan(one.matrix[~active]).all()
    *_, last = found
    assert last.branches == tuple(
        branch for branch, width in zip(BRANCHES, (12, 13, 3, 4), strict=True) for _ in range(width)
    )
    assert last.silent[12 + 1]
    assert found[0].branches == ()
    assert found[0].agreement is None
    assert found[0].directions == ()


def test_steps_are_those_of_shifted_maps(model, images):
    found = correlations(model, TABLE, [images[:4], images[4:]])
    one = found[0]
    maps = whole(model, images, "inception_3a")
    channels = maps.shape[-1]
    other = ~np.eye(channels, dtype=bool)
    height = maps.shape[1]
    for down, right in ((0, 0), (0, 1), (1, -1), (2, 1), (-2, -1), (-1, 2)):
        top, left = max(0, -down), max(0, -right)
        first = maps[:, top : height - max(0, down), left : height - max(0, right)].reshape(-1, channels)
        second = np.roll(maps, (-down, -right), (1, 2))
        second = second[:, top : height - max(0, down), left : height - max(0, right)].reshape(-1, channels)
        with np.errstate(invalid="ignore"):  # of channels that are silent there
            expected = np.corrcoef(first, second, rowvar=False)[:channels, channels:]
        assert one.own[2 + down, 2 + right] == pytest.approx(np.nanmean(np.diag(expected)), abs=1e-6)
        assert one.others[2 + down, 2 + right] == pytest.approx(np.sqrt(np.nanmean(expected[other] ** 2)), abs=1e-6)
    assert one.own[2, 2] == pytest.approx(1)


def test_a_map_has_no_steps_beyond_its_border(images):
    small = GoogLeNet(architecture=TABLE, input_shape=(32, 32, 3), classes=2)
    last = correlations(small, TABLE, [images[:, :32, :32]])[-1]  # a map of 2×2
    assert np.isfinite(last.others[1:4, 1:4]).all()
    assert np.isnan(last.others[0]).all()
    assert np.isnan(last.own[:, 4]).all()
    assert np.isfinite(last.others_by_distance).tolist() == [True, True, False]


def test_a_large_row_is_sampled_for_steps_alone():
    from keras_inception.analysis.correlation import _RowMoments

    maps = np.random.default_rng(0).standard_normal((2, 3, 3, 300)).astype(np.float32)
    sums = _RowMoments(300)
    sums.update(maps)
    found = sums.result("wide", ())
    assert found.matrix.shape == (300, 300)
    np.testing.assert_allclose(found.matrix, np.corrcoef(maps.reshape(-1, 300), rowvar=False), atol=1e-6)
    assert found.own[2, 2] == pytest.approx(1)


def test_a_pool_without_projection_has_the_channels_of_its_input(images):
    naive = [dataclasses.replace(row, pool_projection=0) if row.name == "4a" else row for row in TABLE.rows]
    table = dataclasses.replace(TABLE, rows=tuple(naive))
    model = GoogLeNet(architecture=table, input_shape=(64, 64, 3), classes=2)
    last = correlations(model, table, [images])[-1]
    assert last.branches.count("pool") == modules(TABLE)[1].filters
    assert len(last.branches) == len(last.matrix)


def test_rows_and_networks_that_cannot_be_measured_are_named(model, images):
    with pytest.raises(ArchitectureError, match="unknown row 'conv3'; did you mean conv2"):
        correlations(model, TABLE, [images], "conv3")
    with pytest.raises(ArchitectureError, match="no Inception module"):
        correlations(model, NIN, [images])


# ---------------------------------------------------------------------------------------------------------------------
# Clusters and branches
# ---------------------------------------------------------------------------------------------------------------------


def planted(labels: np.ndarray, seed: int = 0, noise: float = 0.5) -> np.ndarray:
    """Return the correlation of channels that share a signal with those of the same label."""
    random = np.random.default_rng(seed)
    signals = random.standard_normal((2000, labels.max() + 1))[:, labels]
    return np.corrcoef(signals + noise * random.standard_normal(signals.shape), rowvar=False)


def independent(channels: int, seed: int = 0) -> np.ndarray:
    return np.corrcoef(np.random.default_rng(seed).standard_normal((2000, channels)), rowvar=False)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.lists(st.integers(2, 9), min_size=2, max_size=8))
def test_planted_clusters_are_found(seed, sizes):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    found = clusters(planted(labels, seed))
    assert found.count == len(sizes)
    assert len({*zip(found.labels, labels, strict=True)}) == len(sizes)
    assert sorted(found.order) == list(range(len(labels)))
    ordered = found.labels[found.order]
    assert np.sum(ordered[1:] != ordered[:-1]) == len(sizes) - 1, "those of a cluster stand together"


def test_silent_channels_are_in_no_cluster():
    matrix = planted(np.repeat([0, 1], 5))
    matrix[3] = matrix[:, 3] = np.nan
    found = clusters(matrix)
    assert found.labels.tolist() == [found.labels[0]] * 3 + [-1, found.labels[0]] + [found.labels[9]] * 5
    assert 3 not in found.order
    assert agreement(matrix, ["a"] * 5 + ["b"] * 5, found.labels).rand == 1


@pytest.mark.parametrize("active", [0, 1, 2])
def test_too_few_channels_are_not_parted(active):
    matrix = np.full((4, 4), np.nan)
    matrix[:active, :active] = np.eye(active)
    found = clusters(matrix)
    assert found.labels.tolist() == [0] * active + [-1] * (4 - active)
    assert np.isnan(found.silhouette)
    row = RowCorrelation("x", ("1×1",) * 4, matrix, 9, np.zeros((5, 5)), np.zeros((5, 5)))
    assert row.agreement is not None
    assert row.directions[0].effective == active


def test_channels_that_all_say_the_same_are_not_parted():
    assert clusters(np.ones((5, 5))).count == 1


def test_clusters_that_are_the_branches_agree_with_them():
    branches = [branch for branch in BRANCHES for _ in range(6)]
    matrix = planted(np.repeat(np.arange(4), 6))
    found = agreement(matrix, branches, clusters(matrix).labels)
    assert found.rand == found.information == 1
    assert found.rand_by_chance < 0.3
    assert found.within > 0.7
    assert abs(found.between) < 0.1


@pytest.mark.parametrize("seed", range(5))
def test_independent_units_show_no_agreement_with_branches(seed):
    branches = [branch for branch, width in zip(BRANCHES, (12, 20, 8, 8), strict=True) for _ in range(width)]
    matrix = independent(len(branches), seed)
    found = agreement(matrix, branches, clusters(matrix).labels)
    assert abs(found.rand) < 0.12
    assert abs(found.information) < 0.15
    assert abs(found.within) < 0.02
    assert abs(found.between) < 0.02


def test_what_is_by_chance_is_the_index_of_random_dealings():
    random = np.random.default_rng(1)
    branches, labels = np.repeat(list("abcd"), [12, 20, 3, 8]), random.integers(3, size=43)
    dealt = [adjusted_rand_score(random.permutation(branches), labels) for _ in range(1000)]
    found = agreement(independent(43), branches, labels)
    assert found.rand_by_chance == pytest.approx(np.quantile(dealt, 0.95), abs=0.01)
    assert found.rand == adjusted_rand_score(branches, labels)


# ---------------------------------------------------------------------------------------------------------------------
# Directions
# ---------------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 12))
def test_directions_are_those_of_the_eigenvalues(seed, channels):
    random = np.random.default_rng(seed)
    values = random.standard_normal((50, channels)) @ random.standard_normal((channels, channels))
    matrix = np.atleast_2d(np.corrcoef(values, rowvar=False))
    eigenvalues = np.linalg.eigvalsh(matrix)
    expected = eigenvalues.sum() ** 2 / np.square(eigenvalues).sum()
    assert participation_ratio(np.square(matrix)) == pytest.approx(expected)


def test_a_branch_spans_what_its_channels_do_and_silent_ones_nothing():
    labels = np.asarray([0, 0, 0, 0, 1, 2, 3, 4])  # four of the first branch say the same
    matrix = planted(labels, noise=0.01)
    matrix[7] = matrix[:, 7] = np.nan
    row = RowCorrelation("x", ("1×1",) * 4 + ("3×3",) * 4, matrix, 9, np.zeros((5, 5)), np.zeros((5, 5)))
    first, second = row.directions
    assert (first.channels, first.silent, second.channels, second.silent) == (4, 0, 4, 1)
    assert first.effective == pytest.approx(1, abs=0.01)
    assert second.effective == pytest.approx(3, abs=0.01)
    draws = [np.random.default_rng(seed).choice(7, 3, replace=False) for seed in range(300)]
    inverse = np.mean([1 / participation_ratio(np.square(matrix[np.ix_(draw, draw)])) for draw in draws])
    assert second.expected == pytest.approx(1 / inverse, rel=0.1)


# ---------------------------------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------------------------------


def test_a_run_is_measured_on_its_training_images_or_few_of_others(run):
    calls = []
    own = run_correlations(run, on_progress=lambda *count: calls.append(count))
    assert [one.row for one in own] == ["3a", "4a", "5b"]
    assert calls[-1] == (56, 56)
    few = run_correlations(run, split="validation", limit=3)
    assert few[0].observations < own[0].observations


def test_the_command_writes_a_page_and_a_table_that_train_takes(run, tmp_path, capsys):
    words = ["--split", "validation", "--row", "conv2", "--output", str(tmp_path / "out")]
    assert main(["analyze", "correlation", str(run), *words]) == 0
    said = capsys.readouterr().out
    assert "Clusters of channels, and branches" in said
    assert said.count("pool") == 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("correlation.html", "correlation.json", "correlation.png", "steps.png", "architecture.json")
    }
    for name in ("correlation.png", "steps.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert np.asarray(picture.convert("RGB")).std() > 5
    values = json.loads((tmp_path / "out" / "correlation.json").read_text())
    assert [one["row"] for one in values] == ["conv2", "3a", "4a", "5b"]
    assert values[0]["agreement"] is None
    assert len(values[1]["directions"]) == 4
    given, proposed = (
        Architecture.from_json(path.read_text())
        for path in (run / "architecture.json", tmp_path / "out" / "architecture.json")
    )
    assert [type(row) for row in proposed.rows] == [type(row) for row in given.rows]
    cost = [sum(row.multiply_adds for row in row_costs(table, (28, 28, 3), 2)) for table in (given, proposed)]
    assert 0.9 * cost[0] <= cost[1] <= cost[0]
    assert f"{cost[1]:,} multiply-adds" in said
    config = RunConfig().override({"model.architecture": str(tmp_path / "out" / "architecture.json")})
    assert config.model.table() == proposed


def test_the_last_module_is_drawn_by_default(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["analyze", "correlation", str(run), "--images", "4"]) == 0
    assert "channels of 5b" in (tmp_path / "correlation" / "correlation.html").read_text()
    said = "ordered by branch and by cluster; lines part branches and clusters"
    assert said in (tmp_path / "correlation" / "correlation.html").read_text()
    assert "at most 4 of the training images" in (tmp_path / "correlation" / "correlation.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--row", "9z"], "unknown row '9z'"),
        (["--images", "0"], "images is 0"),
        (["--output", __file__], "is a file; give --output another place"),
    ],
)
def test_a_wrong_word_ends_in_one_line(run, words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["analyze", "correlation", str(run), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_holds_no_run_or_no_module_is_refused(run, tmp_path, capsys):
    assert main(["analyze", "correlation", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    other = shutil.copytree(run, tmp_path / "run")
    (other / "architecture.json").write_text(NIN.to_json())
    assert main(["analyze", "correlation", str(other)]) == 2
    assert "no Inception module" in capsys.readouterr().err
