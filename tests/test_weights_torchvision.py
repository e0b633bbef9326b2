"""torchvision's checkpoints: names, shapes, and, where torch is installed, the same answers as its own network's."""

import importlib.util
import subprocess
import sys

import keras
import numpy as np
import pytest
from checkpoints import torchvision_tensors, write_pth
from PIL import Image
from sklearn.datasets import load_sample_images

from keras_inception.card import read_card
from keras_inception.errors import WeightsError
from keras_inception.importing import build, import_weights
from keras_inception.weights.imagenet import preprocess_input
from keras_inception.weights.published import VALUE_RANGES
from keras_inception.weights.torchvision import read_torchvision


@pytest.fixture(scope="module")
def tensors():
    return torchvision_tensors(classes=7)


@pytest.fixture
def written(tmp_path):
    def write(tensors):
        write_pth(tmp_path / "file.pth", tensors)
        return tmp_path / "file.pth"

    return write


def test_every_tensor_is_used_but_the_counters(tensors, written):
    read = read_torchvision(written(tensors))
    assert (read.table.name, read.channels, read.classes, read.heads) == ("googlenet-torchvision", 3, 7, True)
    assert set(read.left_over) == {name for name in tensors if name.endswith("num_batches_tracked")}
    assert sum(value.size for values in read.weights.values() for value in values) == sum(
        value.size for name, value in tensors.items() if name not in read.left_over
    )


def test_a_tensor_of_something_else_is_named_as_left_over(tensors, written):
    read = read_torchvision(written(tensors | {"extra.weight": np.zeros((2, 3), np.float32)}))
    assert "extra.weight" in read.left_over


def test_heads_come_along_where_both_are_there(tensors, written):
    without = {name: value for name, value in tensors.items() if not name.startswith("aux2")}
    read = read_torchvision(written(without))
    assert not read.heads
    assert not any(layer.startswith("aux") for layer in read.weights)
    assert {"aux1.fc1.weight", "aux1.conv.bn.bias"} <= set(read.left_over)


def test_names_of_a_parallel_training_are_those_without_its_prefix(tensors, written):
    read = read_torchvision(written({f"module.{name}": value for name, value in tensors.items()}))
    assert read.classes == 7


@pytest.mark.parametrize(
    ("name", "shape", "layer"),
    [
        ("conv3.conv.weight", (192, 64, 5, 5), "conv2"),
        ("inception3a.branch3.1.conv.weight", (32, 16, 5, 5), "inception_3a_5x5"),
        ("inception5b.branch4.1.bn.running_var", (127,), "inception_5b_pool_projection_bn"),
        ("aux2.fc1.weight", (1024, 1024), "aux2_dense"),
        ("fc.bias", (8,), "main"),
        ("fc.weight", (7,), "main"),
    ],
)
def test_a_wrong_shape_names_layer_expected_and_received(name, shape, layer, tensors, written):
    said = "×".join(map(str, tensors[name].shape)), "×".join(map(str, shape))
    with pytest.raises(WeightsError, match=rf"layer '{layer}' takes {name} of shape {said[0]}; received {said[1]}"):
        read_torchvision(written(tensors | {name: np.zeros(shape, np.float32)}))


def test_a_missing_tensor_is_named_with_its_layer(tensors, written):
    without = {name: value for name, value in tensors.items() if name != "inception4c.branch2.1.conv.weight"}
    with pytest.raises(WeightsError, match=r"'inception_4c_3x3' takes inception4c\.branch2\.1\.conv\.weight"):
        read_torchvision(written(without))
    with pytest.raises(WeightsError, match="'conv1' takes conv1"):
        read_torchvision(written({"x": np.zeros(2, np.float32)}))


def test_the_file_that_is_written_has_its_labels_and_preprocessing(tensors, written, tmp_path):
    import_weights(written(tensors), "torchvision", tmp_path / "model.keras", transform_input=True)
    card = read_card(tmp_path / "model.keras")
    assert card.labels == tuple(f"class {number}" for number in range(7))
    assert (card.data.image_size, card.data.channels, card.data.crop_fraction) == (224, 3, 0.875)
    np.testing.assert_allclose(card.data.value_range, VALUE_RANGES["torch"])
    assert card.provenance["architecture"] == "googlenet-torchvision"
    model = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert sorted(model.output) == ["aux1", "aux2", "main"]
    # Black and white, normalised, become −1 and 1 inside.
    inside = keras.Model(model.input, model.get_layer("transform_input").output)
    for bound, value in zip(VALUE_RANGES["torch"], (-1, 1), strict=True):
        np.testing.assert_allclose(inside(np.full((1, 224, 224, 3), bound, np.float32)), value, atol=1e-6)


