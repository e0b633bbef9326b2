"""Caffe's file: its fields, names and shapes, and the answers of GoogLeNet as the ONNX project ships it."""

from pathlib import Path

import numpy as np
import pytest
from checkpoints import caffe_blobs, write_caffemodel
from PIL import Image
from sklearn.datasets import load_sample_images

from keras_inception.card import read_card
from keras_inception.errors import WeightsError
from keras_inception.importing import build, import_weights
from keras_inception.weights.caffe import read_caffe
from keras_inception.weights.imagenet import preprocess_input


@pytest.fixture(scope="module")
def blobs():
    return caffe_blobs(classes=9)


@pytest.fixture
def written(tmp_path):
    def write(blobs, *, old=True, **options):
        write_caffemodel(tmp_path / "bvlc.caffemodel", blobs, old=old, **options)
        return tmp_path / "bvlc.caffemodel"

    return write


@pytest.mark.parametrize("old", [True, False])
def test_every_blob_is_used(old, blobs, written):
    read = read_caffe(written(blobs, old=old))
    assert (read.table.name, read.channels, read.classes, read.heads) == ("googlenet", 3, 9, True)
    assert read.left_over == ()
    assert sum(value.size for values in read.weights.values() for value in values) == sum(
        value.size for values in blobs.values() for value in values
    )


def test_the_first_kernel_is_turned_to_red_green_blue(blobs, written):
    kernel = read_caffe(written(blobs)).weights["conv1"][0]
    np.testing.assert_array_equal(kernel[..., 0, :], blobs["conv1/7x7_s2"][0][:, 2].transpose(1, 2, 0))


def test_heads_are_left_out_where_one_is_missing(blobs, written):
    without = {name: values for name, values in blobs.items() if not name.startswith("loss2")}
    read = read_caffe(written(without))
    assert not read.heads
    assert read.left_over == tuple(
        f"loss1/{layer} blob {place}" for layer in ("conv", "fc", "classifier") for place in (0, 1)
    )


def test_what_does_not_fit_is_named(blobs, written, tmp_path):
    changed = blobs | {"inception_4e/5x5": (np.zeros((128, 32, 3, 3), np.float32), np.zeros(128, np.float32))}
    said = r"layer 'inception_4e_5x5' takes inception_4e/5x5 blob 0 of shape 128×32×5×5; received 128×32×3×3"
    with pytest.raises(WeightsError, match=said):
        read_caffe(written(changed))
    with pytest.raises(WeightsError, match="'conv2_reduce' takes conv2/3x3_reduce blob 1, which"):
        read_caffe(written(blobs | {"conv2/3x3_reduce": blobs["conv2/3x3_reduce"][:1]}))
    with pytest.raises(WeightsError, match=r"there is no file .*absent"):
        read_caffe(tmp_path / "absent")


def test_another_response_normalisation_is_refused(blobs, written):
    with pytest.raises(WeightsError, match=r"'pool1/norm1' .* 5, 0\.001, 0\.75, 1; the paper's network has 5, 0\.0001"):
        read_caffe(written(blobs, alpha=1e-3))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "holds no weights"),
        (b"name: 'GoogleNet'\nlayer {\n}\n", "is no Caffe model"),
        (b"\x12\x7f", "is no Caffe model"),
    ],
)
def test_a_file_that_is_no_caffe_model_is_refused(content, match, tmp_path):
    (tmp_path / "file.caffemodel").write_bytes(content)
    with pytest.raises(WeightsError, match=match) as error:
        read_caffe(tmp_path / "file.caffemodel")
    assert "\n" not in str(error.value)


def test_the_card_has_the_mean_as_preprocessing(blobs, written, tmp_path):
    import_weights(written(blobs), "caffe", tmp_path / "model.keras")
    assert read_card(tmp_path / "model.keras").data.value_range == ((-123.0, -117.0, -104.0), (132.0, 138.0, 151.0))


