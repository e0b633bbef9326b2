"""The space of a search: its hyperparameters, and the architectures its points stand for."""

import pytest
from hypothesis import given, settings, strategies as st

from keras_inception.architecture import GOOGLENET, GOOGLENET_BN, Architecture, Conv, FullyConnected, Inception
from keras_inception.errors import ArchitectureError, ConfigError
from keras_inception.googlenet import GoogLeNet
from keras_inception.tuning.space import MULTIPLES, Space

MODULES = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
LAYERS = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_projection")


def names(space):
    return [parameter.name for parameter in space.parameters]


def test_six_widths_of_nine_modules_are_searched():
    assert names(Space(GOOGLENET)) == [f"width_{module}_{layer}" for module in MODULES for layer in LAYERS]
    assert {parameter.choices for parameter in Space(GOOGLENET).parameters} == {MULTIPLES}
    assert (MULTIPLES[0], MULTIPLES[-1]) == (0.25, 1.25)


@pytest.mark.parametrize(
    ("sharing", "expected"),
    [
        ("all", ["width_all"]),
        ("stage", ["width_3", "width_4", "width_5"]),
        ("branch", ["width_1x1", "width_3x3", "width_5x5", "width_pool"]),
        ("branch_of_stage", [f"width_{stage}_{branch}" for stage in "345" for branch in ("1x1", "3x3", "5x5", "pool")]),
    ],
)
def test_widths_are_shared_by_group(sharing, expected):
    assert names(Space(GOOGLENET, sharing)) == expected


@pytest.mark.parametrize("sharing", ["none", "branch_of_stage", "branch", "stage", "all"])
def test_the_defaults_are_the_given_architecture(sharing):
    space = Space(GOOGLENET_BN, sharing, depth=True, dropout=True, head_weight=True, learning_rate=True, size=True)
    point = space.point(space.defaults())
    assert point.architecture == GOOGLENET_BN
    assert (point.rate_factor, point.size) == (1.0, 1.0)


def test_a_multiple_changes_its_width_alone():
    space = Space(GOOGLENET)
    found = space.point(space.defaults() | {"width_4b_5x5_reduce": 0.5}).architecture
    changed = [(row, new) for row, new in zip(GOOGLENET.rows, found.rows, strict=True) if row != new]
    assert changed == [
        (Inception("4b", 160, 112, 224, 24, 64, 64), Inception("4b", 160, 112, 224, 12, 64, 64)),
    ]
    assert found.name == "googlenet-tuned"


def test_stages_lose_modules_that_no_head_reads_and_never_the_last():
    space = Space(GOOGLENET, "all", depth=True)
    depths = {parameter.name: parameter.choices for parameter in space.parameters if parameter.name != "width_all"}
    assert depths == {"depth_4": (3, 4, 5), "depth_5": (1, 2)}
    found = space.point(space.defaults() | {"depth_4": 4, "depth_5": 1}).architecture
    assert [row.name for row in found.rows if isinstance(row, Inception)] == ["3a", "3b", "4a", "4b", "4d", "4e", "5b"]


def test_a_module_that_is_left_out_has_no_width_to_fit():
    space = Space(GOOGLENET, depth=True)
    values = space.defaults() | {"depth_4": 3, "width_4b_1x1": 0.25}
    assert space.point(values).architecture == space.point(space.defaults() | {"depth_4": 3}).architecture


def test_dropout_heads_and_rate_are_searched_where_asked():
    space = Space(GOOGLENET, "all", dropout=True, head_weight=True, learning_rate=True)
    given_dropout = next(parameter for parameter in space.parameters if parameter.name == "dropout")
    assert given_dropout.default == GOOGLENET.dropout
    assert given_dropout.default in given_dropout.choices
    point = space.point(space.defaults() | {"dropout": 0.2, "head_weight": 0.0, "rate_factor": 2.0})
    assert (point.architecture.dropout, point.head_weight, point.rate_factor) == (0.2, 0.0, 2.0)


@settings(deadline=None, max_examples=5)
@given(st.data())
def test_every_point_is_built_and_written_as_json(data):
    space = Space(GOOGLENET_BN.scaled(1 / 8), depth=True)
    values = {parameter.name: data.draw(st.sampled_from(parameter.choices)) for parameter in space.parameters}
    table = space.point(values).architecture
    assert Architecture.from_json(table.to_json()) == table
    assert GoogLeNet(architecture=table, input_shape=(96, 96, 3), classes=3, auxiliary=True).name == table.name


def test_tables_with_other_names_have_stages_too():
    row = Inception("mixed", 8, 8, 8, 8, 8, 8)
    table = Architecture("other", (Conv("first", 8, 3), row, *GOOGLENET.rows[8:9], Inception("b", 8, 8, 8, 8, 8, 8)))
    assert names(Space(table, "stage")) == ["width_mixed", "width_b"]


def test_what_a_module_lacks_is_not_searched():
    naive = Inception("3a", 8, 0, 8, 0, 8, 0)
    space = Space(Architecture("naive", (Conv("conv1", 8, 3), naive, FullyConnected("fc", 8))))
    assert names(space) == ["width_3a_1x1", "width_3a_3x3", "width_3a_5x5"]
    found = space.point(space.defaults() | {"width_3a_5x5": 0.5}).architecture
    assert found.rows[1:] == (Inception("3a", 8, 0, 8, 0, 4, 0), FullyConnected("fc", 8))


def test_what_cannot_be_searched_is_named():
    with pytest.raises(ArchitectureError, match="'plain' has no Inception module to tune the widths of"):
        Space(Architecture("plain", (Conv("conv1", 8, 3),)))
    with pytest.raises(ConfigError, match="unknown sharing of widths 'stages'; did you mean stage"):
        Space(GOOGLENET, "stages")
