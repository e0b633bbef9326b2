"""The public GoogLeNets as they are published: fetched, read, compared with their original, and measured.

For tools/check-weights, which says how it is used.
"""

import dataclasses
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from keras_inception.cli.screen import load_tensorflow
from keras_inception.errors import InceptionError
from keras_inception.files import file_sha256, write_json
from keras_inception.weights.fetch import fetched
from keras_inception.weights.published import PUBLISHED, PublishedWeights
from keras_inception.weights.read import read_weights

TOLERANCE = 1e-4  # of a probability
SIZES = (224, 192, 320)

# In a process of its own: torch and TensorFlow in one do not always get along.
TORCHVISION = """
import sys, warnings
import numpy as np, torch, torchvision

warnings.simplefilter("ignore")
network = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False, transform_input=True).eval()
network.load_state_dict(torch.load(sys.argv[1], weights_only=True))
answers = {}
for size, x in np.load(sys.argv[2]).items():
    with torch.no_grad():
        answers[size] = torch.softmax(network(torch.from_numpy(x).permute(0, 3, 1, 2)), dim=1).numpy()
np.savez(sys.argv[3], **answers)
"""


def check(
    photographs: Path | None = None,
    name: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="NAME")] = (),
    json_file: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
) -> int:
    """Check the public weights; return 1 where something does not hold.

    Args:
        photographs: A folder with a folder for each class, called by WordNet's number or by its name.
        name: Weights to check; by default all.
        json_file: File for what was found.
    """
    load_tensorflow()
    screen, found = Console(), []
    for one in [PUBLISHED[word] for word in name or PUBLISHED]:
        screen.print(f"{one.name}: {one.url}", highlight=False)
        try:
            found.append(_checked(one, photographs))
        except InceptionError as error:
            found.append({"name": one.name, "problem": str(error)})
    _print(screen, found)
    if json_file is not None:
        write_json(json_file, found)
    return int(any(row["problem"] for row in found))


def _checked(one: PublishedWeights, photographs: Path | None) -> dict[str, Any]:
    path = fetched(one)
    read = read_weights(path, one.source)
    row: dict[str, Any] = {
        "name": one.name,
        "sha256": file_sha256(path),
        "left_over": list(read.left_over),
        "difference": _difference(one, path) if one.source == "torchvision" else None,
        "top1": None,
        "top5": None,
        "images": 0,
        "problem": "",
    }
    if row["difference"] is not None and row["difference"] > TOLERANCE:
        row["problem"] = f"differs from torchvision's network by {row['difference']:.1e}"
    if photographs is not None:
        from keras_inception.evaluation.evaluate import evaluate

        with tempfile.TemporaryDirectory() as folder:
            result = evaluate(one.name, data=photographs, output=Path(folder) / "evaluation")
        row |= {"images": result["images"], "top1": result["top1"], "top5": result["top5"]}
    return row


def _difference(one: PublishedWeights, path: Path) -> float:
    """Return the largest difference of a probability from torchvision's own network, on noise of several sizes."""
    from keras_inception.googlenet import GoogLeNet
    from keras_inception.weights.imagenet import preprocess_input

    random = np.random.default_rng(0)
    pixels = {size: random.integers(0, 256, (4, size, size, 3)).astype(np.float32) for size in SIZES}
    with tempfile.TemporaryDirectory() as folder:
        images, answers = Path(folder) / "images.npz", Path(folder) / "answers.npz"
        np.savez(images, **{str(size): preprocess_input(x, mode="torch") for size, x in pixels.items()})
        subprocess.run([sys.executable, "-c", TORCHVISION, path, images, answers], check=True)
        expected = dict(np.load(answers))
    differences = []
    for size, x in pixels.items():
        model = GoogLeNet(weights=one.name, input_shape=x.shape[1:])
        differences.append(np.abs(model(preprocess_input(x, one.mode)) - expected[str(size)]).max())
    return float(max(differences))


def _print(screen: Console, found: list[dict[str, Any]]) -> None:
    table = Table("weights", "difference", "images", "top-1 (published)", "top-5 (published)")
    for row in found:
        one = dataclasses.asdict(PUBLISHED[row["name"]])
        shares = ["" if row.get(name) is None else f"{row[name]:.1%} ({one[name]:.1%})" for name in ("top1", "top5")]
        difference = "" if row.get("difference") is None else f"{row['difference']:.1e}"
        table.add_row(row["name"], difference, f"{row.get('images', 0):,}", *shares)
    screen.print(table)
    for row in found:
        lines = [row["problem"]] if row["problem"] else []
        if "sha256" in row:
            others = [name for name in row["left_over"] if not name.endswith("num_batches_tracked")]
            lines += [f"sha256 {row['sha256']}", f"not used: {', '.join(others) or 'counters alone'}"]
        for line in lines:
            screen.print(f"{row['name']}: {line}", highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(tyro.cli(check))
