"""train: the flags become a configuration, and the configuration a run."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import UseAppendAction, arg

from keras_inception.cli.screen import (
    console,
    counting,
    fields,
    flag,
    load_tensorflow,
    onednn,
    read_text,
    say,
    say_left_out,
)

if TYPE_CHECKING:
    from rich.console import Console

    from keras_inception.config import RunConfig
    from keras_inception.weights.published import PublishedWeights


def train(
    run_dir: Annotated[Path | None, flag("FOLDER", "required without --dry-run")] = None,
    data: Annotated[str | None, flag("SOURCE", "required without --config")] = None,
    config: Annotated[Path | None, flag("FILE", "none")] = None,
    recipe: Annotated[Literal["paper", "modern", "finetune"] | None, flag("NAME", "modern")] = None,
    start_from: Annotated[
        str | None, arg(name="from", metavar="RUN|FILE|NAME", help_behavior_hint="(default: none)")
    ] = None,
    freeze_until: Annotated[str | None, flag("ROW", "nothing is frozen")] = None,
    epochs: Annotated[int | None, flag("INT", "30")] = None,
    batch_size: Annotated[int | None, flag("INT", "32")] = None,
    image_size: Annotated[int | None, flag("INT", "the architecture's: 224, or 32 for googlenet-small and nin")] = None,
    architecture: Annotated[str | None, flag("NAME", "googlenet-bn, or googlenet in the recipe paper")] = None,
    width: Annotated[float | None, flag("FLOAT", "1")] = None,
    learning_rate: Annotated[float | None, flag("FLOAT", "the recipe's, scaled linearly with the batch")] = None,
    class_weights: Annotated[Literal["none", "balanced"] | None, flag("NAME", "none")] = None,
    precision: Annotated[str | None, flag("NAME", "auto")] = None,
    devices: Annotated[str | None, flag("DEVICES", "auto")] = None,
    workers: Annotated[str | None, flag("HOST:PORT,...", "this process alone, or TF_CONFIG's")] = None,
    task_index: Annotated[int | None, flag("INT", "none")] = None,
    seed: Annotated[int | None, flag("INT", "0")] = None,
    name: Annotated[str | None, flag("NAME", "the folder's")] = None,
    data_dir: Annotated[str | None, flag("FOLDER", "TFDS's own, ~/tensorflow_datasets")] = None,
    max_broken: Annotated[float | None, flag("SHARE", "0.01")] = None,
    set: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="SECTION.FIELD=VALUE")] = (),
    save_every: Annotated[str, arg(metavar="N|TIME")] = "10m",
    deterministic: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Train a network with its auxiliary heads; everything about the run stands in its folder afterwards.

    Example: keras-inception train --data photos/ --run-dir runs/first --epochs 20 --image-size 224

    Killed at any moment, the same command with --resume goes on; with SIGTERM or Ctrl-C it saves and leaves.

    Args:
        run_dir: Folder of the run; it is made.
        data: A folder of class folders (with or without train/validation/test above them), a manifest (.csv or .jsonl
            with path, label and perhaps split and group), a folder of shards (data convert), a TFDS name such as
            tf_flowers, "elpv" (photographs of solar cells; extra elpv) or "digits" (scikit-learn's).
        config: Start from the config.json of an earlier run; other flags override it.
        recipe: paper (arXiv:1409.4842, section 6), modern, or finetune, which goes with --from.
        start_from: What to begin with the weights of: a run, whose architecture and preprocessing are taken too, a
            .keras file, or imagenet, imagenet-slim or imagenet-caffe, which are fetched once.
        freeze_until: Rows up to this one, such as 3b, keep their weights for training.freeze_epochs.
        epochs: Passes over the training images.
        batch_size: Images per step over all devices and workers.
        image_size: Side of the square input in px.
        architecture: googlenet, googlenet-bn, -small, -torchvision or -slim, nin, or a run's architecture.json.
        width: Factor on every width.
        learning_rate: Peak rate, as it is used.
        class_weights: balanced gives rare classes as much weight as common ones.
        precision: float32, mixed_float16, mixed_bfloat16, or auto for the fastest that the GPU has units for.
        devices: auto or all for all GPUs or the CPU, gpu:0,1 for some, cpu:2 for two logical CPUs.
        workers: All machines that train together, the same list on each; every one runs this command.
        task_index: Which of --workers this is, from 0; 0 writes the run.
        seed: Of weights, order, augmentation and dropout.
        name: Name of the run.
        data_dir: Where TFDS keeps its sets.
        max_broken: Largest share of the images that may be undecodable; they are left out and listed.
        set: Any other field of the configuration, such as data.flip_vertical=true; may be given several times.
        save_every: How often the state is saved within an epoch: steps, as in 500, or a time: 90s, 10m, 1h.
        deterministic: The same bits on every run, at some speed.
        resume: Go on with the run in RUN_DIR from its last saved state, or begin where there is none.
        overwrite: Delete the run in RUN_DIR first.
        dry_run: Measure the time of an epoch, memory and steps on a few steps, and write nothing.
    """
    from keras_inception.errors import ConfigError

    if run_dir is None and not dry_run:
        raise ConfigError("no run folder given; give --run-dir FOLDER, or --dry-run to measure only")
    if (workers is None) != (task_index is None):
        raise ConfigError("--workers and --task-index go together; give both or none")
    values = fields(
        set,
        data=data,
        data_dir=data_dir,
        image_size=image_size,
        max_broken=max_broken,
        architecture=architecture,
        width=width,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        class_weights=class_weights,
        freeze_until=freeze_until,
        deterministic=deterministic or None,
        start_from=start_from,
        precision=precision,
        devices=devices,
        seed=seed,
        name=name or (None if config or run_dir is None else run_dir.resolve().name),
    )
    run_config = _start(config, recipe, start_from).override(values)
    run_config.model.table()  # an unknown architecture is refused before TensorFlow is loaded
    run_config = _with_onednn(run_config, run_dir if resume else None)

    load_tensorflow(run_config.training.onednn)
    from keras_inception.training.devices import join_workers
    from keras_inception.training.progress import TrainingProgress
    from keras_inception.training.trainer import dry_run as measure, train as train_run

    if workers is not None and task_index is not None:
        join_workers(workers, task_index)
    screen = console()
    if dry_run:
        with counting(screen, "reading images") as on_images:
            _print_dry_run(screen, measure(run_config, on_images=on_images), run_config.training.epochs)
        return
    assert run_dir is not None
    with contextlib.ExitStack() as stack:

        def progress(steps: int, batch_size: int, epoch: int, step: int) -> list[Any]:
            display = TrainingProgress(screen, steps, batch_size, epoch, step)
            stack.callback(display.close)
            return [display]

        summary = train_run(
            run_config,
            run_dir,
            resume=resume,
            overwrite=overwrite,
            save_every=save_every,
            callbacks=progress,
            on_images=stack.enter_context(counting(screen, "reading images")),
        )
    if not summary:
        say(screen, "all epochs are trained; worker 0 has the run")
        return
    say_left_out(screen, summary["broken_images"])
    best = summary["best"]
    say(
        screen,
        f"best epoch {best['epoch']:.0f}: validation top-1 {best['val_main_top1']:.1%}; "
        f"{summary['training_seconds']:.0f} s; the run stands in {run_dir}",
    )


