"""How fast a training step is, beside torchvision's GoogLeNet: for tools/benchmark.

Forward, backward and update with both auxiliary heads and batch normalisation, on one batch that stays in memory; 1,000
classes. torchvision's network has 3×3 kernels where the paper has 5×5, and 5% fewer multiply-adds.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rounds import (  # tools/benchmarks/rounds.py, beside this file
    LIMIT,
    MACHINE,
    Contender,
    Options,
    Part,
    bars,
    panel,
    peak_mib,
    say,
    seconds_of,
    show,
    with_onednn,
)

CLASSES, STEPS = 1000, 5
SPEED, FIRST, MEMORY = "images/s", "s for the first step", "MiB at the peak"
BEST_PEER = "torchvision, channels_last"


def ours(fields: Mapping[str, Any]) -> Any:
    def measure(batch: str, size: str) -> dict[str, float]:
        import numpy as np

        from keras_inception.training.memory import zeros

        count = int(batch)
        job = training(count, int(size), fields)
        ((images, labels, weights),) = zeros(job.model, count)
        chance = np.random.default_rng(0)
        images = chance.uniform(-1, 1, images.shape).astype(np.float32)
        labels = {name: np.eye(CLASSES, dtype=np.float32)[chance.integers(0, CLASSES, count)] for name in labels}
        return timed(lambda: job.model.train_on_batch(images, labels, weights), count)

    return measure


def timed(step: Callable[[], Any], batch: int) -> dict[str, float]:
    """Return the figures of a training step: the first, which traces or compiles, and the median of later ones."""
    begun = time.perf_counter()
    step()
    first = time.perf_counter() - begun
    return {SPEED: batch / seconds_of(step, warm_up=1, times=STEPS), FIRST: first, MEMORY: peak_mib()}


def training(batch: int, size: int, fields: Mapping[str, Any], batches: int = 1) -> Any:
    """Return a training of googlenet-bn on images of noise, as the command train makes it, without averaged weights.

    Args:
        batch: Images in a batch.
        size: Their side, px.
        fields: Of the configuration that differ, by "section.field".
        batches: How many are in an epoch.
    """
    import numpy as np

    from keras_inception.config import RunConfig
    from keras_inception.data.dataset import ImageDataset
    from keras_inception.training.devices import strategy
    from keras_inception.training.session import Training, resolved

    values = {"data.image_size": size, "training.batch_size": batch, "training.average": 0.0}
    config = resolved(RunConfig().override(values | dict(fields)))
    images = np.random.default_rng(0).integers(0, 256, (batch * batches + 2, size, size, 3), np.uint8)
    splits = ["train"] * batch * batches + ["validation", "test"]
    names = [f"{number:03}" for number in range(CLASSES)]
    dataset = ImageDataset.from_arrays(images, [0] * len(images), names, splits=splits)
    return Training(config, dataset, strategy("auto"), lambda done, total: None)


def torchvision(*, channels_last: bool, compiled: bool = False) -> Any:
    def measure(batch: str, size: str) -> dict[str, float]:
        import torch
        from torch.nn.functional import cross_entropy
        from torchvision.models import googlenet

        network = googlenet(weights=None, aux_logits=True, init_weights=False, num_classes=CLASSES).train()
        count, side = int(batch), int(size)
        images, labels = torch.rand(count, 3, side, side) * 2 - 1, torch.randint(0, CLASSES, (count,))
        if channels_last:
            network = network.to(memory_format=torch.channels_last)
            images = images.contiguous(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=2e-4)
        forward = torch.compile(network) if compiled else network

        def step() -> float:
            optimizer.zero_grad()
            outputs = forward(images)
            heads = (outputs.aux_logits1, outputs.aux_logits2)
            loss = cross_entropy(outputs.logits, labels) + 0.3 * sum(cross_entropy(head, labels) for head in heads)
            loss.backward()
            optimizer.step()
            return loss.item()

        return timed(step, count)

    return measure


PEERS = {
    "torchvision": Contender(torchvision(channels_last=False)),
    BEST_PEER: Contender(torchvision(channels_last=True)),
    "torchvision, channels_last, compiled": Contender(torchvision(channels_last=True, compiled=True)),
}
CONTENDERS = {
    "keras_inception": Contender(ours({}), with_onednn(True)),
    "keras_inception, nothing fused": Contender(ours({"training.fused": False}), with_onednn(True)),
    "keras_inception, without oneDNN": Contender(ours({}), with_onednn(False)),
    **PEERS,
}
PART = Part(__file__, CONTENDERS | MACHINE)


def share_of_limit(speed: float, size: int, limit: float) -> float:
    """Return the arithmetic of so many images/s, thrice that of the forward pass, as a share of GFLOP/s."""
    from keras_inception.analysis.table import architecture_table
    from keras_inception.architecture import GOOGLENET_BN

    table = architecture_table(GOOGLENET_BN, size, CLASSES)
    multiply_adds = table.total.multiply_adds + sum(head.cost.multiply_adds for head in table.heads)
    return speed * 3 * 2 * multiply_adds / 1e9 / limit


@dataclass(frozen=True)
class TrainOptions(Options):
    """What this part takes beside that.

    Args:
        settings: Images in a batch and their side in px.
    """

    settings: tuple[str, ...] = ("16x224", "64x224", "64x112")


def compare(options: TrainOptions) -> Any:
    figures: dict[str, Any] = {LIMIT: PART.measured(LIMIT)}
    panels = {}
    for setting in options.settings:
        batch, size = setting.split("x")
        title = f"{batch} images of {size} px"
        found = PART.take_turns(list(CONTENDERS), options.rounds, batch, size, title=f"{title}, ")
        for figure, form in ((SPEED, ".1f"), (FIRST, ".1f"), (MEMORY, ".0f")):
            show(found, figure, title=title, over=BEST_PEER, form=form)
        speed = statistics.median(found["keras_inception"][SPEED])
        for what, limit in figures[LIMIT].items():
            say(f"{share_of_limit(speed, int(size), limit):.0%} of the machine's {limit:.0f} {what}")
        figures[setting] = found
        panels[f"{title}: {SPEED}"] = panel(found, SPEED)
    return figures, bars(panels)


if __name__ == "__main__":
    PART.run(compare, TrainOptions)
