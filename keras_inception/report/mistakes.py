"""A page about an evaluation: its figures, and the mistakes that were made with the most confidence."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_inception.data.decode import printable
from keras_inception.report.page import Picture, Section, Table, write_page

# Longer side of a thumbnail, px.
_SIDE = 160

#: Figures of an evaluation, and what they are called.
FIGURES = {"top1": "top-1", "top5": "top-5", "macro_f1": "macro-F1", "log_loss": "log loss"}


@dataclass(frozen=True)
class Mistake:
    """A wrong answer.

    Args:
        image: The file.
        pixels: uint8 of shape `(height, width, channels)`.
        truth: The true class.
        answer: The answered class.
        probability: Of the answer.
    """

    image: str
    pixels: np.ndarray
    truth: str
    answer: str
    probability: float


def write_mistakes(
    path: Path, *, title: str, lead: str, result: Mapping[str, Any], mistakes: Sequence[Mistake], count: int
) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        title: Of the page.
        lead: What was measured.
        result: The figures, as in evaluation.json.
        mistakes: Those to show, the most confident first.
        count: How many there are in all.
    """
    text = f"{len(mistakes)} of {count:,} wrong answers, those of the highest probability first."
    sections = [
        Section("Figures", tables=[_figures(result)]),
        Section("Classes", tables=[_classes(result["per_class"])]),
        Section(
            "The most confident mistakes",
            text=text if mistakes else "Every answer is right.",
            pictures=[_picture(mistake) for mistake in mistakes],
        ),
    ]
    write_page(path, title=title, lead=lead, sections=sections)


def thumbnail(pixels: np.ndarray) -> bytes:
    """Return an image as a PNG of at most 160 px, or a smaller one enlarged by a whole number of times."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if max(image.size) > _SIDE:
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    else:  # each pixel as a square: a smooth enlargement would show what is not there
        times = _SIDE // max(image.size)
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _picture(mistake: Mistake) -> Picture:
    name = printable("/".join(Path(mistake.image).parts[-2:]))  # the predictions hold whole paths
    caption = f"{mistake.truth}, taken for {mistake.answer} with {mistake.probability:.1%}: {name}"
    return Picture(thumbnail(mistake.pixels), caption)


def _figures(result: Mapping[str, Any]) -> Table:
    intervals = result["intervals"]
    rows = [
        [title, result[name], *(("", "") if intervals[name] is None else intervals[name])]
        for name, title in FIGURES.items()
        if result[name] is not None
    ]
    rows.append(["expected calibration error", result["calibration"]["ece"], "", ""])
    for name, head in (result["heads"] or {}).items():
        rows += [[f"{name}: {FIGURES[figure]}", value, "", ""] for figure, value in head.items()]
    if rejection := result["rejection"]:
        rows.append([f"answered with a probability of at least {rejection['below']:g}", rejection["coverage"], "", ""])
        if rejection["top1"] is not None:
            rows.append(["top-1 of the answered", rejection["top1"], "", ""])
    return Table(["figure", "value", "95% interval from", "to"], rows)


def _classes(per_class: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = [[name, row["images"], row["precision"], row["recall"], row["f1"]] for name, row in per_class.items()]
    return Table(["class", "images", "precision", "recall", "F1"], rows)
