"""What came of an ablation, as tables, pictures and a page; the tables are those that a terminal shows too."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from keras_inception.analysis.ablation import LEVEL, Question, Result, epochs_to_level
from keras_inception.evaluation.over_seeds import spread
from keras_inception.files import write_json
from keras_inception.report.page import Picture, Section, Table, write_page
from keras_inception.report.pictures import entitle, save, whole_numbers

#: The questions as headings, and what their networks are.
_ASKED: dict[Question, tuple[str, str]] = {
    "reduction": (
        "How narrow may reductions be?",
        "The 1×1 in front of the 3×3 and the 5×5 of every module, multiplied and rounded, at least 1; in the end of "
        "one channel each. The stem and the pool's projection stay as they are.",
    ),
    "naive": (
        "Are reductions needed?",
        "3×3 and 5×5 stand on the module's input itself, as in figure 2a of arXiv:1409.4842. The pool keeps its "
        "projection, which figure 2a does not have: without it channels pile up, which is a question of its own, and "
        "outputs would not be equal.",
    ),
    "plain": (
        "Do branches help?",
        "In place of every module one 3×3 convolution, or two one after the other, which are as deep as a module; "
        "their filters are its output channels times one factor, the largest with which the network costs no more "
        "multiply-adds than the given one.",
    ),
    "classifier": (
        "What does averaging save?",
        "A fully connected layer of as many units as the last map has channels, on the whole map, in place of the "
        "global average. Training images that it knows and validation images that it does not tell of overfitting.",
    ),
    "projection": (
        "Does the pool need its projection?",
        "The pool of every module hands on all channels of its input, so that they pile up from module to module.",
    ),
}
_SPLITS = {"train": ("training", "0.6"), "validation": ("validation", "tab:blue"), "test": ("test", "tab:orange")}


def ablation_tables(results: Sequence[Result]) -> list[Table]:
    """Return a table for every question: the given network first, then its others.

    Args:
        results: The first is the given network's.
    """
    epochs = dict(zip([one.variant.slug for one in results], epochs_to_level(results), strict=True))
    columns = ["network", "multiply-adds", "parameters", "training", "validation", "test", "test − given's", "epochs"]
    return [
        Table(
            columns,
            [_row(one, results[0], epochs[one.variant.slug]) for one in (results[0], *of_question)],
            _ASKED[question][0],
        )
        for question, of_question in _by_question(results).items()
    ]


def write_ablation(folder: Path, results: Sequence[Result], *, title: str, lead: str) -> Path:
    """Write ablation.html, with accuracy.png, epochs.png and ablation.json.

    Args:
        folder: Where.
        results: The first is the given network's; at least one training has ended.
        title: Of the page.
        lead: What a reader should know first.

    Returns:
        The page.
    """
    draw_accuracy(results, folder / "accuracy.png", title=title)
    draw_epochs(results, folder / "epochs.png", title=title)
    captions = {
        "accuracy": "Top-1 of every network: means with standard deviations, and every seed as a dot",
        "epochs": "Top-1 on validation over epochs: means, and as a band from the lowest to the highest seed",
    }
    pictures = [Picture((folder / f"{name}.png").read_bytes(), caption) for name, caption in captions.items()]
    sections = [Section("Pictures", "", [], pictures)]
    for (question, _), table in zip(_by_question(results).items(), ablation_tables(results), strict=True):
        sections.append(Section(_ASKED[question][0], _ASKED[question][1], [Table(table.columns, table.rows)]))
    write_page(folder / "ablation.html", title=title, lead=f"{lead}\n\n{legend(results)}", sections=sections)
    write_json(folder / "ablation.json", [_values(one) for one in results])
    return folder / "ablation.html"


def legend(results: Sequence[Result]) -> str:
    """Return what the columns of the tables mean."""
    seeds = max(len(one.seeds) for one in results)
    return (
        f"Top-1 in %, mean ± standard deviation over {seeds} seed{'s' * (seeds != 1)} (their number in brackets where "
        f"fewer are done), of the weights of the best epoch on validation; training is on the training images as "
        f"evaluation sees them, without dropout. The difference is between trainings of the same seed. epochs: the "
        f"first whose mean top-1 on validation is {LEVEL:.0%} of the given network's best."
    )


def draw_accuracy(results: Sequence[Result], path: Path, *, title: str) -> None:
    """Draw top-1 of every network on training, validation and test images: mean, standard deviation and every seed.

    Args:
        results: The first is the given network's.
        path: The PNG to write.
        title: Written above.
    """
    done = [one for one in results if one.seeds]
    figure = Figure(figsize=(9, 1.6 + 0.42 * len(done)), layout="constrained")
    entitle(figure, title)
    axes = figure.subplots()
    for shift, (split, (label, color)) in zip((-0.22, 0, 0.22), _SPLITS.items(), strict=True):
        for place, one in enumerate(done):
            values, height = 100 * np.asarray(getattr(one, split)), place + shift
            error = values.std(ddof=1) if len(values) > 1 else 0
            axes.plot(values, [height] * len(values), ".", color=color, markersize=4, alpha=0.6)
            axes.errorbar(
                values.mean(), height, xerr=error, fmt="o", color=color, capsize=3, label=label if not place else None
            )
        axes.axvline(100 * np.mean(getattr(done[0], split)), color=color, linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(done)), [one.variant.name for one in done], parse_math=False)
    axes.invert_yaxis()
    axes.set(xlabel="top-1, %; dashed: the first network's")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path)


def draw_epochs(results: Sequence[Result], path: Path, *, title: str) -> None:
    """Draw top-1 on validation over epochs, a panel for every question with the given network in each.

    Args:
        results: The first is the given network's.
        path: The PNG to write.
        title: Written above.
    """
    asked = _by_question(results)
    columns = min(2, max(1, len(asked)))
    rows = -(-max(1, len(asked)) // columns)
    figure = Figure(figsize=(5.5 * columns, 0.6 + 3.2 * rows), layout="constrained")
    entitle(figure, title)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
    for (question, of_question), axes in zip(asked.items(), panels, strict=False):
        colours = matplotlib.colormaps["viridis"](np.linspace(0.15, 0.9, len(of_question)))
        for one, colour in zip((results[0], *of_question), ("black", *colours), strict=True):
            if one.seeds:
                values = 100 * np.asarray(one.epochs)
                epochs = range(1, values.shape[1] + 1)
                axes.plot(epochs, values.mean(axis=0), color=colour, marker=".", label=one.variant.name)
                axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15)
        axes.set_title(_ASKED[question][0], fontsize=10)
        axes.set(xlabel="epoch", ylabel="validation top-1, %")
        whole_numbers(axes.xaxis)
        axes.tick_params(labelbottom=True)  # also where no panel stands below
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")
    for axes in panels:  # those without a question
        axes.set_axis_off()
    save(figure, path)


def _by_question(results: Sequence[Result]) -> dict[Question, list[Result]]:
    found: dict[Question, list[Result]] = {}
    for one in results:
        if one.variant.question is not None:
            found.setdefault(one.variant.question, []).append(one)
    return found


def _row(one: Result, given: Result, epochs: int | None) -> list[str | int | float]:
    cells: list[str | int | float] = [one.variant.name, one.variant.multiply_adds, one.variant.parameters]
    if not one.seeds:
        return [*cells, "not yet run", "", "", "", ""]
    few = "" if len(one.seeds) == len(given.seeds) else f" ({len(one.seeds)})"
    cells += [f"{spread(getattr(one, split))}{few}" for split in _SPLITS]
    pairs = zip(one.seeds, one.test, strict=True)
    known = dict(zip(given.seeds, given.test, strict=True))
    differences = [test - known[seed] for seed, test in pairs if seed in known]
    cells.append(spread(differences, "+") if differences and one is not given else "")
    return [*cells, "–" if epochs is None else epochs]


def _values(one: Result) -> dict[str, object]:
    return {
        "name": one.variant.name,
        "question": one.variant.question,
        "architecture": f"{one.variant.slug}.json",
        "multiply_adds": one.variant.multiply_adds,
        "parameters": one.variant.parameters,
        "seeds": one.seeds,
        "train": one.train,
        "validation": one.validation,
        "test": one.test,
        "validation_by_epoch": one.epochs,
    }
