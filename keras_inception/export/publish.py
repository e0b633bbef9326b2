"""A run for others: its best model in a folder with a model card, without what is private to the machine it ran on."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from keras_inception import __version__
from keras_inception.config import RunConfig
from keras_inception.cost import row_costs
from keras_inception.errors import RunError
from keras_inception.files import folder_written_beside, write_json, write_text
from keras_inception.report.page import Table
from keras_inception.report.text import as_markdown
from keras_inception.run_folder import RunFolder
from keras_inception.weights.published import PUBLISHED

CARD = "README.md"

# Classes that the card lists as those found worst.
_WORST = 5


def publish(run: str | Path, out: str | Path, *, licence: str, overwrite: bool = False) -> Path:
    """Write a run's best model, what it needs to answer, and a model card into a folder.

    The folder is itself a run to `predict`, `evaluate`, `export` and `train --from`. Paths of this machine are taken
    out of what is written.

    Args:
        run: The run's folder; its evaluation on the test split, where there is one, gives the card's figures.
        out: The folder to write.
        licence: Of the weights, for the card, such as "CC-BY-4.0".
        overwrite: Replace a published folder that stands at `out`.

    Returns:
        `out`.

    Raises:
        RunError: There is no finished epoch in the run, or `out` holds something.
    """
    folder, out = RunFolder(Path(run)), Path(out)
    config = folder.config()
    if not folder.best_keras.is_file() or not folder.summary_json.is_file():
        raise RunError(f"{str(folder.path)!r} is not finished; go on with train --resume, and publish it then")
    if not licence.strip():
        raise RunError("no licence given; say under which one others may use the weights, such as --licence CC-BY-4.0")
    _check_out(out, overwrite)
    data, summary = _public_data(folder.data()), folder.summary()
    if not isinstance(summary["broken_images"], int):  # of a published run it is their number already
        summary["broken_images"] = len(summary["broken_images"])
    with folder_written_beside(out) as new:
        target = RunFolder(new)
        for name in ("architecture.json", "labels.txt", "best.keras", "metrics.csv"):
            shutil.copyfile(folder.path / name, new / name)
        write_text(target.config_json, _public_config(config).to_json())
        write_json(target.data_json, data)
        write_json(target.summary_json, summary)
        write_text(new / CARD, _card(folder, config, data, summary, _evaluation(folder), licence.strip()))
    return out


def _check_out(out: Path, overwrite: bool) -> None:
    if out.is_file():
        raise RunError(f"{str(out)!r} is a file; give --out a folder")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not overwrite:
        raise RunError(f"{str(out)!r} exists; give --overwrite to replace it")
    if not (out / CARD).is_file() or not (out / "config.json").is_file():
        raise RunError(f"{str(out)!r} holds something else than a published run; give --out another folder")


def _public_data(data: dict[str, Any]) -> dict[str, Any]:
    """Return what a run was trained on without where it lies."""
    provenance = {name: value for name, value in data["provenance"].items() if name != "place"}
    return data | {"name": Path(data["name"]).name, "provenance": provenance}


def _public_config(config: RunConfig) -> RunConfig:
    """Return a configuration without paths of this machine."""
    start = config.model.start_from
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, source="", data_dir=None),
        model=dataclasses.replace(
            config.model,
            architecture=Path(config.model.architecture).name,
            start_from=None if start is None else Path(start).name,
        ),
    )


def _evaluation(folder: RunFolder) -> dict[str, Any] | None:
    """Return the figures on the test split, where they were measured."""
    path = folder.path / "evaluation" / "evaluation.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise RunError(f"{str(path)!r} cannot be read; evaluate the run anew") from None
    return found if found["split"] == "test" and found["top1"] is not None else None


def _card(
    folder: RunFolder,
    config: RunConfig,
    data: dict[str, Any],
    summary: dict[str, Any],
    evaluation: dict[str, Any] | None,
    licence: str,
) -> str:
    labels, table = folder.labels(), folder.architecture()
    size, channels = config.data.image_size or table.image_size, config.data.channels
    weights = sum(row.parameters for row in row_costs(table, (size, size, channels), len(labels)))
    colours = "colour" if channels == 3 else "grey"
    front = [
        *("library_name: keras", "pipeline_tag: image-classification"),
        f"license: {json.dumps(licence, ensure_ascii=False)}",
        *("tags:", "- keras-inception", f"- {json.dumps(table.name, ensure_ascii=False)}"),
    ]
    sections = {
        "Use": _use(folder),
        "Data": _data(data),
        "Measured": _measured(summary, evaluation),
        "Limits": "\n".join(f"- {line}" for line in _limits(config, data, evaluation)),
        "Licence": _licence(config, licence),
    }
    lead = (
        f"A network of the GoogLeNet family (architecture `{table.name}`, {weights:,} parameters) that tells which of "
        f"{len(labels)} classes a {colours} image shows. Images are resized to {size} px. Trained with "
        f"keras_inception {__version__}, recipe `{config.training.recipe}`, "
        f"{summary['last']['epoch']:.0f} epochs, seed {config.training.seed}."
    )
    text = "\n\n".join(f"## {title}\n\n{body}" for title, body in sections.items())
    return "\n".join(["---", *front, "---", "", f"# {config.name}", "", lead, "", text, ""])


def _use(folder: RunFolder) -> str:
    return f"""In a checkout of keras_inception, after `tools/install`:

