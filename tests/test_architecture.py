"""The table as data: Table 1 of arXiv:1409.4842 to the digit, and what is derived from it."""

import dataclasses
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings, strategies as st

import keras_inception as ki
from keras_inception.architecture import ARCHITECTURES
from keras_inception.errors import ArchitectureError

# Table 1, columns #1×1, #3×3 reduce, #3×3, #5×5 reduce, #5×5, pool proj.
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
ALL = pytest.mark.parametrize(
    "table", [ki.GOOGLENET, ki.GOOGLENET_BN, ki.GOOGLENET_SMALL], ids=lambda table: table.name
)


def changed(text: str, change) -> str:
    """Return JSON text after `change` has edited its value in place."""
    value = json.loads(text)
    change(value)
    return json.dumps(value)


# ---------------------------------------------------------------------------------------------------------------------
# The paper's table
# ---------------------------------------------------------------------------------------------------------------------


@ALL
def test_inception_rows_are_those_of_table_1(table):
    rows = {row.name: dataclasses.astuple(row)[1:7] for row in table.rows if isinstance(row, ki.Inception)}
    assert rows == MODULES


def test_rows_stand_in_the_order_of_table_1():
    assert [row.name for row in ki.GOOGLENET.rows if not isinstance(row, ki.LRN)] == [
        *("conv1", "pool1", "conv2", "pool2", "3a", "3b", "pool3"),
        *("4a", "4b", "4c", "4d", "4e", "pool4", "5a", "5b"),
    ]


def test_stem_is_that_of_table_1():
    conv1, conv2 = (row for row in ki.GOOGLENET.rows if isinstance(row, ki.Conv))
    assert (conv1.filters, conv1.kernel, conv1.stride, conv1.reduce) == (64, 7, 2, 0)
    assert (conv2.filters, conv2.kernel, conv2.stride, conv2.reduce) == (192, 3, 1, 64)
    assert {(row.size, row.stride) for row in ki.GOOGLENET.rows if isinstance(row, ki.MaxPool)} == {(3, 2)}


def test_lrn_stands_behind_the_first_pool_and_the_second_convolution():
    names = [row.name for row in ki.GOOGLENET.rows]
    behind = [names[index - 1] for index, row in enumerate(ki.GOOGLENET.rows) if isinstance(row, ki.LRN)]
    assert behind == ["pool1", "conv2"]


def test_lrn_constants_are_those_of_the_caffe_model():
    for row in ki.GOOGLENET.rows:
        if isinstance(row, ki.LRN):
            assert 2 * row.depth_radius + 1 == 5
            assert row.alpha * 5 == pytest.approx(1e-4, rel=1e-12)
            assert (row.bias, row.beta) == (1.0, 0.75)


@ALL
def test_heads_stand_on_4a_and_4d_as_in_section_5(table):
    assert [(head.name, head.after) for head in table.auxiliary] == [("aux1", "4a"), ("aux2", "4d")]
    for head in table.auxiliary:
        assert (head.pool_size, head.pool_stride, head.filters, head.units) == (5, 3, 128, 1024)
        assert head.dropout == 0.7
    assert table.dropout == 0.4


def test_output_sizes_at_224_px_are_those_of_table_1():
    size, sizes = 224, {}
    for row in ki.GOOGLENET.rows:
        size = sizes[row.name] = row.output_size(size)
    assert (sizes["conv1"], sizes["pool1"], sizes["conv2"], sizes["pool2"]) == (112, 56, 56, 28)
    assert (sizes["3b"], sizes["pool3"], sizes["4e"], sizes["pool4"], sizes["5b"]) == (28, 14, 14, 7, 7)
    assert [head.output_size(14) for head in ki.GOOGLENET.auxiliary] == [4, 4]


