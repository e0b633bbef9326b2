"""The scoring of networks in a process of its own: `python -m keras_inception.tuning.scoring SEARCH_DIR`.

Tasks come as lines of JSON on stdin, what is said of them goes as lines of JSON to stdout. When stdin is closed, which
it is too when the search is killed, the process ends.
"""

import dataclasses
import functools
import json
import os
import queue
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_inception.architecture import WIDTHS, Architecture
from keras_inception.budget import LARGEST, Fitting, widened
from keras_inception.config import RunConfig
from keras_inception.data.dataset import TRAIN, VALIDATION, ImageDataset
from keras_inception.data.images import Images, check_broken, read_images
from keras_inception.data.pipeline import evaluation_batches, training_batches
from keras_inception.data.sources import load_dataset
from keras_inception.errors import DivergedError, InceptionError
from keras_inception.files import write_json, write_text, written_beside
from keras_inception.googlenet import MAIN
from keras_inception.run_folder import RunFolder
from keras_inception.training.optimizers import optimizer
from keras_inception.training.session import check_batch, resolved
from keras_inception.training.trainer import train
from keras_inception.tuning.config import SearchConfig
from keras_inception.tuning.folder import SearchFolder
from keras_inception.tuning.space import Point
from keras_inception.tuning.supernet import Supernet

Say = Callable[..., None]
#: Of the hyperparameters; none are those of the given network at its own cost.
Values = Mapping[str, float] | None

# The training images that batch normalisation is recalibrated on, their number, and images in a batch of scoring.
_CALIBRATION, _CALIBRATED, _BATCH = "calibration", 512, 64
# Networks drawn to see how small widths become.
_DRAWN = 100


class Inherited:
    """Scores networks with weights of one that is trained once, with other widths at every step.

    Args:
        config: The search.
        folder: Where the network is kept.
        say: Told of every epoch.
    """

    def __init__(self, config: SearchConfig, folder: SearchFolder, say: Say):
        self._config, self._say = config, say
        run = resolved(config.run)
        training = dataclasses.replace(run.training, epochs=config.supernet_epochs)
        self._run = dataclasses.replace(run, training=training)
        dataset = load_dataset(run.data)
        self._classes = len(dataset.classes)
        self._images = self._read(dataset)
        check_batch(training.batch_size, len(self._images[TRAIN]))
        self._batches = {part: self._pixels(part) for part in (_CALIBRATION, VALIDATION)}
        side = run.data.image_size
        assert side is not None
        shape = (side, side, run.data.channels)
        self._given, self._space = config.run.model.table(), config.space()
        self._fit = Fitting(self._given, folder.budget(config), shape, self._classes)
        largest = widened(self._space.table, lambda row, width: LARGEST)
        self.supernet = Supernet(largest, shape, self._classes, seed=run.training.seed)
        self._train(folder)

    def score(self, number: int, values: Values) -> tuple[int, int]:
        """Return how many validation images a network answers right, and of how many."""
        table, labels = self._table(values), self._images[VALIDATION].labels
        statistics = self.supernet.calibrated(table, self._batches[_CALIBRATION])
        answers = self.supernet.probabilities(table, statistics, self._batches[VALIDATION])
        return int((answers.argmax(axis=1) == labels).sum()), len(labels)

    def keep(self, number: int, values: Values, path: Path) -> None:
        """Write a network with its inherited weights as a .keras file."""
        table = self._table(values)
        statistics = self.supernet.calibrated(table, self._batches[_CALIBRATION])
        with written_beside(path) as beside:
            self.supernet.inherited(table, statistics).save(beside)

    def _read(self, dataset: ImageDataset) -> dict[str, Images]:
        data = self._run.data

        def progress(done: int, total: int) -> None:
            self._say(images=done, of=total)

        images = {
            TRAIN: read_images(dataset.splits[TRAIN], data, progress, whole=data.random_crop),
            VALIDATION: read_images(dataset.splits[VALIDATION], data, progress),
        }
        check_broken(images.values(), data.max_broken)
        images[_CALIBRATION] = read_images(dataset.splits[TRAIN].spread(_CALIBRATED), data)
        return images

    def _pixels(self, part: str) -> tf.data.Dataset:
        batches = evaluation_batches(
            self._images[part], self._run.data, batch_size=_BATCH, outputs=(), classes=self._classes
        )
        return batches.map(lambda pixels, labels, weights: pixels)

    def _table(self, values: Values) -> Architecture:
        return self._given if values is None else self._space.point(values, self._fit).architecture

    def _drawn(self, dice: random.Random) -> Architecture:
        return self._table({parameter.name: dice.choice(parameter.choices) for parameter in self._space.parameters})

    def _train(self, folder: SearchFolder) -> None:
        """Train the shared network, or go on training it from its last whole epoch."""
        training, images = self._run.training, self._images[TRAIN]
        steps = len(images) // training.batch_size
        made = optimizer(training, steps, "float32")
        made.build(self.supernet.network.trainable_variables)
        variables = [*self.supernet.network.variables, *made.variables]
        first = folder.trained_epochs()
        if first:
            _restore(folder.supernet, variables)
        epochs = folder.supernet_epochs()[:first]
        if first == training.epochs:
            return
        smallest = _smallest([self._drawn(random.Random(number)) for number in range(_DRAWN)])
        batches = training_batches(
            images,
            self._run.data,
            batch_size=training.batch_size,
            seed=training.seed,
            outputs=[MAIN],
            classes=self._classes,
            first_step=first * steps,
        )
        pairs = iter(batches.map(lambda pixels, labels, weights: (pixels, labels[MAIN])))
        for epoch in range(first, training.epochs):
            dice, losses, begun = random.Random(f"{training.seed} {epoch}"), np.zeros(steps), time.monotonic()
            self.supernet.train(
                pairs,
                steps,
                functools.partial(self._drawn, dice),
                smallest=smallest,
                optimizer=made,
                label_smoothing=training.label_smoothing,
                on_step=functools.partial(np.put, losses),
            )
            if not np.isfinite(losses).all():
                raise DivergedError(
                    f"the loss of the shared network is no number in epoch {epoch + 1}; begin again with a lower "
                    f"--learning-rate than {training.learning_rate:.4g}"
                )
            done = {"epoch": epoch + 1, "loss": float(losses.mean()), "seconds": time.monotonic() - begun}
            # What is told of the epoch comes first: killed between the two, it is trained and told again.
            write_json(folder.supernet_json, epochs := [*epochs, done])
            _save(folder.supernet, variables, epoch + 1)
            self._say(**done, epochs=training.epochs)


