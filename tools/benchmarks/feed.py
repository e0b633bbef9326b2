"""How fast images reach the network: this package's pipeline against its own parts and torchvision's DataLoader.

On ELPV's 300×300 px PNGs and on 512×512 px JPEGs made from them, at 224 px and batches of 32; for tools/benchmark.
"""

import importlib.util
import json as jsonlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tyro

BATCH, SIZE, IMAGES, WORKERS = 32, 224, 1000, 2
WARM_UP_BATCHES, SECONDS = 10, 3.0
DISTORTION = {"brightness": 0.125, "contrast": 0.5, "saturation": 0.5, "hue": 0.1}
CROP_RESIZE = "decode + crop + resize alone"

# ---------------------------------------------------------------------------------------------------------------------
# What is measured: from a folder of images to endless batches
# ---------------------------------------------------------------------------------------------------------------------


def images(folder: Path, share: float, **config: Any) -> tuple[Any, Any]:
    """Return the images of `folder` and their configuration, kept in memory or (share 0) left in their files."""
    from keras_inception.config import DataConfig
    from keras_inception.data import pipeline
    from keras_inception.data.dataset import file_split

    pipeline._MEMORY_SHARE = share
    paths = sorted(folder.iterdir())[:IMAGES]
    config = DataConfig(image_size=SIZE, **config)
    return pipeline.read_images(file_split(paths, [0] * len(paths)), config, whole=True), config


def decode(folder: Path) -> Iterable[Any]:
    import tensorflow as tf

    read, _ = images(folder, 0)
    return examples(read, lambda index, epoch: tf.shape(read.image(index)))


def decode_crop_resize(folder: Path) -> Iterable[Any]:
    from keras_inception.data import augment

    read, config = images(folder, 0)

    def view(index: Any, epoch: Any) -> Any:
        numbers = augment.draws(0, epoch, index)
        patch = read.window(index, augment.patch(numbers, read.shapes[index], config))
        return augment.resized_patch(patch, numbers, config, SIZE)

    return examples(read, view)


