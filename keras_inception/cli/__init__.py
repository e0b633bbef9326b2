"""The command line: words a user types become one library call each, and only these modules print."""

import inspect
import logging
import os
import re
import sys
from collections.abc import Callable

import tyro

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


def _application(*commands: Callable[..., None]) -> tyro.extras.SubcommandApp:
    """Return an application of functions that are its commands, named as they are without a _ at the end."""
    application = tyro.extras.SubcommandApp()
    for function in commands:
        # tyro 1.0 keeps the line breaks of an argument's description, wherever the terminal has its own.
        function.__doc__ = re.sub(r"\n {8,}", " ", inspect.getdoc(function) or "")
        application.command(name=function.__name__.rstrip("_").replace("_", "-"))(function)
    return application


app = _application(train, history.runs, evaluate, compare, predict, export, tune, try_, import_weights, publish)
app.command(
    _application(check, preview, convert),
    name="data",
    help="What is in a collection of images, before it is trained on.\n\nExample: keras-inception data check photos/",
)
app.command(
    _application(
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
    name="analyze",
    help=(
        "What is said about these networks, as figures and pictures: by arithmetic, and measured.\n\n"
        "Example: keras-inception analyze table googlenet-bn"
    ),
)


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
        app.cli(prog="keras-inception", description=_DESCRIPTION, args=arguments)
    except InceptionError as error:
        print(f"keras-inception: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("keras-inception: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0
