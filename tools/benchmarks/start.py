"""How long it takes until something is there: an import, a page of help, a first step, an answer; for tools/benchmark.

Everything is a process from its start to its end, as a user waits for it; that of a Python that does nothing is the
floor. torchvision's counterparts do the same with its GoogLeNet.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import infer  # beside this file, as the next
from rounds import Contender, Options, Part, bars, panel, show

SECONDS, STEP = "seconds", "the step alone"
TORCH_STEP = """
import torch
from torchvision.models import googlenet
network = googlenet(weights=None, aux_logits=True, init_weights=False, num_classes=1000).train()
outputs = network(torch.rand(16, 3, 224, 224))
loss = sum(torch.nn.functional.cross_entropy(o, torch.zeros(16, dtype=int)) for o in outputs)
loss.backward()
torch.optim.SGD(network.parameters(), 0.01).step()
"""
TORCH_PREDICT = """
import sys, torch
from PIL import Image
from torchvision.models import googlenet
from torchvision.transforms import functional
network = googlenet(weights=None, aux_logits=False, init_weights=False, num_classes=1000).eval()
with torch.inference_mode():
    print(network(functional.to_tensor(Image.open(sys.argv[1]).convert("RGB").resize((224, 224)))[None]).argmax())
"""


def command(*words: str) -> Contender:
    """Return the contender that is a command; {folder} in a word is the scratch folder."""

    def measure(folder: str) -> dict[str, float]:
        line = [word.replace("{folder}", folder) for word in words]
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, *line], capture_output=True, text=True)
        seconds = time.perf_counter() - begun
        if done.returncode:
            sys.exit(done.stderr)
        return {SECONDS: seconds}

    return Contender(measure)


OURS = ("-m", "keras_inception")
CONTENDERS = {
    "Python that does nothing": command("-c", ""),
    "import keras_inception": command("-c", "import keras_inception"),
    "keras-inception --help": command(*OURS, "--help"),
    "keras-inception predict, one photograph, TFLite": command(
        *OURS, "predict", "{folder}/model_float32.tflite", "{folder}/photographs/grey/00.jpg"
    ),
    "torchvision, one photograph": command("-c", TORCH_PREDICT, "{folder}/photographs/grey/00.jpg"),
    "keras_inception, first training step": command(__file__, "--measure", STEP, "{folder}"),
    "torchvision, first training step": command("-c", TORCH_STEP),
}


def first_step(folder: str) -> dict[str, float]:
    """Import, read the photographs, build, trace, and take one step of 16 images of 224 px."""
    from keras_inception.cli.screen import load_tensorflow, onednn

    load_tensorflow(onednn())
    from keras_inception.config import RunConfig
    from keras_inception.data.sources import load_dataset
    from keras_inception.training.devices import strategy
    from keras_inception.training.session import Training, resolved

    values = {"data.source": f"{folder}/photographs", "data.image_size": 224, "training.batch_size": 16}
    config = resolved(RunConfig().override(values))
    job = Training(config, load_dataset(config.data), strategy("auto"), lambda done, total: None)
    job.first_views()
    job.take_step(config.training.batch_size)
    return {}


def prepare(folder: Path) -> None:
    """Write photographs of noise, and a network as a TFLite file."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    for label in ("colour", "grey"):
        (folder / "photographs" / label).mkdir(parents=True)
        for number in range(40):
            pixels = chance.integers(0, 256, (300, 300, 3 if label == "colour" else 1), np.uint8).repeat(
                1 if label == "colour" else 3, axis=2
            )
            Image.fromarray(pixels).save(folder / "photographs" / label / f"{number:02}.jpg")
    infer.PART.measured(infer.TFLITE_FILE, str(folder))


PART = Part(__file__, CONTENDERS | {STEP: Contender(first_step)})


def compare(options: Options) -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Path(scratch))
        figures = PART.take_turns(list(CONTENDERS), options.rounds, scratch)
    show(figures, SECONDS, title="from the start of the process to its end", over=next(iter(CONTENDERS)))
    return figures, bars({SECONDS: panel(figures, SECONDS)})


if __name__ == "__main__":
    PART.run(compare, Options)
