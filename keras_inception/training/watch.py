"""What tells a person early that a training goes wrong: numbers that are none, heads that learn nothing."""

import itertools
import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from keras_inception.errors import DivergedError
from keras_inception.training.model import STEP_LOSS

# A loss this many times that of guessing has exploded.
_EXPLODED = 20
# So many skipped steps in a row are no search for a loss scale: from 2¹⁵ it is found within 40 halvings.
_SKIPPED = 50
# A head whose training loss has been this near to that of guessing for so many epochs does not learn.
_STALLED_EPOCHS = 3
_STALLED_NEARNESS = 0.03


class Divergence(keras.callbacks.Callback):
    """Stop a training whose loss is no number any more or has exploded, before anything is written.

    Args:
        guessing: The loss of answering with the shares of the classes, weighted over all heads, of a batch whose images
            count as much as any batch's can.
    """

    def __init__(self, guessing: float):
        super().__init__()
        self._limit = _EXPLODED * max(guessing, 1.0)
        self._in_a_row = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        loss = float(logs[STEP_LOSS])
        if math.isfinite(loss) and loss <= self._limit:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        # With loss scaling a step whose gradients overflow is skipped, and only many in a row are a fault.
        if hasattr(self.model.optimizer, "dynamic_scale") and self._in_a_row < _SKIPPED and not math.isfinite(loss):
            return
        step = int(self.model.optimizer.iterations.numpy())
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        raise DivergedError(
            f"the loss is {loss:g} at step {step} (epoch {self._epoch + 1}), with learning rate {rate:.3g}"
        )


def stalled(rows: Sequence[Mapping[str, float]], heads: Sequence[str], guessing: float) -> list[str]:
    """Return the heads of which the last of these rows of metrics.csv tells that they do not learn.

    Args:
        rows: One per epoch; a head is named after the third row in a row at the loss of guessing, and not again.
        heads: Names of the outputs.
        guessing: The loss of answering with the shares of the classes; ln(classes) where they are equal.
    """

    def guesses(row: Mapping[str, float], head: str) -> bool:
        return abs(row[f"{head}_loss"] - guessing) <= _STALLED_NEARNESS * guessing

    def in_a_row(head: str) -> int:
        return len(list(itertools.takewhile(lambda row: guesses(row, head), reversed(rows))))

    return [head for head in heads if in_a_row(head) == _STALLED_EPOCHS]


def stall_message(head: str, guessing: float) -> str:
    """Return what a person is told of a head that has stalled."""
    return (
        f"{head} has stayed at the loss of guessing, {guessing:.3f}, for {_STALLED_EPOCHS} epochs: lower "
        f"--learning-rate, take batch normalisation (--architecture googlenet-bn), or warm up longer "
        f"(--set training.warmup_epochs=5)"
    )


def guessing_loss(labels: np.ndarray, classes: int, smoothing: float = 0.0) -> float:
    """Return the cross entropy, in nats, of answering every image with the shares of the classes among `labels`.

    Args:
        labels: Class of every image.
        classes: Number of classes.
        smoothing: Share of every label that is moved to all classes alike.
    """
    shares = (1 - smoothing) * np.bincount(labels, minlength=classes) / len(labels) + smoothing / classes
    return float(-np.sum(shares[shares > 0] * np.log(shares[shares > 0])))
