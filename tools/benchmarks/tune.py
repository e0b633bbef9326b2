"""What a search for branch widths gains, and what it costs: for tools/benchmark.

Three questions, on ELPV at 96 px with googlenet-bn at width 0.25:
- rank: do inherited weights order networks as training them from scratch does? Kendall's tau over the same proposals.
- budgets: does the tuned network at 0.5x and 0.25x of the multiply-adds keep what the given widths reach, and is it
  better than the given widths scaled alike? Three seeds, from scratch; test split.
- oracles: what do random search and Hyperband from scratch find in the time that the inherited search takes?
"""

import json
import os
import platform
import subprocess
import sys
import time
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau

from keras_inception.tuning.finalists import spread
from keras_inception.tuning.folder import SearchFolder
from keras_inception.tuning.front import ranked

# As in tools/benchmark recipes: whole cells, distortions of the demo.
WORDS = (
    *("--data", "elpv", "--architecture", "googlenet-bn", "--width", "0.25", "--image-size", "96", "--seed", "1"),
    *("--set", "data.random_crop=false", "--set", "data.flip_vertical=true"),
    *("--set", "data.brightness=0.2", "--set", "data.contrast=0.3"),
)
EPOCHS = 16
BUDGETS = ("0.5x", "0.25x")


def search(folder: Path, *words: str) -> SearchFolder:
    """Run a search, or go on with it; what is done is not repeated."""
    command = [sys.executable, "-m", "keras_inception", "tune", "--search-dir", str(folder), "--resume", *words]
    if subprocess.run(command).returncode:
        sys.exit(f"the search in {folder} failed; the same command goes on")
    return SearchFolder(folder)


def rank(folder: Path, data: tuple[str, ...], trials: int, epochs: int, screen: Console) -> None:
    """Score the same random proposals by inherited weights and from scratch."""
    common = [*data, "--oracle", "random", "--trials", str(trials), "--epochs", str(epochs)]
    inherited = search(folder / "rank-inherited", *common, "--supernet-epochs", str(epochs)).trials()
    scratch = search(folder / "rank-scratch", *common, "--from-scratch").trials()
    assert [trial.values for trial in inherited] == [trial.values for trial in scratch]
    pairs = [
        (one.top1, two.top1) for one, two in zip(inherited, scratch, strict=True) if None not in (one.top1, two.top1)
    ]
    tau, chance = kendalltau(*zip(*pairs, strict=True))
    table = Table("trial", "inherited", "from scratch", title=f"top-1 of validation, {len(pairs)} networks at 0.5x")
    for number, (one, two) in enumerate(pairs):
        table.add_row(str(number), f"{one:.1%}", f"{two:.1%}")
    screen.print(table)
    screen.print(f"Kendall's tau {tau:.2f} (p {chance:.3f} under no order at all)")


def budgets(folder: Path, data: tuple[str, ...], trials: int, epochs: int, screen: Console) -> None:
    """Tune at both budgets, and train what came out beside the given widths."""
    table = Table("budget", "network", "multiply-adds", "validation", "test", title="top-1 in %, 3 seeds from scratch")
    for budget in BUDGETS:
        words = ["--budget", f"multiply_adds={budget}", "--trials", str(trials), "--epochs", str(epochs)]
        found = search(folder / f"budget-{budget}", *data, *words, "--supernet-epochs", str(epochs), "--finalists", "1")
        for one in json.loads((found.finalists / "finalists.json").read_text()):
            table.add_row(
                budget, one["name"], f"{one['multiply_adds']:,}", spread(one["validation"]), spread(one["test"])
            )
        screen.print(_cost(found, budget))
    screen.print(table)


def oracles(folder: Path, data: tuple[str, ...], trials: int, epochs: int, minutes: float, screen: Console) -> None:
    """Search from scratch for as long as is given, and draw the best so far beside the inherited search."""
    from matplotlib.figure import Figure

    from keras_inception.report.pictures import save

    words = [*data, "--epochs", str(epochs)]
    inherited = search(folder / "budget-0.5x", *words, "--trials", str(trials), "--supernet-epochs", str(epochs))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    table = Table("search", "trials", "minutes", "best top-1 of validation")
    found = {"inherited": inherited}
    for name in ("random", "hyperband"):
        found[name] = search(
            folder / f"oracle-{name}",
            *(*words, "--oracle", name, "--from-scratch", "--trials", "1000", "--minutes", str(minutes)),
        )
    for name, one in found.items():
        minutes_taken, best = _best_over_time(one)
        axes.step(minutes_taken, [100 * top1 for top1 in best], where="post", label=name)
        table.add_row(name, str(len(best)), f"{minutes_taken[-1]:.0f}", f"{best[-1]:.1%}")
    axes.set(xlabel="minutes", ylabel="best top-1 of validation so far, %")
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, folder / "oracles.png")
    screen.print(table)
    screen.print(f"{folder / 'oracles.png'}; the inherited search's top-1 is that of inherited weights")


def _best_over_time(folder: SearchFolder) -> tuple[list[float], list[float]]:
    begun = sum(epoch["seconds"] for epoch in folder.supernet_epochs())
    scored = [trial for trial in folder.trials() if trial.top1 is not None]
    times = accumulate((trial.seconds for trial in scored), initial=begun)
    return [seconds / 60 for seconds in list(times)[1:]], list(accumulate((trial.top1 or 0 for trial in scored), max))


def _cost(folder: SearchFolder, budget: str) -> str:
    shared = sum(epoch["seconds"] for epoch in folder.supernet_epochs())
    trials = folder.trials()
    runs = sorted(folder.finalists.glob("given-seed*/summary.json"))
    one = sum(json.loads(run.read_text())["training_seconds"] for run in runs) / len(runs)
    all_trials = sum(trial.seconds for trial in trials)
    return (
        f"{budget}: the shared network took {shared / 60:.1f} min, {len(trials)} trials {all_trials / 60:.1f} min, "
        f"together {(shared + all_trials) / one:.1f} trainings of the given network; best of the search: trial "
        f"{ranked(trials)[0].number}"
    )


def main(
    part: Literal["rank", "budgets", "oracles", "all"] = "all",
    folder: Path = Path("benchmark-tune"),
    trials: int = 200,
    ranked_trials: int = 13,
    epochs: int = EPOCHS,
    minutes: float = 30,
    data: tuple[str, ...] = WORDS,
) -> None:
    """Measure searches for widths. Stopped at any moment, the same command goes on.

    Args:
        part: Which question.
        folder: Where the searches are kept.
        trials: Of the inherited searches.
        ranked_trials: Networks that are scored both ways; the first has the given widths, scaled alike.
        epochs: Of every training, and of the shared network.
        minutes: Of each search from scratch.
        data: Words of `keras-inception tune` for data, network and distortions.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    screen = Console(width=None if sys.stdout.isatty() else 140)
    jobs: dict[str, Any] = {
        "rank": lambda: rank(folder, data, ranked_trials, epochs, screen),
        "budgets": lambda: budgets(folder, data, trials, epochs, screen),
        "oracles": lambda: oracles(folder, data, trials, epochs, minutes, screen),
    }
    for name, job in jobs.items():
        if part in (name, "all"):
            job()
    screen.print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    tyro.cli(main)
