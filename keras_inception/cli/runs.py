"""train, evaluate, predict, export: what is done with runs."""

import contextlib
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, UseAppendAction, arg

from keras_inception.cli.screen import check_run, console, fields, flag, load_tensorflow, print_json, read_text, reading


def train(
    run_dir: Path,
    data: Annotated[str | None, flag("SOURCE", "required without --config")] = None,
    config: Annotated[Path | None, flag("FILE", "none")] = None,
    epochs: Annotated[int | None, flag("INT", "30")] = None,
    batch_size: Annotated[int | None, flag("INT", "32")] = None,
    image_size: Annotated[int | None, flag("INT", "the architecture's: 224, or 32 for googlenet-small")] = None,
    architecture: Annotated[str | None, flag("NAME", "googlenet-bn")] = None,
    width: Annotated[float | None, flag("FLOAT", "1")] = None,
    learning_rate: Annotated[float | None, flag("FLOAT", "0.1 with batch normalisation, 0.01 without")] = None,
    precision: Annotated[str | None, flag("NAME", "float32")] = None,
    devices: Annotated[str | None, flag("DEVICES", "auto")] = None,
    seed: Annotated[int | None, flag("INT", "0")] = None,
    name: Annotated[str | None, flag("NAME", "the folder's")] = None,
    data_dir: Annotated[str | None, flag("FOLDER", "TFDS's own, ~/tensorflow_datasets")] = None,
    max_broken: Annotated[float | None, flag("SHARE", "0.01")] = None,
    set: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="SECTION.FIELD=VALUE")] = (),
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Train a network with its auxiliary heads; everything about the run stands in RUN_DIR afterwards.

    Example: keras-inception train --data photos/ --run-dir runs/first --epochs 20 --image-size 224

    Args:
        run_dir: Folder of the run; it is made.
        data: A folder of class folders (with or without train/validation/test above them), a manifest (.csv or .jsonl
            with path, label and perhaps split and group), a folder of shards (data convert), a TFDS name such as
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
        max_broken: Largest share of the images that may be undecodable; they are left out and listed.
        set: Any other field of the configuration, such as data.flip_vertical=true; may be given several times.
        resume: Go on with the run in RUN_DIR after its last finished epoch.
        overwrite: Delete the run in RUN_DIR first.
    """
    from keras_inception.config import RunConfig

    given = {
        "data.source": data,
        "data.data_dir": data_dir,
        "data.image_size": image_size,
        "data.max_broken": max_broken,
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
    values.update(fields(set))
    start = RunConfig.from_json(read_text(config)) if config else RunConfig()
    run_config = start.override(values)
    run_config.model.table()  # an unknown architecture is refused before TensorFlow is loaded

    load_tensorflow()
    from keras_inception.training.progress import TrainingProgress
    from keras_inception.training.trainer import train as train_run

    screen = console()
    with contextlib.ExitStack() as stack:

        def progress(steps: int, batch_size: int, first_epoch: int) -> list[Any]:
            display = TrainingProgress(screen, steps, batch_size, first_epoch)
            stack.callback(display.close)
            return [display]

        summary = train_run(
            run_config,
            run_dir,
            resume=resume,
            overwrite=overwrite,
            callbacks=progress,
            on_images=stack.enter_context(reading(screen)),
        )
    for line in summary["broken_images"]:
        screen.print(f"left out: {line}", style="yellow", highlight=False, markup=False)
    best = summary["best"]
    screen.print(
        f"best epoch {best['epoch']:.0f}: validation top-1 {best['val_main_top1']:.1%}; "
        f"{summary['training_seconds']:.0f} s; the run stands in {run_dir}",
        highlight=False,
    )


def evaluate(run: Positional[Path], split: Literal["test", "validation", "train"] = "test") -> None:
    """Measure a run's best model: top-1, top-5, precision and recall per class, confusion matrix.

    Example: keras-inception evaluate runs/first

    Args:
        run: Folder of the run.
        split: The images to measure on.
    """
    check_run(run)
    load_tensorflow()
    from rich.table import Table

    from keras_inception.evaluation.evaluate import evaluate as evaluate_run

    screen = console()
    with reading(screen) as on_images:
        result = evaluate_run(run, split, on_images=on_images)
    table = Table("class", "images", "precision", "recall")
    for column in table.columns[1:]:
        column.justify = "right"
    for label, row in result["per_class"].items():
        table.add_row(label, f"{row['images']:,}", f"{row['precision']:.1%}", f"{row['recall']:.1%}")
    screen.print(table)
    top5 = "" if result["top5"] is None else f", top-5 {result['top5']:.2%}"
    screen.print(f"top-1 {result['top1']:.2%}{top5} of {result['images']:,} {split} images", highlight=False)


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
    check_run(run)
    load_tensorflow()
    from keras_inception.evaluation.predict import predict as predict_images

    predictions = predict_images(run, image, top)
    if json:
        print_json([{"image": p.image, "top": [{"label": n, "probability": v} for n, v in p.top]} for p in predictions])
        return
    from rich.table import Table

    table = Table("image", "label", "probability")
    table.columns[2].justify = "right"
    for prediction in predictions:
        for rank, (label, probability) in enumerate(prediction.top):
            table.add_row("" if rank else prediction.image, label, f"{probability:.2%}")
        table.add_section()
    console().print(table)


def export(run: Positional[Path]) -> None:
    """Write a run's best model as SavedModel and TFLite, and prove that each answers like it.

    Example: keras-inception export runs/first

    Args:
        run: Folder of the run; the files stand in its folder export.
    """
    check_run(run)
    load_tensorflow()
    from rich.table import Table

    from keras_inception.export import export as export_run

    screen = console()
    with reading(screen) as on_images:
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
    screen.print(table)
    screen.print(
        f"compared with the run's Keras model in float32 on {result['images']} test images; "
        f"allowed: {result['tolerance']:g}",
        highlight=False,
    )
