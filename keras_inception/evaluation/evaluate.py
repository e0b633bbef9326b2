"""Figures of a run over a split that it has not seen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_inception.data.dataset import TEST
from keras_inception.files import write_json
from keras_inception.predictor import open_run
from keras_inception.report import pictures
from keras_inception.run_folder import RunFolder

_BATCH = 32


def evaluate(
    run: str | Path, split: str = TEST, *, on_images: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Measure a run's best model on one of its splits, and write evaluation.json, confusion.json and confusion.png.

    Args:
        run: The run's folder; for another split than the test's, its name is added to the names of the files.
        split: "test", "validation" or "train".
        on_images: Called while images are read, with their number and that of all.

    Returns:
        Top-1, top-5 (where there are more than 5 classes), and precision, recall and number of images per class.

    Raises:
        RunError: There is no trained run.
        DataError: Its data are gone, or have other classes now.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

    from keras_inception.data.pipeline import evaluation_batches, read_split

    folder = RunFolder(Path(run))
    config, classes = folder.config(), folder.labels()
    predictor = open_run(run)
    images = read_split(config.data, classes, split, on_images)
    batches = evaluation_batches(images, config.data, batch_size=_BATCH, outputs=())
    probabilities = predictor.answers(inputs for inputs, _ in batches.as_numpy_iterator())
    labels = images.labels

    known = range(len(classes))
    guesses = probabilities.argmax(axis=1)
    matrix = confusion_matrix(labels, guesses, labels=known)
    precision, recall, _, support = precision_recall_fscore_support(labels, guesses, labels=known, zero_division=0)
    result: dict[str, Any] = {
        "split": split,
        "images": len(labels),
        "top1": float((guesses == labels).mean()),
        "top5": float(top_k_accuracy_score(labels, probabilities, k=5, labels=known)) if len(classes) > 5 else None,
        "per_class": {
            name: {"precision": float(precision[i]), "recall": float(recall[i]), "images": int(support[i])}
            for i, name in enumerate(classes)
        },
        "broken_images": list(images.broken),
    }
    suffix = "" if split == TEST else f"_{split}"
    write_json(folder.path / f"confusion{suffix}.json", {"classes": classes, "matrix": matrix.tolist()})
    title = f"{config.name}: top-1 {result['top1']:.1%} of {len(labels)} {split} images"
    pictures.draw_confusion(matrix, classes, folder.path / f"confusion{suffix}.png", title=title)
    write_json(folder.path / f"evaluation{suffix}.json", result)
    return result
