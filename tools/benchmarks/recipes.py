"""What helps: trainings that differ from one baseline in one thing each, and torchvision's GoogLeNet beside ours.

Every row of a table is trained with several seeds; all that is chosen (the best epoch) is chosen on the validation
split, and the test split is answered once by what was chosen. For tools/benchmark.
"""

import dataclasses
import gzip
import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rounds  # tools/benchmarks/rounds.py, beside this file
import tyro

from keras_inception.config import RunConfig
from keras_inception.data.dataset import TEST, TRAIN, VALIDATION, ImageDataset
from keras_inception.evaluation.over_seeds import SEEDS, spread

CLOTHES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot")

# ---------------------------------------------------------------------------------------------------------------------
# What is trained on
# ---------------------------------------------------------------------------------------------------------------------


def elpv(files: Path) -> ImageDataset:
    from keras_inception.data.sources import load_dataset

    return load_dataset(RunConfig().override({"data.source": "elpv"}).data)


def fashion_subset(files: Path) -> ImageDataset:
    """Return 2,000 images for training and 1,000 for validation from Fashion-MNIST's 60,000, and 2,000 for the test."""
    parts = []
    for kind, counts in (("train", {TRAIN: 200, VALIDATION: 100}), ("t10k", {TEST: 200})):
        images = idx(files / f"{kind}-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28)
        labels = idx(files / f"{kind}-labels-idx1-ubyte.gz", header=8)
        of_class = [np.flatnonzero(labels == label) for label in range(10)]
        first = 0
        for split, count in counts.items():
            chosen = np.sort(np.concatenate([places[first : first + count] for places in of_class]))
            parts.append((images[chosen], labels[chosen], [split] * len(chosen)))
            first += count
    images, labels, splits = zip(*parts, strict=True)
    return ImageDataset.from_arrays(
        np.concatenate(images),
        np.concatenate(labels),
        classes=CLOTHES,
        name="Fashion-MNIST, a subset",
        splits=[split for part in splits for split in part],
    )


def idx(path: Path, header: int) -> np.ndarray:
    """Return the bytes of one of Fashion-MNIST's files without its header."""
    if not path.exists():
        sys.exit(f"there is no {path}; install Debian's dataset-fashion-mnist, or name --fashion-mnist FOLDER")
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


# ---------------------------------------------------------------------------------------------------------------------
# The tables
# ---------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of trainings on one data set.

    Args:
        title: Of the table.
        images: Makes the data set, from the folder of Fashion-MNIST.
        base: What all rows have.
        rows: What a row changes; "recipe" names the recipe it starts from, "trainer" what trains.
    """

    title: str
    images: Callable[[Path], ImageDataset]
    base: dict[str, Any]
    rows: dict[str, dict[str, Any]]


WHOLE_IMAGES: dict[str, Any] = {"data.random_crop": False}
CELLS = {"data.flip_vertical": True, "data.brightness": 0.2, "data.contrast": 0.3}  # as in tools/demo
NO_HEADS = {"model.auxiliary": False}
# A rate at which every normalisation learns; modern's own, 3.6 times as high, is for batch normalisation alone.
EQUAL = WHOLE_IMAGES | {"training.reference_rate": 0.1}
FAST: dict[str, Any] = {"training.reference_rate": 0.4}
# LRN and no normalisation have biases, and the table's other values, alike.
LRN: dict[str, Any] = {"model.normalization": "lrn"}
NONE: dict[str, Any] = {"model.normalization": "none"}

# The recipes as they are named come with the paper's sampling of patches; all others see whole images.
ROWS: dict[str, dict[str, Any]] = {
    "baseline: BN, heads, EMA": EQUAL,
    "BN, no heads": EQUAL | NO_HEADS,
    "LRN, heads": EQUAL | LRN,
    "LRN, no heads": EQUAL | LRN | NO_HEADS,
    "no normalisation, heads": EQUAL | NONE,
    "no normalisation, no heads": EQUAL | NONE | NO_HEADS,
    "no EMA": EQUAL | {"training.average": 0},
    "recipe modern, as named": {},
    "recipe paper, as named": {"recipe": "paper"},
}
# Whether modern should have them; after the others, as far as time goes.
CANDIDATES: dict[str, dict[str, Any]] = {
    "rate × 4": EQUAL | FAST,
    "rate × 4, no heads": EQUAL | FAST | NO_HEADS,
    "rate × 4, no EMA": EQUAL | FAST | {"training.average": 0},
    "mixup 0.2": EQUAL | {"data.mixup": 0.2},
    "CutMix 1": EQUAL | {"data.cutmix": 1.0},
    "RandAugment 2, 9": EQUAL | {"data.randaugment": 2},
    "random erasing 0.1": EQUAL | {"data.random_erasing": 0.1},
}

TABLES = {
    "elpv": Table(
        "ELPV at 96 px, width 0.25, 16 epochs of 1,504 images",
        elpv,
        CELLS | {"model.width": 0.25, "data.image_size": 96, "training.epochs": 16},
        ROWS | CANDIDATES,
    ),
    "fashion": Table(
        "Fashion-MNIST at 28 px, googlenet-small at width 0.25, 12 epochs of 2,000 images",
        fashion_subset,
        {
            "model.architecture": "googlenet-small",
            "model.width": 0.25,
            "data.image_size": 28,
            "training.epochs": 12,
        },
        ROWS | {"recipe paper, as named": {"recipe": "paper"} | LRN} | CANDIDATES,
    ),
    "torchvision": Table(
        "googlenet-bn and torchvision's, ELPV at 96 px, 10 epochs of 1,504 images",
        elpv,
        CELLS | WHOLE_IMAGES | {"data.image_size": 96, "training.epochs": 10},
        {"googlenet-bn": {}, "torchvision": {"trainer": "torchvision"}},
    ),
}


def configuration(table: Table, row: str, seed: int) -> RunConfig:
    changes = {name: value for name, value in table.rows[row].items() if name not in ("recipe", "trainer")}
    recipe = RunConfig.of_recipe(table.rows[row].get("recipe", "modern"))
    # A row keeps its recipe's architecture, but for the small one.
    return recipe.override(table.base | changes | {"training.seed": seed, "training.devices": "cpu:1"})


# ---------------------------------------------------------------------------------------------------------------------
# One training, in a process of its own
# ---------------------------------------------------------------------------------------------------------------------


def train_one(table: Table, row: str, seed: int, folder: Path, files: Path) -> None:
    """Train, or go on training, and write the top-1 of validation and test beside the run."""
    config, dataset = configuration(table, row, seed), table.images(files)
    trainer = train_torchvision if table.rows[row].get("trainer") else train_ours
    begun = time.monotonic()
    result = trainer(config, dataset, folder)
    result["seconds"] = round(time.monotonic() - begun)
    beside = folder.with_suffix(".part")
    beside.write_text(json.dumps(result) + "\n")
    beside.rename(folder.with_suffix(".json"))


def train_ours(config: RunConfig, dataset: ImageDataset, folder: Path) -> dict[str, Any]:
    from keras_inception.data.images import read_images
    from keras_inception.data.pipeline import evaluation_batches
    from keras_inception.predictor import open_run
    from keras_inception.training.trainer import train

    best = train(config, folder, resume=True, save_every="2m", dataset=dataset)["best"]
    images = read_images(dataset.splits[TEST], config.data)
    batches = evaluation_batches(images, config.data, batch_size=64, outputs=(), classes=1)
    answers = open_run(folder).answers(batch[0] for batch in batches.as_numpy_iterator())
    return {
        "epoch": best["epoch"],
        VALIDATION: best["val_main_top1"],
        TEST: float((answers.argmax(axis=1) == images.labels).mean()),
    }


def train_torchvision(config: RunConfig, dataset: ImageDataset, folder: Path) -> dict[str, Any]:
    """Train torchvision's GoogLeNet on the same batches, by the same recipe."""
    import torch
    from torchvision.models import googlenet

    from keras_inception.data.images import read_images
    from keras_inception.data.pipeline import training_batches
    from keras_inception.training.session import resolved

    config = resolved(config)
    training, classes = config.training, len(dataset.classes)
    assert training.learning_rate is not None
    torch.manual_seed(training.seed)
    network = googlenet(weights=None, num_classes=classes, aux_logits=True, transform_input=False, init_weights=True)
    network = network.to(memory_format=torch.channels_last)
    kernels = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=training.momentum, nesterov=training.nesterov)
    taken = 0

    def approach(average: Any, value: Any, count: Any) -> Any:
        decay = min(training.average, (1 + taken) / (10 + taken))
        return decay * average + (1 - decay) * value

    averaged = torch.optim.swa_utils.AveragedModel(network, avg_fn=approach, use_buffers=True)
    images = {name: read_images(dataset.splits[name], config.data) for name in (TRAIN, VALIDATION, TEST)}
    steps = len(images[TRAIN]) // training.batch_size
    batches = training_batches(
        images[TRAIN],
        config.data,
        batch_size=training.batch_size,
        seed=training.seed,
        outputs=["main"],
        classes=classes,
    ).as_numpy_iterator()
    best: dict[str, Any] = {VALIDATION: -1.0}
    for epoch in range(training.epochs):
        network.train()
        for _ in range(steps):
            pixels, labels, _ = next(batches)
            for group in optimizer.param_groups:
                group["lr"] = rate(config, taken, steps)
            soft = torch.from_numpy(labels["main"].copy())
            outputs = network(torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2))
            losses = [
                torch.nn.functional.cross_entropy(logits, soft, label_smoothing=training.label_smoothing)
                for logits in outputs
            ]
            # The two heads weigh the same, so that the order of torchvision's outputs does not count.
            loss = sum(weight * value for weight, value in zip(training.loss_weights, losses, strict=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            taken += 1
            averaged.update_parameters(network)
        measured = {name: top1(averaged, images[name], config) for name in (VALIDATION,)}
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}, validation {measured[VALIDATION]:.4f}", flush=True)
        if measured[VALIDATION] > best[VALIDATION]:
            best = {"epoch": epoch + 1, **measured, "weights": {k: v.clone() for k, v in averaged.state_dict().items()}}
    averaged.load_state_dict(best.pop("weights"))
    return best | {TEST: top1(averaged, images[TEST], config)}


def rate(config: RunConfig, step: int, steps: int) -> float:
    """Return the learning rate of a step: the same as ours has."""
    from keras_inception.training.optimizers import Schedule

    return float(Schedule(config.training, steps)(step))


def top1(model: Any, images: Any, config: RunConfig) -> float:
    import torch

    from keras_inception.data.pipeline import evaluation_batches

    model.eval()
    with torch.no_grad():
        answers = [
            model(torch.from_numpy(batch[0].copy()).permute(0, 3, 1, 2)).argmax(dim=1).numpy()
            for batch in evaluation_batches(
                images, config.data, batch_size=64, outputs=(), classes=1
            ).as_numpy_iterator()
        ]
    return float((np.concatenate(answers) == images.labels).mean())


# ---------------------------------------------------------------------------------------------------------------------
# All trainings, and what came out
# ---------------------------------------------------------------------------------------------------------------------


def trainings(name: str) -> Iterator[tuple[str, int]]:
    """Yield rows and seeds, all rows with all seeds before the candidates."""
    rows = TABLES[name].rows
    for group in ([row for row in rows if row not in CANDIDATES], [row for row in rows if row in CANDIDATES]):
        for seed in SEEDS:
            for row in group:
                yield row, seed


def place(folder: Path, name: str, row: str, seed: int) -> Path:
    slug = "".join(letter if letter.isalnum() else "-" for letter in row)
    return folder / name / f"{slug}-seed{seed}"


def run_all(name: str, folder: Path, files: Path, minutes: float) -> None:
    """Train what has no result yet, one training on each core, until the time is up."""
    deadline = time.monotonic() + 60 * minutes
    cores: queue.Queue[int] = queue.Queue()
    for core in sorted(os.sched_getaffinity(0)):
        cores.put(core)

    def train(row: str, seed: int) -> None:
        run = place(folder, name, row, seed)
        if time.monotonic() > deadline or run.with_suffix(".json").exists():
            return
        run.parent.mkdir(parents=True, exist_ok=True)
        core = cores.get()
        words = ["--table", name, "--one", row, "--seed", str(seed), "--folder", str(folder)]
        with open(run.with_suffix(".log"), "a") as log:
            done = subprocess.run(
                ["taskset", "--cpu-list", str(core), sys.executable, __file__, *words, "--fashion-mnist", str(files)],
                stdout=log,
                stderr=log,
            )
        cores.put(core)
        print(
            f"{name}: {row}, seed {seed}: {_said(run) if done.returncode == 0 else f'failed, see {run}.log'}",
            flush=True,
        )

    with ThreadPoolExecutor(cores.qsize()) as pool:
        list(pool.map(lambda training: train(*training), trainings(name)))


def _said(run: Path) -> str:
    result = json.loads(run.with_suffix(".json").read_text())
    return (
        f"validation {result[VALIDATION]:.1%} (epoch {result['epoch']:.0f}), test {result[TEST]:.1%}, "
        f"{result['seconds']} s"
    )


def show(name: str, folder: Path) -> None:
    """Print mean ± standard deviation over the seeds of every row, and of the differences to the first row's."""
    from rich.table import Table as Shown

    table = TABLES[name]
    results = {
        row: {
            seed: json.loads(path.read_text())
            for seed in SEEDS
            if (path := place(folder, name, row, seed).with_suffix(".json")).exists()
        }
        for row in table.rows
    }
    first = next(iter(results.values()))
    shown = Shown("", "validation", "test", "validation − first row's", "test − first row's", title=table.title)
    for row, found in results.items():
        if not found:
            shown.add_row(row, "not yet run")
            continue
        pairs = [seed for seed in found if seed in first]
        cells = [spread([result[split] for result in found.values()]) for split in (VALIDATION, TEST)]
        if pairs:
            cells += [
                spread([found[seed][split] - first[seed][split] for seed in pairs], "+") for split in (VALIDATION, TEST)
            ]
        missing = "" if len(found) == len(SEEDS) else f" ({len(found)} of {len(SEEDS)} seeds)"
        shown.add_row(f"{row}{missing}", *cells)
    rounds.screen().print(shown)


def main(
    table: Literal["elpv", "fashion", "torchvision", "all"] = "all",
    folder: Path = Path("benchmark-recipes"),
    minutes: float = 60,
    fashion_mnist: Path = Path("/usr/share/datasets/fashion-mnist"),
    one: str | None = None,
    seed: int = 0,
) -> None:
    """Train the rows of tables with three seeds each and print mean ± standard deviation of top-1 in %.

    Stopped at any moment, the same command goes on; what is finished is not trained again.

    Args:
        table: Which one.
        folder: Where the runs are kept.
        minutes: For each table; no further training is begun after it.
        fashion_mnist: Folder with the four files of Fashion-MNIST, as Debian's dataset-fashion-mnist installs them.
        one: This row alone, with --seed, in this process.
        seed: With --one.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if one:
        train_one(TABLES[table], one, seed, place(folder, table, one, seed), fashion_mnist)
        return
    names = list(TABLES) if table == "all" else [table]
    for name in names:
        run_all(name, folder, fashion_mnist, minutes)
    for name in names:
        show(name, folder)
    rounds.say(rounds.machine())


if __name__ == "__main__":
    tyro.cli(main)
