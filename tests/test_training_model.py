"""The training model: losses of the global batch, weights of the heads, averages, and what is logged."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_inception.architecture import Architecture, AuxiliaryHead, Conv
from keras_inception.config import RunConfig
from keras_inception.googlenet import GoogLeNet
from keras_inception.training.model import GRADIENT_NORM, STEP_LOSS, Average, TrainingModel, rows_of
from keras_inception.training.optimizers import optimizer
from keras_inception.training.session import resolved

TABLE = Architecture(
    "tiny",
    rows=(Conv("conv1", 4, kernel=3),),
    auxiliary=(AuxiliaryHead("aux1", "conv1", 2, 3), AuxiliaryHead("aux2", "conv1", 2, 3)),
    image_size=6,
).with_dropout(0.0, 0.0)
STEPS = 4
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(16, 6, 6, 3)).astype(np.float32)
LABELS = RANDOM.integers(0, 3, 16)
HEADS = ("main", "aux1", "aux2")


def batches(weights=None, size: int = 4) -> tf.data.Dataset:
    labels = np.eye(3, dtype=np.float32)[LABELS]
    weights = np.ones(16, np.float32) if weights is None else np.asarray(weights, np.float32)
    return tf.data.Dataset.from_tensor_slices((IMAGES, dict.fromkeys(HEADS, labels), weights)).batch(size)


def model(table: Architecture = TABLE, **fields) -> TrainingModel:
    values = {"learning_rate": 0.1, "warmup_epochs": 0, "label_smoothing": 0, "weight_decay": 0, "average": 0} | fields
    config = resolved(RunConfig().override({f"training.{name}": value for name, value in values.items()})).training
    keras.utils.set_random_seed(1)
    network = GoogLeNet(architecture=table, input_shape=(6, 6, 3), classes=3, auxiliary=True)
    made = TrainingModel(network, table, config, steps=STEPS, top5=False)
    steps = optimizer(config, STEPS, "float32")
    steps.build(made.trainable_variables)
    made.compile(steps, jit_compile=False, auto_scale_loss=False)
    return made


def measured(made: TrainingModel, **kwargs) -> dict[str, float]:
    return made.evaluate(batches(**kwargs), return_dict=True, verbose=0)


def weights_after(made: TrainingModel, **kwargs) -> np.ndarray:
    made.fit(batches(**kwargs), shuffle=False, verbose=0)
    return np.concatenate([weight.numpy().ravel() for weight in made.weights])


def test_losses_and_shares_are_those_of_numpy():
    made = model()
    figures = measured(made)
    answers = made(IMAGES, training=False)
    for head in HEADS:
        probabilities = answers[head].numpy()
        loss = -np.log(probabilities[np.arange(16), LABELS]).mean()
        assert figures[f"{head}_loss"] == pytest.approx(loss, rel=1e-5)
        assert figures[f"{head}_top1"] == pytest.approx((probabilities.argmax(axis=1) == LABELS).mean())
    heads = figures["aux1_loss"] + figures["aux2_loss"]
    assert figures["loss"] == pytest.approx(figures["main_loss"] + 0.3 * heads, rel=1e-5)


def test_filling_does_not_count_where_it_is_measured():
    made = model()
    weights = [1] * 9 + [0] * 7
    answers = made(IMAGES[:9], training=False)["main"].numpy()
    figures = measured(made, weights=weights)
    assert figures["main_loss"] == pytest.approx(-np.log(answers[np.arange(9), LABELS[:9]]).mean(), rel=1e-5)
    assert figures["main_top1"] == pytest.approx((answers.argmax(axis=1) == LABELS[:9]).mean())


def test_training_is_that_of_keras_with_the_same_weighted_losses():
    """Keras's own fit, with its dictionaries of losses, loss weights and sample weights, is the oracle."""
    weights = RANDOM.uniform(0, 2, 16).astype(np.float32)
    ours = weights_after(model(label_smoothing=0.1), weights=weights)
    made = model()
    theirs = keras.Model(made.input, made.output)
    theirs.compile(
        optimizer(made._training, STEPS, "float32"),
        {head: keras.losses.CategoricalCrossentropy(label_smoothing=0.1) for head in HEADS},
        loss_weights={"main": 1.0, "aux1": 0.3, "aux2": 0.3},
    )
    of_heads = batches(weights).map(lambda images, labels, weights: (images, labels, dict.fromkeys(HEADS, weights)))
    theirs.fit(of_heads, shuffle=False, verbose=0)
    keras_own = np.concatenate([weight.numpy().ravel() for weight in theirs.weights])
    np.testing.assert_allclose(ours, keras_own, atol=1e-6)


def test_an_example_of_weight_zero_teaches_nothing():
    made = model()
    before = np.concatenate([weight.numpy().ravel() for weight in made.weights])
    np.testing.assert_array_equal(weights_after(made, weights=np.zeros(16)), before)


