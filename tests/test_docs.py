"""What the documents show is run as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_inception.architecture import GOOGLENET_BN
from keras_inception.card import Card
from keras_inception.config import DataConfig
from keras_inception.export.saved_model import write_saved_model
from keras_inception.export.tflite import write_tflite
from keras_inception.googlenet import GoogLeNet

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.slow
def test_the_client_of_the_guide_answers_without_tensorflow(tmp_path):
    (client,) = re.findall(r"```python\n(.*?)```", (DOCS / "export.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in client.splitlines() if line and not line.startswith(("import", "from"))]) <= 10
    model = GoogLeNet(architecture=GOOGLENET_BN.scaled(1 / 16), input_shape=(64, 64, 3), classes=3)
    card = Card(tmp_path, "tiny", ("cat", "dog", "Öre"), DataConfig(image_size=64))
    write_saved_model(model, card, tmp_path / "saved_model")
    write_tflite(tmp_path / "saved_model", card, tmp_path / "model.tflite")
    Image.fromarray(np.full((80, 50, 3), 90, np.uint8)).save(tmp_path / "photo.jpg")
    block = "import sys\nsys.modules['tensorflow'] = None\n"
    (tmp_path / "client.py").write_text(block + client, encoding="utf-8")
    words = [sys.executable, "client.py", "model.tflite", "photo.jpg"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert sorted(line.split("% ")[1] for line in lines) == ["cat", "dog", "Öre"]
    shares = [float(line.split("%")[0]) for line in lines]
    assert shares == sorted(shares, reverse=True)
    assert abs(sum(shares) - 100) < 0.2
