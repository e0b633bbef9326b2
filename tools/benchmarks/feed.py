"""How fast images reach the network: this package's pipeline against its own parts and torchvision's DataLoader.

On ELPV's 300×300 px PNGs and on 512×512 px JPEGs made from them, at 224 px and batches of 32; how long a training with
the paper's augmentation waits for its batches; and an epoch of scikit-learn's digits as it is and with batches that
TensorFlow tunes; for tools/benchmark.
"""

import importlib.util
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rounds import (  # tools/benchmarks/rounds.py, beside this file
    Contender,
    Options,
    Part,
    bars,
    middle,
    pairs,
    panel,
    say,
    screen,
    show,
    with_onednn,
)

BATCH, SIZE, IMAGES, WORKERS = 32, 224, 1000, 2
WARM_UP_BATCHES, SECONDS = 10, 3.0
RATE, WAITING = "images/s", "share of a training step spent waiting for images"
SECONDS_OF_EPOCH = "seconds of an epoch of digits"
TRAINED_BATCH, WARM_UP_STEPS, STEPS = 16, 3, 15
EPOCH, TUNED, WARM_UP_EPOCHS, EPOCHS = "epoch", "epoch, tuned by TensorFlow", 1, 6
DISTORTION = {"brightness": 0.125, "contrast": 0.5, "saturation": 0.5, "hue": 0.1}
CROP_RESIZE = "decode + crop + resize alone"

# ---------------------------------------------------------------------------------------------------------------------
# What is measured: from a folder of images to endless batches
# ---------------------------------------------------------------------------------------------------------------------


def images(folder: Path, share: float, **fields: Any) -> tuple[Any, Any]:
    """Return the images of `folder` and their configuration, kept in memory or (share 0) left in their files."""
    from keras_inception.config import DataConfig
    from keras_inception.data import images as reading
    from keras_inception.data.dataset import file_split

    reading._MEMORY_SHARE = share
    paths = sorted(folder.iterdir())[:IMAGES]
    config = DataConfig(image_size=SIZE, **fields)
    return reading.read_images(file_split(paths, [0] * len(paths)), config, whole=True), config


def decode(folder: Path) -> Iterable[Any]:
    import tensorflow as tf

    read, _ = images(folder, 0)
    return examples(read, lambda index, epoch: tf.shape(read.image(index)))


def decode_crop_resize(folder: Path) -> Iterable[Any]:
    from keras_inception.data import augment

    read, config = images(folder, 0)

    def view(index: Any, epoch: Any) -> Any:
        numbers = augment.draws(0, epoch, index, config)
        patch = read.window(index, augment.patch(numbers, read.shapes[index], config))
        return augment.resized_patch(patch, numbers, config, SIZE)

    return examples(read, view)


