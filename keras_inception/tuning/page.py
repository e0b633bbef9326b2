"""What came out of a search, as pictures and a page: accuracy against cost, widths, importances, progress."""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from keras_inception.architecture import Architecture, Inception
from keras_inception.evaluation.over_seeds import SEEDS, spread
from keras_inception.report.page import Picture, Section, Table, write_page
from keras_inception.report.pictures import save, whole_numbers
from keras_inception.tuning.finalists import Finalist
from keras_inception.tuning.front import Trial, front_of, ranked

# Rows of the page's tables.
_SHOWN = 20
_HONEST = (
    f"The best of the search, the given network, and the given widths scaled alike to their cost, each trained by the "
    f"same recipe with {len(SEEDS)} seeds: top-1 in %, mean ± standard deviation. The test split had no part in the "
    f"search."
)
#: What must be said of the given network's score, where weights are inherited.
PRACTISED = (
    "The given network is scored with weights of the shared network too, which practised for the budget and not for "
    "it: trained by itself it is better. --finalists compares them."
)
_TIMED = "Latency is what one image takes as a float32 TFLite file on one thread of the machine that searched."
_WIDTHS = {
    "conv1x1": "1×1",
    "reduce3x3": "3×3 reduce",
    "conv3x3": "3×3",
    "reduce5x5": "5×5 reduce",
    "conv5x5": "5×5",
    "pool_projection": "pool projection",
}


def write_search(
    folder: Path,
    *,
    title: str,
    lead: str,
    trials: Sequence[Trial],
    given: tuple[Architecture, Trial],
    tuned: tuple[Architecture, Trial],
    uniform: Trial | None,
    inherited: bool = True,
    limit_ms: float | None = None,
    finalists: Sequence[Finalist] = (),
) -> None:
    """Write front.png, widths.png, importance.png (where trials tell it), progress.png and report.html.

    Args:
        folder: Where.
        title: Of the page.
        lead: What a reader should know first.
        trials: All, of which one at least was scored.
        given: The architecture that the search began with, and how it did at its own cost.
        tuned: The best one's, and its trial.
        uniform: The given widths scaled alike to the budget, where that is a trial.
        inherited: Whether trials took their weights from a shared network.
        limit_ms: The budget, where it is a latency.
        finalists: What was trained from scratch, where anything was.
    """
    pictures = {
        "front": "Top-1 on validation against cost, with 95% intervals (from the number of images alone) of the front, "
        "of the given network and of that scaled alike to the budget",
        "progress": "Top-1 of every trial, and the best so far",
        "widths": "Widths of the best network as a share of the given ones",
    }
    draw_front(trials, given[1], folder / "front.png", uniform=uniform, limit_ms=limit_ms)
    draw_progress(trials, folder / "progress.png")
    draw_widths(given[0], tuned[0], folder / "widths.png")
    shares = importances(trials)
    if shares:
        draw_importances(shares, folder / "importance.png")
        pictures["importance"] = (
            "How much of the differences between trials a width explains: permutation importance in a random forest, "
            "mean and standard deviation of 20 permutations"
        )
    shown = [Picture((folder / f"{name}.png").read_bytes(), caption) for name, caption in pictures.items()]
    scored = ranked(trials)
    failed = [trial for trial in trials if trial.state == "failed"]
    sections = [
        Section(
            "The best network",
            f"{_TIMED}\n\n{PRACTISED}" if inherited else _TIMED,
            [_compared(given[1], uniform, tuned[1]), _widths_table(given[0], tuned[0])],
            shown[2:3],
        ),
        Section("The front", "No other trial is as good for less.", [_table(front_of(trials))], shown[:1]),
        Section(
            "Trials", f"The best {min(len(scored), _SHOWN)} of {len(scored)}.", [_table(scored[:_SHOWN])], shown[1:2]
        ),
    ]
    if finalists:
        sections.insert(1, Section("Trained from scratch", _HONEST, [_finalists_table(finalists)]))
    if shares:
        sections.append(Section("What matters", pictures=shown[3:]))
    if failed:
        rows: list[list[str | int | float]] = [[trial.number, trial.message] for trial in failed]
        sections.append(Section("Trials that failed", tables=[Table(["trial", "why"], rows)]))
    write_page(folder / "report.html", title=title, lead=lead, sections=sections)


