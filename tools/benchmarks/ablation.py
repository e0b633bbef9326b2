"""What the parts of an Inception module are good for, by training networks without them: for tools/benchmark.

The network, the images and what differs from a plain training are those of tools/benchmarks/tune.py: googlenet-small at
width 0.25 on a part of Fashion-MNIST at 14 px. docs/ablation.md has what came of it.
"""

import subprocess
import sys
from pathlib import Path

import tyro
from tune import NETWORK, clothes  # tools/benchmarks/tune.py, beside this file


def main(
    folder: Path = Path("benchmark-ablation"),
    fashion_mnist: Path = Path("/usr/share/datasets/fashion-mnist"),
    epochs: int = 8,
    minutes: float = 60,
) -> None:
    """Train ten networks with three seeds each. Stopped at any moment, the same command goes on.

    Args:
        folder: Where the images and the runs are kept.
        fashion_mnist: Folder with the four files of Fashion-MNIST, as Debian's dataset-fashion-mnist installs them.
        epochs: Of every training.
        minutes: After which no further training begins.
    """
    words = ["--data", str(clothes(fashion_mnist, folder / "clothes")), "--output", str(folder / "runs"), *NETWORK]
    command = [sys.executable, "-m", "keras_inception", "analyze", "ablation", *words]
    sys.exit(subprocess.run([*command, "--epochs", str(epochs), "--minutes", str(minutes)]).returncode)


if __name__ == "__main__":
    tyro.cli(main)
