"""import-weights, publish: networks that come from elsewhere, and go there."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from keras_inception.cli.screen import Run, console, load_tensorflow, say

# Of every batch normalisation of torchvision's: how many batches it has seen.
_COUNTERS = "num_batches_tracked"


def import_weights(
    file: Positional[Annotated[Path, arg(metavar="FILE")]],
    source: Annotated[Literal["torchvision", "slim", "caffe"], arg(name="from")],
    out: Annotated[Path, arg(metavar="FILE.keras")],
    transform_input: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    background: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Turn a public GoogLeNet checkpoint into a .keras file with labels and preprocessing inside.

    Example: keras-inception import-weights googlenet.pth --from torchvision --out googlenet.keras --transform-input

    Args:
        file: torchvision's .pth or .safetensors, TF-Slim's inception_v1.ckpt, Caffe's bvlc_googlenet.caffemodel.
        source: Whose file it is.
        out: The file to write.
        transform_input: Of torchvision: its network was trained with transform_input, as the published one.
        background: Of TF-Slim: keep the background, the first of 1001 classes.
        overwrite: Replace what stands at OUT.
    """
    load_tensorflow()
    from keras_inception.importing import import_weights as write

    read = write(file, source, out, transform_input=transform_input, background=background, overwrite=overwrite)
    screen = console()
    heads = "with its auxiliary heads" if read.heads else "without auxiliary heads"
    say(screen, f"{out}: {read.table.name} of {read.classes:,} classes, {heads}")
    for line in _left_over(read.left_over):
        say(screen, f"not used: {line}")


def publish(
    run: Run,
    out: Annotated[Path, arg(metavar="FOLDER")],
    licence: Annotated[str, arg(metavar="NAME")],
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Write a run's best model into a folder for others, with a model card: data, figures, limits, licence, use.

    Example: keras-inception publish runs/first --out cells --licence CC-BY-4.0

    Args:
        run: Folder of the run; evaluate it first, and the card has its figures on the test split.
        out: The folder to write; predict, evaluate, export and train --from take it as a run.
        licence: Of the weights.
        overwrite: Replace a published folder at OUT.
    """
    from keras_inception.export.publish import CARD, publish as write

    say(console(), f"{write(run, out, licence=licence, overwrite=overwrite) / CARD} is the card")


def _left_over(names: Sequence[str]) -> Iterator[str]:
    """Yield a line for every tensor that was not used; the counters, one of every layer, share one."""
    counters = [name for name in names if name.endswith(f".{_COUNTERS}")]
    if counters:
        yield f"{len(counters)} counters of batches, from {counters[0]} to {counters[-1]}"
    yield from (name for name in names if name not in counters)