def draw_front(
    trials: Sequence[Trial], given: Trial, path: Path, *, uniform: Trial | None, limit_ms: float | None = None
) -> None:
    """Draw accuracy against multiply-adds with the front and the given network marked; beside it, against latency.

    Args:
        trials: All.
        given: The given network at its own cost.
        path: Of the picture.
        uniform: The given widths scaled alike to the budget, where that is a trial.
        limit_ms: The budget, where it is a latency; else no latencies are drawn.
    """
    drawn: list[tuple[Callable[[Trial], float | None], str]] = [(_multiply_adds, "multiply-adds, millions")]
    if limit_ms is not None:
        drawn.append((_latency, "latency as a TFLite file on one thread, ms"))
    figure = Figure(figsize=(7 * len(drawn), 4.5), layout="constrained")
    for axes, (cost, label) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        shown = [trial for trial in _scored(trials) if cost(trial) is not None]
        front = sorted((trial for trial in front_of(trials) if trial in shown), key=lambda trial: cost(trial) or 0)
        axes.plot(
            [cost(trial) for trial in shown], [_percent(trial) for trial in shown], ".", color="0.6", label="trials"
        )
        alike = [trial for trial in shown if uniform is not None and trial.number == uniform.number]
        marked = (
            (front, "o-", "tab:blue", "front"),
            (alike, "s", "tab:orange", "given widths, scaled alike"),
            (_scored([given]), "*", "tab:red", "given network"),
        )
        for group, style, color, name in marked:
            if not group:
                continue
            costs, values = [cost(trial) for trial in group], [_percent(trial) for trial in group]
            axes.errorbar(costs, values, yerr=_errors(group), fmt=style, color=color, capsize=3, label=name)
        if cost is _latency:
            axes.axvline(limit_ms, color="gray", linestyle="--", label="budget")
        axes.set(xlabel=label, ylabel="top-1 on validation, %")
        axes.grid(alpha=0.3)
        axes.legend()
    save(figure, path)


def draw_progress(trials: Sequence[Trial], path: Path) -> None:
    """Draw the top-1 of every trial in their order, and the best so far."""
    figure, scored = Figure(figsize=(7, 4), layout="constrained"), _scored(trials)
    axes = figure.subplots()
    numbers, values = [trial.number for trial in scored], [100 * (trial.top1 or 0) for trial in scored]
    axes.plot(numbers, values, ".", color="tab:gray", label="trials")
    axes.step(numbers, list(accumulate(values, max)), where="post", color="tab:blue", label="best so far")
    axes.set(xlabel="trial", ylabel="top-1 on validation, %")
    whole_numbers(axes.xaxis)
    axes.grid(alpha=0.3)
    axes.legend(ncols=2, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1))
    save(figure, path)


def draw_widths(given: Architecture, tuned: Architecture, path: Path) -> None:
    """Draw the widths of every module as a share of the given ones, a bar for each of its six layers."""
    old, new = _modules(given), _modules(tuned)
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    for place, (name, label) in enumerate(_WIDTHS.items()):
        pairs = [(getattr(new[row], name) if row in new else 0, getattr(old[row], name)) for row in old]
        shares = [width / given if given else 0 for width, given in pairs]
        axes.bar(np.arange(len(old)) + (place - 2.5) * 0.14, shares, 0.13, label=label)
    axes.axhline(1, color="gray", linewidth=0.8)
    axes.set_xticks(range(len(old)), list(old))
    axes.set(xlabel="module", ylabel="share of the given width")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(ncols=6, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1))
    save(figure, path)


def draw_importances(shares: Mapping[str, tuple[float, float]], path: Path) -> None:
    """Draw importances, the largest above: mean and standard deviation."""
    kept = list(shares.items())[:_SHOWN][::-1]
    figure = Figure(figsize=(7, 1.2 + 0.25 * len(kept)), layout="constrained")
    axes = figure.subplots()
    means, deviations = zip(*(value for _, value in kept), strict=True)
    axes.barh([name for name, _ in kept], means, xerr=deviations, color="tab:blue", ecolor="tab:gray")
    axes.set(xlabel="fall of R² where its values are exchanged among trials")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    save(figure, path)


