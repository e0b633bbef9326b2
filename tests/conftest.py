"""Every test starts with Keras's own settings; TensorFlow is told to be quiet before it is first imported."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_inception.cli import main

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)


@pytest.fixture(autouse=True)
def _keras_settings():
    yield
    # Tests that never import Keras must not pay for it.
    if keras := sys.modules.get("keras"):
        keras.config.set_image_data_format("channels_last")
        keras.config.set_dtype_policy("float32")


@pytest.fixture(autouse=True, scope="module")
def _keras_names():
    yield
    if keras := sys.modules.get("keras"):
        keras.utils.clear_session()


@pytest.fixture(scope="session")
def stripes(tmp_path_factory) -> Path:
    """A folder of two classes that a tiny network learns in seconds: stripes that lie and stripes that stand."""
    root = tmp_path_factory.mktemp("stripes")
    random = np.random.default_rng(0)
    for name, axis in (("lying", 0), ("standing", 1)):
        (root / name).mkdir()
        for number in range(40):
            wave = 127 + 100 * np.sin(np.arange(40) * random.uniform(0.7, 1.3) + random.uniform(0, 6))
            pixels = np.broadcast_to(np.expand_dims(wave, 1 - axis), (40, 40))[..., None]
            noisy = np.clip(pixels + random.normal(0, 20, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / name / f"{number:02}.png")
    return root


@pytest.fixture(scope="session")
def jpegs(tmp_path_factory):
    """JPEGs of every kind: subsampled or not, progressive, grey, turned by EXIF, CMYK; and a PNG."""
    from made_images import coloured  # TensorFlow with it, which few tests need

    folder = tmp_path_factory.mktemp("größe 猫")
    images = coloured()
    turned = Image.Exif()
    turned[0x0112] = 6
    images[0].save(folder / "subsampled.jpg", quality=85, subsampling=2)
    images[1].save(folder / "full colour.jpg", quality=95, subsampling=0)
    images[2].save(folder / "progressive\n.jpg", progressive=True)
    images[3].convert("L").save(folder / "grey.jpg")
    images[4].save(folder / "turned.jpg", exif=turned)
    images[5].convert("CMYK").save(folder / "cmyk.jpg")
    images[5].save(folder / "image.png")
    return sorted(folder.iterdir())


@pytest.fixture(params=["memory", "files"])
def where(request, monkeypatch):
    """Both ways of holding images."""
    if request.param == "files":
        monkeypatch.setattr("keras_inception.data.images._MEMORY_SHARE", 0)
    return request.param


#: The command line's words for the tiniest run on `stripes`: GoogLeNet's stages with one module each.
TINY = (
    *("--architecture", str(Path(__file__).with_name("tiny.json"))),
    *("--epochs", "4", "--batch-size", "8", "--learning-rate", "0.02", "--seed", "3"),
)


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    return TINY


@pytest.fixture(scope="session")
def run(stripes, tmp_path_factory) -> Path:
    """The folder of a finished run on `stripes`, made through the command line; tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "stripes"
    assert main(["train", "--data", str(stripes), "--run-dir", str(folder), *TINY]) == 0
    return folder
