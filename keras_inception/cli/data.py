"""data: what is in a collection, what the network sees of it, and a copy that is read fast."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from keras_inception.cli.screen import (
    Source,
    check_output,
    console,
    counting,
    fields,
    flag,
    load_tensorflow,
    print_json,
    say,
    say_left_out,
)

if TYPE_CHECKING:
    from rich.console import Console

    from keras_inception.report.page import Table

# Rows of a table that a terminal shows.
_TABLE_ROWS = 40


def check(
    source: Source,
    output: Annotated[Path | None, flag("FOLDER", "check- and the source's name, here")] = None,
    data_dir: Annotated[str | None, flag("FOLDER", "TFDS's own, ~/tensorflow_datasets")] = None,
    json: Annotated[bool, FlagCreatePairsOff] = False,
) -> None:
    """Tell what is in a collection: broken files, duplicates, leaks between splits, sizes, colours, imbalance.

    Reads every image once. A folder with a page, JSON, histograms and a contact sheet for each class is written.

    Example: keras-inception data check photos/

    Args:
        source: As in train --data.
        output: Folder of the report; an old report there is replaced.
        data_dir: Where TFDS keeps its sets.
        json: Print JSON in place of tables.
    """
    from keras_inception.config import DataConfig
    from keras_inception.data.check import check_dataset
    from keras_inception.data.sources import is_tfds, load_dataset
    from keras_inception.report import collection

    folder = output or Path(collection.report_name(source))
    check_output(folder, folder=True)
    collection.check_report_folder(folder, source)
    if is_tfds(source):
        load_tensorflow()
    screen = console()
    dataset = load_dataset(DataConfig(source=source, data_dir=data_dir))
    with counting(screen, "reading images") as on_images:
        found = check_dataset(dataset, on_images)
    collection.write_report(found, folder)
    if json:
        print_json(found.to_json())
        return
    for table in collection.tables(found):
        _print_table(screen, table, folder)
    say(screen, f"{collection.summary(found)}\n\nThe report stands in {folder / 'check.html'}")


def _print_table(screen: "Console", table: "Table", folder: Path) -> None:
    """Print a table of a page; of a long one the beginning."""
    import rich.table
    from rich.text import Text

    from keras_inception.report.page import cell

    screen.print(Text(table.caption, "bold"))
    shown = rich.table.Table()
    for column, value in zip(table.columns, table.rows[0], strict=True):
        shown.add_column(Text(column), justify="left" if isinstance(value, str) else "right", overflow="fold")
    for row in table.rows[:_TABLE_ROWS]:
        shown.add_row(*(Text(cell(value)) for value in row))
    screen.print(shown)
    if len(table.rows) > _TABLE_ROWS:
        say(screen, f"… {len(table.rows) - _TABLE_ROWS:,} more rows in {folder / 'check.json'}")
    screen.print()


def preview(
    source: Source,
    output: Path = Path("preview.png"),
    image_size: Annotated[int | None, flag("INT", "224, or the run's")] = None,
    images: int = 6,
    epochs: int = 7,
    split: Literal["train", "validation", "test"] = "train",
    data_dir: Annotated[str | None, flag("FOLDER", "TFDS's own, ~/tensorflow_datasets")] = None,
    set: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="SECTION.FIELD=VALUE")] = (),
) -> None:
    """Draw what the network sees of some images: in evaluation, and epoch by epoch in training.

    Example: keras-inception data preview photos/ --set data.contrast=0.5 --output preview.png

    Args:
        source: As in train --data, or the folder of a run: then its own data and settings.
        output: The PNG to write.
        image_size: Side of the square input in px.
        images: How many images, spread evenly over the split.
        epochs: How many views of each in training.
        split: The images to draw.
        data_dir: Where TFDS keeps its sets.
        set: A field of the configuration, such as data.brightness=0.125; may be given several times.
    """
    from keras_inception.config import RunConfig
    from keras_inception.errors import ConfigError
    from keras_inception.run_folder import RunFolder

    for name, value in (("images", images), ("epochs", epochs)):
        if value < 1:
            raise ConfigError(f"{name} is {value}; it takes a number ≥ 1")
    check_output(output, folder=False)
    folder = RunFolder(Path(source))
    is_run = os.path.isfile(folder.config_json)  # no run where it may not be read: load_dataset says so
    start = folder.config() if is_run else RunConfig().override({"data.source": source})
    given = {"data.image_size": image_size, "data.data_dir": data_dir}
    config = start.override({name: value for name, value in given.items() if value is not None} | fields(set))

    load_tensorflow()
    from keras_inception.data.images import read_images
    from keras_inception.data.pipeline import evaluation_views, training_views
    from keras_inception.data.sources import load_dataset
    from keras_inception.report.preview import draw_preview
    from keras_inception.training.trainer import resolved

    config = resolved(config)
    dataset = load_dataset(config.data)
    some = dataset.splits[split].spread(images)
    read = read_images(some, config.data, whole=config.data.random_crop)
    draw_preview(
        evaluation_views(read, config.data),
        training_views(read, config.data, seed=config.training.seed, epochs=epochs),
        [dataset.classes[label] for label in read.labels],
        output,
        title=f"{dataset.name}: {len(read)} {split} images at {config.data.image_size} px",
    )
    screen = console()
    say_left_out(screen, read.broken)
    say(screen, f"wrote {output}")


def convert(
    source: Source,
    output: Positional[Annotated[Path, arg(metavar="OUTPUT")]],
    shard_size_mb: int = 256,
    data_dir: Annotated[str | None, flag("FOLDER", "TFDS's own, ~/tensorflow_datasets")] = None,
    overwrite: Annotated[bool, FlagCreatePairsOff] = False,
) -> None:
    """Copy a collection, split, into a few large files that train --data reads fast; images stay as they are.

    When it was stopped, the same command goes on with it.

    Example: keras-inception data convert photos/ shards/

    Args:
        source: As in train --data.
        output: Folder of the shards; it is made.
        shard_size_mb: Size of a shard in MB.
        data_dir: Where TFDS keeps its sets.
        overwrite: Replace what a conversion of another source, or into shards of another size, left in OUTPUT.
    """
    from keras_inception.config import DataConfig
    from keras_inception.data import conversion
    from keras_inception.data.decode import printable
    from keras_inception.data.sources import is_tfds, load_dataset

    if is_tfds(source):
        load_tensorflow()
    dataset = load_dataset(DataConfig(source=source, data_dir=data_dir))
    screen = console()
    with counting(screen, "writing images") as on_images:
        written = conversion.convert(
            dataset, output, shard_bytes=shard_size_mb * 1_000_000, overwrite=overwrite, on_images=on_images
        )
    say_left_out(screen, [line for shard in written for line in shard.left_out])
    say(
        screen,
        f"{sum(shard.records for shard in written):,} images in {len(written):,} shards, "
        f"{sum(shard.bytes for shard in written) / 1e6:,.1f} MB, stand in {printable(str(output))}",
    )
