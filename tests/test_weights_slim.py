"""TF-Slim's checkpoints: names, shapes, and the answers of a second implementation of its network in ONNX."""

import numpy as np
import pytest
from checkpoints import MODULES, SLIM_MODULES, slim_5x5, slim_variables, write_checkpoint

from keras_inception.card import read_card
from keras_inception.errors import WeightsError
from keras_inception.importing import build, import_weights
from keras_inception.weights.slim import read_slim


@pytest.fixture(scope="module")
def variables():
    return slim_variables()


@pytest.fixture
def written(tmp_path):
    def write(variables, **options):
        write_checkpoint(tmp_path / "inception_v1.ckpt", variables, **options)
        return tmp_path / "inception_v1.ckpt"

    return write


@pytest.mark.parametrize("old", [False, True])
def test_every_variable_is_used_but_the_step(old, variables, written):
    read = read_slim(written(variables, old=old), background=True)
    assert (read.table.name, read.channels, read.classes, read.heads) == ("googlenet-slim", 3, 1001, False)
    assert read.left_over == ("global_step",)
    scales = [values[0] for layer, values in read.weights.items() if layer.endswith("_bn")]
    assert all(np.all(scale == 1) for scale in scales)
    used = sum(value.size for name, value in variables.items() if name != "global_step")
    assert sum(value.size for values in read.weights.values() for value in values) == used + sum(map(np.size, scales))


def test_the_background_is_left_out_unless_it_is_asked_for(variables, written):
    path = written(variables)
    (kernel, bias), (kept, _) = read_slim(path).weights["main"], read_slim(path, background=True).weights["main"]
    np.testing.assert_array_equal(kernel, kept[:, 1:])
    np.testing.assert_array_equal(bias, variables["InceptionV1/Logits/Conv2d_0c_1x1/biases"][1:])
    assert read_slim(written(slim_variables(classes=5))).classes == 5


@pytest.mark.parametrize("ending", [".index", ".data-00000-of-00001"])
def test_any_file_of_a_checkpoint_may_be_named(ending, variables, written):
    path = written(variables)
    assert read_slim(path.with_name(path.name + ending)).classes == 1000


def test_what_does_not_fit_is_named(variables, written, tmp_path):
    name = "InceptionV1/Mixed_4d/Branch_2/Conv2d_0b_3x3/weights"
    with pytest.raises(WeightsError, match=rf"'inception_4c_5x5' takes {name} of shape 3×3×24×64; received 5×5×24×64"):
        read_slim(written(variables | {name: np.zeros((5, 5, 24, 64), np.float32)}))
    with pytest.raises(WeightsError, match=r"'inception_3a_1x1_bn' takes .*/BatchNorm/beta, which"):
        read_slim(written({k: v for k, v in variables.items() if "Mixed_3b/Branch_0" not in k or "beta" not in k}))
    for path in (tmp_path / "absent.ckpt", tmp_path / "broken.ckpt"):
        if path.stem == "broken":
            path.write_bytes(b"no checkpoint")
        with pytest.raises(WeightsError, match="cannot be read as a TensorFlow checkpoint") as error:
            read_slim(path)
        assert "\n" not in str(error.value)


def test_the_card_has_ilsvrcs_labels(variables, written, tmp_path):
    import_weights(written(variables), "slim", tmp_path / "model.keras")
    card = read_card(tmp_path / "model.keras")
    assert (len(card.labels), card.labels[0], card.data.value_range) == (1000, "tench", (-1.0, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("size", [224, 192, 237])
def test_answers_are_those_of_a_network_written_for_onnx(size, variables, written):
    runtime = pytest.importorskip("onnxruntime")
    model = build(read_slim(written(variables), background=True), image_size=size)
    session = runtime.InferenceSession(onnx_slim(variables).SerializeToString())
    x = np.random.default_rng(size).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    (expected,) = session.run(None, {"image": x.transpose(0, 3, 1, 2)})
    assert expected.max() > 0.05
    np.testing.assert_allclose(model(x), expected, atol=1e-4)


def onnx_slim(variables):
    """Return TF-Slim's network as an ONNX model, with TensorFlow's SAME padding; images have their channels first."""
    onnx = pytest.importorskip("onnx")
    make, nodes, constants = onnx.helper.make_node, [], []

    def constant(name, value):
        constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def convolution(x, name, stride=1):
        scope = f"InceptionV1/{name}"
        kernel = constant(f"{name}/w", variables[f"{scope}/weights"].transpose(3, 2, 0, 1))
        beta, mean, variance = (
            constant(f"{name}/{part}", variables[f"{scope}/BatchNorm/{part}"])
            for part in ("beta", "moving_mean", "moving_variance")
        )
        scale = constant(f"{name}/scale", np.ones_like(variables[f"{scope}/BatchNorm/beta"]))
        nodes.append(make("Conv", [x, kernel], [f"{name}/conv"], strides=[stride, stride], auto_pad="SAME_UPPER"))
        given = [f"{name}/conv", scale, beta, mean, variance]
        nodes.append(make("BatchNormalization", given, [f"{name}/bn"], epsilon=0.001))
        nodes.append(make("Relu", [f"{name}/bn"], [name]))
        return name

    def pool(x, name, side, stride):
        sides, strides = [side, side], [stride, stride]
        nodes.append(make("MaxPool", [x], [name], kernel_shape=sides, strides=strides, auto_pad="SAME_UPPER"))
        return name

    x = pool(convolution("image", "Conv2d_1a_7x7", 2), "MaxPool_2a", 3, 2)
    x = pool(convolution(convolution(x, "Conv2d_2b_1x1"), "Conv2d_2c_3x3"), "MaxPool_3a", 3, 2)
    for module in map(SLIM_MODULES.get, MODULES):
        if module in ("Mixed_4b", "Mixed_5b"):
            x = pool(x, f"pool before {module}", *((3, 2) if module == "Mixed_4b" else (2, 2)))
        branches = [
            convolution(x, f"{module}/Branch_0/Conv2d_0a_1x1"),
            convolution(convolution(x, f"{module}/Branch_1/Conv2d_0a_1x1"), f"{module}/Branch_1/Conv2d_0b_3x3"),
            convolution(convolution(x, f"{module}/Branch_2/Conv2d_0a_1x1"), f"{module}/Branch_2/{slim_5x5(module)}"),
            convolution(pool(x, f"{module}/pool", 3, 1), f"{module}/Branch_3/Conv2d_0b_1x1"),
        ]
        nodes.append(make("Concat", branches, [module], axis=1))
        x = module
    logits = constant("logits/w", variables["InceptionV1/Logits/Conv2d_0c_1x1/weights"][0, 0])
    biases = constant("logits/b", variables["InceptionV1/Logits/Conv2d_0c_1x1/biases"])
    nodes.append(make("GlobalAveragePool", [x], ["average"]))
    nodes.append(make("Flatten", ["average"], ["features"]))
    nodes.append(make("Gemm", ["features", logits, biases], ["logits"]))
    nodes.append(make("Softmax", ["logits"], ["probabilities"]))
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "inception_v1",
        [onnx.helper.make_tensor_value_info("image", kind, ["n", 3, "h", "w"])],
        [onnx.helper.make_tensor_value_info("probabilities", kind, ["n", 1001])],
        constants,
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
