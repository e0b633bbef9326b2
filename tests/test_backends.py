"""Keras's other backends: with the same weights they answer, and learn, as TensorFlow does, and do without it."""

import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from on_backend import TRAINED, answers, build, losses

import keras_inception as ki

pytestmark = pytest.mark.slow

# Heads have a map of 1×2 px, so that the order in which it is flattened matters.
SHAPES = {
    "googlenet": (65, 128, 3),
    "googlenet-bn": (65, 128, 3),
    "googlenet-torchvision": (65, 128, 3),
    "googlenet-small": (33, 40, 3),
    "nin": (16, 20, 3),
}
# On the CPU, where no product is rounded to fewer bits; JAX compiles four times as fast without its optimisations.
CPU = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
PROGRAM = Path(__file__).with_name("on_backend.py")


def narrow(name):
    """The named table with few modules and channels, without dropout, and with an LRN that can be told from none."""
    table = ki.get_architecture(name).scaled(1 / 16).with_dropout(0)
    rows = [row for row in table.rows if not isinstance(row, ki.Inception) or row.name in {"4a", "4d"}]
    rows = [dataclasses.replace(row, alpha=0.1) if isinstance(row, ki.LRN) else row for row in rows]
    heads = [dataclasses.replace(head, dropout=0) for head in table.auxiliary]
    return dataclasses.replace(table, rows=tuple(rows), auxiliary=tuple(heads))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of networks with seeded weights, written by TensorFlow's process."""
    folder, random = tmp_path_factory.mktemp("networks"), np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    for name, shape in SHAPES.items():
        (folder / f"{name}.json").write_text(narrow(name).to_json(), encoding="utf-8")
        # Each image has a colour of its own, so that the answers differ.
        x = random.uniform(-1, 1, (4, 1, 1, 3)) * random.uniform(0, 1, (4, *shape))
        np.save(folder / f"{name}.npy", x.astype("float32"))
        model = build(folder, name, "channels_last")
        # Kernels keep their initial values; biases and statistics are others than 0 and 1.
        model.set_weights([w if w.ndim > 1 else random.uniform(0.1, 0.5, w.shape) for w in model.get_weights()])
        model.save(folder / f"{name}.keras")
    return folder


@pytest.fixture(scope="module", params=["jax", "torch"])
def found(request, folder):
    """What the networks answer, and their losses in training, on another backend."""
    # The extra is several GB, for these tests alone, so that tools/test does without and names it as left out. Looked
    # for and not imported: torch dies in TensorFlow's process.
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed: tools/install backends")
    file = folder / f"{request.param}.npz"
    environment = {**os.environ, **CPU, "KERAS_BACKEND": request.param}
    done = subprocess.run([sys.executable, PROGRAM, folder, file], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(file)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("way", ["file", "channels_first"])
def test_every_output_is_that_of_tensorflow(name, way, found, folder):
    expected = answers(folder, name, "file")
    assert set(expected) == ({"main"} if name == "nin" else {"main", "aux1", "aux2"})
    for head, answer in expected.items():
        assert answer.std(axis=0).max() > 1e-3  # the images are told apart
        np.testing.assert_allclose(found[f"{name} {way} {head}"], answer, atol=1e-5, err_msg=head)


@pytest.mark.parametrize("name", TRAINED)
def test_training_by_compile_and_fit_goes_as_on_tensorflow(name, found, folder):
    expected = losses(folder, name)
    assert expected[-1] < 0.9 * expected[0]
    np.testing.assert_allclose(found[f"{name} losses"], expected, rtol=1e-4)
