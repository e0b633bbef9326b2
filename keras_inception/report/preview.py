"""A picture of what the network sees of images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from keras_inception.report.pictures import entitle, save


def draw_preview(
    evaluation: np.ndarray, training: np.ndarray, captions: Sequence[str], path: Path, *, title: str
) -> None:
    """Draw a row for every image: as evaluation sees it, then as training sees it epoch by epoch.

    Args:
        evaluation: uint8 `(images, size, size, channels)`.
        training: uint8 `(images, epochs, size, size, channels)`.
        captions: Of each image, such as its label.
        path: The PNG to write.
        title: Written above.
    """
    rows, columns = len(evaluation), 1 + training.shape[1]
    figure = Figure(figsize=(1.5 * columns, 1.72 * rows + 0.5), layout="constrained")
    entitle(figure, title)
    grid = figure.subplots(rows, columns, squeeze=False)
    for row, (axes, first, others, caption) in enumerate(zip(grid, evaluation, training, captions, strict=True)):
        for column, (cell, view) in enumerate(zip(axes, [first, *others], strict=True)):
            cell.imshow(view if view.shape[-1] == 3 else view[..., 0], cmap="gray", vmin=0, vmax=255)
            cell.set_xticks([])
            cell.set_yticks([])
            if row == 0:
                cell.set_title("evaluation" if column == 0 else f"epoch {column}", fontsize=9)
        axes[0].set_xlabel(caption if len(caption) <= 24 else f"{caption[:23]}…", fontsize=9, parse_math=False)
    save(figure, path)
