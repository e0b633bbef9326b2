"""The page of a run: how it went, what its best model takes for what, and all that is needed to repeat it."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_inception.architecture import Architecture
from keras_inception.config import RunConfig
from keras_inception.data.decode import printable
from keras_inception.report.mistakes import thumbnail
from keras_inception.report.page import Picture, Section, Table, write_page
from keras_inception.report.pictures import draw_confusion, draw_curves, draw_over_epochs
from keras_inception.run_folder import RunFolder
from keras_inception.runs import flat

#: From positions of images to uint8 `(positions, size, size, channels)`.
Views = Callable[[np.ndarray], np.ndarray]

_HARDEST = 24
_MAIN = "main"
_RATE = "learning_rate"
_DIFFERS = (
    "What is not as in the recipe comes first, with the recipe's own value in the last column: it was given, or "
    "follows from the architecture and the batch."
)
_FIGURES = {"loss": "loss", "top1": "top-1", "top5": "top-5"}


def write_run_report(
    folder: RunFolder,
    *,
    answers: np.ndarray | None,
    labels: np.ndarray | None,
    views: Views | None,
    names: Sequence[str] = (),
) -> None:
    """Write report.html from what stands in the folder so far, and from the answers of the best model.

    Args:
        folder: Of a run, in its middle or finished.
        answers: Probabilities for the validation images, of shape `(images, classes)`; None leaves out what they show.
        labels: Positions of the true classes, of shape `(images,)`; needed with `answers`.
        views: Makes the images at positions as the network sees them; None shows none.
        names: Of the images, as the hardest are called.
    """
    config, rows, classes = folder.config(), folder.metrics(), [printable(name) for name in folder.labels()]
    sections = [*_course(folder, rows)]
    if answers is not None and labels is not None:
        sections.append(_confusion(answers, labels, classes))
        if views is not None:
            sections.append(_hardest(answers, labels, classes, views, names))
        sections.append(_classes(answers, labels, classes))
    sections.append(Section("Configuration", _DIFFERS, [_configuration(config)]))
    if folder.data_json.exists():
        sections.append(Section("Data", "", [_listed(folder.data())]))
    if folder.environment_json.exists():
        sections.append(Section("Environment", "", [_listed(folder.environment())]))
    write_page(folder.report_html, title=config.name, lead=_lead(config, rows), sections=sections)


def _lead(config: RunConfig, rows: Sequence[dict[str, float]]) -> str:
    epochs = config.training.epochs
    done = int(rows[-1]["epoch"]) if rows else 0
    state = "Finished" if done >= epochs else "Not finished when this page was written"
    lines = [f"{state}: {done} of {epochs} epochs of the recipe {config.training.recipe!r}."]
    if rows:
        best = _best(rows)
        lines.append(f"Best top-1 on validation: {best['val_main_top1']:.1%}, in epoch {best['epoch']:.0f}.")
    return "\n\n".join(lines)


def _best(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return max(rows, key=lambda row: row["val_main_top1"])


def _course(folder: RunFolder, rows: Sequence[dict[str, float]]) -> Iterator[Section]:
    """Yield how the training went."""
    if not rows:
        return
    caption = "Loss and top-1 of every head: dashed in training, solid on validation"
    pictures = [_drawn(draw_curves, rows, caption=caption)]
    if _RATE in rows[0]:
        rates = [{"epoch": row["epoch"], _RATE: row[_RATE]} for row in rows]
        pictures.append(_drawn(draw_over_epochs, rates, caption="Learning rate after every epoch", quantity="rate"))
    yield Section("Curves", "", [_results(rows)], pictures)
    if norms := folder.gradients():
        caption = "Norm of the gradients of every row of the architecture: a mean over the steps of an epoch"
        norms = by_depth(norms, folder.architecture())
        picture = _drawn(draw_over_epochs, norms, caption=caption, quantity="norm", scale="log")
        yield Section("Gradients", "", [], [picture])


def _drawn(draw: Callable[..., None], *values: Any, caption: str, **more: str) -> Picture:
    """Return what one of the drawing functions writes."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "picture.png"
        draw(*values, path, title="", **more)
        return Picture(path.read_bytes(), caption)