@pytest.mark.parametrize(("name", "filters"), [("3a", 256), ("3b", 480), ("4d", 528), ("4e", 832), ("5b", 1024)])
def test_module_width_is_the_sum_of_its_branches(name, filters):
    assert ki.Inception(name, *MODULES[name]).filters == filters


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [7, 8, 31, 224])
def test_convolution_has_one_output_for_every_window_that_fits(kernel, stride, size):
    padded = size + 2 * (kernel // 2)
    windows = len(range(0, padded - kernel + 1, stride))
    assert ki.Conv("c", 1, kernel, stride).output_size(size) == windows


@pytest.mark.parametrize("size", [112, 56, 28, 14])
def test_pools_have_the_sizes_of_caffes_ceil_mode_on_every_map_of_the_paper(size):
    assert ki.MaxPool("p").output_size(size) == -(-(size - 3) // 2) + 1


# ---------------------------------------------------------------------------------------------------------------------
# The public ports
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [ki.GOOGLENET_TORCHVISION, ki.GOOGLENET_SLIM], ids=lambda table: table.name)
def test_ports_have_the_widths_of_table_1_with_3x3_for_5x5_and_a_last_pool_of_2x2(table):
    assert {row.name: dataclasses.astuple(row)[1:7] for row in table.rows if isinstance(row, ki.Inception)} == MODULES
    assert {row.kernel5x5 for row in table.rows if isinstance(row, ki.Inception)} == {3}
    assert [row.size for row in table.rows if isinstance(row, ki.MaxPool)] == [3, 3, 3, 2]
    assert (table.normalization, table.dropout) == ("batch", 0.2)


@pytest.mark.parametrize("table", [ki.GOOGLENET_TORCHVISION, ki.GOOGLENET_SLIM], ids=lambda table: table.name)
def test_ports_have_the_published_parameters_and_multiply_adds(table):
    rows = ki.row_costs(table)
    assert sum(row.trainable for row in rows) == 6_624_904
    assert round(sum(row.multiply_adds for row in rows) / 1e6) == 1498


@given(size=st.integers(3, 400), window=st.sampled_from([(2, 2), (3, 2), (3, 3), (3, 1)]))
@settings(derandomize=True, deadline=None)
def test_a_pool_in_ceil_mode_has_a_window_for_every_pixel_it_can_reach(size, window):
    window, stride = window
    starts = [start for start in range(0, size, stride) if start == 0 or start + window - stride < size]
    assert ki.MaxPool("p", window, stride, padding="ceil").output_size(size) == len(starts)


@pytest.mark.parametrize("size", [4, 7, 14, 28])
def test_torchvisions_heads_pool_to_4x4_at_any_size(size):
    assert [head.output_size(size) for head in ki.GOOGLENET_TORCHVISION.auxiliary] == [4, 4]


# ---------------------------------------------------------------------------------------------------------------------
# Normalisation, dropout, width
# ---------------------------------------------------------------------------------------------------------------------


def test_normalization_of_the_named_tables():
    assert [table.normalization for table in (ki.GOOGLENET, ki.GOOGLENET_BN, ki.GOOGLENET_SMALL)] == [
        *("lrn", "batch", "batch")
    ]


@ALL
@pytest.mark.parametrize("first", ["none", "lrn", "batch"])
@pytest.mark.parametrize("second", ["none", "lrn", "batch"])
def test_normalization_is_rewritten_in_every_direction(table, first, second):
    rewritten = table.with_normalization(first).with_normalization(second)
    assert rewritten.normalization == second
    assert rewritten == table.with_normalization(second)
    assert sum(isinstance(row, ki.LRN) for row in rewritten.rows) == (2 if second == "lrn" else 0)
    assert rewritten.batch_normalization is (second == "batch")
    others = [row for row in table.rows if not isinstance(row, ki.LRN)]
    assert [row for row in rewritten.rows if not isinstance(row, ki.LRN)] == others


def test_lrn_put_back_into_the_batch_normalised_table_gives_the_papers_rows():
    assert ki.GOOGLENET_BN.with_normalization("lrn").rows == ki.GOOGLENET.rows


def test_unknown_normalization_lists_the_nearest():
    with pytest.raises(ArchitectureError, match="did you mean batch"):
        ki.GOOGLENET.with_normalization("bacth")


def test_lrn_is_refused_without_a_stem():
    table = ki.Architecture("stemless", (ki.Inception("a", 1, 1, 1, 1, 1, 1),))
    with pytest.raises(ArchitectureError, match="stem"):
        table.with_normalization("lrn")


@pytest.mark.parametrize(
    "table",
    [
        ki.NIN,
        ki.Architecture("late", (ki.Inception("a", 1, 1, 1, 1, 1, 1), ki.Conv("conv1", 1, kernel=3))),
    ],
    ids=lambda table: table.name,
)
def test_a_convolution_behind_the_first_module_is_none_of_the_stem(table):
    with pytest.raises(ArchitectureError, match="stem"):
        table.with_normalization("lrn")
    last = ki.Conv("last", 1, kernel=3)
    rows = dataclasses.replace(ki.GOOGLENET_BN, rows=(*ki.GOOGLENET_BN.rows, last)).with_normalization("lrn").rows
    assert rows == (*ki.GOOGLENET.rows, last)


def test_dropout_is_replaced_in_the_classifier_and_in_the_heads_apart():
    main = ki.GOOGLENET.with_dropout(main=0.1)
    assert (main.dropout, [head.dropout for head in main.auxiliary]) == (0.1, [0.7, 0.7])
    heads = ki.GOOGLENET.with_dropout(auxiliary=0.0)
    assert (heads.dropout, [head.dropout for head in heads.auxiliary]) == (0.4, [0.0, 0.0])
    assert ki.GOOGLENET.with_dropout() == ki.GOOGLENET


def test_half_width_halves_every_row_of_table_1():
    half = ki.GOOGLENET.scaled(width=0.5)
    widths = {row.name: dataclasses.astuple(row)[1:7] for row in half.rows if isinstance(row, ki.Inception)}
    assert widths == {name: tuple(value // 2 for value in values) for name, values in MODULES.items()}
    assert [(row.filters, row.reduce) for row in half.rows if isinstance(row, ki.Conv)] == [(32, 0), (96, 32)]
    assert [(head.filters, head.units) for head in half.auxiliary] == [(64, 512), (64, 512)]


@ALL
def test_no_width_falls_below_1_and_a_missing_reduction_stays_missing(table):
    narrow = table.scaled(1e-6)
    for row in narrow.rows:
        if isinstance(row, ki.Inception):
            assert set(dataclasses.astuple(row)[1:7]) == {1}
        if isinstance(row, ki.Conv):
            assert (row.filters, row.reduce) == (1, 1 if row.name == "conv2" else 0)
    assert {(head.filters, head.units) for head in narrow.auxiliary} == {(1, 1)}


@ALL
@given(factor=st.integers(1, 8))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_a_whole_factor_is_undone_by_its_inverse(table, factor):
    back = table.scaled(factor).scaled(1 / factor)
    assert (back.rows, back.auxiliary) == (table.rows, table.auxiliary)


@given(width=st.floats(0.01, 4, allow_nan=False))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_every_scaled_width_is_within_half_a_channel(width):
    for row, scaled in zip(ki.GOOGLENET.rows, ki.GOOGLENET.scaled(width).rows, strict=True):
        if isinstance(row, ki.Inception):
            for value, result in zip(dataclasses.astuple(row)[1:7], dataclasses.astuple(scaled)[1:7], strict=True):
                assert abs(result - max(1, value * width)) <= 0.5 + 1e-9


@ALL
@pytest.mark.parametrize("width", [0.25, 0.5, 2])
def test_scaling_changes_no_size_stride_name_or_share(table, width):
    scaled = table.scaled(width)
    for part, other in zip((*table.rows, *table.auxiliary), (*scaled.rows, *scaled.auxiliary), strict=True):
        fixed = {"name", "kernel", "stride", "size", "depth_radius", "alpha", "after", "dropout", "pool_size"}
        assert type(part) is type(other)
        for field in fixed & {field.name for field in dataclasses.fields(part)}:
            assert getattr(part, field) == getattr(other, field)
    assert (scaled.image_size, scaled.dropout) == (table.image_size, table.dropout)


def test_what_is_left_out_of_a_module_stays_out_at_any_width():
    rows = (ki.Inception("3a", 8, 0, 8, 0, 8, 0), ki.FullyConnected("fc", 8))
    scaled = ki.Architecture("naive", rows).scaled(0.5)
    assert scaled.rows == (ki.Inception("3a", 4, 0, 4, 0, 4, 0), ki.FullyConnected("fc", 4))
    assert ki.Architecture.from_json(scaled.to_json()) == scaled


def test_a_pool_without_projection_hands_on_its_input():
    assert ki.Inception("3a", 64, 0, 128, 0, 32, 0).output_channels(192) == 416
    assert ki.Inception("3a", 64, 96, 128, 16, 32, 32).output_channels(192) == 256


@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf"), "0.5", None])
def test_a_width_that_is_no_positive_number_is_refused(width):
    with pytest.raises(ArchitectureError, match="width is"):
        ki.GOOGLENET.scaled(width)


@pytest.mark.parametrize(
    ("table", "auxiliary", "smallest"),
    [
        (ki.GOOGLENET, False, 32),  # total stride 2·2·2·2·2
        (ki.GOOGLENET, True, 65),  # 65 → 33 → 17 → 9 → 5 in front of 4a
        (ki.GOOGLENET_SMALL, False, 8),
        (ki.GOOGLENET_SMALL, True, 17),  # 17 → 9 → 5 in front of 4a
    ],
)
def test_smallest_image(table, auxiliary, smallest):
    assert table.smallest_image(auxiliary) == smallest
    assert table.scaled(0.25).smallest_image(auxiliary) == smallest


@pytest.mark.parametrize(
    ("pools", "smallest"),
    [
        ([ki.MaxPool("a", 3, 1, padding="ceil")], 3),  # 3 → 1
        ([ki.MaxPool("a", 3, 1, padding="ceil"), ki.MaxPool("b", 3, 1, padding="ceil")], 5),  # 5 → 3 → 1
        ([ki.MaxPool("a", 5, 2, padding="ceil")], 4),  # ceil(−1 / 2) + 1
        ([ki.MaxPool("a", 3, 1)], 1),
        ([ki.MaxPool("a", 123_456_789, 1, padding="ceil")], 123_456_789),
    ],
)
def test_the_smallest_image_fills_a_window_in_ceil_mode(pools, smallest):
    table = ki.Architecture("pools", (ki.Conv("conv1", 1, kernel=3), *pools))
    assert table.smallest_image() == smallest


def behind_fully_connected(*rows, **head):
    """A table with rows behind a fully connected one, and a head on the last row."""
    rows = (ki.Conv("conv1", 1, kernel=3), ki.FullyConnected("fc", 5), *rows)
    return ki.Architecture("fc", rows, (ki.AuxiliaryHead("aux1", after=rows[-1].name, **head),))


@pytest.mark.parametrize(
    ("rows", "head", "message"),
    [
        ((), {}, "'aux1' pools a map of 1×1 px, for it stands behind 'fc', and 'fc' is fully connected"),
        ((ki.Conv("conv2", 1, kernel=3),), {}, "'aux1' .* stands behind 'conv2', and 'fc' is fully connected"),
        ((ki.MaxPool("pool", 3, 1, padding="ceil"),), {"pool_size": 1}, "'pool' .* stands behind 'fc'"),
    ],
)
def test_a_window_that_no_size_of_image_fills_is_refused(rows, head, message):
    with pytest.raises(ArchitectureError, match=message):
        behind_fully_connected(*rows, **head)


@pytest.mark.parametrize("head", [{"pooled_size": 2}, {"pool_size": 1}])
def test_a_head_behind_a_fully_connected_row_may_pool_a_single_pixel(head):
    rows = (ki.Conv("conv2", 1, kernel=3, stride=2), ki.MaxPool("pool"))
    assert behind_fully_connected(*rows, **head).smallest_image(auxiliary=True) == 4


# ---------------------------------------------------------------------------------------------------------------------
# JSON
# ---------------------------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("normalization", ["none", "lrn", "batch"])
def test_json_round_trip(table, normalization):
    rewritten = table.with_normalization(normalization)
    assert ki.Architecture.from_json(rewritten.to_json()) == rewritten


@ALL
@given(width=st.floats(0.001, 3), dropout=st.floats(0, 0.99))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_json_round_trip_at_any_width_and_dropout(table, width, dropout):
    scaled = table.scaled(width).with_dropout(dropout, dropout)
    assert ki.Architecture.from_json(scaled.to_json()) == scaled


def test_json_names_kind_and_columns_of_every_row():
    value = json.loads(ki.GOOGLENET.to_json())
    assert value["rows"][6] == {
        "kind": "Inception",
        "name": "3a",
        "conv1x1": 64,
        "reduce3x3": 96,
        "conv3x3": 128,
        "reduce5x5": 16,
        "conv5x5": 32,
        "pool_projection": 32,
        "kernel5x5": 5,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(depth=22), "depth"),
        (lambda v: v.pop("name"), "name"),
        (lambda v: v.pop("rows"), "rows"),
        (lambda v: v.update(auxiliary={}), "auxiliary"),
        (lambda v: v["rows"][0].update(kind="Convolution"), "Convolution"),
        (lambda v: v["rows"][0].update(kind=["Conv"]), "kind"),
        (lambda v: v["rows"][0].pop("kind"), "kind"),
        (lambda v: v["rows"].append("5c"), "kind"),
        (lambda v: v["rows"][0].update(filter=64), "filter"),
        (lambda v: v["rows"][0].update(filters=0), "filters of row 'conv1' is 0"),
        (lambda v: v["rows"][0].update(filters="64"), "filters of row 'conv1' is '64'"),
        (lambda v: v["rows"][0].update(filters=64.5), "filters of row 'conv1' is 64.5"),
        (lambda v: v["rows"][0].update(filters=True), "filters of row 'conv1' is True"),
        (lambda v: v["rows"][0].update(kernel=4), "odd"),
        (lambda v: v["rows"][6].update(kernel5x5=4), "kernel5x5 of row '3a' is 4"),
        (lambda v: v["rows"][0].update(padding="valid"), "'valid'; it takes symmetric or same"),
        (lambda v: v["rows"][1].update(padding=None), "None; it takes same or ceil"),
        (lambda v: v["rows"][0].update(name="stem/conv1"), "stem/conv1"),
        (lambda v: v["rows"][0].update(name=7), "7 is no name for a row; use letters, digits and _"),
        (lambda v: v["rows"][0].update(name="conv 1"), "'conv 1' is no name"),
        (lambda v: v["rows"][0].update(name="größe"), "'größe' is no name"),
        (lambda v: v["rows"][0].update(name="conv1\n"), "is no name"),
        (lambda v: v["auxiliary"][0].update(name=""), "'' is no name"),
        (lambda v: v["auxiliary"][0].update(after=7), "unknown row '7'"),
        (lambda v: v.update(name=""), "'' is no name for an architecture"),
        (lambda v: v.update(name="a/b"), "'a/b' is no name for an architecture"),
        (lambda v: v.update(name=7), "7 is no name for an architecture"),
        (lambda v: v["rows"][6].update(conv3x3=0), "conv3x3 of row '3a' is 0; it takes a whole number ≥ 1"),
        (lambda v: v["rows"][6].update(reduce3x3=-1), "reduce3x3 of row '3a' is -1; it takes a whole number ≥ 0"),
        (lambda v: v["rows"].append({"kind": "FullyConnected", "name": "fc", "units": 0}), "units of row 'fc' is 0"),
        (lambda v: v["rows"][2].update(alpha="1e-4"), "alpha"),
        (lambda v: v["rows"][1].update(name="conv1"), "two rows named 'conv1'"),
        (lambda v: v["auxiliary"][0].update(after="4z"), "unknown row '4z'"),
        (lambda v: v["auxiliary"][0].update(dropout=1), "dropout of head 'aux1' is 1"),
        (lambda v: v["auxiliary"].append(7), "AuxiliaryHead"),
        (lambda v: v.update(dropout=-0.1), "dropout is -0.1"),
        (lambda v: v.update(dropout="0.5"), "dropout is '0.5'; it takes a share"),
        (lambda v: v.update(dropout=None), "dropout is None"),
        (lambda v: v.update(dropout=False), "dropout is False"),
        (lambda v: v.update(image_size=0), "image_size"),
        (lambda v: v.update(image_size="224"), "image_size"),
        (lambda v: v.update(rows=[], auxiliary=[]), "no convolution"),
    ],
)
def test_json_that_is_no_architecture_is_refused_naming_the_fault(change, message):
    with pytest.raises(ArchitectureError, match=message):
        ki.Architecture.from_json(changed(ki.GOOGLENET.to_json(), change))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7"])
def test_text_that_is_no_json_object_is_refused(text):
    with pytest.raises(ArchitectureError, match="JSON"):
        ki.Architecture.from_json(text)


# ---------------------------------------------------------------------------------------------------------------------
# Names
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["aux1", "main"])
def test_a_head_whose_output_would_hide_another_is_refused(name):
    heads = (ki.AuxiliaryHead("aux1", after="4a"), ki.AuxiliaryHead(name, after="4d"))
    with pytest.raises(ArchitectureError, match=name):
        dataclasses.replace(ki.GOOGLENET, auxiliary=heads)