def test_a_batch_in_parts_gives_the_step_of_the_whole():
    whole, parts = weights_after(model()), weights_after(model(accumulation=4))
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_the_loss_of_a_step_is_that_of_all_its_parts():
    whole, parts = model(), model(accumulation=4)
    for made in (whole, parts):
        made.fit(batches(size=16), shuffle=False, verbose=0)
    found = [float(made.get_metrics_result()[STEP_LOSS]) for made in (whole, parts)]
    assert found[1] == pytest.approx(found[0], rel=1e-6)
    assert found[0] == pytest.approx(float(whole.get_metrics_result()["loss"]), rel=1e-6)


def test_fused_batch_normalisation_ends_with_the_weights_of_kerass_which_false_leaves():
    normalized = TABLE.with_normalization("batch")
    fused, plain = model(normalized), model(normalized, fused=False)
    own = keras.layers.BatchNormalization.call
    assert plain.get_layer("conv1_bn").call.__func__ is own
    assert not hasattr(fused.get_layer("conv1_bn").call, "__func__")
    np.testing.assert_allclose(weights_after(fused), weights_after(plain), atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [0.3] * 5),
        ({"auxiliary_schedule": "linear", "auxiliary_epochs": 1}, [0.3, 0.225, 0.15, 0.075, 0]),
        ({"auxiliary_schedule": "linear", "epochs": 2}, [0.3, 0.2625, 0.225, 0.1875, 0.15]),
        ({"auxiliary_schedule": "off", "auxiliary_epochs": 0.5}, [0.3, 0.3, 0, 0, 0]),
    ],
)
def test_weights_of_the_heads_follow_their_schedule(fields, expected):
    made = model(**fields)
    for step, weight in enumerate(expected):
        made.optimizer.iterations.assign(step)
        weights = {name: float(value) for name, value in made.head_weights().items()}
        assert weights == pytest.approx({"main": 1.0, "aux1": weight, "aux2": weight}), step


def test_the_average_is_that_of_the_recurrence_and_takes_the_place_of_the_weights_in_evaluation():
    made = model(average=0.9, learning_rate=0.5)
    weights = [[weight.numpy() for weight in made.weights]]

    class Note(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weights.append([weight.numpy() for weight in self.model.weights])

    made.fit(batches(), shuffle=False, callbacks=[Note()], verbose=0)
    average = weights[0]
    for step, of_step in enumerate(weights[1:], start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        average = [decay * old + (1 - decay) * new for old, new in zip(average, of_step, strict=True)]
    for variable, expected in zip(made.average.variables, average, strict=True):
        np.testing.assert_allclose(variable.numpy(), expected, atol=1e-6)
    figures = measured(made)
    raw = measured_raw(made)
    assert figures["loss"] != pytest.approx(raw["loss"], rel=1e-3)
    with made.averaged():
        assert measured_raw(made) == pytest.approx(figures)
    for weight, expected in zip(made.weights, weights[-1], strict=True):
        np.testing.assert_array_equal(weight.numpy(), expected)


def measured_raw(made: TrainingModel) -> dict[str, float]:
    return keras.Model.evaluate(made, batches(), return_dict=True, verbose=0)


def test_the_average_comes_out_again_when_an_evaluation_fails():
    variable = keras.Variable([1.0])
    average = Average([variable], 0.5)
    average.variables[0].assign([2.0])

    def fail() -> None:
        with average.in_place():
            assert variable.numpy() == [2.0]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert variable.numpy() == [1.0]


def test_norms_of_gradients_are_logged_for_every_row():
    made = model()
    (images, labels, _), *_ = batches(size=16).as_numpy_iterator()
    with tf.GradientTape() as tape:
        answers = made(images, training=True)
        losses = {head: keras.losses.categorical_crossentropy(labels[head], answers[head]) for head in HEADS}
        loss = sum(weight * tf.reduce_mean(losses[head]) for head, weight in zip(HEADS, (1, 0.3, 0.3), strict=True))
    gradients = tape.gradient(loss, made.trainable_variables)
    squares = {v.path: float(tf.reduce_sum(g**2)) for v, g in zip(made.trainable_variables, gradients, strict=True)}
    logs = made.fit(batches(size=16), shuffle=False, verbose=0).history
    rows = rows_of(made, TABLE)
    assert list(rows) == ["conv1", "main", "aux1", "aux2"]
    assert sum(map(len, rows.values())) == len(made.trainable_variables)
    for row, paths in rows.items():
        norm = np.sqrt(sum(squares[path] for path in paths))
        assert logs[f"{GRADIENT_NORM}{row}"][0] == pytest.approx(norm, rel=1e-4)
    assert logs[STEP_LOSS][0] == pytest.approx(float(loss), rel=1e-5)
