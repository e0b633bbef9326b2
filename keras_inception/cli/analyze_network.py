"""analyze, of what is inside a network: receptive fields, activations, correlation, gradients and other sizes."""

from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from keras_inception.cli.screen import (
    ArchitectureName,
    Run,
    check_output,
    console,
    counting,
    flag,
    load_tensorflow,
    print_table,
    say,
)


def receptive_field(
    architecture: ArchitectureName = None,
    photograph: Annotated[Path | None, flag("FILE", "the picture is grey")] = None,
    measure: Annotated[bool, FlagCreatePairsOff] = False,
    run: Annotated[Path | None, flag("RUN", "weights at random")] = None,
    image_size: Annotated[int | None, flag("INT", "the architecture's, or the run's")] = None,
    images: int = 2,
    seeds: int = 3,
    output: Annotated[Path | None, flag("FOLDER", "nothing is written")] = None,
) -> None:
    """Print what a unit of every row and branch can see of the image, by arithmetic, and what it does see, measured.

    Measured is the side of the square that holds 95% of the energy of the middle unit's gradient (after Luo et al.,
    arXiv:1701.04128); googlenet at its 224 px takes some minutes on 2 cores.

    Example: keras-inception analyze receptive-field googlenet --measure --photograph cat.jpg --output fields/

    Args:
        architecture: googlenet, googlenet-bn, -small, -torchvision or -slim, nin, or a run's architecture.json.
        photograph: What the fields are drawn over.
        measure: Measure too what units do see: of noise with random weights, or of a run's validation images.
        run: Take this run's network, with its trained weights.
        image_size: Side of the image in px.
        images: Images to measure on, for each of the weights.
        seeds: How many times random weights are drawn.
        output: Folder for the picture, the page and the values.
    """
    import numpy as np

    from keras_inception.analysis.receptive_field import fields, measured_at_random, measured_on_run
    from keras_inception.data.decode import printable
    from keras_inception.errors import ConfigError

    if photograph is not None and output is None:
        raise ConfigError("--photograph is drawn on, and there is no place for the picture; give --output a folder")
    _check_counts(images=images, seeds=seeds)
    _check_folder(output)
    table, own_size = _network(architecture, run, image_size)
    side = own_size if image_size is None else image_size
    found = fields(table, side)
    pixels = np.full((side, side, 3), 235, np.uint8) if photograph is None else _square(photograph, side)
    effective = []
    screen = console()
    if measure:
        load_tensorflow()
        with screen.status("measuring gradients"):
            effective = (
                measured_at_random(table, side, images=images, seeds=seeds)
                if run is None
                else measured_on_run(run, images=images)
            )
    from keras_inception.report.network import field_tables, write_fields

    for shown in field_tables(found, effective):
        print_table(screen, shown)
    if max(field.size for field in found) > side:
        say(
            screen,
            f"a field that is larger than the image, {side} px, reaches into its padding; --image-size gives it room",
        )
    if output is not None:
        what = f"{images} images of noise for each of {seeds} drawn weights"
        what = what if run is None else f"at most {images} validation images, with trained weights"
        page = write_fields(output, table.name, pixels, found, effective, measured_on=what)
        say(screen, f"the page, with its picture and values, is {printable(str(page))}")


def activations(
    run: Run,
    photograph: Positional[Annotated[Path, arg(metavar="PHOTOGRAPH")]],
    module: Annotated[str | None, flag("NAME", "the one in the middle")] = None,
    split: Literal["validation", "test", "train"] = "validation",
    data: Annotated[Path | None, flag("FOLDER", "the run's own data")] = None,
    images: Annotated[int | None, flag("INT", "all of the split")] = None,
    output: Path = Path("activations"),
) -> None:
    """Tell what each branch of a trained network answers to: silent channels, shares of the energy, feature maps.

    Example: keras-inception analyze activations runs/first cat.jpg --module 4a --output maps/

    Args:
        run: Folder of the run.
        photograph: The image whose maps are drawn.
        module: The Inception module whose maps are drawn, such as 4a.
        split: The images that the table is of.
        data: Take the images of this folder in their place.
        images: At most so many of them, spread evenly.
        output: Folder for the picture, the page and the values.
    """
    from keras_inception.run_folder import RunFolder

    if images is not None:
        _check_counts(images=images)
    _check_folder(output)
    folder = RunFolder(run)
    config = folder.config()
    load_tensorflow()
    from keras_inception.analysis.activations import run_activity, run_maps
    from keras_inception.data.decode import decode, printable
    from keras_inception.data.sizing import square
    from keras_inception.report.network import activity_table, write_activity

    screen = console()
    pixels = square(decode(photograph, config.data.channels), config.data)
    name, maps = run_maps(run, photograph, module)
    with counting(screen, "reading images") as on_images, counting(screen, "answering images") as on_progress:
        found = run_activity(run, split=split, data=data, limit=images, on_images=on_images, on_progress=on_progress)
    print_table(screen, activity_table(found))
    say(screen, "silent: channels that are above 0 nowhere in any image; energy: the sum of squares")
    what = f"the {split} images" if data is None else f"the images of {printable(str(data))}"
    what = what if images is None else f"at most {images} of {what}"
    page = write_activity(output, config.name, found, pixels, maps, module=name, measured_on=what)
    say(screen, f"the page, with the maps of {name} and the values, is {printable(str(page))}")