class FromScratch:
    """Scores networks by training each by itself; every one has a run folder.

    Args:
        config: The search.
        folder: Where the runs are.
        say: Told of every epoch.
    """

    def __init__(self, config: SearchConfig, folder: SearchFolder, say: Say):
        self._config, self._folder, self._say = config, folder, say

    def score(self, number: int, values: Values) -> tuple[int, int]:
        """Return how many validation images the best epoch of a network answers right, and of how many."""
        run = self._run(number, values)
        summary = train(run, self._folder.run(number), resume=True, callbacks=self._callbacks)
        images = summary["images"][VALIDATION]
        return round(summary["best"]["val_main_top1"] * images), images

    def keep(self, number: int, values: Values, path: Path) -> None:
        """Copy the weights of a network's best epoch to a .keras file."""
        with written_beside(path) as beside:
            shutil.copyfile(RunFolder(self._folder.run(number)).best_keras, beside)

    def _run(self, number: int, values: Values) -> RunConfig:
        """Return the configuration of a trial's training."""
        run = resolved(self._config.run)
        side = run.data.image_size
        assert side is not None
        path, given = self._folder.architecture(number), self._config.run.model.table()
        if values is None:
            write_text(path, given.to_json())
            return self._config.trained(path, Point(given), {"name": "given"})
        shape = (side, side, run.data.channels)
        fit = Fitting(given, self._folder.budget(self._config), shape, len(load_dataset(run.data).classes))
        point = self._config.space().point(values, fit)
        write_text(path, point.architecture.to_json())
        changes: dict[str, Any] = {"name": f"trial {number}"}
        if "tuner/epochs" in values:  # Hyperband's: a good trial goes on with more epochs
            changes["training.epochs"] = int(values["tuner/epochs"])
            if "tuner/trial_id" in values:
                changes["model.start_from"] = str(self._folder.run(int(values["tuner/trial_id"])))
        return self._config.trained(path, point, changes)

    def _callbacks(self, steps: int, batch_size: int, epoch: int, step: int) -> list[keras.callbacks.Callback]:
        def on_epoch_end(epoch: int, logs: dict[str, float]) -> None:
            self._say(epoch=epoch + 1, loss=logs["loss"])

        return [keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)]


def main(path: str) -> None:
    """Score what is asked for on stdin, until it is closed."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever libraries print
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_or_leave, args=(lines,), daemon=True).start()

    def say(**values: Any) -> None:
        print(json.dumps(values), file=out, flush=True)

    try:
        folder = SearchFolder(Path(path))
        config = folder.config()
        scorer = (FromScratch if config.from_scratch else Inherited)(config, folder, say)
        while True:
            task = json.loads(lines.get())
            begun = time.monotonic()
            if "prepare" in task:
                say(prepared=True)
            elif "keep" in task:
                scorer.keep(task["number"], task["values"], Path(task["keep"]))
                say(kept=True)
            else:
                right, images = scorer.score(task["number"], task["values"])
                say(right=right, of=images, seconds=time.monotonic() - begun)
    except InceptionError as error:
        say(error=str(error))


def _read_or_leave(lines: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def _smallest(tables: Sequence[Architecture]) -> Architecture:
    """Return the table whose widths are the smallest of all."""
    rows = []
    for same in zip(*(table.rows for table in tables), strict=True):
        widths = {name: min(getattr(row, name) for row in same) for name in WIDTHS.get(type(same[0]), ())}
        rows.append(dataclasses.replace(same[0], **widths))
    return dataclasses.replace(tables[0], rows=tuple(rows))


def _save(path: Path, variables: Sequence[keras.Variable], epochs: int) -> None:
    arrays = {f"{number:04}": variable.numpy() for number, variable in enumerate(variables)}
    with written_beside(path) as beside:
        np.savez(beside, allow_pickle=False, epochs=np.int64(epochs), **arrays)


def _restore(path: Path, variables: Sequence[keras.Variable]) -> None:
    with np.load(path) as saved:
        for number, variable in enumerate(variables):
            variable.assign(saved[f"{number:04}"])


if __name__ == "__main__":
    main(sys.argv[1])