def test_tables_are_found_by_their_names():
    assert {name: ki.get_architecture(name) for name in ARCHITECTURES} == {
        "googlenet": ki.GOOGLENET,
        "googlenet-bn": ki.GOOGLENET_BN,
        "googlenet-small": ki.GOOGLENET_SMALL,
        "googlenet-torchvision": ki.GOOGLENET_TORCHVISION,
        "googlenet-slim": ki.GOOGLENET_SLIM,
        "nin": ki.NIN,
    }


def test_an_unknown_table_lists_the_nearest():
    with pytest.raises(ArchitectureError, match="'googlenet-batch'; did you mean googlenet-bn"):
        ki.get_architecture("googlenet-batch")


def test_a_name_near_nothing_lists_all():
    with pytest.raises(ArchitectureError, match="known: googlenet, googlenet-bn, googlenet-slim, googlenet-small, "):
        ki.get_architecture("xyz")


def test_a_name_that_ends_in_json_is_a_file(tmp_path):
    path = tmp_path / "half.json"
    path.write_text(ki.GOOGLENET.scaled(0.5).to_json())
    assert ki.get_architecture(str(path)) == ki.GOOGLENET.scaled(0.5)


@pytest.mark.parametrize("content", [None, b"\xff", b"{", b"{}"])
def test_a_file_that_is_no_architecture_is_refused_by_its_name(content, tmp_path):
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArchitectureError, match=r"mine\.json"):
        ki.get_architecture(str(path))


def test_tables_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ki.GOOGLENET.rows[0].filters = 32


@pytest.mark.parametrize(
    "line",
    [
        "import keras_inception",
        "import keras_inception as ki; ki.GOOGLENET.scaled(0.5).to_json()",
        "import keras_inception as ki; ki.row_costs(ki.GOOGLENET, auxiliary=True)",
    ],
)
def test_table_and_arithmetic_import_neither_tensorflow_nor_keras(line):
    heavy = "[name for name in ('tensorflow', 'keras', 'numpy') if name in sys.modules]"
    code = f"{line}\nimport sys\nprint({heavy})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_public_name_is_there():
    assert [name for name in ki.__all__ if not hasattr(ki, name)] == []
    assert {"GoogLeNet", "inference_model", "inception_block", "row_costs", "GOOGLENET"} <= set(ki.__all__)
