"""What a person sees: a plain line per epoch in a file, a live line on a terminal."""

import io

import keras
import numpy as np
import pytest
from rich.console import Console

from keras_inception.training.progress import TrainingProgress


def fit(console: Console) -> None:
    inputs = keras.Input((4,))
    outputs = {name: keras.layers.Dense(2, name=name)(inputs) for name in ("main", "aux1")}
    model = keras.Model(inputs, outputs)
    loss = {name: keras.losses.SparseCategoricalCrossentropy(from_logits=True) for name in outputs}
    metrics = {name: [keras.metrics.SparseCategoricalAccuracy(name="top1")] for name in outputs}
    model.compile(loss=loss, metrics=metrics)
    x, y = np.zeros((12, 4), np.float32), {name: np.zeros(12, np.int32) for name in outputs}
    progress = TrainingProgress(console, steps=3, batch_size=4)
    model.fit(x, y, batch_size=4, epochs=2, validation_data=(x, y), verbose=0, callbacks=[progress])


def test_in_a_file_each_epoch_is_one_plain_line():
    file = io.StringIO()
    fit(Console(file=file, width=160))
    lines = file.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    for line in lines:
        for word in ("loss", "top-1", "validation loss", "images/s"):
            assert word in line
        assert "\x1b" not in line


@pytest.mark.parametrize("width", [80, 160])
def test_on_a_terminal_a_live_line_shows_epoch_step_and_rate(width):
    file = io.StringIO()
    fit(Console(file=file, width=width, force_terminal=True, color_system=None))
    text = file.getvalue()
    assert "epoch 2/2" in text
    assert "step 3/3" in text
    assert "images/s" in text
