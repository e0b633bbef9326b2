"""How fast the network answers, by every route that it can be shipped on, beside torchvision's: for tools/benchmark.

googlenet-bn of 1,000 classes at 224 px with random weights, on which times do not hang; all cores. torchvision's
network has 3×3 kernels where the paper has 5×5, and 5% fewer multiply-adds. Files are made once, and opened in every
round.
"""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rounds import (  # tools/benchmarks/rounds.py, beside this file
    LIMIT,
    MACHINE,
    Contender,
    Options,
    Part,
    bars,
    panel,
    say,
    seconds_of,
    show,
    with_onednn,
)

from keras_inception.export.tflite import Precision

CLASSES, SIZE, BATCHES, CALIBRATING = 1000, 224, (1, 8), 16
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "dynamic", "int8")
FLOAT32 = "model_float32.tflite"
ONNX, TORCH_ONNX, SAVED_MODEL = "model.onnx", "torchvision.onnx", "saved_model/1"


def write_saved_model_alone(folder: Path) -> tuple[Any, Any]:
    """Write the network as a SavedModel, from which the other files are made; return it and its card."""
    from keras_inception.card import Card
    from keras_inception.config import DataConfig
    from keras_inception.export.saved_model import write_saved_model
    from keras_inception.googlenet import GoogLeNet

    model = GoogLeNet(architecture="googlenet-bn", classes=CLASSES, input_shape=(SIZE, SIZE, 3))
    labels = tuple(f"{number:03}" for number in range(CLASSES))
    card = Card(folder, "benchmark", labels, DataConfig(image_size=SIZE))
    write_saved_model(model, card, folder / SAVED_MODEL)
    return model, card


def write_float32(folder: str) -> dict[str, float]:
    """Write the network as a SavedModel and a TFLite file."""
    from keras_inception.export.tflite import write_tflite

    _, card = write_saved_model_alone(Path(folder))
    write_tflite(Path(folder, SAVED_MODEL), card, Path(folder, FLOAT32))
    return {}


def write_all(folder: str) -> dict[str, float]:
    """Write the network as a SavedModel, TFLite files and ONNX."""
    from keras_inception.export.onnx import write_onnx
    from keras_inception.export.tflite import write_tflite

    model, card = write_saved_model_alone(Path(folder))
    examples = np.random.default_rng(0).uniform(-1, 1, (CALIBRATING, SIZE, SIZE, 3)).astype(np.float32)
    for precision in PRECISIONS:
        path = Path(folder, f"model_{precision}.tflite")
        write_tflite(Path(folder, SAVED_MODEL), card, path, precision, examples=examples)
    write_onnx(model, card, Path(folder, ONNX))
    return {}


def write_torch_onnx(folder: str) -> dict[str, float]:
    import torch

    batch = {"image": {0: "batch"}, "logits": {0: "batch"}}
    words: dict[str, Any] = {"input_names": ["image"], "output_names": ["logits"], "dynamic_axes": batch}
    images = torch.rand(1, 3, SIZE, SIZE)
    torch.onnx.export(_torch_network(channels_last=False), images, Path(folder, TORCH_ONNX), dynamo=False, **words)
    return {}


def milliseconds(open_route: Callable[[Path], Callable[[Any], Any]], *, channels_first: bool = False) -> Any:
    """Return what measures a route: opened once, timed for every size of a batch."""

    def measure(folder: str) -> dict[str, float]:
        answers = open_route(Path(folder))
        shape = (3, SIZE, SIZE) if channels_first else (SIZE, SIZE, 3)
        found: dict[str, float] = {}
        for batch in BATCHES:
            images = np.random.default_rng(0).uniform(-1, 1, (batch, *shape)).astype(np.float32)
            seconds = seconds_of(functools.partial(answers, images), warm_up=5, times=25)
            found |= {f"ms, batch of {batch}": 1000 * seconds, f"images/s, batch of {batch}": batch / seconds}
        return found

    return measure


