"""The command line: words a user types become one library call each, and only this module prints."""

import contextlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional, UseAppendAction, arg

from keras_inception.errors import InceptionError

if TYPE_CHECKING:
    from rich.console import Console


def _flag(metavar: str, default: str) -> Any:
    """Describe a flag whose default is known only further inside."""
    return arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


app = tyro.extras.SubcommandApp()
analyze = tyro.extras.SubcommandApp()


@app.command
def train(
    run_dir: Path,
    data: Annotated[str | None, _flag("SOURCE", "required without --config")] = None,
    config: Annotated[Path | None, _flag("FILE", "none")] = None,
    epochs: Annotated[int | None, _flag("INT", "30")] = None,
    batch_size: Annotated[int | None, _flag("INT", "32")] = None,
    image_size: Annotated[int | None, _flag("INT", "the architecture's: 224, or 32 for googlenet-small")] = None,
    architecture: Annotated[str | None, _flag("NAME", "googlenet-bn")] = None,
    width: Annotated[float | None, _flag("FLOAT", "1")] = None,
    learning_rate: Annotated[float | None, _flag("FLOAT", "0.1 with batch normalisation, 0.01 without")] = None,
    precision: Annotated[str | None, _flag("NAME", "float32")] = None,
    devices: Annotated[str | None, _flag("DEVICES", "auto")] = None,
    seed: Annotated[int | None, _flag("INT", "0")] = None,
    name: Annotated[str | None, _flag("NAME", "the folder's")] = None,
    data_dir: Annotated[str | None, _flag("FOLDER", "TFDS's own, ~/tensorflow_datasets")] = None,
    set: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="SECTION.FIELD=VALUE")] = (),
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Train a network with its auxiliary heads; everything about the run stands in RUN_DIR afterwards.

    Example: keras-inception train --data photos/ --run-dir runs/first --epochs 20 --image-size 224

    Args:
        run_dir: Folder of the run; it is made.
        data: A folder of class folders (with or without train/validation/test above them), a TFDS name such as
            tf_flowers, "elpv" (photographs of solar cells; extra elpv) or "digits" (scikit-learn's).
        config: Start from the config.json of an earlier run; other flags override it.
        epochs: Passes over the training images.
        batch_size: Images per step over all devices.
        image_size: Side of the square input in px.
        architecture: googlenet, googlenet-bn or googlenet-small.
        width: Factor on every width.
        learning_rate: Peak rate of the warm-up and cosine.
        precision: float32, mixed_float16 or mixed_bfloat16.
        devices: auto for all GPUs or the CPU, gpu:0,1 for some, cpu:2 for two logical CPUs.
        seed: Of weights, order, augmentation and dropout.
        name: Name of the run.
        data_dir: Where TFDS keeps its sets.
        set: Any other field of the configuration, such as data.flip_vertical=true; may be given several times.
        resume: Go on with the run in RUN_DIR after its last finished epoch.
        overwrite: Delete the run in RUN_DIR first.
    """
    from keras_inception.config import RunConfig
    from keras_inception.errors import ConfigError

    given = {
        "data.source": data,
        "data.data_dir": data_dir,
        "data.image_size": image_size,
        "model.architecture": architecture,
        "model.width": width,
        "training.epochs": epochs,
        "training.batch_size": batch_size,
        "training.learning_rate": learning_rate,
        "training.precision": precision,
        "training.devices": devices,
        "training.seed": seed,
        "name": name or (None if config else run_dir.resolve().name),
    }
    values: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    for word in set:
        field, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"--set takes section.field=value, not {word!r}")
        values[field] = value
    start = RunConfig.from_json(_read(config)) if config else RunConfig()
    run_config = start.override(values)
    run_config.model.table()  # an unknown architecture is refused before TensorFlow is loaded

    _load_tensorflow()
    from keras_inception.training.progress import TrainingProgress
    from keras_inception.training.trainer import train as train_run

    console = _console()
    with contextlib.ExitStack() as stack:

        def progress(steps: int, batch_size: int, first_epoch: int) -> list[Any]:
            display = TrainingProgress(console, steps, batch_size, first_epoch)
            stack.callback(display.close)
            return [display]

        summary = train_run(
            run_config,
            run_dir,
            resume=resume,
            overwrite=overwrite,
            callbacks=progress,
            on_images=stack.enter_context(_reading(console)),
        )
    for line in summary["broken_images"]:
        console.print(f"left out: {line}", style="yellow", highlight=False, markup=False)
    best = summary["best"]
    console.print(
        f"best epoch {best['epoch']:.0f}: validation top-1 {best['val_main_top1']:.1%}; "
        f"{summary['training_seconds']:.0f} s; the run stands in {run_dir}",
        highlight=False,
    )


@app.command
def evaluate(run: Positional[Path], split: Literal["test", "validation", "train"] = "test") -> None:
    """Measure a run's best model: top-1, top-5, precision and recall per class, confusion matrix.

    Example: keras-inception evaluate runs/first

    Args:
        run: Folder of the run.
        split: The images to measure on.
    """
    _check_run(run)
    _load_tensorflow()
    from rich.table import Table

    from keras_inception.evaluation import evaluate as evaluate_run

    console = _console()
    with _reading(console) as on_images:
        result = evaluate_run(run, split, on_images=on_images)
    table = Table("class", "images", "precision", "recall")
    for column in table.columns[1:]:
        column.justify = "right"
    for label, row in result["per_class"].items():
        table.add_row(label, f"{row['images']:,}", f"{row['precision']:.1%}", f"{row['recall']:.1%}")
    console.print(table)
    top5 = "" if result["top5"] is None else f", top-5 {result['top5']:.2%}"
    console.print(f"top-1 {result['top1']:.2%}{top5} of {result['images']:,} {split} images", highlight=False)


@app.command
def predict(
    run: Positional[Path],
    image: Positional[tuple[str, ...]],
    top: int = 5,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Classify images with a run's best model.

    Example: keras-inception predict runs/first cat.jpg holiday/ 'more/*.png' --top 3

    Args:
        run: Folder of the run.
        image: Files, folders or patterns.
        top: How many labels to give for each.
        json: Print JSON in place of a table.
    """
    if not image:
        from keras_inception.errors import DataError

        raise DataError("no image given; give files, folders or patterns after the run")
    _check_run(run)
    _load_tensorflow()
    from keras_inception.evaluation import predict as predict_images

    predictions = predict_images(run, image, top)
    if json:
        _print_json(
            [{"image": p.image, "top": [{"label": n, "probability": v} for n, v in p.top]} for p in predictions]
        )
        return
    from rich.table import Table

    table = Table("image", "label", "probability")
    table.columns[2].justify = "right"
    for prediction in predictions:
        for rank, (label, probability) in enumerate(prediction.top):
            table.add_row("" if rank else prediction.image, label, f"{probability:.2%}")
        table.add_section()
    _console().print(table)


@app.command
def export(run: Positional[Path]) -> None:
    """Write a run's best model as SavedModel and TFLite, and prove that each answers like it.

    Example: keras-inception export runs/first

    Args:
        run: Folder of the run; the files stand in its folder export.
    """
    _check_run(run)
    _load_tensorflow()
    from rich.table import Table

    from keras_inception.export import export as export_run

    console = _console()
    with _reading(console) as on_images:
        result = export_run(run, on_images=on_images)
    table = Table("export", "MB", "largest difference", "same top-1")
    for column in table.columns[1:]:
        column.justify = "right"
    for kind, path in (("saved_model", "saved_model/1"), ("tflite", "model.tflite")):
        row = result[kind]
        table.add_row(
            str(run / "export" / path),
            f"{row['bytes'] / 1e6:.2f}",
            f"{row['largest_difference']:.1e}",
            f"{row['same_top1']:.1%}",
        )
    console.print(table)
    console.print(
        f"compared with the run's Keras model in float32 on {result['images']} test images; "
        f"allowed: {result['tolerance']:g}",
        highlight=False,
    )


@analyze.command
def table(
    architecture: Positional[str] = "googlenet",
    image_size: Annotated[int | None, _flag("INT", "the architecture's")] = None,
    classes: int = 1000,
) -> None:
    """Print an architecture row by row: output size, depth, weights and multiply-adds, by arithmetic.

    Example: keras-inception analyze table googlenet-bn

    Args:
        architecture: googlenet, googlenet-bn or googlenet-small.
        image_size: Side of the image in px.
        classes: Number of classes.
    """
    from rich.table import Table

    from keras_inception.architecture import get_architecture
    from keras_inception.cost import row_costs
    from keras_inception.errors import ArchitectureError

    if classes < 1:
        raise ArchitectureError(f"classes is {classes}; it takes a number ≥ 1")
    network = get_architecture(architecture)
    shape = None if image_size is None else (image_size, image_size, 3)
    body = row_costs(network, shape, classes)
    heads = row_costs(network, shape, classes, auxiliary=True)[len(body) :]
    printed = Table("row", "output", "depth", "weights", "parameters", "multiply-adds", title=network.name)
    for column in printed.columns[1:]:
        column.justify = "right"
    for row in body:
        printed.add_row(*_cells(row))
    printed.add_section()
    printed.add_row("total", "", *_totals(body))
    printed.add_section()
    for row in heads:
        printed.add_row(*_cells(row))
    printed.add_row("total with heads", "", "", *_totals([*body, *heads])[1:])
    _console().print(printed)


def _cells(row: Any) -> list[str]:
    numbers = (row.depth, row.weights, row.parameters, row.multiply_adds)
    return [row.name, "×".join(map(str, row.output)), *(f"{number:,}" if number else "" for number in numbers)]


def _totals(rows: list[Any]) -> list[str]:
    return [f"{sum(getattr(row, k) for row in rows):,}" for k in ("depth", "weights", "parameters", "multiply_adds")]


app.command(
    analyze,
    name="analyze",
    help="Tables about an architecture, by arithmetic.\n\nExample: keras-inception analyze table googlenet-bn",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 2 for a user's error, 1 for an export that disagrees.

    Args:
        arguments: Words after the program's name; by default `sys.argv`'s.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
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


_DESCRIPTION = """GoogLeNet on your own images: train, evaluate, predict, export, analyze.

Example: keras-inception train --data photos/ --run-dir runs/first"""


def _console() -> "Console":
    """Return a console that never cuts a table when its output is piped."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)


@contextlib.contextmanager
def _reading(console: "Console") -> Iterator[Callable[[int, int], None]]:
    """Show how many images are read, on a terminal; the display goes when each split is done."""
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading images"), MofNCompleteColumn(), TimeRemainingColumn())
    display = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = display.add_task("")

    def on_images(done: int, total: int) -> None:
        if done == 1:
            display.reset(task)
            display.start()
        display.update(task, completed=done, total=total)
        if done == total:
            display.stop()

    try:
        yield on_images
    finally:
        display.stop()


def _load_tensorflow() -> None:
    """Import TensorFlow without the lines that it writes past Python about missing GPU drivers."""
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            import keras
            import tensorflow as tf

            tf.config.list_physical_devices()
            if keras.config.backend() != "tensorflow":
                raise InceptionError(
                    f"Keras runs on {keras.config.backend()!r}; training and export need KERAS_BACKEND=tensorflow"
                )
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _check_run(run: Path) -> None:
    """Refuse a folder that holds no run before TensorFlow is loaded."""
    from keras_inception.run_folder import RunFolder

    RunFolder(run).config()


def _read(path: Path) -> str:
    from keras_inception.errors import ConfigError

    if not path.is_file():
        raise ConfigError(f"there is no configuration {str(path)!r}; give the config.json of a run")
    return path.read_text(encoding="utf-8")


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
