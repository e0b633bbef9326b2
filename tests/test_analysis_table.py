"""Table 1 with its widths, costs, memory and the paper's printed figures; memory against the layers that are built."""

import csv
import io
import math
import subprocess
import sys

import keras
import pytest

import keras_inception as ki
from keras_inception.analysis.table import PRINTED, architecture_table, follows, separable_weights
from keras_inception.cli import main
from keras_inception.errors import ArchitectureError

# Table 1 of arXiv:1409.4842: #1×1, #3×3 reduce, #3×3, #5×5 reduce, #5×5, pool proj, params, ops.
TABLE_1 = {
    "inception 3a": (64, 96, 128, 16, 32, 32, "159K", "128M"),
    "inception 3b": (128, 128, 192, 32, 96, 64, "380K", "304M"),
    "inception 4a": (192, 96, 208, 16, 48, 64, "364K", "73M"),
    "inception 4b": (160, 112, 224, 24, 64, 64, "437K", "88M"),
    "inception 4c": (128, 128, 256, 24, 64, 64, "463K", "100M"),
    "inception 4d": (112, 144, 288, 32, 64, 64, "580K", "119M"),
    "inception 4e": (256, 160, 320, 32, 128, 128, "840K", "170M"),
    "inception 5a": (256, 160, 320, 32, 128, 128, "1072K", "54M"),
    "inception 5b": (384, 192, 384, 48, 128, 128, "1388K", "71M"),
}


@pytest.fixture(scope="module")
def table():
    return architecture_table(ki.GOOGLENET)


def rows(table):
    return {row.cost.name: row for row in table.rows}


def activation_numbers(model: keras.Model) -> int:
    """Count what the layers of a built model put out that neither works in place nor only arranges."""
    passing = ("InputLayer", "ReLU", "BatchNormalization", "Concatenate", "ZeroPadding2D", "Flatten")
    count = 0
    for layer in model.layers:
        if type(layer).__name__ not in passing:
            numbers = math.prod(layer.output.shape[1:])
            with_softmax = getattr(layer, "activation", None) is keras.activations.softmax
            count += numbers * (2 if with_softmax else 1)
    return count


def test_modules_have_the_widths_and_the_printed_figures_of_the_paper(table):
    found = {
        name: (*row.widths.values(), row.printed.parameters, row.printed.operations)
        for name, row in rows(table).items()
        if name.startswith("inception")
    }
    assert found == TABLE_1


def test_the_stem_stands_as_in_the_paper(table):
    found = rows(table)
    assert (found["conv1"].window, found["conv1"].widths) == ("7×7/2", {})
    assert (found["conv2"].window, found["conv2"].widths) == ("3×3/1", {"#3×3 reduce": 64, "#3×3": 192})
    assert found["pool1"].window == "3×3/2"
    assert found["avg pool"].window == "7×7/1"


def test_printed_figures_depart_from_the_widths_in_the_first_row_4c_and_5a_alone(table):
    parameters = [
        n for n, row in rows(table).items() if row.printed and not follows(row.printed.parameters, row.cost.weights)
    ]
    operations = [
        n
        for n, row in rows(table).items()
        if row.printed and not follows(row.printed.operations, row.cost.multiply_adds)
    ]
    assert parameters == ["conv1", "inception 4c", "inception 5a"]
    assert operations == ["conv1", "inception 5a"]


def test_all_other_printed_parameters_agree_within_2_percent(table):
    for name, row in rows(table).items():
        if row.printed and name not in ("conv1", "inception 4c", "inception 5a"):
            assert float(row.printed.parameters[:-1]) * 1024 == pytest.approx(row.cost.weights, rel=0.02)


def test_the_first_row_is_printed_for_a_separable_7x7_of_channel_multiplier_8():
    weights = separable_weights(kernel=7, inputs=3, multiplier=8, filters=64)
    assert weights == 7 * 7 * 3 * 8 + 24 * 64 == 2_712
    assert weights * 112 * 112 == 34_019_328
    assert follows(PRINTED["conv1"].parameters, weights)
    assert follows(PRINTED["conv1"].operations, weights * 112 * 112)


def test_notes_say_why_printed_figures_depart_and_what_the_copied_total_lacks(table):
    text = "\n".join(table.notes)
    for said in ("7·7·3·8 + 24·64 = 2,712", "463K parameters, by its widths 497.5K", "1072K parameters", "1018K"):
        assert said in text
    for said in ("54M operations, by its widths 51.1M", "6,994,392", "64·64 + 64 = 4,160 fewer"):
        assert said in text


@pytest.mark.parametrize(
    ("architecture", "image_size", "classes"),
    [(ki.GOOGLENET, 256, 1000), (ki.GOOGLENET, None, 10), (ki.GOOGLENET_BN, None, 1000), (ki.NIN, None, 1000)],
)
def test_the_papers_figures_stand_beside_its_own_network_alone(architecture, image_size, classes):
    table = architecture_table(architecture, image_size, classes)
    assert all(row.printed is None for row in table.rows)
    assert table.notes == ()


def test_totals_are_the_papers(table):
    assert (table.total.weights, table.total.biases, table.total.parameters) == (6_990_272, 8_280, 6_998_552)
    assert (table.total.depth, table.total.multiply_adds) == (22, 1_582_671_872)
    assert table.total_with_heads.parameters == 13_378_280
    assert table.total_with_heads.depth == 22