def correlation(
    run: Run,
    row: Annotated[str | None, flag("NAME", "the last module")] = None,
    split: Literal["train", "validation"] = "train",
    images: Annotated[int | None, flag("INT", "all of the split")] = None,
    output: Path = Path("correlation"),
) -> None:
    """Measure which channels of a trained network go together, and propose branch widths from it.

    Clusters of the channels of every Inception module, how far they coincide with its branches, how far correlation
    reaches over the map, and a table at the same multiply-adds whose branches are as wide as they are uncorrelated:
    architecture.json, which train and tune take with --architecture.

    Example: keras-inception analyze correlation runs/first --output correlation/

    Args:
        run: Folder of the run.
        row: The row whose matrix is drawn, such as 4a or conv2; if it is no module, it is measured too.
        split: The images to measure on, as evaluation sees them.
        images: At most so many of them, spread evenly.
        output: Folder for the page, its pictures and values, and the proposed architecture.json.
    """
    from keras_inception.run_folder import RunFolder

    if images is not None:
        _check_counts(images=images)
    _check_folder(output)
    folder = RunFolder(run)
    config, table = folder.config(), folder.architecture()
    load_tensorflow()
    from keras_inception.analysis.correlation import run_correlations
    from keras_inception.analysis.proposal import changes, run_multiply_adds, run_proposal
    from keras_inception.data.decode import printable
    from keras_inception.report.correlation import correlation_tables, write_correlation

    screen = console()
    with counting(screen, "reading images") as on_images, counting(screen, "answering images") as on_progress:
        found = run_correlations(run, split=split, row=row, limit=images, on_images=on_images, on_progress=on_progress)
    proposed = run_proposal(run, found)
    widths = changes(table, proposed)
    for shown in correlation_tables(found, widths):
        print_table(screen, shown)
    before, after = (run_multiply_adds(run, one) for one in (table, proposed))
    say(screen, "by chance: what 95% of random dealings of the branches stay below; of as many: whatever their branch")
    what = {"train": "the training images", "validation": "the validation images"}[split]
    page = write_correlation(
        output,
        config.name,
        found,
        widths,
        proposed,
        row=row or [one.row for one in found if one.branches][-1],
        multiply_adds=(before, after),
        measured_on=what if images is None else f"at most {images} of {what}",
    )
    say(screen, f"the page, with its pictures and values, is {printable(str(page))}")
    proposal = printable(str(output / "architecture.json"))
    say(screen, f"the proposal is {proposal}: {after:,} multiply-adds an image, the given network has {before:,}")


def gradients(
    architecture: ArchitectureName = None,
    run: Annotated[Path | None, flag("RUN", "a network that has not been trained")] = None,
    normalization: Annotated[str, arg(metavar="KINDS", help_behavior_hint="(default: all)")] = "",
    image_size: Annotated[int | None, flag("INT", "the architecture's, or the run's")] = None,
    images: int = 8,
    seeds: int = 3,
    output: Annotated[Path | None, flag("FOLDER", "nothing is written")] = None,
) -> None:
    """Measure how much gradient reaches every row: with the main loss alone, with each auxiliary head's, with both.

    At initialisation, with every normalisation, on noise with random labels; with --run on images of its training
    split, with what its training logged in every epoch and its saved weights measured too. Heads weigh 0.3.

    Example: keras-inception analyze gradients googlenet-small --output gradients/

    Args:
        architecture: googlenet, googlenet-bn, -small, -torchvision or -slim, nin, or a run's architecture.json.
        run: Take this run's network and images, and tell how its training went.
        normalization: none, lrn, batch; several with commas.
        image_size: Side of the noise in px.
        images: In the batch that gradients are measured on.
        seeds: How many times weights are drawn; the tables have mean ± standard deviation over them.
        output: Folder for the pictures, the page and the values.
    """
    from keras_inception.data.decode import printable

    _check_counts(images=images, seeds=seeds)
    table, own_size = _network(architecture, run, image_size)
    kinds = _kinds(normalization)
    side = own_size if image_size is None else image_size
    _check_size(table, side)
    _check_folder(output)
    load_tensorflow()
    from keras_inception.analysis import gradients as measured
    from keras_inception.report.network import gradient_tables, said_of_heads, write_gradients

    screen = console()
    logged: list[dict[str, float]] = []
    checkpoints: dict[str, dict[str, dict[str, float]]] = {}
    if run is not None:
        logged = measured.logged_norms(run)
        batch = measured.batch_of_run(run, images)
        checkpoints = measured.norms_of_checkpoints(run, batch)
    else:
        batch = measured.noise(table, side, images=images)
    with counting(screen, "measuring networks") as on_progress:
        found = measured.norms_at_initialization(table, batch, kinds=kinds, seeds=seeds, on_progress=on_progress)
    gains = measured.head_gains(found, checkpoints)
    for shown in gradient_tables(found, logged, checkpoints, gains):
        print_table(screen, shown)
    if said := said_of_heads(gains):
        say(screen, said)
    if output is not None:
        count = len(batch.images)
        what = f"{count} images of noise with random labels" if run is None else f"{count} of its training images"
        name = f"{table.name} at {side} px"
        page = write_gradients(output, name, found, logged, checkpoints, gains, measured_on=what)
        say(screen, f"the page, with its pictures and values, is {printable(str(page))}")