# What a fine-tuned network shares with the run whose weights it starts with.
_SHARED = {
    "model": ("architecture", "width", "normalization"),
    "data": ("image_size", "channels", "value_range", "resize", "crop_fraction"),
}


def _start(config: Path | None, recipe: str | None, start_from: str | None) -> "RunConfig":
    """Return the configuration that other flags override."""
    from keras_inception.config import RECIPES, RunConfig
    from keras_inception.errors import ConfigError
    from keras_inception.run_folder import RunFolder
    from keras_inception.weights.published import PUBLISHED

    if recipe == "finetune" and start_from is None:
        raise ConfigError("the recipe finetune starts with weights; give --from RUN, FILE.keras or imagenet")
    if config is not None:
        start = RunConfig.from_json(read_text(config)).override(RECIPES[recipe] if recipe else {})
    else:
        start = RunConfig.of_recipe(recipe or "modern")
    if start_from is None:
        return start
    if start_from in PUBLISHED:
        return start.override(_of_published(PUBLISHED[start_from]))
    if Path(start_from).is_dir():
        run = RunFolder(Path(start_from))
        source = run.config()
        if source.model.architecture.endswith(".json"):  # which may have moved; the run has its own
            source = source.with_table(run.architecture_json)
        return start.override(
            {
                f"{section}.{field}": getattr(getattr(source, section), field)
                for section, names in _SHARED.items()
                for field in names
            }
        )
    return start.override(_of_file(Path(start_from)))


def _with_onednn(config: "RunConfig", resumed: Path | None) -> "RunConfig":
    """Return `config` with the choice of oneDNN's kernels filled in: that of the run that is resumed, or of now."""
    from keras_inception.run_folder import RunFolder

    if config.training.onednn is not None:
        return config
    if resumed is not None and RunFolder(resumed).config_json.exists():
        return config.override({"training.onednn": RunFolder(resumed).config().training.onednn})
    return config.override({"training.onednn": onednn()})


def _of_published(published: "PublishedWeights") -> dict[str, Any]:
    """Return the fields that published weights imply."""
    from keras_inception.weights.published import CROP_FRACTION

    return {
        "model.architecture": published.architecture,
        "data.image_size": published.image_size,
        "data.value_range": published.value_range,
        "data.crop_fraction": CROP_FRACTION,
    }


def _of_file(path: Path) -> dict[str, Any]:
    """Return the fields that an imported file implies: none where it is another .keras file."""
    from keras_inception.card import read_card
    from keras_inception.errors import RunError
    from keras_inception.weights.published import IMPORTED_ARCHITECTURE, TRANSFORM_INPUT, VALUE_RANGES

    try:
        card = read_card(path)
    except RunError:
        return {}
    if IMPORTED_ARCHITECTURE not in card.provenance:
        return {}
    fields = {f"data.{name}": getattr(card.data, name) for name in _SHARED["data"]}
    if card.provenance[TRANSFORM_INPUT] == "true":  # what is trained has no such layer in front, and takes its output
        fields["data.value_range"] = VALUE_RANGES["tf"]
    return fields | {"model.architecture": card.provenance[IMPORTED_ARCHITECTURE]}


def _print_dry_run(screen: "Console", result: dict[str, Any], epochs: int) -> None:
    per_epoch, total = result["seconds_per_epoch"], result["seconds"]
    say(
        screen,
        f"{result['images']['train']:,} training and {result['images']['validation']:,} validation images; "
        f"{result['steps_per_epoch']:,} steps per epoch, {epochs} epochs",
    )
    say(
        screen,
        f"{result['seconds_per_step']:.2f} s per step, {result['images_per_second']:.1f} images/s: "
        f"{_duration(per_epoch)} per epoch, {_duration(total)} in all, without validation",
    )
    memory = ", ".join(f"{name} {size / 2**30:.1f} GiB" for name, size in result["peak_memory"].items())
    say(screen, f"memory at its peak: {memory}; {result['parameters_in_training']:,} parameters in training")
    say(
        screen,
        f"{result['replicas']} devices in {result['precision']}, peak learning rate {result['learning_rate']:.4g}; "
        f"nothing was written",
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