def ours(name: str) -> Any:
    def opened(folder: Path) -> Callable[[Any], Any]:
        import os

        from keras_inception.predictor import open_model

        return open_model(folder / name, os.cpu_count()).probabilities

    return milliseconds(opened)


def torchvision(*, channels_last: bool, compiled: bool = False) -> Any:
    def opened(folder: Path) -> Callable[[Any], Any]:
        import torch

        network: Any = _torch_network(channels_last)
        if compiled:
            network = torch.compile(network)

        def answers(images: np.ndarray) -> Any:
            layout = torch.channels_last if channels_last else torch.contiguous_format
            with torch.inference_mode():
                return network(torch.from_numpy(images).contiguous(memory_format=layout)).numpy()

        return answers

    return milliseconds(opened, channels_first=True)


def _torch_network(channels_last: bool) -> Any:
    import torch
    from torchvision.models import googlenet

    network = googlenet(weights=None, aux_logits=False, init_weights=False, num_classes=CLASSES).eval()
    return network.to(memory_format=torch.channels_last) if channels_last else network


def onnx_runtime(folder: Path) -> Callable[[Any], Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / TORCH_ONNX))
    return lambda images: session.run(None, {"image": images})


def openvino(name: str) -> Callable[[Path], Callable[[Any], Any]]:
    def opened(folder: Path) -> Callable[[Any], Any]:
        import openvino

        core = openvino.Core()
        compiled = core.compile_model(core.read_model(folder / name), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda images: compiled(images)[0]

    return opened


CONTENDERS = {
    **{f"TFLite {precision}": Contender(ours(f"model_{precision}.tflite")) for precision in PRECISIONS},
    "SavedModel, oneDNN": Contender(ours(SAVED_MODEL), with_onednn(True)),
    "SavedModel, without oneDNN": Contender(ours(SAVED_MODEL), with_onednn(False)),
    "ONNX, ONNX Runtime": Contender(ours(ONNX)),
    "ONNX, OpenVINO": Contender(milliseconds(openvino(ONNX))),
    "torchvision": Contender(torchvision(channels_last=False)),
    "torchvision, channels_last": Contender(torchvision(channels_last=True)),
    "torchvision, channels_last, compiled": Contender(torchvision(channels_last=True, compiled=True)),
    "torchvision, ONNX Runtime": Contender(milliseconds(onnx_runtime, channels_first=True)),
    "torchvision, OpenVINO": Contender(milliseconds(openvino(TORCH_ONNX), channels_first=True)),
}
TFLITE_FILE, ALL_FILES, TORCH_FILE = "TFLite file", "all files", "torchvision's file"
WRITING = {
    TFLITE_FILE: Contender(write_float32),
    ALL_FILES: Contender(write_all),
    TORCH_FILE: Contender(write_torch_onnx),
}


PART = Part(__file__, CONTENDERS | WRITING | MACHINE)


def compare(options: Options) -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        for name in (ALL_FILES, TORCH_FILE):
            PART.measured(name, scratch)
        sizes = {path.name: path.stat().st_size / 1e6 for path in sorted(Path(scratch).glob("*.*"))}
        limits = PART.measured(LIMIT)
        figures = PART.take_turns(list(CONTENDERS), options.rounds, scratch)
    for batch in BATCHES:
        title = f"images of {SIZE} px in batches of {batch}"
        show(figures, f"ms, batch of {batch}", title=title, over="torchvision, channels_last")
    say(", ".join(f"{name} {size:.1f} MB" for name, size in sizes.items()))
    say(", ".join(f"{limit:.0f} {what}" for what, limit in limits.items()))
    panels = {figure: panel(figures, figure) for figure in (f"ms, batch of {batch}" for batch in BATCHES)}
    return figures | {LIMIT: limits, "MB": sizes}, bars(panels)


if __name__ == "__main__":
    PART.run(compare, Options)