@pytest.mark.slow
def test_answers_are_those_of_the_network_that_onnx_ships(written):
    size = 224  # that of the graph
    runtime = pytest.importorskip("onnxruntime")
    blobs = caffe_blobs(seed=5)
    model = build(read_caffe(written(blobs)))
    session = runtime.InferenceSession(onnx_googlenet(blobs).SerializeToString())
    photograph = Image.fromarray(load_sample_images().images[0]).resize((size, size))
    noise = np.random.default_rng(size).integers(0, 256, (size, size, 3))
    pixels = np.stack([noise, photograph]).astype(np.float32)
    # What Caffe was given: blue, green, red, each less its mean.
    caffe = (pixels[..., ::-1] - np.float32([104, 117, 123])).transpose(0, 3, 1, 2)
    found = model(preprocess_input(pixels, mode="caffe"))
    for place in range(len(pixels)):  # the graph is for one image
        expected = dict(
            zip(("main", "aux1", "aux2"), session.run(None, {"data_0": caffe[place : place + 1]}), strict=True)
        )
        for name, answer in expected.items():
            assert answer.max() > 0.02
            np.testing.assert_allclose(found[name][place], answer[0], atol=1e-4, err_msg=name)


def onnx_googlenet(blobs):
    """Return ONNX's GoogLeNet with these weights, pools in ceil mode as Caffe's, and both heads of the paper."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(Path(onnx.__file__).parent / "backend/test/data/light/light_inception_v1.onnx")
    graph, kept = model.graph, []
    model.opset_import[0].version = 11  # the first with ceil_mode that these nodes fit
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            continue
        for attribute in node.attribute:
            if node.op_type == "AveragePool" and attribute.name == "pads":
                attribute.ints[:] = [0, 0, 0, 0]  # what floor mode had left over
        if node.op_type == "MaxPool" and list(onnx.helper.get_node_attr_value(node, "strides")) == [2, 2]:
            pads = [attribute for attribute in node.attribute if attribute.name == "pads"]
            for attribute in pads:
                attribute.ints[:] = [0, 0, 0, 0]
            node.attribute.append(onnx.helper.make_attribute("ceil_mode", 1))
        kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    shapes = [one for one in graph.initializer if one.name.startswith("OC2_DUMMY")]
    del graph.initializer[:]
    image = [one for one in graph.input if one.name == "data_0"]
    del graph.input[:]
    graph.input.extend(image)
    model.ir_version = 8  # before 4, constants were inputs too
    graph.initializer.extend(shapes)
    for name, (kernel, bias) in blobs.items():
        graph.initializer.append(onnx.numpy_helper.from_array(kernel, f"{name}_w_0"))
        graph.initializer.append(onnx.numpy_helper.from_array(bias, f"{name}_b_0"))
    # A module's output is its concatenation: the third is 4a's, the sixth 4d's.
    modules = [node.output[0] for node in graph.node if node.op_type == "Concat"]
    for name, x in (("loss1", modules[2]), ("loss2", modules[5])):
        graph.node.extend(_head(onnx, name, x))
        graph.output.append(onnx.helper.make_tensor_value_info(f"{name}/prob", onnx.TensorProto.FLOAT, None))
    return model


def _head(onnx, name, x):
    """Yield the nodes of an auxiliary head (arXiv:1409.4842, section 5), which the shipped graph lacks."""
    make = onnx.helper.make_node

    def of(layer):
        return [f"{name}/{layer}_w_0", f"{name}/{layer}_b_0"]

    yield make("AveragePool", [x], [f"{name}/pool"], kernel_shape=[5, 5], strides=[3, 3])
    yield make("Conv", [f"{name}/pool", *of("conv")], [f"{name}/conv"])
    yield make("Relu", [f"{name}/conv"], [f"{name}/conv_relu"])
    yield make("Flatten", [f"{name}/conv_relu"], [f"{name}/flat"])
    yield make("Gemm", [f"{name}/flat", *of("fc")], [f"{name}/fc"], transB=1)
    yield make("Relu", [f"{name}/fc"], [f"{name}/fc_relu"])
    yield make("Gemm", [f"{name}/fc_relu", *of("classifier")], [f"{name}/logits"], transB=1)
    yield make("Softmax", [f"{name}/logits"], [f"{name}/prob"])