def test_batch_normalization_adds_28240_parameters_and_takes_the_biases_of_convolutions():
    total = architecture_table(ki.GOOGLENET_BN).total
    assert total.parameters == total.weights + total.biases + total.normalization == 7_020_392
    assert total.biases == 1_000


def test_the_first_map_takes_3136_kib(table):
    assert rows(table)["conv1"].activation_bytes == 112 * 112 * 64 * 4 == 3_136 * 1024


def test_module_3a_holds_its_branches_and_its_pool(table):
    assert rows(table)["inception 3a"].activation_bytes == 28 * 28 * (64 + 96 + 128 + 16 + 32 + 192 + 32) * 4


@pytest.mark.parametrize(
    ("architecture", "auxiliary"),
    [(ki.GOOGLENET, True), (ki.GOOGLENET_BN, False), (ki.GOOGLENET_SMALL, True), (ki.NIN, False)],
)
def test_activations_are_what_the_layers_of_the_built_model_put_out(architecture, auxiliary):
    network = architecture.scaled(1 / 16)
    size = max(network.smallest_image(True), 70)
    model = ki.GoogLeNet(architecture=network, input_shape=(size, size, 3), classes=7, auxiliary=auxiliary)
    table = architecture_table(network, size, classes=7)
    total = table.total_with_heads if auxiliary else table.total
    assert total.activation_bytes == 4 * activation_numbers(model)


def test_an_image_too_small_for_the_heads_has_a_table_without_them():
    table = architecture_table(ki.GOOGLENET, 64)
    assert table.heads == ()
    assert table.total_with_heads == table.total
    assert table.notes == ("an image of 64 px is too small for the auxiliary heads; they need 65 px.",)


def test_no_class_and_an_image_too_small_are_refused():
    with pytest.raises(ArchitectureError, match="classes is 0"):
        architecture_table(ki.GOOGLENET, classes=0)
    with pytest.raises(ArchitectureError, match="32×32"):
        architecture_table(ki.GOOGLENET, 31)


# ---------------------------------------------------------------------------------------------------------------------
# On the command line
# ---------------------------------------------------------------------------------------------------------------------


def test_the_table_is_printed_with_marks_and_reasons(capsys):
    assert main(["analyze", "table"]) == 0
    text = capsys.readouterr().out
    for figure in (
        "6,998,552",
        "13,378,280",
        "≠ 463K",
        "≠ 1072K",
        "≠ 54M",
        "≠ 2.7K",
        "≠ 34M",
        "2,712",
        "6,994,392",
        "KiB",
    ):
        assert figure in text
    assert text.count("≠") == 6  # five marks and their meaning


def test_no_command_of_arithmetic_loads_tensorflow():
    code = (
        "import sys\nfrom keras_inception.cli import main\n"
        "for words in ('table', 'reduction', 'compare', 'sparsity', 'output-size 8 conv 3'):\n"
        "    assert main(['analyze', *words.split()]) == 0\n"
        "print(sorted({'tensorflow', 'keras', 'pydantic', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_csv_has_every_number_in_full_and_no_notes(capsys):
    assert main(["analyze", "table", "--format", "csv"]) == 0
    read = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    by_name = {row["row"]: row for row in read}
    assert by_name["inception 3a"]["weights"] == "163328"
    assert by_name["inception 3a"]["#3×3 reduce"] == "96"
    assert by_name["total"]["parameters"] == "6998552"
    assert by_name["total with heads"]["parameters"] == "13378280"
    assert len(read) == 25


def test_markdown_has_a_cell_for_every_column(capsys):
    assert main(["analyze", "table", "--format", "markdown"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) == 27
    assert {line.count("|") for line in lines} == {lines[0].count("|")}


def test_a_network_in_network_has_its_own_columns(capsys):
    assert main(["analyze", "table", "nin", "--classes", "10"]) == 0
    text = capsys.readouterr().out
    assert "#mlp1" in text
    assert "proj" not in text
    assert "966,986" in text


def test_what_a_module_lacks_stays_empty_and_its_pool_hands_on_its_input():
    rows_of = (ki.Conv("conv1", 6, kernel=3), ki.Inception("3a", 2, 0, 3, 1, 4, 0), ki.FullyConnected("fc", 5))
    network = ki.Architecture("naive", rows_of, image_size=12)
    found = architecture_table(network, classes=3)
    assert rows(found)["inception 3a"].widths == {"#1×1": 2, "#3×3": 3, "#5×5 reduce": 1, "#5×5": 4}
    assert rows(found)["inception 3a"].cost.output == (12, 12, 15)
    model = ki.GoogLeNet(architecture=network, input_shape=(12, 12, 3), classes=3)
    assert found.total.activation_bytes == 4 * activation_numbers(model)


def test_a_third_branch_of_another_kernel_is_said(capsys):
    assert main(["analyze", "table", "googlenet-slim"]) == 0
    assert "under #5×5, has kernels of 3×3 here" in " ".join(capsys.readouterr().out.split())
    assert main(["analyze", "table", "googlenet-bn"]) == 0
    assert "third branch" not in capsys.readouterr().out
