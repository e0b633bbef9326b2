"""evaluate, compare, predict, export, try: what is done with runs and what was exported of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

from tyro.conf import FlagCreatePairsOff, Positional, arg

from keras_inception.cli.screen import (
    check_model,
    check_output,
    console,
    counting,
    flag,
    listed,
    load_tensorflow,
    print_json,
    say,
    say_left_out,
    several,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from keras_inception.evaluation.predictions import Prediction


def evaluate(
    run: Positional[Annotated[tuple[Path, ...], flag("[RUN|FILE ...]", "required without --weights")]],
    weights: Annotated[str | None, flag("NAME", "none")] = None,
    split: Annotated[
        Literal["test", "validation", "train"] | None,
        flag("{test,validation,train}", "test, or validation with --weights"),
    ] = None,
    crops: Literal[1, 10, 144] = 1,
    heads: Annotated[bool, FlagCreatePairsOff] = False,
    data: Annotated[Path | None, flag("FOLDER|NAME", "the run's own data")] = None,
    reject_below: Annotated[float | None, flag("P", "every answer counts")] = None,
    predictions: Literal["csv", "parquet"] = "csv",
    output: Annotated[
        Path | None,
        flag("FOLDER", "in the run, named after data, split and crops; an exported file and several need one"),
    ] = None,
) -> None:
    """Measure a run's best model, an exported file, or several as an ensemble; figures and answers stand in a folder.

    Example: keras-inception evaluate runs/first --crops 10

    Args:
        run: Folder of a run, or an exported file; several are an ensemble, whose answers are averaged.
        weights: Published weights: imagenet, imagenet-slim or imagenet-caffe.
        split: The images to measure on.
        crops: How many crops of each image, whose answers are averaged: the centre, or the 10 or 144 of publications.
        heads: Measure the auxiliary heads too.
        data: Measure on the images of this folder, in folders named by the run's classes or without labels, or on this
            TFDS set. ImageNet's classes may be WordNet's numbers, as n01440764.
        reject_below: An answer whose probability is lower counts as none of the classes.
        predictions: What the answers are written as.
        output: Folder for what is written; an evaluation that stands there is replaced.
    """
    from keras_inception.errors import RunError, unknown

    if weights is not None:
        from keras_inception.weights.published import PUBLISHED

        if weights not in PUBLISHED:
            raise RunError(unknown("weights", weights, PUBLISHED))
        run = (*run, Path(weights))
    if not run:
        raise RunError("no run given; give the folder of a run, or --weights NAME")
    split = split or ("test" if weights is None else "validation")
    for folder in run:
        check_model(folder)
    from keras_inception.data.decode import printable
    from keras_inception.evaluation.evaluate import evaluate as evaluate_runs, evaluation_folder

    written = evaluation_folder(run, split, crops, data, output)
    for place in (written, written.parent):  # it is made beside its place
        check_output(place, folder=True)
    load_tensorflow()
    screen = console()
    with counting(screen, "reading images") as on_images, counting(screen, "answering images") as on_progress:
        result = evaluate_runs(
            run,
            split,
            crops=crops,
            heads=heads,
            data=data,
            reject_below=reject_below,
            predictions=predictions,
            output=output,
            on_images=on_images,
            on_progress=on_progress,
        )
    say_left_out(screen, result["broken_images"])
    where = [printable(str(data))] if data is not None else []
    what = " ".join([f"{result['images']:,}", *where, *filter(None, [result["split"]]), "images"])
    if result["per_class"] is None:
        _print_answers(screen, result, what)
    else:
        _print_figures(screen, result, what)
    if rejection := result["rejection"]:
        right = "" if rejection.get("top1") is None else f", top-1 of the answered {rejection['top1']:.2%}"
        say(screen, f"answered with at least {rejection['below']:g}: {rejection['coverage']:.2%}{right}")
    say(screen, f"{result['images_per_second']:.1f} images/s; the evaluation stands in {printable(str(written))}")


def compare(
    run: Positional[Annotated[tuple[Path, Path], arg(metavar="RUN RUN")]],
    split: Literal["test", "validation", "train"] = "test",
    crops: Literal[1, 10, 144] = 1,
) -> None:
    """Compare two runs on the same images: which is right where, and whether that is more than chance (McNemar).

    Example: keras-inception compare runs/first runs/second

    Args:
        run: Folders of two runs of the same data.
        split: The images to compare on.
        crops: As in evaluate.
    """
    for folder in run:
        check_model(folder)
    load_tensorflow()
    from rich.table import Table

    from keras_inception.data.decode import printable
    from keras_inception.evaluation.compare import compare as compare_runs

    screen = console()
    with counting(screen, "reading images") as on_images, counting(screen, "answering images") as on_progress:
        result = compare_runs(*run, split, crops=crops, on_images=on_images, on_progress=on_progress)
    table = Table("", "second right", "second wrong")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("first right", f"{result['both']:,}", f"{result['only_first']:,}")
    table.add_row("first wrong", f"{result['only_second']:,}", f"{result['neither']:,}")
    screen.print(table)
    for name, folder, top1 in zip(("first", "second"), run, result["top1"], strict=True):
        say(screen, f"{name}: top-1 {top1:.2%} of {result['images']:,} {split} images, {printable(str(folder))}")
    say(screen, result["sentence"])


def predict(
    run: Positional[Annotated[Path, arg(metavar="RUN|FILE")]],
    image: Positional[Annotated[tuple[str, ...], several("IMAGE")]],
    top: int = 5,
    reject_below: Annotated[float | None, flag("P", "every answer counts")] = None,
    output: Annotated[Path | None, flag("FILE", "the terminal")] = None,
    json: Annotated[bool, FlagCreatePairsOff] = False,
) -> None:
    """Classify images with a run's best model, or an exported file.

    Example: keras-inception predict runs/first cat.jpg holiday/ 'more/*.png' --top 3

    Args:
        run: Folder of the run, or a file that export wrote: model.tflite needs no TensorFlow.
        image: Files, folders or patterns.
        top: How many labels to give for each.
        reject_below: An answer whose probability is lower counts as none of the classes.
        output: Write a table (.csv, .parquet) or JSON (.json) in place of printing.
        json: Print JSON in place of a table.
    """
    from keras_inception.card import kind_of
    from keras_inception.errors import DataError

    if not image:
        raise DataError("no image given; give files, folders or patterns after the run")
    check_model(run)
    if output is not None:
        from keras_inception.evaluation.predictions import check_ending

        check_ending(output)
        check_output(output, folder=False)
    if kind_of(run) not in ("tflite", "onnx"):  # which are run without it
        load_tensorflow()
    from rich.console import Console

    from keras_inception.data.decode import printable
    from keras_inception.evaluation.predict import predict as predict_images
    from keras_inception.evaluation.predictions import as_json, write_predictions

    broken: list[str] = []
    predictions = predict_images(run, image, top, reject_below=reject_below, on_broken=broken.append)
    if output is not None:
        write_predictions(output, predictions)
        say(console(), f"wrote the answers for {len(predictions):,} images to {printable(str(output))}")
    elif json:
        print_json([as_json(prediction) for prediction in predictions])
    else:
        _print_predictions(console(), predictions)
    say_left_out(Console(stderr=True, soft_wrap=True), broken)


def export(
    run: Positional[Annotated[Path | None, flag("[RUN]", "required without --verify")]] = None,
    to: Annotated[str, arg(metavar="FORMATS")] = "saved_model,tflite",
    quantize: Annotated[str, arg(metavar="PRECISIONS", help_behavior_hint="(default: none)")] = "",
    int8_io: Literal["uint8", "float32"] = "uint8",
    verify_with: Annotated[Path | None, flag("FOLDER", "the run's test images")] = None,
    tolerance: float = 1e-4,
    float16_tolerance: float = 2e-3,
    agreement: float = 0.97,
    accuracy_loss: float = 0.01,
    verify: Annotated[Path | None, flag("FOLDER", "nothing is verified")] = None,
) -> None:
    """Write a run's best model for servers, phones and other runtimes, and prove that each file answers like it.

    Example: keras-inception export runs/first --to saved_model,tflite,onnx --quantize float16,int8

    Args:
        run: Folder of the run; the files stand in its folder export.
        to: saved_model, tflite, onnx, keras; several with commas.
        quantize: Further TFLite files: float16, dynamic, int8, int16x8; several with commas.
        int8_io: What the int8 file takes and gives: uint8 takes the pixels as they are.
        verify_with: Prove it with the images of this folder.
        tolerance: Largest difference of a probability in float32.
        float16_tolerance: The same with weights in 16 bits.
        agreement: Least share of equal answers with weights in 8 bits.
        accuracy_loss: Largest loss of top-1 there, as a share of the images.
        verify: Check in place of exporting that this export, or a copy of it, is as it was written.
    """
    from keras_inception.errors import RunError

    screen = console()
    if verify is not None:
        from keras_inception.export.manifest import verify as verify_export

        manifest = verify_export(verify)
        where = manifest["provenance"]
        say(
            screen,
            f"all {len(manifest['files'])} files are as they were exported from {where['run']} "
            f"(epoch {where['epoch']})",
        )
        return
    if run is None:
        raise RunError("no run given; give the folder of a run")
    from keras_inception.export.export import Format, export as export_run
    from keras_inception.export.proof import Thresholds
    from keras_inception.export.tflite import Precision

    formats = listed(to, "format", get_args(Format))
    precisions = listed(quantize, "precision", get_args(Precision))
    check_model(run)
    load_tensorflow()

    with counting(screen, "reading images") as on_images, screen.status("answering with the trained model") as status:
        result = export_run(
            run,
            to=cast("list[Format]", formats),
            quantize=cast("list[Precision]", precisions),
            interface=int8_io,
            verify_with=verify_with,
            thresholds=Thresholds(tolerance, float16_tolerance, agreement, accuracy_loss),
            on_images=on_images,
            on_file=lambda name: status.update(f"making {name}"),
        )
    _print_proofs(screen, result)
    say(screen, f"the export stands in {run / 'export'}; report.html there is a page about it")


def try_(
    model: Positional[Annotated[tuple[Path, ...], several("RUN|FILE")]],
    host: str = "127.0.0.1",
    port: int = 7860,
    max_upload_mb: float = 20,
) -> None:
    """Try models in the browser: an image goes in, what each says of it comes out, side by side.

    Example: keras-inception try runs/first runs/first/export/model_int8.tflite

    Args:
        model: Folders of runs, and files that export wrote.
        host: Address to listen on; 0.0.0.0 lets other machines in.
        port: Port to listen on; 0 takes a free one.
        max_upload_mb: Largest file that is taken, MB.
    """
    for path in model:
        check_model(path)
    load_tensorflow()
    from keras_inception.try_page import serve

    screen = console()
    screen.print("opening the models", highlight=False)
    serve(
        model,
        host=host,
        port=port,
        max_upload_mb=max_upload_mb,
        on_ready=lambda address: say(screen, f"{address} in a browser; Ctrl-C stops it"),
    )


def _print_proofs(screen: "Console", result: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("file", "MB", "largest difference", "same answers", "top-1")
    for column in table.columns[1:]:
        column.justify = "right"
    for proof in (result["reference"], *result["files"]):
        table.add_row(
            proof["file"],
            f"{proof['bytes'] / 1e6:.2f}",
            f"{proof['largest_difference']:.1e}",
            f"{proof['agreement']:.1%}",
            "" if proof["top1"] is None else f"{proof['top1']:.1%}",
        )
    screen.print(table)
    screen.print(_latencies([result["reference"], *result["files"]]))
    for proof in result["files"]:
        if proof["note"]:
            say(screen, f"{proof['file']}: {proof['note']}")
    for proof in result["attempts"]:
        say(screen, f"not kept: {proof['file']} ({proof['note']}): {' and '.join(proof['misses'])}")
    say(screen, f"each file answered {result['images']:,} {result['of']} in a fresh process, beside the trained model")


def _latencies(proofs: Sequence[dict[str, Any]]) -> "Table":
    """Return a table of what a batch takes, median and 95th percentile."""
    from rich.table import Table

    settings = [f"batch {row['batch']}\nthreads {row['threads']}" for row in proofs[0]["latency_ms"]]
    table = Table("ms\nmedian (95th percentile)", *settings)
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for proof in proofs:
        table.add_row(proof["file"], *(f"{row['median']:.1f} ({row['p95']:.1f})" for row in proof["latency_ms"]))
    return table


def _print_figures(screen: "Console", result: dict[str, Any], what: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("class", "images", "precision", "recall", "F1")
    for column in table.columns[1:]:
        column.justify = "right"
    for label, row in result["per_class"].items():
        shares = (f"{row[name]:.1%}" for name in ("precision", "recall", "f1"))
        table.add_row(Text(label), f"{row['images']:,}", *shares)
    screen.print(table)

    def interval(name: str, form: str) -> str:
        bounds = result["intervals"][name]
        return "" if bounds is None else f" ({bounds[0]:{form}} to {bounds[1]:{form}})"

    say(screen, f"top-1 {result['top1']:.2%}{interval('top1', '.2%')} of {what}")
    if result["top5"] is not None:
        say(screen, f"top-5 {result['top5']:.2%}{interval('top5', '.2%')}")
    say(screen, f"macro-F1 {result['macro_f1']:.2%}{interval('macro_f1', '.2%')}")
    say(screen, f"log loss {result['log_loss']:.4f}{interval('log_loss', '.4f')}")
    say(screen, f"expected calibration error {result['calibration']['ece']:.2%}")
    if result["top1"] is not None and result["images"] > 1:
        say(screen, "in brackets: 95% bootstrap intervals over images")
    for name, head in (result["heads"] or {}).items():
        say(screen, f"{name}: top-1 {head['top1']:.2%}, log loss {head['log_loss']:.4f}")


def _print_answers(screen: "Console", result: dict[str, Any], what: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("answer", "images")
    table.columns[1].justify = "right"
    for label, count in result["answers"].items():
        table.add_row(Text(label), f"{count:,}")
    screen.print(table)
    say(screen, f"{what} without labels: no folder is named by one of the classes")


def _print_predictions(screen: "Console", predictions: Sequence["Prediction"]) -> None:
    from rich.table import Table
    from rich.text import Text

    from keras_inception.data.decode import printable

    table = Table("image", "label", "probability")
    table.columns[2].justify = "right"
    for prediction in predictions:
        name = Text(printable(prediction.image))
        if prediction.answer is None:
            table.add_row(name, Text("none of these", style="italic"), "")
            name = Text("")
        for label, probability in prediction.top:
            table.add_row(name, Text(label), f"{probability:.2%}")
            name = Text("")
        table.add_section()
    screen.print(table)