def importances(trials: Sequence[Trial], least: int = 10) -> dict[str, tuple[float, float]]:
    """Return how much every hyperparameter explains of top-1, mean and standard deviation, the largest first.

    Permutation importance (Breiman, 2001) in scikit-learn's random forest; empty where trials are fewer than `least`
    or all alike.

    Args:
        trials: All.
        least: How many must have been scored.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    scored = _scored(trials)
    if len(scored) < least or len({trial.top1 for trial in scored}) == 1:
        return {}
    names = [name for name in scored[0].values if not name.startswith("tuner/")]
    values = np.asarray([[trial.values[name] for name in names] for trial in scored])
    truth = np.asarray([trial.top1 for trial in scored])
    forest = RandomForestRegressor(200, random_state=0).fit(values, truth)
    found = permutation_importance(forest, values, truth, n_repeats=20, random_state=0)
    order = np.argsort(-found.importances_mean, kind="stable")
    return {names[i]: (float(found.importances_mean[i]), float(found.importances_std[i])) for i in order}


def _scored(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.top1 is not None]


def _multiply_adds(trial: Trial) -> float:
    return trial.multiply_adds / 1e6


def _latency(trial: Trial) -> float | None:
    return trial.latency_ms


def _percent(trial: Trial) -> float:
    return 100 * (trial.top1 or 0)


def _errors(trials: Sequence[Trial]) -> np.ndarray:
    bounds = [(trial.top1 or 0, *(trial.interval or (0, 0))) for trial in trials]
    return 100 * np.asarray([(top1 - low, high - top1) for top1, low, high in bounds]).reshape(-1, 2).T


def _modules(table: Architecture) -> dict[str, Inception]:
    return {row.name: row for row in table.rows if isinstance(row, Inception)}


def _widths_table(given: Architecture, tuned: Architecture) -> Table:
    old, new = _modules(given), _modules(tuned)
    rows = []
    for name, row in old.items():
        pairs = [(getattr(new[name], width) if name in new else 0, getattr(row, width)) for width in _WIDTHS]
        rows.append([name, *(f"{width} ({before})" for width, before in pairs)])
    return Table(["module", *_WIDTHS.values()], rows, "Widths, and in brackets the given ones")


def _compared(given: Trial, uniform: Trial | None, best: Trial) -> Table:
    """Return a table of the given network, the same scaled alike, and the best."""
    named = [("given network", given), ("the same, scaled alike", uniform), ("best of the search", best)]
    rows: list[list[str | int | float]] = [
        [name, _with_interval(trial), trial.multiply_adds, trial.parameters, _ms(trial)]
        for name, trial in named
        if trial is not None and trial.top1 is not None
    ]
    return Table(["network", "top-1 on validation (95%)", "multiply-adds", "parameters", "latency, ms"], rows)


def _ms(trial: Trial) -> str:
    return "" if trial.latency_ms is None else f"{trial.latency_ms:.2f}"


def _with_interval(trial: Trial) -> str:
    return "{:.1%} ({:.1%} to {:.1%})".format(trial.top1 or 0, *(trial.interval or (0, 0)))


def _finalists_table(finalists: Sequence[Finalist]) -> Table:
    rows: list[list[str | int | float]] = [
        [one.name, one.multiply_adds, one.parameters, spread(one.validation), spread(one.test)] for one in finalists
    ]
    return Table(["network", "multiply-adds", "parameters", "validation", "test"], rows)


def _table(trials: Sequence[Trial]) -> Table:
    timed = any(trial.latency_ms is not None for trial in trials)
    columns = ["trial", "top-1 on validation (95%)", "multiply-adds", "parameters", *(["latency, ms"] if timed else [])]
    columns += [f"stage {name}" for name in trials[0].widths]
    return Table(
        columns,
        [
            [
                trial.number,
                _with_interval(trial),
                trial.multiply_adds,
                trial.parameters,
                *([_ms(trial)] if timed else []),
                *(f"{share:.2f}x" for share in trial.widths.values()),
            ]
            for trial in trials
        ],
    )