@pytest.mark.parametrize(
    ("out", "source", "options", "match"),
    [
        ("model.h5", "torchvision", {}, r"does not end in \.keras"),
        ("there.keras", "torchvision", {}, "exists; give --overwrite"),
        ("model.keras", "caffe", {"transform_input": True}, "--transform-input is of --from torchvision"),
        ("model.keras", "torchvision", {"background": True}, "--background is of --from slim"),
    ],
)
def test_what_cannot_be_written_is_refused_before_reading(out, source, options, match, tmp_path):
    (tmp_path / "there.keras").write_text("something")
    with pytest.raises(WeightsError, match=match):
        import_weights(tmp_path / "absent", source, tmp_path / out, **options)
    assert (tmp_path / "there.keras").read_text() == "something"


# ---------------------------------------------------------------------------------------------------------------------
# Beside the original
# ---------------------------------------------------------------------------------------------------------------------


def images(size: int) -> np.ndarray:
    """Return noise and scikit-learn's two photographs, as torchvision normalises images: `(3, size, size, 3)`."""
    photographs = [
        np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))
        for pixels in load_sample_images().images
    ]
    noise = np.random.default_rng(size).integers(0, 256, (size, size, 3))
    return preprocess_input(np.stack([noise, *photographs]), mode="torch")


# Run by itself: torch and TensorFlow in one process do not always get along.
ORIGINAL = """
import sys, warnings
import numpy as np, torch, torchvision

warnings.simplefilter("ignore")
torch.set_num_threads(1)
folder = sys.argv[1]
network = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False, num_classes=11)
network.load_state_dict({name: torch.from_numpy(value) for name, value in np.load(f"{folder}/tensors.npz").items()})
state = network.state_dict()
torch.save(state, f"{folder}/seeded.pth")
torch.save(state, f"{folder}/old.pth", _use_new_zipfile_serialization=False)
torch.save({name: value.bfloat16() for name, value in state.items()}, f"{folder}/half.pth")
torch.save(network.eval(), f"{folder}/module.pth")
maps, answers = {}, {}
# The network's named tuple has the two heads the wrong way round, and only in training.
for row in ("inception4a", "inception4d"):
    getattr(network, row).register_forward_hook(lambda module, given, output, row=row: maps.update({row: output}))
for size, x in np.load(f"{folder}/images.npz").items():
    for network.transform_input in (False, True):
        with torch.no_grad():
            logits = {"main": network(torch.from_numpy(x).permute(0, 3, 1, 2))}
            logits |= {"aux1": network.aux1(maps["inception4a"]), "aux2": network.aux2(maps["inception4d"])}
        for name, value in logits.items():
            answers[f"{size} {network.transform_input} {name}"] = torch.softmax(value, dim=1).numpy()
np.savez(f"{folder}/answers.npz", **answers)
"""
SIZES = (224, 192, 320, 237)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with the files and answers of torchvision's network with seeded weights."""
    # PyTorch is several GB, so that tools/test does without and names it as left out; files of the same layout are read
    # above in any case. Looked for and not imported: torch dies in TensorFlow's process.
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("there is no original to compare with: tools/install peers")
    folder = tmp_path_factory.mktemp("torchvision")
    np.savez(folder / "tensors.npz", **torchvision_tensors(seed=3, classes=11))
    np.savez(folder / "images.npz", **{str(size): images(size) for size in SIZES})
    subprocess.run([sys.executable, "-c", ORIGINAL, folder], check=True, capture_output=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("transform_input", [False, True])
def test_all_outputs_are_those_of_torchvision(size, transform_input, original):
    read = read_torchvision(original / "seeded.pth")
    found = build(read, transform_input=transform_input, image_size=size)(images(size))
    answers = np.load(original / "answers.npz")
    assert sorted(found) == ["aux1", "aux2", "main"]
    for name, answer in found.items():
        expected = answers[f"{size} {transform_input} {name}"]
        assert expected.std() > 0.02  # the answers say something
        np.testing.assert_allclose(answer, expected, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_all_formats_of_torch_are_read(original):
    new = read_torchvision(original / "seeded.pth")
    old, half = read_torchvision(original / "old.pth"), read_torchvision(original / "half.pth")
    for layer, values in new.weights.items():
        for value, other, rounded in zip(values, old.weights[layer], half.weights[layer], strict=True):
            np.testing.assert_array_equal(value, other)
            np.testing.assert_allclose(value, rounded, rtol=2**-8)
    with pytest.raises(WeightsError, match="whole pickled module"):
        read_torchvision(original / "module.pth")
