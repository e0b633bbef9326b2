"""What a search for branch widths gains, and what it costs: for tools/benchmark.

Three questions, with googlenet-small at width 0.25 on a part of Fashion-MNIST at 14 px:
- budgets: does the tuned network at 0.5x and 0.25x of the multiply-adds keep what the given widths reach, and is it
  better than the given widths scaled alike? Three seeds, from scratch; test split.
- rank: do inherited weights order networks as training them from scratch does? Kendall's tau over the same proposals:
  of one cost, with the shared network of the search at 0.5x, and of 0.2x to 0.5x, with one that is trained for these.
  Of the latter also how far training them from scratch once more, with another seed, agrees with that.
- oracles: what do random search and Hyperband from scratch find, and when?
"""

import dataclasses
import json
import shutil
import statistics
import subprocess
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rounds  # tools/benchmarks/rounds.py, beside this file
import tyro
from PIL import Image
from recipes import CLOTHES, idx  # tools/benchmarks/recipes.py, beside this file
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau

from keras_inception.data.dataset import VALIDATION
from keras_inception.evaluation.over_seeds import spread, top1, trained_over_seeds
from keras_inception.tuning.folder import SearchFolder
from keras_inception.tuning.front import ranked

# 14 px so that a training from scratch takes two minutes on a core; whole images, and no heads, which made no
# difference that three seeds show on this set (docs/results.md, "What helps").
NETWORK = (
    *("--architecture", "googlenet-small", "--width", "0.25", "--image-size", "14", "--batch-size", "64"),
    *("--set", "data.random_crop=false", "--set", "data.channels=1", "--set", "model.auxiliary=false"),
)
EPOCHS, SHARED_EPOCHS = 12, 20
BUDGETS = ("0.5x", "0.25x")
SEED, OTHER_SEED = 1, 2
# Images of each of the ten classes, the first of each file. Half of those that a search sees are for validation, so
# that it can tell networks apart: 3,000 answers have a standard deviation of 0.6 points at 87%.
IMAGES = {"train": {"train": 300, "validation": 300}, "t10k": {"test": 1000}}


