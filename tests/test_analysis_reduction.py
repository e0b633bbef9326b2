"""What 1×1 reductions save: the figures that are often told, and modules against those that Keras builds."""

import keras
import numpy as np
import pytest

import keras_inception as ki
from keras_inception.analysis.reduction import Reduction, examples, module_reduction, modules, piled_up
from keras_inception.architecture import Architecture, Conv, Inception, MaxPool
from keras_inception.cli import main
from keras_inception.errors import ArchitectureError


def built_cost(block, row: Inception, side: int, channels: int) -> tuple[int, int, int]:
    """Weights, biases and multiply-adds of a module that Keras has built, and its output channels."""
    image = keras.Input((side, side, channels))
    model = keras.Model(image, block(image, row))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    weights = sum(int(np.prod(layer.kernel.shape)) for layer in convolutions)
    biases = sum(int(np.prod(layer.bias.shape)) for layer in convolutions)
    return weights, biases, weights * side**2, model.output.shape[-1]


def by_name(found):
    return {one.row.name: one for one in found}


@pytest.mark.parametrize(
    ("widths", "before", "after"),
    [((256, 64, 5, 32), 409_600, 59_392), ((512, 64, 5, 24), 819_200, 50_688)],
)
def test_a_5x5_behind_a_1x1_has_the_weights_that_are_told(widths, before, after):
    one = Reduction(*widths)
    assert (one.direct.weights, one.reduced.weights) == (before, after)


def test_with_biases_a_position_has_409_664_connections_and_59_488_behind_a_1x1_of_32():
    one = Reduction(inputs=256, filters=64, kernel=5, reduce=32)
    assert (one.direct.connections, one.reduced.connections) == (409_664, 59_488)


def test_a_3x3_at_32_px_takes_452_984_832_multiplications_and_245_366_784_behind_a_1x1_of_96():
    one = Reduction(inputs=192, filters=256, kernel=3, reduce=96, height=32, width=32)
    assert (one.direct.multiply_adds, one.reduced.multiply_adds) == (452_984_832, 245_366_784)


def test_module_3a_falls_to_41_percent_before_the_pool_projection():
    one = by_name(modules(ki.GOOGLENET))["3a"]
    assert (one.naive.weights, one.unprojected.weights) == (387_072, 157_184)
    assert round(100 * one.unprojected.weights / one.naive.weights) == 41
    assert one.reduced.weights == 157_184 + 192 * 32 == 163_328


def test_the_examples_are_the_published_ones_to_the_digit():
    assert [(one.before, one.after) for one in examples()] == [
        (387_072, 157_184),
        (409_600, 59_392),
        (409_664, 59_488),
        (819_200, 50_688),
        (452_984_832, 245_366_784),
        (51_380_224, 0),
    ]
    assert "41%" in examples()[0].remark


def test_reduced_modules_are_the_rows_of_table_1():
    costs = {row.name: row for row in ki.row_costs(ki.GOOGLENET)}
    for one in modules(ki.GOOGLENET):
        row = costs[f"inception {one.row.name}"]
        assert (one.reduced.weights, one.reduced.biases) == (row.weights, row.biases)
        assert one.reduced.multiply_adds == row.multiply_adds


@pytest.mark.parametrize(("block", "which"), [(ki.inception_block, "reduced"), (ki.naive_inception_block, "naive")])
def test_modules_cost_what_the_blocks_of_keras_cost(block, which):
    row = Inception("x", 3, 2, 5, 1, 4, 6)
    one = module_reduction(row, inputs=7, positions=81)
    cost = getattr(one, which)
    channels = row.filters if which == "reduced" else one.unprojected_filters
    assert (cost.weights, cost.biases, cost.multiply_adds) == built_cost(block, row, 9, 7)[:3]
    if which == "reduced":
        assert channels == built_cost(block, row, 9, 7)[3]
    else:
        assert 3 + 5 + 4 + 7 == built_cost(block, row, 9, 7)[3] == channels


