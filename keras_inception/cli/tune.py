"""tune: the flags become a search, and what happens in it a table on the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import tyro
from tyro.conf import UseAppendAction, arg

from keras_inception.cli.screen import console, fields, flag, listed, load_tensorflow, onednn, say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from keras_inception.tuning.finalists import Finalist


def tune(
    data: Annotated[str | None, flag("SOURCE", "required")] = None,
    search_dir: Annotated[Path | None, flag("FOLDER", "required")] = None,
    budget: Annotated[str, arg(metavar="QUANTITY=AMOUNT")] = "multiply_adds=0.5x",
    trials: int = 60,
    minutes: Annotated[float | None, flag("FLOAT", "no limit")] = None,
    oracle: Literal["evolution", "bayesian", "hyperband", "random"] = "evolution",
    sharing: Literal["none", "branch_of_stage", "branch", "stage", "all"] = "branch_of_stage",
    search: Annotated[str, flag("LIST", "nothing else")] = "",
    from_scratch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    epochs: Annotated[int | None, flag("INT", "30")] = None,
    supernet_epochs: int = 20,
    finalists: int = 0,
    recipe: Annotated[Literal["paper", "modern"], arg(metavar="NAME")] = "modern",
    batch_size: Annotated[int | None, flag("INT", "32")] = None,
    image_size: Annotated[int | None, flag("INT", "the architecture's: 224, or 32 for googlenet-small")] = None,
    architecture: Annotated[str | None, flag("NAME", "googlenet-bn, or googlenet in the recipe paper")] = None,
    width: Annotated[float | None, flag("FLOAT", "1")] = None,
    learning_rate: Annotated[float | None, flag("FLOAT", "the recipe's, scaled linearly with the batch")] = None,
    seed: Annotated[int | None, flag("INT", "0")] = None,
    data_dir: Annotated[str | None, flag("FOLDER", "TFDS's own, ~/tensorflow_datasets")] = None,
    set: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="SECTION.FIELD=VALUE")] = (),
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Search for branch widths that fit the data better than the given ones, at the cost of a budget.

    Example: keras-inception tune --data photos/ --search-dir searches/half --budget multiply_adds=0.5x

    One network at the largest widths is trained, with other widths at every step; then each trial takes its weights
    from it and is scored on validation. The given widths, scaled alike to the budget, are trial 0. The best network
    stands in SEARCH_DIR/best: train it with --architecture SEARCH_DIR/best/architecture.json.

    Killed at any moment, the same command with --resume goes on. Several processes share the trials:
    tools/launch --chief --workers 2 keras-inception tune ... --resume

    Args:
        data: As train takes it.
        search_dir: Folder of the search; it is made.
        budget: What a network may cost for an image, without heads: multiply_adds=0.5x is half of the given
            architecture's, after --width, at this image size; parameters=3M; latency=0.6x or latency=5ms as a TFLite
            file on one thread of this machine.
        trials: How many networks are scored; more with --resume.
        minutes: After which no further trial begins.
        oracle: Who proposes them: evolution over the front of accuracy against cost, or one of keras-tuner's.
        sharing: Which widths have a multiple in common: none of the 54, a branch of a stage, a branch, a stage, all.
        search: What else is searched, with commas: size (of the budget), and with --from-scratch depth, dropout,
            head_weight, learning_rate.
        from_scratch: Train every trial by itself, for --epochs.
        epochs: Of a trial with --from-scratch, of finalists, and of the configuration in SEARCH_DIR/best.
        supernet_epochs: Of the network that trials take their weights from.
        finalists: How many of the best are trained from scratch afterwards, for --epochs with seeds 1, 2 and 3, beside
            the given network and the given widths scaled alike to the budget, and measured on the test split.
        recipe: As train takes it.
        batch_size: Images per step.
        image_size: Side of the square input in px.
        architecture: The given network: googlenet, googlenet-bn, googlenet-small, or a file.
        width: Factor on every width of it.
        learning_rate: Peak rate, as it is used.
        seed: Of the proposals and of all trainings.
        data_dir: Where TFDS keeps its sets.
        set: Any other field of a run's configuration; may be given several times.
        resume: Go on with the search in SEARCH_DIR, or begin where there is none.
        overwrite: Delete the search in SEARCH_DIR first.
    """
    from keras_inception.config import RunConfig
    from keras_inception.errors import ConfigError, RunError
    from keras_inception.tuning.config import Searched, checked

    if search_dir is None:
        raise RunError("no folder given for the search; give --search-dir FOLDER")
    if data is None:
        raise ConfigError("no data given; give --data SOURCE")
    values = fields(
        set,
        data=data,
        data_dir=data_dir,
        image_size=image_size,
        architecture=architecture,
        width=width,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    run = RunConfig.of_recipe(recipe).override(values)
    config = checked(
        {
            "run": run,
            "budget": budget,
            "oracle": oracle,
            "trials": trials,
            "sharing": sharing,
            "search": tuple(listed(search, "thing to search", get_args(Searched))),
            "from_scratch": from_scratch,
            "supernet_epochs": supernet_epochs,
            "finalists": finalists,
        }
    )
    load_tensorflow(onednn())
    from keras_inception.tuning.search import tune as search_widths, work
    from keras_inception.tuning.tuner import role

    screen = console()
    if role() == "worker":
        say(screen, f"scored {work(config, search_dir)} trials")
        return
    from keras_inception.cli.search_table import SearchTable

    with SearchTable(screen, trials, minutes) as table:
        result = search_widths(
            config, search_dir, resume=resume, overwrite=overwrite, minutes=minutes, on_event=table.on_event
        )
    _print_result(screen, result, inherited=not from_scratch)


def _print_result(screen: "Console", result: dict[str, Any], *, inherited: bool) -> None:
    from keras_inception.tuning.page import PRACTISED

    say(screen, f"best is trial {result['best'].number}")
    screen.print(_compared(result))
    if inherited and not result["finalists"]:
        say(screen, PRACTISED)
    if result["finalists"]:
        screen.print(_finalists(result["finalists"]))
    say(screen, f"{result['report']} is a page about the search")
    file = result["architecture"]
    # What was searched beside the architecture stands in its configuration alone.
    beside = {"head_weight", "rate_factor"} & result["best"].values.keys()
    how = f"--config {file.with_name('config.json')}" if beside else f"--architecture {file}"
    say(screen, f"train it: keras-inception train {how} ...")


def _compared(result: dict[str, Any]) -> "Table":
    from rich.table import Table

    columns = ("", "validation top-1 (95%)", "multiply-adds", "parameters", "TFLite, ms")
    table = Table(*columns)
    for column in table.columns[1:]:
        column.justify = "right"
    named = {"given network": "given", "the same, scaled alike": "uniform", "best of the search": "best"}
    for name, key in named.items():
        trial = result[key]
        if trial is not None and trial.top1 is not None:
            low, high = trial.interval
            ms = "" if trial.latency_ms is None else f"{trial.latency_ms:.2f}"
            top1 = f"{trial.top1:.1%} ({low:.1%} to {high:.1%})"
            table.add_row(name, top1, f"{trial.multiply_adds:,}", f"{trial.parameters:,}", ms)
    return table


def _finalists(finalists: "Sequence[Finalist]") -> "Table":
    from rich.table import Table

    from keras_inception.evaluation.over_seeds import spread

    table = Table("trained from scratch, 3 seeds", "multiply-adds", "parameters", "validation top-1", "test top-1")
    for column in table.columns[1:]:
        column.justify = "right"
    for one in finalists:
        costs = (f"{one.multiply_adds:,}", f"{one.parameters:,}")
        table.add_row(one.name, *costs, spread(one.validation), spread(one.test))
    return table