def examples(read: Any, view: Any) -> Iterable[Any]:
    """Return batches of what `view` makes of every image in turn, without order, labels or values."""
    import tensorflow as tf

    positions = tf.data.Dataset.range(2**60)
    views = positions.map(lambda p: view(p % len(read), p // len(read)), num_parallel_calls=tf.data.AUTOTUNE)
    return views.batch(BATCH).prefetch(tf.data.AUTOTUNE)


def pipeline(share: float, **config: Any) -> Any:
    def batches(folder: Path) -> Iterable[Any]:
        from keras_inception.data.pipeline import training_batches

        read, data = images(folder, share, **config)
        return training_batches(read, data, batch_size=BATCH, seed=0, outputs=["main", "aux1", "aux2"], classes=2)

    return batches


def data_loader(distorts: bool) -> Any:
    def batches(folder: Path) -> Iterable[Any]:
        import torch
        from PIL import Image
        from torchvision.transforms import v2

        paths = sorted(folder.iterdir())[:IMAGES]
        colours = [v2.ColorJitter(*DISTORTION.values())] if distorts else []
        transform = v2.Compose(
            [
                v2.PILToTensor(),  # measured faster here than transforms of PIL images
                v2.RandomResizedCrop(SIZE, antialias=True),
                v2.RandomHorizontalFlip(),
                *colours,
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

        class Files(torch.utils.data.Dataset):
            def __len__(self) -> int:
                return len(paths) * 1000  # one long epoch: workers start once

            def __getitem__(self, index: int) -> Any:
                with Image.open(paths[index % len(paths)]) as image:
                    return transform(image.convert("RGB")), 0

        return torch.utils.data.DataLoader(Files(), batch_size=BATCH, num_workers=WORKERS)

    return batches


KINDS = {
    "decode alone": decode,
    CROP_RESIZE: decode_crop_resize,
    "pipeline with flips, from files": pipeline(0.0),
    "pipeline with flips, from memory": pipeline(0.4),
    "pipeline with distortion, from files": pipeline(0.0, **DISTORTION),
    "pipeline with distortion, from memory": pipeline(0.4, **DISTORTION),
    "DataLoader with flips": data_loader(False),
    "DataLoader with distortion": data_loader(True),
}

# Which figures are divided by which, round by round.
RATIOS = (
    ("pipeline with flips, from files", CROP_RESIZE),
    ("pipeline with distortion, from files", CROP_RESIZE),
    *(
        (f"pipeline with {what}, from {where}", f"DataLoader with {what}")
        for what in ("flips", "distortion")
        for where in ("files", "memory")
    ),
)

# ---------------------------------------------------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------------------------------------------------


def rate(batches: Iterable[Any]) -> float:
    """Return images/s over some seconds, after a warm-up."""
    iterator = iter(batches)
    for _ in range(WARM_UP_BATCHES):
        next(iterator)
    begun, count = time.perf_counter(), 0
    while (seconds := time.perf_counter() - begun) < SECONDS:
        next(iterator)
        count += BATCH
    return count / seconds


def measured(kind: str, folder: Path) -> float:
    """Measure in a process of its own: idle threads of one library slow another."""
    words = [sys.executable, __file__, "--measure", kind, "--folder", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{kind} failed:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def elpv() -> Path:
    package = importlib.util.find_spec("elpv_dataset")
    if package is None or not package.submodule_search_locations:
        sys.exit("feed.py: the extra elpv is not installed; run tools/install elpv peers")
    return Path(package.submodule_search_locations[0]) / "data" / "images"


def enlarged(source: Path, folder: Path) -> Path:
    """Write the images of `source` as 512×512 px JPEGs in colour to `folder`."""
    from PIL import Image

    folder.mkdir()
    for path in sorted(source.iterdir())[:IMAGES]:
        with Image.open(path) as image:
            image.convert("RGB").resize((512, 512), Image.Resampling.BICUBIC).save(
                folder / f"{path.stem}.jpg", quality=90
            )
    return folder


def show(rates: dict[str, dict[str, list[float]]], screen: Any) -> None:
    from rich.table import Table

    def middle(values: list[float], form: str) -> str:
        return f"{statistics.median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"

    for title, columns, rows in (
        ("images/s, median [range]", list(KINDS), None),
        ("ratio of the same round, median [range]", None, RATIOS),
    ):
        table = Table("", *rates, title=title)
        for kind in columns or ():
            table.add_row(kind, *(middle(found[kind], ".0f") for found in rates.values()))
        for kind, other in rows or ():
            pairs = [[a / b for a, b in zip(found[kind], found[other], strict=True)] for found in rates.values()]
            table.add_row(f"{kind} / {other}", *(middle(ratios, ".2f") for ratios in pairs))
        screen.print(table)


def main(
    rounds: int = 5,
    json: Path | None = None,
    measure: str | None = None,
    folder: Path | None = None,
) -> None:
    """Measure how fast images reach the network, and print medians over rounds.

    Args:
        rounds: How often everything is measured, in turn.
        json: Also write all figures to this file.
        measure: This kind alone, once, in this process.
        folder: Its images; with --measure.
    """
    if measure and folder:
        print(rate(KINDS[measure](folder)))
        return
    from rich.console import Console

    screen = Console(width=None if sys.stdout.isatty() else 160)
    with tempfile.TemporaryDirectory() as scratch:
        folders = {"ELPV, 300×300 px PNG": elpv(), "512×512 px JPEG": enlarged(elpv(), Path(scratch) / "jpeg")}
        rates: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in KINDS} for name in folders}
        for number in range(rounds):
            for name, path in folders.items():
                for kind, values in rates[name].items():
                    values.append(measured(kind, path))
                    screen.print(
                        f"round {number + 1}/{rounds}, {name}: {kind} {values[-1]:.0f} images/s", highlight=False
                    )
    show(rates, screen)
    screen.print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
    if json:
        json.write_text(jsonlib.dumps(rates, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
