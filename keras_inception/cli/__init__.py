"""The command line: words a user types become one library call each, and only these modules print."""

import functools
import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Union

import tyro
from tyro.conf import Suppress, subcommand

from keras_inception.cli import analyze, analyze_network, history
from keras_inception.cli.ablation import ablation
from keras_inception.cli.data import check, convert, preview
from keras_inception.cli.runs import compare, evaluate, export, predict, try_
from keras_inception.cli.training import train
from keras_inception.cli.tune import tune
from keras_inception.cli.weights import import_weights, publish
from keras_inception.errors import InceptionError

_DESCRIPTION = """GoogLeNet for your images: data, train, runs, evaluate, compare, predict, tune, export, try, publish,
import-weights, analyze.

Example: keras-inception train --data photos/ --run-dir runs/first"""


def _named(*functions: Callable[..., None]) -> dict[str, Callable[..., None]]:
    """Return functions as commands, each named as it is without a _ at the end."""
    for function in functions:
        # tyro 1.0 keeps the line breaks of an argument's description, wherever the terminal has its own.
        function.__doc__ = re.sub(r"\n {8,}", " ", inspect.getdoc(function) or "")
    return {function.__name__.rstrip("_").replace("_", "-"): function for function in functions}


#: The commands by their words, and those of a group by the group's.
COMMANDS = _named(train, history.runs, evaluate, compare, predict, export, tune, try_, import_weights, publish)
GROUPS = {
    "data": _named(check, preview, convert),
    "analyze": _named(
        analyze.table,
        analyze.reduction,
        analyze.compare,
        analyze.sparsity,
        analyze.output_size,
        analyze_network.receptive_field,
        analyze_network.activations,
        analyze_network.correlation,
        analyze_network.gradients,
        analyze_network.other_sizes,
        ablation,
    ),
}
_OF_GROUPS = {
    "data": (
        "What is in a collection of images, before it is trained on.\n\nExample: keras-inception data check photos/"
    ),
    "analyze": (
        "What is said about these networks, as figures and pictures: by arithmetic, and measured.\n\n"
        "Example: keras-inception analyze table googlenet-bn"
    ),
}


def dispatch(arguments: Sequence[str] | None = None) -> Any:
    """Call the command that words name with what they give, and return what it returns.

    Args:
        arguments: Words after the program's name; by default `sys.argv`'s.
    """
    groups = [
        Annotated[
            Any,
            subcommand(name, description=_OF_GROUPS[name], constructor_factory=functools.partial(_one_of, commands)),
        ]
        for name, commands in GROUPS.items()
    ]
    return tyro.cli(_one_of(COMMANDS, *groups), prog="keras-inception", description=_DESCRIPTION, args=arguments)


def _one_of(commands: Mapping[str, Callable[..., None]], *others: Any) -> Any:
    """Return a type of which the words after it make one: a union of commands."""
    named = [Annotated[Any, subcommand(name, constructor=function)] for name, function in commands.items()]
    # The first is never shown. To see whether a choice that is missing is one of functions alone, tyro 1.0 imports
    # typeguard, a third of the time of a --help; of an object it tells without.
    return Union[(Annotated[object, Suppress], *named, *others)]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status.

    It is 0, 2 for a user's error, 1 for an export that disagrees or a training that cannot go on, and 128 and the
    number of the signal that ended a training.

    Args:
        arguments: Words after the program's name; by default `sys.argv`'s.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("keras_inception").setLevel(logging.INFO)
    try:
        dispatch(arguments)
    except InceptionError as error:
        print(f"keras-inception: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("keras-inception: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # foreseen by no command: a full disk, a closed folder, a name that is too long
        place = f" {error.filename!r}" if error.filename else ""
        print(f"keras-inception: the operating system refuses{place}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0
