"""How fast a training step is, beside torchvision's GoogLeNet: for tools/benchmark.

Forward, backward and update with both auxiliary heads and batch normalisation, on one batch that stays in memory; 1,000
classes. torchvision's network has 3×3 kernels where the paper has 5×5, and 5% fewer multiply-adds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tyro
from rounds import (  # tools/benchmarks/rounds.py, beside this file
    LIMIT,
    MACHINE,
    Contender,
    answer,
    draw,
    keep,
    machine,
    measured,
    peak_mib,
    say,
    screen,
    seconds_of,
    show,
    take_turns,
    with_onednn,
)

CLASSES, WARM_UP, STEPS = 1000, 2, 5
SPEED, MEMORY = "images/s", "MiB at the peak"


def ours(fields: Mapping[str, Any]) -> Any:
    def measure(batch: int, size: int, steps: int = STEPS) -> dict[str, float]:
        import numpy as np

        from keras_inception.training.memory import zeros

        job = training(batch, size, fields)
        ((images, labels, weights),) = zeros(job.model, batch)
        chance = np.random.default_rng(0)
        images = chance.uniform(-1, 1, images.shape).astype(np.float32)
        labels = {name: np.eye(CLASSES, dtype=np.float32)[chance.integers(0, CLASSES, batch)] for name in labels}
        seconds = seconds_of(lambda: job.model.train_on_batch(images, labels, weights), warm_up=WARM_UP, times=steps)
        return {SPEED: batch / seconds, MEMORY: peak_mib()}

    return measure


def training(batch: int, size: int, fields: Mapping[str, Any]) -> Any:
    """Return a training of googlenet-bn on images of noise, as the command train makes it."""
    import numpy as np

    from keras_inception.config import RunConfig
    from keras_inception.data.dataset import ImageDataset
    from keras_inception.training.devices import strategy
    from keras_inception.training.session import Training, resolved

    values = {"data.image_size": size, "training.batch_size": batch, "training.average": 0.0}
    config = resolved(RunConfig().override(values | dict(fields)))
    images = np.random.default_rng(0).integers(0, 256, (batch + 2, size, size, 3), np.uint8)
    splits = ["train"] * batch + ["validation", "test"]
    names = [f"{number:03}" for number in range(CLASSES)]
    dataset = ImageDataset.from_arrays(images, [0] * len(images), names, splits=splits)
    return Training(config, dataset, strategy("auto"), lambda done, total: None)


def torchvision(*, channels_last: bool, compiled: bool = False) -> Any:
    def measure(batch: int, size: int, steps: int = STEPS) -> dict[str, float]:
        import torch
        from torch.nn.functional import cross_entropy
        from torchvision.models import googlenet

        network = googlenet(weights=None, aux_logits=True, init_weights=False, num_classes=CLASSES).train()
        images, labels = torch.rand(batch, 3, size, size) * 2 - 1, torch.randint(0, CLASSES, (batch,))
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

        return {SPEED: batch / seconds_of(step, warm_up=WARM_UP, times=steps), MEMORY: peak_mib()}

    return measure


PEERS = {
    "torchvision": Contender(torchvision(channels_last=False)),
    "torchvision, channels_last": Contender(torchvision(channels_last=True)),
    "torchvision, channels_last, compiled": Contender(torchvision(channels_last=True, compiled=True)),
}
CONTENDERS = {
    "keras_inception": Contender(ours({}), with_onednn(True)),
    "keras_inception, Keras's batch normalisation": Contender(ours({"training.fused": False}), with_onednn(True)),
    "keras_inception, without oneDNN": Contender(ours({}), with_onednn(False)),
    **PEERS,
}


def share_of_limit(speed: float, size: int, limit: float) -> float:
    """Return the arithmetic of so many images/s, thrice that of the forward pass, as a share of GFLOP/s."""
    from keras_inception.analysis.table import architecture_table
    from keras_inception.architecture import GOOGLENET_BN

    table = architecture_table(GOOGLENET_BN, size, CLASSES)
    multiply_adds = table.total.multiply_adds + sum(head.cost.multiply_adds for head in table.heads)
    return speed * 3 * 2 * multiply_adds / 1e9 / limit


def main(
    rounds: int = 3,
    settings: tuple[str, ...] = ("16x224", "64x224", "64x112"),
    json: Path | None = None,
    png: Path | None = None,
    measure: str | None = None,
    batch: int = 16,
    size: int = 224,
) -> None:
    """Measure training steps, and print medians over rounds.

    Args:
        rounds: How often everything is measured, in turn.
        settings: Images in a batch and their side in px.
        json: Also write all figures to this file.
        png: Also draw them there.
        measure: This contender alone, once, in this process.
        batch: Images in a batch; with --measure.
        size: Their side, px; with --measure.
    """
    if measure in MACHINE:
        return answer(MACHINE, measure)
    if measure:
        return answer(CONTENDERS, measure, batch, size)
    shown, figures, panels = screen(), {}, {}
    limits = measured(__file__, LIMIT, MACHINE[LIMIT])
    for setting in settings:
        batch, size = map(int, setting.split("x"))
        words = ("--batch", str(batch), "--size", str(size))
        title = f"{batch} images of {size} px"
        figures[setting] = take_turns(__file__, CONTENDERS, rounds, shown, words, f"{title}, ")
        for figure, form in ((SPEED, ".1f"), (MEMORY, ".0f")):
            show(figures[setting], figure, shown, title=title, over="torchvision, channels_last", form=form)
        speed = sorted(figures[setting]["keras_inception"][SPEED])[rounds // 2]
        for what, limit in limits.items():
            say(shown, f"{share_of_limit(speed, size, limit):.0%} of the machine's {limit:.0f} {what}")
        panels[f"{title}: images/s"] = {name: found[SPEED] for name, found in figures[setting].items()}
    say(shown, machine())
    keep(figures | {LIMIT: limits}, json)
    if png:
        draw(panels, png)


if __name__ == "__main__":
    tyro.cli(main)