def by_depth(norms: Sequence[dict[str, float]], architecture: Architecture) -> list[dict[str, float]]:
    """Put the columns into the order of the architecture's rows, with the outputs, main first, after them."""
    # A module's layers are called inception_3a_..., those of other rows after the row.
    known = [name for row in architecture.rows for name in (row.name, f"inception_{row.name}")]
    known += [_MAIN, *(head.name for head in architecture.auxiliary)]
    columns = [name for name in ("epoch", *known) if name in norms[0]]
    return [{name: row[name] for name in columns} for row in norms]


def _results(rows: Sequence[dict[str, float]]) -> Table:
    best, last = _best(rows), rows[-1]
    heads = [name.removesuffix("_top1") for name in last if name.endswith("_top1") and not name.startswith("val_")]
    table: list[list[str | float]] = [
        [f"{head}: {title}", best[f"val_{head}_{figure}"], last[f"val_{head}_{figure}"], last[f"{head}_{figure}"]]
        for head in sorted(heads, key=lambda head: head != _MAIN)
        for figure, title in _FIGURES.items()
        if f"{head}_{figure}" in last
    ]
    caption = f"On validation in the best epoch, {best['epoch']:.0f}, and in the last; on training in the last"
    return Table(["", "best", "last", "training"], table, caption)


def _confusion(answers: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Section:
    from sklearn.metrics import confusion_matrix

    guesses = answers.argmax(axis=1)
    matrix = confusion_matrix(labels, guesses, labels=range(len(classes)))
    picture = _drawn(draw_confusion, matrix, classes, caption="True classes in rows, answers in columns")
    text = f"The best model answers {np.mean(guesses == labels):.1%} of {len(labels):,} validation images rightly."
    return Section("Confusion", text, [], [picture])


def _classes(answers: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Section:
    from sklearn.metrics import precision_recall_fscore_support

    known = range(len(classes))
    *figures, images = precision_recall_fscore_support(labels, answers.argmax(axis=1), labels=known, zero_division=0)
    rows = [[name, int(count), *map(float, row)] for name, count, *row in zip(classes, images, *figures, strict=True)]
    return Section("Classes", "", [Table(["class", "images", "precision", "recall", "F1"], rows)])


def _hardest(
    answers: np.ndarray, labels: np.ndarray, classes: Sequence[str], views: Views, names: Sequence[str]
) -> Section:
    of_truth = answers[np.arange(len(labels)), labels]
    hardest = np.argsort(of_truth, kind="stable")[:_HARDEST]

    def picture(index: int, view: np.ndarray) -> Picture:
        guess = answers[index].argmax()
        truth = classes[labels[index]]
        said = (
            f"{truth}, answered with {of_truth[index]:.1%}"
            if guess == labels[index]
            else f"{truth} ({of_truth[index]:.1%}), taken for {classes[guess]} with {answers[index, guess]:.1%}"
        )
        name = f": {printable(Path(names[index]).name)}" if len(names) else ""
        return Picture(thumbnail(view), f"{said}{name}")

    pictures = [picture(index, view) for index, view in zip(hardest, views(hardest), strict=True)]
    text = (
        f"The {len(hardest)} validation images with the highest loss, as the network sees them: those whose true class "
        f"gets the lowest probability from the best model. Wrong labels are often among them."
    )
    return Section("Hardest images", text, [], pictures)


def _configuration(config: RunConfig) -> Table:
    of_recipe = flat(dataclasses.asdict(RunConfig.of_recipe(config.training.recipe)))
    rows = [
        [name, _written(value), "" if value == of_recipe[name] else _written(of_recipe[name])]
        for name, value in flat(dataclasses.asdict(config)).items()
        if name != "name"
    ]
    rows.sort(key=lambda row: not row[-1])
    return Table(["field", "value", f"recipe {config.training.recipe}, where it differs"], rows)


def _listed(tree: Mapping[str, Any]) -> Table:
    return Table(["", "value"], [[printable(name), _written(value)] for name, value in flat(tree).items()])


def _written(value: Any) -> str:
    """Return a value of a configuration as words."""
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_written, value))
    return printable(str(value))
