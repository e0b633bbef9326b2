"""TensorBoard's log, read back by TensorBoard itself: whole, and unbroken when a run was killed and goes on."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import STORE_EVERYTHING_SIZE_GUIDANCE, EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from keras_inception.training.replicas import LossScale
from keras_inception.training.tensorboard import TensorBoardLog, grid


def read(folder):
    """Every tag's (step, value) in the order in which TensorBoard finds them."""
    accumulator = EventAccumulator(str(folder), STORE_EVERYTHING_SIZE_GUIDANCE).Reload()
    return {
        tag: [(event.step, make_ndarray(event.tensor_proto)) for event in accumulator.Tensors(tag)]
        for tag in accumulator.Tags()["tensors"]
    }


def scalars(folder):
    return {tag: [(step, float(value)) for step, value in points] for tag, points in read(folder).items()}


class Halves(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.5 ** keras.ops.cast(step, "float32")


def model(optimizer=None):
    made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    made.compile(optimizer or keras.optimizers.SGD(Halves()), loss="mse")
    made.optimizer.build(made.trainable_variables)
    return made


def log(folder, trained, *, every=1, place=None):
    made = TensorBoardLog(folder, every=every, batch_size=4, place=place)
    made.set_model(trained)
    made.on_train_begin()
    made.on_epoch_begin(0)
    return made


def steps(made, first, last, **logs):
    """Call back as a training does, after steps `first` to `last`."""
    for step in range(first, last + 1):
        made.model.optimizer.iterations.assign(step)
        made.on_train_batch_end(step - 1, {"step_loss": step / 8, "loss": 0.0, **logs})


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "tensorboard"


def test_losses_and_rates_are_logged_every_few_steps(folder):
    made = log(folder, model(), every=3)
    steps(made, 1, 7)
    made.close()
    found = scalars(folder)
    assert found["step/loss"] == [(3, 3 / 8), (6, 6 / 8)]
    assert found["step/learning_rate"] == [(3, 0.5**3), (6, 0.5**6)]
    assert [step for step, _ in found["step/images_per_second"]] == [3, 6]
    assert min(rate for _, rate in found["step/images_per_second"]) > 0
    assert set(found) == {"step/loss", "step/learning_rate", "step/images_per_second"}


def test_several_steps_between_two_calls_skip_no_point(folder):
    made = log(folder, model(), every=3)
    for step in (2, 4, 6, 8):
        steps(made, step, step)
    made.close()
    assert [step for step, _ in scalars(folder)["step/loss"]] == [4, 6]


def test_loss_scale_and_skipped_steps_are_logged_in_float16(folder):
    trained = model(LossScale(keras.optimizers.SGD(0.25)))
    made = log(folder, trained)
    steps(made, 1, 1)
    trained.optimizer.dynamic_scale.assign(64.0)
    trained.optimizer.skipped.assign(2)
    steps(made, 2, 2)
    made.close()
    found = scalars(folder)
    assert found["step/loss_scale"] == [(1, 2.0**15), (2, 64.0)]
    assert found["step/skipped_steps"] == [(1, 0), (2, 2)]
    assert found["step/learning_rate"] == [(1, 0.25), (2, 0.25)]


def test_an_epoch_ends_with_every_heads_figures_and_the_gradients_of_rows(folder):
    made = log(folder, model(), every=100)
    logs = {"main_loss": 2.0, "aux1_top1": 0.25, "step_loss": 9.0, "gradient_norm_conv1": 0.5}
    for epoch in (0, 1):
        steps(made, 5 * epoch + 1, 5 * epoch + 5)
        made.on_epoch_end(epoch, logs | {f"val_{name}": value + 1 for name, value in logs.items()})
    made.close()
    assert scalars(folder) == {
        "train/main_loss": [(5, 2.0), (10, 2.0)],
        "train/aux1_top1": [(5, 0.25), (10, 0.25)],
        "validation/main_loss": [(5, 3.0), (10, 3.0)],
        "validation/aux1_top1": [(5, 1.25), (10, 1.25)],
        "gradient_norm/conv1": [(5, 0.5), (10, 0.5)],
    }


def test_keras_calls_it_as_it_expects(folder):
    trained = model(keras.optimizers.SGD(0.25))
    trained.compile(
        trained.optimizer, loss="mse", metrics=[keras.metrics.MeanSquaredError(name="step_loss")], steps_per_execution=2
    )
    made = TensorBoardLog(folder, every=2, batch_size=4, place=None)
    data = np.ones((16, 2), np.float32), np.ones((16, 1), np.float32)
    for epoch in (0, 1):  # a fit for every epoch, as trainings are made of
        trained.fit(
            *data, batch_size=4, epochs=epoch + 1, initial_epoch=epoch, callbacks=[made], verbose=0, shuffle=False
        )
    made.close()
    found = scalars(folder)
    assert [step for step, _ in found["step/loss"]] == [2, 4, 6, 8]
    assert [step for step, _ in found["train/loss"]] == [4, 8]


def test_a_run_that_goes_on_shows_what_an_undisturbed_one_shows(folder, tmp_path):
    undisturbed = log(tmp_path / "undisturbed", model(), every=2)
    steps(undisturbed, 1, 12)
    undisturbed.close()
    first = log(folder, model(), every=2)
    steps(first, 1, 5)
    place = first.place()
    steps(first, 6, 9)
    assert first.place() != place
    trained = model()
    trained.optimizer.iterations.assign(5)
    second = log(folder, trained, every=2, place=place)
    steps(second, 6, 7)
    between = second.place()
    assert set(place) < set(between)
    steps(second, 8, 12)
    second.place()
    trained.optimizer.iterations.assign(7)
    third = log(folder, trained, every=2, place=between)
    steps(third, 8, 12)
    third.close()
    expected = scalars(tmp_path / "undisturbed")
    found = scalars(folder)
    for tag in ("step/loss", "step/learning_rate"):
        assert found[tag] == expected[tag]
    assert [step for step, _ in found["step/images_per_second"]] == [2, 4, 6, 8, 10, 12]


def test_a_run_that_begins_anew_shows_nothing_old(folder):
    first = log(folder, model())
    steps(first, 1, 5)
    first.close()
    (folder / "notes.txt").write_text("mine")
    second = log(folder, model())
    steps(second, 1, 2)
    second.close()
    assert scalars(folder)["step/loss"] == [(1, 1 / 8), (2, 2 / 8)]
    assert (folder / "notes.txt").exists()


def test_a_file_that_the_disk_has_lost_the_end_of_is_not_filled_up(folder):
    first = log(folder, model())
    steps(first, 1, 5)
    place = first.place()
    first.close()
    (file,) = folder.iterdir()
    os.truncate(file, place[file.name] - 10)
    second = log(folder, model(), place=place)
    steps(second, 6, 7)
    second.close()
    assert file.stat().st_size == place[file.name] - 10
    assert [step for step, _ in scalars(folder)["step/loss"]] == [1, 2, 3, 4, 5, 6, 7]


MIRRORED = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import keras, numpy as np
from keras_inception.training.devices import strategy
from test_tensorboard import LossScale, TensorBoardLog, model
with strategy("cpu:2").scope():
    trained = model(LossScale(keras.optimizers.SGD(0.25)))
    metric = keras.metrics.MeanSquaredError(name="step_loss")
    trained.compile(trained.optimizer, loss="mse", metrics=[metric], auto_scale_loss=False)
made = TensorBoardLog(Path(sys.argv[2]), every=1, batch_size=4, place=None)
data = np.ones((12, 2), np.float32), np.ones((12, 1), np.float32)
trained.fit(*data, batch_size=4, callbacks=[made], verbose=0, shuffle=False)
made.close()
"""


@pytest.mark.slow
def test_variables_of_several_devices_are_logged(folder):
    subprocess.run([sys.executable, "-c", MIRRORED, os.path.dirname(__file__), str(folder)], check=True)
    found = scalars(folder)
    assert found["step/learning_rate"] == [(step, 0.25) for step in (1, 2, 3)]
    assert found["step/loss_scale"] == [(step, 2.0**15) for step in (1, 2, 3)]
    assert found["step/skipped_steps"] == [(step, 0) for step in (1, 2, 3)]


KILLED = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_tensorboard import log, model, steps
made = log(Path(sys.argv[2]), model())
steps(made, 1, 20)
print(json.dumps(made.place()), flush=True)
for step in range(21, 10**6):
    steps(made, step, step)
"""


def test_a_history_is_unbroken_after_a_real_kill(folder):
    words = [sys.executable, "-c", KILLED, os.path.dirname(__file__), str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        place = json.loads(process.stdout.readline())
        ((name, length),) = place.items()
        while (folder / name).stat().st_size < length + 20_000:  # it writes on
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    # As if it had been started in this very second, on a machine whose name comes last.
    later = f"events.out.tfevents.{time.time():.0f}.zzz"
    (folder / name).rename(folder / later)
    trained = model()
    trained.optimizer.iterations.assign(20)
    made = log(folder, trained, place={later: length})
    steps(made, 21, 25)
    made.close()
    assert scalars(folder)["step/loss"] == [(step, step / 8) for step in range(1, 26)]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_logged_side_by_side(folder, channels):
    images = np.random.default_rng(0).integers(0, 256, (11, 5, 4, channels), dtype=np.uint8)
    made = log(folder, model())
    made.write_images("wrong", images, 7)
    made.close()
    ((step, (width, height, png)),) = read(folder)["wrong"]
    assert step == 7
    with Image.open(io.BytesIO(png)) as image:
        picture = np.asarray(image).reshape(image.height, image.width, channels)
    assert (int(width), int(height)) == (picture.shape[1], picture.shape[0]) == (8 * 6 - 2, 2 * 7 - 2)
    for number, image in enumerate(images):
        top, left = number // 8 * 7, number % 8 * 6
        assert np.array_equal(picture[top : top + 5, left : left + 4], image)
    assert (picture[7:, 3 * 6 :] == 255).all()


def test_few_images_make_no_empty_columns():
    assert grid(np.zeros((3, 5, 4, 3), np.uint8)).shape == (5, 3 * 6 - 2, 3)
    assert grid(np.zeros((1, 5, 4, 3), np.uint8)).max() == 0
