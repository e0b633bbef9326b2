"""How much memory training takes beside torchvision's GoogLeNet, and whether it grows: for tools/benchmark.

- The peak of a process that takes training steps of 16 images of 224 px, as tools/benchmark train takes them.
- What a process holds after every epoch of a training of 20, and after every trial of a search of 50 with its helper
  process: growth is the slope of a line through the second half.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import train  # beside this file, as the next
from rounds import Contender, Options, Part, bars, panel, say, show, with_onednn

EPOCHS, TRIALS = 20, 50
CONTENDERS = ("keras_inception", *train.PEERS)


def held_mib() -> float:
    """Return what this process and those it has started hold, MiB."""
    here = psutil.Process()
    return sum(process.memory_info().rss for process in (here, *here.children(recursive=True))) / 2**20


def growth(held: list[float], what: str) -> dict[str, float]:
    later = held[len(held) // 2 :]
    slope = np.polyfit(range(len(later)), later, 1)[0]
    return {f"MiB after the first {what}": held[0], f"MiB after {len(held)}": held[-1], f"MiB for each {what}": slope}


def epochs() -> dict[str, float]:
    import keras

    from keras_inception.config import RunConfig
    from keras_inception.training.trainer import train as train_run

    held: list[float] = []

    class Held(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            held.append(held_mib())

    config = small(RunConfig()).override({"training.epochs": EPOCHS})
    with tempfile.TemporaryDirectory() as scratch:
        train_run(config, Path(scratch) / "run", callbacks=lambda *given: [Held()])
    return growth(held, "epoch")


def trials() -> dict[str, float]:
    from keras_inception.config import RunConfig
    from keras_inception.tuning.config import checked
    from keras_inception.tuning.search import tune

    held: list[float] = []

    def on_event(kind: str, values: dict[str, Any]) -> None:
        if kind == "ended":
            held.append(held_mib())

    words = {"budget": "multiply_adds=0.5x", "trials": TRIALS, "supernet_epochs": 1}
    with tempfile.TemporaryDirectory() as scratch:
        tune(checked({"run": small(RunConfig()), **words}), Path(scratch) / "search", on_event=on_event)
    return growth(held, "trial")


def small(config: Any) -> Any:
    """Return a configuration that trains on scikit-learn's digits in a second."""
    return config.override(
        {"data.source": "digits", "model.architecture": "googlenet-small", "model.width": 0.25, "data.image_size": 20}
    )


GROWING = {
    f"{EPOCHS} epochs": Contender(epochs, with_onednn(True)),
    f"{TRIALS} trials": Contender(trials, with_onednn(True)),
}


PART = Part(__file__, GROWING)


def compare(options: Options) -> Any:
    figures = train.PART.take_turns(CONTENDERS, options.rounds, "16", "224")
    show(figures, train.MEMORY, title="training, 16 images of 224 px", over=train.BEST_PEER, form=".0f")
    growing = {name: PART.measured(name) for name in GROWING}
    for name, found in growing.items():
        say(f"{name}: " + ", ".join(f"{value:.3g} {figure}" for figure, value in found.items()))
    return figures | growing, bars({train.MEMORY: panel(figures, train.MEMORY)})


if __name__ == "__main__":
    PART.run(compare, Options)