def clothes(files: Path, folder: Path) -> Path:
    """Write a part of Fashion-MNIST as a folder of photographs, unless it is there."""
    if not folder.exists():
        beside = folder.with_name(f"{folder.name}.new")
        for kind, counts in IMAGES.items():
            pixels = idx(files / f"{kind}-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28)
            labels = idx(files / f"{kind}-labels-idx1-ubyte.gz", header=8)
            for label, name in enumerate(CLOTHES):
                places = iter(np.flatnonzero(labels == label))
                for split, count in counts.items():
                    (beside / split / name).mkdir(parents=True, exist_ok=True)
                    for _, place in zip(range(count), places, strict=False):
                        Image.fromarray(pixels[place]).save(beside / split / name / f"{place:05}.png")
        beside.rename(folder)
    return folder


def search(folder: Path, *words: str) -> SearchFolder:
    """Run a search, or go on with it; what is done is not repeated."""
    command = [sys.executable, "-m", "keras_inception", "tune", "--search-dir", str(folder), "--resume", *words]
    if subprocess.run(command).returncode:
        sys.exit(f"the search in {folder} failed; the same command goes on")
    return SearchFolder(folder)


def begin_with_network_of(other: SearchFolder, folder: SearchFolder, **changes: Any) -> None:
    """Begin a search that takes its weights from a shared network that is trained already, unless it has begun."""
    if not folder.search_json.exists():
        folder.begin(dataclasses.replace(other.config(), **changes), resume=False, overwrite=False)
    if not folder.supernet_json.exists():
        shutil.copy(other.supernet, folder.supernet)
        shutil.copy(other.supernet_json, folder.supernet_json)


def rank(folder: Path, data: tuple[str, ...], trials: int, epochs: int, screen: Console) -> None:
    """Score the same random proposals by inherited weights and from scratch: of one cost, and of several."""
    begin_with_network_of(
        SearchFolder(folder / f"budget-{BUDGETS[0]}"), SearchFolder(folder / "rank-inherited"), oracle="random"
    )
    for name, title, searched in (("rank", "of 0.5x", ()), ("rank-sizes", "of 0.2x to 0.5x", ("--search", "size"))):
        common = [*data, *searched, "--oracle", "random", "--trials", str(trials), "--epochs", str(epochs)]
        inherited = search(folder / f"{name}-inherited", *common, "--supernet-epochs", str(SHARED_EPOCHS)).trials()
        trained = search(folder / f"{name}-scratch", *common, "--from-scratch")
        scratch = trained.trials()
        assert [trial.values for trial in inherited] == [trial.values for trial in scratch]
        scored = [pair for pair in zip(inherited, scratch, strict=True) if None not in (pair[0].top1, pair[1].top1)]
        table = Table("trial", "multiply-adds", "inherited", "from scratch", title=f"top-1 of validation, {title}")
        for one, two in scored:
            table.add_row(str(one.number), f"{one.multiply_adds:,}", f"{one.top1:.1%}", f"{two.top1:.1%}")
        screen.print(table)
        orders = {"inherited weights": [one.top1 for one, _ in scored]}
        if searched:
            orders["multiply-adds"] = [one.multiply_adds for one, _ in scored]  # what the size alone tells
            orders[f"training with seed {OTHER_SEED}"] = _trained_again(trained, [two.number for _, two in scored])
        for by, order in orders.items():
            tau, chance = kendalltau(order, [two.top1 for _, two in scored])
            screen.print(f"Kendall's tau by {by}: {tau:.2f} (p {chance:.3f} under no order at all)")


def _trained_again(found: SearchFolder, trials: list[int]) -> list[float]:
    """Return top-1 of networks that a search trained, trained with another seed; what is done is not repeated."""
    run = found.config().run
    configs = {f"trial{number}": run.with_table(found.architecture(number)) for number in trials}
    runs = trained_over_seeds(
        configs,
        found.path.with_name(f"{found.path.name}-again"),
        seeds=[OTHER_SEED],
        splits=(),
        on_run=lambda name, seed: print(f"training {name} with seed {seed}", flush=True),
    )
    return [top1(folder, VALIDATION) for _, _, folder in runs]


def budgets(folder: Path, data: tuple[str, ...], trials: int, epochs: int, screen: Console) -> None:
    """Tune at both budgets, and train what came out beside the given widths."""
    table = Table("budget", "network", "multiply-adds", "validation", "test", title="top-1 in %, 3 seeds from scratch")
    for budget in BUDGETS:
        words = ["--budget", f"multiply_adds={budget}", "--trials", str(trials), "--epochs", str(epochs)]
        found = search(
            folder / f"budget-{budget}", *data, *words, "--supernet-epochs", str(SHARED_EPOCHS), "--finalists", "1"
        )
        for one in _finalists(found).values():
            table.add_row(
                budget, one["name"], f"{one['multiply_adds']:,}", spread(one["validation"]), spread(one["test"])
            )
        screen.print(_cost(found, budget))
    screen.print(table)


def oracles(folder: Path, data: tuple[str, ...], epochs: int, minutes: float, screen: Console) -> None:
    """Search from scratch for as long as is given, and draw the best so far beside what the inherited search found."""
    from matplotlib.figure import Figure

    from keras_inception.report.pictures import save

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    table = Table("search", "trials", "minutes", "best top-1 of validation")
    for name in ("random", "hyperband"):
        place = folder / f"oracle-{name}"
        spent = sum(trial.seconds for trial in SearchFolder(place).trials()) / 60
        words = ["--epochs", str(epochs), "--oracle", name, "--from-scratch", "--trials", "1000"]
        found = search(place, *data, *words, "--minutes", str(max(0, minutes - spent)))
        times, best = _best_over_time(found)
        axes.step(times, [100 * top1 for top1 in best], where="post", label=f"{name} search from scratch")
        table.add_row(name, str(len(best)), f"{times[-1]:.0f}", f"{best[-1]:.1%}")
    inherited = SearchFolder(folder / f"budget-{BUDGETS[0]}")
    name, winner = list(_finalists(inherited).items())[-1]
    end = _best_over_time(inherited)[0][-1] + _training_minutes(inherited, name)
    over_seeds = [100 * top1 for top1 in winner["validation"]]
    mean = statistics.mean(over_seeds)
    ends = [[mean - min(over_seeds)], [max(over_seeds) - mean]]
    axes.errorbar(
        end, mean, ends, fmt="o", capsize=4, label=f"inherited search, its best trained: {len(over_seeds)} seeds"
    )
    table.add_row(
        "inherited, its best trained", str(len(inherited.trials())), f"{end:.0f}", spread(winner["validation"])
    )
    axes.set(xlabel="minutes", ylabel="best top-1 of validation so far, %")
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, folder / "oracles.png")
    screen.print(table)
    screen.print(str(folder / "oracles.png"))


