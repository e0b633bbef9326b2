"""Trainings on GPUs through the command line, each in a process of its own, and what must hold of them.

For tools/check-gpu. Every check trains on scikit-learn's digits, which come with the package.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.linalg import norm
from rich.console import Console
from rich.table import Table
from rich.text import Text

from keras_inception.run_folder import RunFolder

#: What all trainings have; a batch can be shared by 1 to 6, 8 or 12 devices.
ALL = (
    *("--data", "digits", "--epochs", "2", "--batch-size", "120", "--seed", "1", "--learning-rate", "0.02"),
    *("--set", "training.warmup_epochs=0", "--set", "data.random_crop=false", "--set", "data.flip_horizontal=false"),
)
# One step that devices can be compared by: without dropout, which differs, TF32 and unordered sums. Through a new
# network with batch normalisation, float32's rounding reaches 0.003% of the loss and 15% of the gradients of the
# lowest kernels; that both are those of one device, tests in float64 show.
COMPARABLE = (
    *("--set", "model.dropout=0", "--set", "model.auxiliary_dropout=0", "--deterministic"),
    *("--precision", "float32", "--epochs", "1", "--batch-size", "960"),
)
LOSS_TOLERANCE = 1e-3
GRADIENT_TOLERANCE = 0.5


class Wrong(Exception):  # noqa: N818 - what a check found, no error of its own
    """Something does not hold; the message says what."""


class Left(Exception):  # noqa: N818
    """A check does not apply here; the message says why."""


class Checks:
    """The checks, on one kind of device.

    Args:
        folder: For the runs.
        one: Word for one device, as --devices takes it.
        several: Word for all, or None where there is one.
        small: Words that name the network of the trainings.
        large: And of the one that is timed.
    """

    def __init__(self, folder: Path, one: str, several: str | None, small: tuple[str, ...], large: tuple[str, ...]):
        self.folder, self.one, self.several, self.small, self.large = folder, one, several, small, large

    def all(self) -> dict[str, Callable[[], str]]:
        """Return what each check is called and does; it returns what it found."""
        return {
            "one device, float32": lambda: self.learns("float32", self.one),
            "one device, mixed_float16": lambda: self.learns("mixed_float16", self.one),
            "one device, mixed_bfloat16": lambda: self.learns("mixed_bfloat16", self.one),
            "all devices, float32": lambda: self.learns("float32", self.all_devices()),
            "all devices, mixed_float16": lambda: self.learns("mixed_float16", self.all_devices()),
            "a step on all devices is that on one": self.equal_steps,
            "killed and resumed, equal to the bit": self.exact_resume,
            "export answers like the mixed_float16 run": self.exports,
            "speed of float32": lambda: self.speed("float32"),
            "speed of mixed_float16": lambda: self.speed("mixed_float16"),
            "speed of mixed_bfloat16": lambda: self.speed("mixed_bfloat16"),
        }

    def all_devices(self) -> str:
        if self.several is None:
            raise Left("there is one GPU")
        return self.several

    def learns(self, precision: str, devices: str) -> str:
        run = self._trained(f"{precision}-{devices}", "--precision", precision, "--devices", devices)
        rows, summary = run.metrics(), run.summary()
        first, last = rows[0]["loss"], rows[-1]["loss"]
        if not last < first:
            raise Wrong(f"the loss went from {first:.3f} to {last:.3f}")
        skipped = f", {summary['skipped_steps']} steps skipped" if precision == "mixed_float16" else ""
        return f"loss {first:.3f} to {last:.3f}, validation top-1 {rows[-1]['val_main_top1']:.1%}{skipped}"

    def equal_steps(self) -> str:
        devices = {"one": self.one, "all": self.all_devices()}
        runs = [self._trained(f"step-{name}", *COMPARABLE, "--devices", which) for name, which in devices.items()]
        losses = [run.metrics()[0]["loss"] for run in runs]
        if abs(losses[1] - losses[0]) > LOSS_TOLERANCE * losses[0]:
            raise Wrong(f"the loss is {losses[0]:.6f} on one and {losses[1]:.6f} on all")
        one, several = map(_state, runs)
        # Kernels and their momentum, which is the gradient after one step.
        kernels = [name for name, array in one.items() if array.ndim == 4 and array.any()]
        apart = max(float(norm((one[name] - several[name]).ravel()) / norm(one[name].ravel())) for name in kernels)
        if not apart <= GRADIENT_TOLERANCE:
            raise Wrong(f"a kernel's gradient differs by {apart:.0%}, more than {GRADIENT_TOLERANCE:.0%}")
        return f"losses {losses[0]:.6f} and {losses[1]:.6f}, gradients of kernels differ by {apart:.1%} at most"

    def exact_resume(self) -> str:
        words = ("--deterministic", "--precision", "mixed_float16", "--devices", self.one, "--save-every", "5")
        undisturbed = self._trained("undisturbed", *words)
        killed = self.folder / "killed"
        process = subprocess.Popen(
            self._command(killed, *words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment()
        )
        while process.poll() is None and not list((killed / "checkpoints").glob("*.npz")):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        resumed = self._trained("killed", *words, "--resume")
        if resumed.metrics_csv.read_text() != undisturbed.metrics_csv.read_text():
            raise Wrong("metrics.csv differs")
        state, other = _state(resumed), _state(undisturbed)
        different = [name for name in state if not np.array_equal(state[name], other[name])]
        if different:
            raise Wrong(f"{len(different)} of {len(state)} arrays of the state differ")
        return f"metrics.csv and {len(state)} arrays are equal"

    def exports(self) -> str:
        run = self.folder / f"mixed_float16-{self.one}"
        if not run.exists():
            raise Left("no such run was trained")
        _run([sys.executable, "-m", "keras_inception", "export", str(run)])
        return "SavedModel and TFLite"

    def speed(self, precision: str) -> str:
        words = [sys.executable, "-m", "keras_inception", "train", *ALL, *self.large, "--dry-run"]
        said = _run([*words, "--precision", precision, "--devices", self.one])
        found = re.search(r"([\d.]+) images/s", said)
        if found is None:
            raise Wrong("no images/s were printed")
        return f"{found[1]} images/s, googlenet-bn, {' '.join(self.large).replace('--', '')}"

    def _trained(self, name: str, *words: str) -> RunFolder:
        _run(self._command(self.folder / name, *words))
        return RunFolder(self.folder / name)

    def _command(self, folder: Path, *words: str) -> list[str]:
        train = [sys.executable, "-m", "keras_inception", "train", "--run-dir", str(folder)]
        return [*train, *ALL, *self.small, *words]


def _environment() -> dict[str, str]:
    return os.environ | {"NVIDIA_TF32_OVERRIDE": "0"}  # TF32 rounds products to ten bits


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=_environment())
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["nothing was said"]
        raise Wrong(f"status {done.returncode}: {lines[-1][:300]}")
    return done.stdout


def _state(run: RunFolder) -> dict[str, np.ndarray]:
    with np.load(max(run.checkpoints.glob("*.npz"))) as file:
        return {name: file[name] for name in file.files if name != "notes"}


def gpus() -> list[dict[str, Any]]:
    """Return what TensorFlow knows of the GPUs, asked in a process that gives them back."""
    code = (
        "import json, tensorflow as tf\n"
        "print(json.dumps([tf.config.experimental.get_device_details(gpu)"
        " for gpu in tf.config.list_physical_devices('GPU')]))"
    )
    return json.loads(_run([sys.executable, "-c", code]).splitlines()[-1])


def main(cpu: bool = False, output: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None) -> int:
    """Check training, equality, resume, export and speed on GPUs; status 1 if anything does not hold.

    Args:
        cpu: On two logical CPUs in place of GPUs, to try the checks themselves.
        output: Also write what was found to this file.
    """
    screen = Console(width=None if sys.stdout.isatty() else 140)
    devices = [{"device_name": "two logical CPUs"}] if cpu else gpus()
    if not devices:
        screen.print(
            "check-gpu: TensorFlow sees no GPU; is there a driver (nvidia-smi), and did tools/install gpu end well?"
        )
        return 1
    for number, details in enumerate(devices):
        screen.print(f"device {number}: {', '.join(f'{name} {value}' for name, value in details.items())}")
    if cpu:
        small = ("--architecture", "tests/tiny.json")
        large = ("--architecture", "googlenet-bn", "--width", "0.25", "--image-size", "96", "--batch-size", "16")
        one, several = "cpu:1", "cpu:2"
    else:
        small = ("--architecture", "googlenet-small", "--width", "0.25", "--image-size", "28")
        large = ("--architecture", "googlenet-bn", "--width", "1", "--image-size", "224", "--batch-size", "128")
        one, several = "gpu:0", "all" if len(devices) > 1 else None
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, check in Checks(Path(folder), one, several, small, large).all().items():
            begun = time.monotonic()
            try:
                result, detail = "holds", check()
            except Wrong as wrong:
                result, detail = "WRONG", str(wrong)
            except Left as left:
                result, detail = "left out", str(left)
            found.append({"check": name, "result": result, "found": detail, "seconds": time.monotonic() - begun})
            screen.print(f"{name}: {result}: {detail}", highlight=False, markup=False)
    table = Table("check", "result", "found", "seconds")
    for row in found:
        table.add_row(row["check"], row["result"], Text(row["found"]), f"{row['seconds']:.0f}")
    screen.print(table)
    if output:
        output.write_text(json.dumps({"devices": devices, "checks": found}, indent=2, default=str) + "\n")
    return int(any(row["result"] == "WRONG" for row in found))


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