def examples(read: Any, view: Any) -> Iterable[Any]:
    """Return batches of what `view` makes of every image in turn, without order, labels or values."""
    import tensorflow as tf

    from keras_inception.data.parallel import untuned

    positions = tf.data.Dataset.range(2**60)
    views = positions.map(lambda p: view(p % len(read), p // len(read)), num_parallel_calls=tf.data.AUTOTUNE)
    return untuned(views.batch(BATCH).prefetch(2))


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


def fed(batches: Any) -> Contender:
    return Contender(lambda folder: {RATE: rate(batches(Path(folder)))}, with_onednn(True))


def waiting(folder: str) -> dict[str, float]:
    """Train on the images as the recipe paper augments them, and time both halves of a step."""
    from keras_inception.config import RunConfig
    from keras_inception.data.dataset import TEST, TRAIN, VALIDATION, ImageDataset, file_split
    from keras_inception.training.devices import strategy
    from keras_inception.training.session import Training, resolved

    paths = sorted(Path(folder).iterdir())[:IMAGES]
    labels = [number % 2 for number in range(len(paths))]
    splits = {name: file_split(paths, labels) for name in (TRAIN, VALIDATION, TEST)}
    values = {"model.architecture": "googlenet-bn", "data.image_size": SIZE, "training.batch_size": TRAINED_BATCH}
    config = resolved(RunConfig.of_recipe("paper").override(values))
    dataset = ImageDataset("photographs", ("one", "other"), splits)
    job = Training(config, dataset, strategy("auto"), lambda done, total: None)
    job._enter(0, 0)
    batches, waited, seconds = iter(job._batches), 0.0, 0.0
    for step in range(WARM_UP_STEPS + STEPS):
        begun = time.perf_counter()
        batch = next(batches)
        came = time.perf_counter()
        job.model.train_on_batch(*batch)
        if step >= WARM_UP_STEPS:
            waited += came - begun
            seconds += time.perf_counter() - begun
    return {WAITING: waited / seconds}


def epoch(tuned: bool) -> Contender:
    """Return the contender that trains some epochs of digits, and gives the seconds of one: a mean."""

    def measure() -> dict[str, float]:
        import keras
        import tensorflow as tf

        from keras_inception.config import RunConfig
        from keras_inception.data.sources import load_dataset
        from keras_inception.training.devices import strategy
        from keras_inception.training.session import Training, resolved

        values = {"data.source": "digits", "data.image_size": 32, "training.batch_size": 32, "model.auxiliary": False}
        config = resolved(RunConfig().override(values | {"model.architecture": "googlenet-small", "model.width": 0.25}))
        job = Training(config, load_dataset(config.data), strategy("auto"), lambda done, total: None)
        if tuned:
            options = tf.data.Options()
            options.autotune.enabled = True
            job._batches, job._validation = (data.with_options(options) for data in (job._batches, job._validation))
        seconds = []
        for number in range(WARM_UP_EPOCHS + EPOCHS):
            begun = time.perf_counter()
            job.fit_epoch(number, 0, keras.callbacks.CallbackList([], add_history=True, model=job.model))
            seconds.append(time.perf_counter() - begun)
        return {SECONDS_OF_EPOCH: sum(seconds[WARM_UP_EPOCHS:]) / EPOCHS}

    return Contender(measure, with_onednn(True))


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


CONTENDERS = {kind: fed(batches) for kind, batches in KINDS.items()}
PART = Part(
    __file__,
    CONTENDERS | {WAITING: Contender(waiting, with_onednn(True)), EPOCH: epoch(tuned=False), TUNED: epoch(tuned=True)},
)


def show_rates(rates: dict[str, dict[str, list[float]]]) -> None:
    from rich.table import Table

    for title, columns, rows in (
        ("images/s, median [range]", list(KINDS), None),
        ("ratio of the same round, median [range]", None, RATIOS),
    ):
        table = Table("", *rates, title=title)
        for kind in columns or ():
            table.add_row(kind, *(middle(found[kind], ".0f") for found in rates.values()))
        for kind, other in rows or ():
            table.add_row(
                f"{kind} / {other}", *(middle(pairs(found[kind], found[other]), ".2f") for found in rates.values())
            )
        screen().print(table)


def compare(options: Options) -> Any:
    epochs = PART.take_turns([EPOCH, TUNED], options.rounds)
    with tempfile.TemporaryDirectory() as scratch:
        folders = {"ELPV, 300×300 px PNG": elpv(), "512×512 px JPEG": enlarged(elpv(), Path(scratch) / "jpeg")}
        rates: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in KINDS} for name in folders}
        waits: dict[str, list[float]] = {name: [] for name in folders}
        for number in range(options.rounds):
            for name, path in folders.items():
                for kind, found in rates[name].items():
                    found.append(PART.measured(kind, str(path))[RATE])
                    say(f"round {number + 1}/{options.rounds}, {name}: {kind} {found[-1]:.0f} images/s")
                waits[name].append(PART.measured(WAITING, str(path))[WAITING])
                say(f"round {number + 1}/{options.rounds}, {name}: {WAITING} {waits[name][-1]:.2%}")
    show_rates(rates)
    for name, shares in waits.items():
        say(f"{name}: {WAITING} {middle(shares, '.2%')}")
    show(epochs, SECONDS_OF_EPOCH, title=SECONDS_OF_EPOCH, over=EPOCH)
    panels = {f"{name}: {RATE}": found for name, found in rates.items()}
    drawn = panels | {SECONDS_OF_EPOCH: panel(epochs, SECONDS_OF_EPOCH)}
    return rates | {WAITING: waits, SECONDS_OF_EPOCH: epochs}, bars(drawn)


if __name__ == "__main__":
    PART.run(compare, Options)