```
.venv/bin/keras-inception predict path/to/this/folder photo.jpg
```

```python
from pathlib import Path

from keras_inception.evaluation.predict import predict
from keras_inception.predictor import run_model
from keras_inception.run_folder import RunFolder

predict("path/to/this/folder", ["photo.jpg"])  # labels and probabilities; decodes and resizes as the training did
model = run_model(RunFolder(Path("path/to/this/folder")))  # a keras.Model, without auxiliary heads
```

labels.txt has the names of the classes in the order of the outputs; config.json the preprocessing. The classes:
{_listed(folder.labels())}."""


def _listed(labels: tuple[str, ...]) -> str:
    shown = ", ".join(labels[:20])
    return shown if len(labels) <= 20 else f"{shown} and {len(labels) - 20} more"


def _data(data: dict[str, Any]) -> str:
    classes = list(next(iter(data["images"].values())))
    splits = list(data["images"])
    shown = classes[:50]
    rows = [(name, *(data["images"][split].get(name, 0) for split in splits)) for name in shown]
    rows.append(("all", *(sum(data["images"][split].values()) for split in splits)))
    said = "" if len(classes) <= len(shown) else f"\n\nThe first {len(shown)} of {len(classes)} classes are listed."
    about = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in data["provenance"].items())
    return (
        f"{data['name']} ({about}), fingerprint `{data['fingerprint']}`. Images of each class:\n\n"
        f"{as_markdown(Table(('class', *splits), rows))}{said}"
    )


def _measured(summary: dict[str, Any], evaluation: dict[str, Any] | None) -> str:
    best = summary["best"]
    rows: list[tuple[str, str, str]] = []
    if evaluation is not None:
        for name, figure in (("top1", "top-1"), ("top5", "top-5"), ("macro_f1", "macro-F1")):
            if evaluation[name] is not None:
                bounds = evaluation["intervals"].get(name)
                interval = "" if bounds is None else f"{bounds[0]:.1%} to {bounds[1]:.1%}"
                rows.append((f"test, {figure}", f"{evaluation[name]:.1%}", interval))
    rows.append((f"validation, top-1, in epoch {best['epoch']:.0f}", f"{best['val_main_top1']:.1%}", ""))
    text = as_markdown(Table(("on", "figure", "95% interval over images"), rows))
    if evaluation is None:
        return f"{text}\n\nThe epoch was chosen by this figure, which flatters it. On the test split: not yet measured."
    crops = "one crop" if evaluation["crops"] == 1 else f"{evaluation['crops']} crops"
    return (
        f"{text}\n\nOf {evaluation['images']:,} test images, {crops} of each. The epoch was chosen by the figure on "
        f"validation, which flatters it."
    )


def _limits(config: RunConfig, data: dict[str, Any], evaluation: dict[str, Any] | None) -> list[str]:
    images = sum(data["images"]["train"].values())
    lines = [
        "It answers with one of its classes whatever an image shows. `--reject-below` leaves out what it is unsure of.",
        f"It has learnt from {images:,} images of one collection. How it answers images of other cameras, places and "
        f"times was not measured.",
    ]
    if config.model.start_from is not None:
        lines.append("It began with the weights of another network, and may share what that one gets wrong.")
    if evaluation is not None:
        classes = [(name, row) for name, row in evaluation["per_class"].items() if row["images"]]
        worst = sorted(classes, key=lambda item: item[1]["recall"])[:_WORST]
        said = ", ".join(f"{name} ({row['recall']:.0%} of {row['images']} found)" for name, row in worst)
        lines.append(f"Found least on the test split: {said}.")
        lines.append(f"Its probabilities are off by {evaluation['calibration']['ece']:.1%} (calibration error, ECE).")
    return lines


def _licence(config: RunConfig, licence: str) -> str:
    published = PUBLISHED.get(config.model.start_from or "")
    if published is None:
        return f"{licence}. The images have their own."
    return (
        f"{licence}. The images have their own, and so have the weights that it began with, `{published.name}`: "
        f"{published.licence} ({published.reference})."
    )