def other_sizes(
    run: Run,
    sizes: Annotated[str, arg(metavar="PX", help_behavior_hint="(default: 3/4, 1, 5/4 and 3/2 of the run's)")] = "",
    split: Literal["validation", "test", "train"] = "validation",
    output: Annotated[Path | None, flag("FOLDER", "nothing is written")] = None,
) -> None:
    """Measure a trained network, as it is, on images of other sizes: what global average pooling allows.

    Example: keras-inception analyze other-sizes runs/first --sizes 96,128,160 --output sizes/

    Args:
        run: Folder of the run.
        sizes: Sides of the input in px; several with commas.
        split: The images to measure on.
        output: Folder for the picture, the page and the values.
    """
    from keras_inception.run_folder import RunFolder

    folder = RunFolder(run)
    config, table = folder.config(), folder.architecture()
    wanted = _numbers(sizes)
    for size in wanted or []:
        _check_size(table, size)
    _check_folder(output)
    load_tensorflow()
    from keras_inception.analysis import other_sizes as measured
    from keras_inception.data.decode import printable
    from keras_inception.report.network import size_table, write_sizes

    screen = console()
    with counting(screen, "reading images") as on_images, counting(screen, "answering images") as on_progress:
        found = measured.other_sizes(run, wanted, split, on_images=on_images, on_progress=on_progress)
    own = config.data.image_size or 0
    print_table(screen, size_table(found, own))
    if output is not None:
        page = write_sizes(output, config.name, found, own, measured_on=f"{found[0].images:,} {split} images")
        say(screen, f"the page, with its picture and values, is {printable(str(page))}")


def _network(architecture: str | None, run: Path | None, image_size: int | None) -> tuple[Any, int]:
    """Return the table of an architecture or a run, and the side of its images."""
    from keras_inception.architecture import get_architecture
    from keras_inception.errors import ConfigError

    if run is None:
        table = get_architecture(architecture or "googlenet")
        return table, table.image_size
    from keras_inception.run_folder import RunFolder

    for name, value in (("an architecture", architecture), ("--image-size", image_size)):
        if value is not None:
            raise ConfigError(f"--run has its own network and size; leave out {name} ({value})")
    folder = RunFolder(run)
    table = folder.architecture()
    return table, folder.config().data.image_size or table.image_size


def _square(photograph: Path, side: int) -> Any:
    """Return the middle of a photograph as the network sees it, uint8 `(side, side, 3)`."""
    from keras_inception.config import DataConfig
    from keras_inception.data.decode import decode
    from keras_inception.data.sizing import square

    return square(decode(photograph, 3), DataConfig(image_size=side))


def _check_folder(output: Path | None) -> None:
    if output is not None:
        check_output(output, folder=True)


def _check_counts(**counts: int) -> None:
    from keras_inception.errors import ConfigError

    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name} is {count}; it takes a number ≥ 1")


def _check_size(table: Any, side: int) -> None:
    """Refuse a size that the network cannot take before TensorFlow is loaded."""
    from keras_inception.cost import row_costs

    row_costs(table, (side, side, 3))


def _kinds(words: str) -> Any:
    """Return the normalisations that are asked for; None is all that there are."""
    from typing import get_args

    from keras_inception.architecture import Normalization
    from keras_inception.cli.screen import listed

    return listed(words, "normalization", get_args(Normalization)) or None


def _numbers(words: str) -> list[int] | None:
    """Read whole numbers with commas between them; None where there are none."""
    from keras_inception.errors import ConfigError

    found = []
    for word in filter(None, map(str.strip, words.split(","))):
        if not word.isdecimal() or int(word) < 1:
            raise ConfigError(f"sizes has {word!r}; it takes whole numbers ≥ 1 with commas between them, as in 96,128")
        found.append(int(word))
    return list(dict.fromkeys(found)) or None