def test_without_projections_4944_channels_pile_up_where_the_network_has_1024():
    found = piled_up(ki.GOOGLENET)
    assert [one.unprojected_filters for one in found] == [416, 832, 1280, 1728, 2176, 2640, 3344, 4048, 4944]
    assert found[-1].row.filters == 1024


def test_channels_pile_up_as_in_a_stack_of_naive_blocks_with_pools_between():
    x = keras.Input((28, 28, 192))
    built = []
    for row in ki.GOOGLENET.rows[6:]:
        if isinstance(row, Inception):
            tiny = Inception(row.name, 1, 1, 1, 1, 1, 1)
            x = ki.naive_inception_block(x, tiny)
            built.append(x.shape[-1])
        elif isinstance(row, MaxPool):
            x = keras.layers.MaxPooling2D(2)(x)
    thin = Architecture(
        "thin",
        (
            Conv("conv1", 192, kernel=1),
            *(Inception(r.name, 1, 1, 1, 1, 1, 1) if isinstance(r, Inception) else r for r in ki.GOOGLENET.rows[6:]),
        ),
    )
    assert [one.unprojected_filters for one in piled_up(thin)] == built


def test_a_convolution_between_modules_ends_the_pile():
    first, second = Inception("a", 1, 1, 1, 1, 1, 1), Inception("b", 1, 1, 1, 1, 1, 1)
    table = Architecture("two", (Conv("conv1", 8, kernel=1), first, Conv("conv2", 5, kernel=1), second))
    assert [one.inputs for one in piled_up(table)] == [8, 5]


def test_modules_without_reductions_or_projection_cost_what_their_rows_cost():
    rows = (Conv("conv1", 8, kernel=1), Inception("a", 2, 0, 3, 1, 4, 0), Inception("b", 2, 3, 3, 0, 4, 5))
    table = Architecture("naive", rows)
    costs = ki.row_costs(table)[1:]
    for one, row in zip(modules(table), costs, strict=False):
        assert (one.reduced.weights, one.reduced.biases) == (row.weights, row.biases)
    assert [one.unprojected_filters for one in piled_up(table)] == [8 + 9, 17 + 9]


def test_widths_below_1_and_networks_without_modules_are_refused():
    with pytest.raises(ArchitectureError, match="reduce is 0"):
        Reduction(256, 64, 5, reduce=0)
    with pytest.raises(ArchitectureError, match="no Inception module"):
        modules(ki.NIN)


# ---------------------------------------------------------------------------------------------------------------------
# On the command line
# ---------------------------------------------------------------------------------------------------------------------


def test_the_command_prints_every_saving_that_is_told(capsys):
    assert main(["analyze", "reduction"]) == 0
    text = capsys.readouterr().out
    for figure in ("387,072", "157,184", "41%", "59,488", "50,688", "245,366,784", "51,380,224", "4,944"):
        assert figure in text


def test_the_command_takes_any_widths(capsys):
    widths = {"inputs": 192, "filters": 256, "kernel": 3, "reduce": 96, "height": 32, "width": 32}
    words = [word for name, value in widths.items() for word in (f"--{name}", str(value))]
    assert main(["analyze", "reduction", *words]) == 0
    text = capsys.readouterr().out
    assert "452,984,832" in text
    assert "245,366,784" in text
    assert "387,072" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--inputs", "256"], "give --filters and --kernel and --reduce too"),
        (["--inputs", "1", "--filters", "1", "--kernel", "1", "--reduce", "0"], "reduce is 0"),
        (["nin", "--inputs", "1", "--filters", "1", "--kernel", "1", "--reduce", "1"], "leave out the architecture"),
        (["nin"], "no Inception module"),
    ],
)
def test_what_cannot_be_reckoned_ends_in_one_line(words, said, capsys):
    assert main(["analyze", "reduction", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