def _best_over_time(folder: SearchFolder) -> tuple[list[float], list[float]]:
    begun = sum(epoch["seconds"] for epoch in folder.supernet_epochs())
    scored = [trial for trial in folder.trials() if trial.top1 is not None]
    times = accumulate((trial.seconds for trial in scored), initial=begun)
    return [seconds / 60 for seconds in list(times)[1:]], list(accumulate((trial.top1 or 0 for trial in scored), max))


def _finalists(folder: SearchFolder) -> dict[str, dict[str, Any]]:
    """Return what was trained from scratch, by name: given, uniform, and the best trial."""
    return {one["name"]: one for one in json.loads((folder.finalists / "finalists.json").read_text())}


def _training_minutes(folder: SearchFolder, name: str) -> float:
    """Return the median of a finalist's trainings, in minutes."""
    runs = folder.finalists.glob(f"{name.replace(' ', '')}-seed*/summary.json")
    return statistics.median(json.loads(run.read_text())["training_seconds"] for run in runs) / 60


def _cost(folder: SearchFolder, budget: str) -> str:
    shared = sum(epoch["seconds"] for epoch in folder.supernet_epochs()) / 60
    trials = folder.trials()
    scoring = sum(trial.seconds for trial in trials) / 60
    trainings = (shared + scoring) / _training_minutes(folder, "given")
    return (
        f"{budget}: the shared network took {shared:.1f} min, {len(trials)} trials {scoring:.1f} min, together as long "
        f"as {trainings:.1f} trainings of the given network; best of the search: trial {ranked(trials)[0].number}"
    )


def main(
    part: Literal["budgets", "rank", "oracles", "all"] = "all",
    folder: Path = Path("benchmark-tune"),
    fashion_mnist: Path = Path("/usr/share/datasets/fashion-mnist"),
    trials: int = 200,
    ranked_trials: int = 13,
    epochs: int = EPOCHS,
    minutes: float = 30,
) -> None:
    """Measure searches for widths. Stopped at any moment, the same command goes on.

    Args:
        part: Which question; the others need what budgets found.
        folder: Where the searches are kept.
        fashion_mnist: Folder with the four files of Fashion-MNIST, as Debian's dataset-fashion-mnist installs them.
        trials: Of the inherited searches.
        ranked_trials: Networks that are scored both ways; the first has the given widths, scaled alike.
        epochs: Of every training.
        minutes: Of each search from scratch.
    """
    screen = rounds.screen()
    data = ("--data", str(clothes(fashion_mnist, folder / "clothes")), *NETWORK, "--seed", str(SEED))
    jobs: dict[str, Any] = {
        "budgets": lambda: budgets(folder, data, trials, epochs, screen),
        "rank": lambda: rank(folder, data, ranked_trials, epochs, screen),
        "oracles": lambda: oracles(folder, data, epochs, minutes, screen),
    }
    for name, job in jobs.items():
        if part in (name, "all"):
            job()
    rounds.say(rounds.machine())


if __name__ == "__main__":
    tyro.cli(main)
