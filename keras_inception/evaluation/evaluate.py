"""Figures of a model, or of several as an ensemble, over images that they have not seen."""

import functools
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keras_inception.card import Card, kind_of, read_card
from keras_inception.config import DataConfig
from keras_inception.data.dataset import TEST
from keras_inception.data.decode import printable
from keras_inception.data.sources import folder_split, is_tfds, load_dataset
from keras_inception.errors import DataError, RunError
from keras_inception.evaluation.answers import answers_of_models
from keras_inception.evaluation.figures import FIGURES, figures, head_figures, rejection
from keras_inception.evaluation.images import check_own_images, same_classes, same_images
from keras_inception.evaluation.predictions import check_below, likeliest, write_predictions
from keras_inception.files import folder_written_beside, write_json
from keras_inception.predictor import Predictor, open_heads, open_model
from keras_inception.report import pictures
from keras_inception.report.mistakes import Mistake, write_mistakes
from keras_inception.weights.imagenet import names_on_disk

if TYPE_CHECKING:
    from keras_inception.data.crops import Crops
    from keras_inception.data.images import Images

# Labels of each image in the predictions.
_TOP = 5
# Mistakes on the page.
_SHOWN = 40


def evaluate(
    runs: str | Path | Sequence[str | Path],
    split: str = TEST,
    *,
    crops: "Crops" = 1,
    heads: bool = False,
    data: str | Path | None = None,
    reject_below: float | None = None,
    predictions: Literal["csv", "parquet"] = "csv",
    output: str | Path | None = None,
    on_images: Callable[[int, int], None] = lambda done, total: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure a run's best model, an exported file, or the mean of several, and write a folder about it.

    The softmax is averaged over the crops of an image, then over runs. The folder holds evaluation.json (what is
    returned), the predictions and, of labelled images, confusion.png, reliability.png and mistakes.html; it takes the
    place of an earlier one when all is written.

    Args:
        runs: A run's folder or an exported file, or several that have the same classes and images; each sees them by
            its own preprocessing.
        split: "test", "validation" or "train"; without meaning where `data` is a folder.
        crops: 1, 10 or 144 of each image, as in `data.crops.test_crops`.
        heads: Measure the auxiliary heads too.
        data: A folder of other images: in folders named by some of the classes, or without labels; or the name of a
            TFDS set with the same classes. Of weights trained on ImageNet the classes may be WordNet's numbers, such as
            n01440764. Exported files and published weights need it.
        reject_below: An answer of a lower probability counts as none of the classes.
        predictions: What the predictions are written as.
        output: The folder; by default "evaluation" in the run's, with the name of the data, the split and the crops in
            its name where they are others. Several runs, and exported files, need it.
        on_images: Called while images are read, with their number and that of all.
        on_progress: Called while images are answered, with their number and that of all; runs count apart.

    Returns:
        The figures of `figures.figures` (None without labels) and: `runs`, `split` and `data` (one of them None),
        `crops`, `classes`, `images`, `heads` (name to top-1 and log loss, None unless asked for), `rejection` (None
        unless asked for), `answers` (how often each class was answered), `broken_images`, `seconds` and
        `images_per_second` (of the crops and answers of all runs; neither reading into memory nor building the models
        is part of it).

    Raises:
        RunError: There is no trained run, runs differ in their classes, there are no heads, `output` is needed or holds
            something else, or the folder by default holds the evaluation of other images of that name.
        DataError: The images are gone or not the same for all runs, or their classes are others now.
    """
    cards = [read_card(path) for path in _paths(runs)]
    check_below(reject_below)
    classes = same_classes(cards)
    target = evaluation_folder(runs, split, crops, data, output)
    _check_replaceable(target)
    if data is None:
        check_own_images(cards, "give --data a folder")
    elif output is None:
        _check_same_images(target, data)
    names, predictors = _predictors(cards, heads)
    images, labelled = _images(cards, split, crops, data, on_images)
    labels = images[0].labels if labelled else None
    if heads and labels is None:
        raise DataError("the images have no labels to measure the heads by; leave out --heads")
    for card, predictor in zip(cards, predictors, strict=True):
        _trace(card.data, predictor)
    start = time.perf_counter()
    answers = functools.reduce(np.add, answers_of_models(cards, predictors, images, crops, on_progress)) / len(cards)
    seconds = time.perf_counter() - start

    main = answers[:, 0] if heads else answers
    counts = np.bincount(main.argmax(axis=1), minlength=len(classes)).tolist()
    result: dict[str, Any] = {
        "runs": [str(card.path) for card in cards],
        "split": split if _has_splits(data) else None,
        "data": str(data) if data else None,
        "crops": crops,
        "classes": list(classes),
        "images": len(main),
        **(dict.fromkeys(FIGURES) if labels is None else figures(labels, main, classes)),
        "heads": None,
        "rejection": None if reject_below is None else rejection(labels, main, reject_below),
        "answers": dict(zip(classes, counts, strict=True)),
        "broken_images": list(images[0].broken),
        "seconds": seconds,
        "images_per_second": len(main) / seconds,
    }
    if heads and labels is not None:
        result["heads"] = {name: head_figures(labels, answers[:, place]) for place, name in enumerate(names)}
    with folder_written_beside(target) as new:
        table = likeliest(images[0].names, main, classes, _TOP, reject_below, labels)
        write_predictions(new / f"predictions.{predictions}", table)
        if labels is not None:
            _draw(new, cards, images[0], main, result)
        write_json(new / "evaluation.json", result)
    return result


def evaluation_folder(
    runs: str | Path | Sequence[str | Path],
    split: str = TEST,
    crops: int = 1,
    data: str | Path | None = None,
    output: str | Path | None = None,
) -> Path:
    """Return the folder that `evaluate` writes; raises RunError where no run's folder can hold it, nor is `output`."""
    if output is not None:
        return Path(output)
    paths = _paths(runs)
    if len(paths) > 1:
        raise RunError("several runs have no folder in common; give --output a folder")
    if kind_of(paths[0]) != "run":
        raise RunError(f"{str(paths[0])!r} is no run and holds no evaluations; give --output a folder")
    words = ["evaluation"]
    if data is not None:
        words += ["of", Path(data).resolve().name]
    if split != TEST and _has_splits(data):
        words.append(split)
    if crops > 1:
        words.append(f"{crops}crops")
    return paths[0] / "_".join(words)


def _paths(runs: str | Path | Sequence[str | Path]) -> list[Path]:
    return [Path(run) for run in ([runs] if isinstance(runs, str | Path) else runs)]


def _has_splits(data: str | Path | None) -> bool:
    """Return whether data are the run's own or a TFDS set; a folder is one lot of images."""
    return data is None or is_tfds(str(data))


def _check_replaceable(target: Path) -> None:
    """Raise RunError where the folder holds what is no evaluation: it would be lost."""
    if target.is_dir() and any(target.iterdir()) and not (target / "evaluation.json").is_file():
        raise RunError(f"{str(target)!r} holds something else than an evaluation; give --output another folder")
    if target.exists() and not target.is_dir():
        raise RunError(f"{str(target)!r} is a file; give --output a folder")


def _check_same_images(target: Path, data: str | Path) -> None:
    """Raise RunError where the folder holds the evaluation of others that have the name of these."""
    try:
        measured = str(json.loads((target / "evaluation.json").read_text(encoding="utf-8"))["data"])
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or none that can be read
        return
    if Path(measured).resolve() != Path(data).resolve():
        raise RunError(f"{str(target)!r} holds the evaluation of {measured!r}; give --output another folder")


def _predictors(cards: Sequence[Card], heads: bool) -> tuple[tuple[str, ...], list[Predictor]]:
    """Open the models; return the names of their outputs too."""
    if not heads:
        return ("main",), [open_model(card.path) for card in cards]
    opened = [open_heads(card.path) for card in cards]
    names = opened[0][0]
    for card, (others, _) in zip(cards, opened, strict=True):
        if others != names:
            raise RunError(f"{str(card.path)!r} has the heads {', '.join(others)}, not {', '.join(names)}")
    return names, [predictor for _, predictor in opened]


def _images(
    cards: Sequence[Card],
    split: str,
    crops: int,
    data: str | Path | None,
    on_images: Callable[[int, int], None],
) -> tuple[list["Images"], bool]:
    """Read the images as every model wants them; return whether they are labelled too."""
    from keras_inception.data.images import read_images, read_split

    classes = cards[0].labels
    if data is None:
        read = functools.partial(read_split, classes=classes, split=split, on_progress=on_images, whole=crops > 1)
        return same_images(cards, read), True
    if is_tfds(str(data)):
        dataset = load_dataset(DataConfig(source=str(data)))
        if dataset.classes != names_on_disk(classes, dataset.classes):
            raise DataError(f"the classes of {str(data)!r} are not those of the model; give --data a set that has them")
        others, labelled = dataset.splits[split], True
    else:
        # What may not be read is refused below.
        found = os.listdir(data) if os.path.isdir(data) and os.access(data, os.R_OK) else []
        others, labelled = folder_split(Path(data), names_on_disk(classes, found))
    return same_images(cards, lambda config: read_images(others, config, on_images, whole=crops > 1)), labelled


def _trace(config: DataConfig, predictor: Predictor) -> None:
    """Let a model answer once: the first time it is traced, which is no part of its speed."""
    from keras_inception.data.crops import network_side

    side = network_side(config)
    predictor.probabilities(np.zeros((1, side, side, config.channels), np.float32))


def _draw(
    folder: Path, cards: Sequence[Card], images: "Images", probabilities: np.ndarray, result: dict[str, Any]
) -> None:
    """Write the pictures and the page of a labelled evaluation."""
    names = " + ".join(card.name for card in cards)
    what = f"{len(images):,} {result['split'] or printable(str(result['data']))} images"
    seen = "1 crop" if result["crops"] == 1 else f"{result['crops']} crops each"
    title = f"{names}: top-1 {result['top1']:.1%} of {what}"
    matrix, calibration = np.asarray(result["confusion"]), result["calibration"]
    pictures.draw_confusion(matrix, result["classes"], folder / "confusion.png", title=title)
    pictures.draw_reliability(
        calibration["bins"],
        folder / "reliability.png",
        title=f"{names}: ECE {calibration['ece']:.1%} of {what}",
    )
    guesses, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(guesses != images.labels)
    worst = wrong[np.argsort(-confidences[wrong], kind="stable")][:_SHOWN]
    write_mistakes(
        folder / "mistakes.html",
        title=f"Evaluation of {names}",
        lead=f"{what}, {seen}: top-1 {result['top1']:.1%}.",
        result=result,
        mistakes=[
            Mistake(
                image=images.names[index],
                pixels=images.image(index).numpy(),
                truth=result["classes"][images.labels[index]],
                answer=result["classes"][guesses[index]],
                probability=float(confidences[index]),
            )
            for index in worst
        ],
        count=len(wrong),
    )
