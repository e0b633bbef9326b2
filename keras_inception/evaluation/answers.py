"""Answers of a model for many crops of many images, averaged as they come."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_inception.card import Card
from keras_inception.config import DataConfig
from keras_inception.errors import RunError
from keras_inception.predictor import Predictor

if TYPE_CHECKING:
    from keras_inception.data.images import Images

# Crops, or images, that the network sees at a time.
BATCH = 32


def answers_of_models(
    cards: Sequence[Card],
    predictors: Sequence[Predictor],
    images: Sequence["Images"],
    crops: int,
    on_progress: Callable[[int, int], None],
) -> Iterator[np.ndarray]:
    """Yield what `mean_answers` gives of each model.

    Args:
        cards: Of the models.
        predictors: The models.
        images: As each reads them.
        crops: 1, 10 or 144.
        on_progress: Called with the number of images that have been begun and of all; models count apart.
    """
    before, total = 0, sum(map(len, images))

    def from_here(before: int) -> Callable[[int], None]:
        return lambda done: on_progress(before + done, total)

    for card, predictor, part in zip(cards, predictors, images, strict=True):
        yield mean_answers(predictor, part, card.data, crops, on_progress=from_here(before))
        before += len(part)


def mean_answers(
    predictor: Predictor,
    images: "Images",
    config: DataConfig,
    crops: int,
    *,
    batch_size: int = BATCH,
    on_progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Return the probabilities of every image, averaged over its crops; they are summed up batch by batch.

    Args:
        predictor: What answers.
        images: The images: whole ones for more than one crop.
        config: The predictor's preprocessing.
        crops: 1, 10 or 144.
        batch_size: Crops that the network sees at a time.
        on_progress: Called with the number of images that have been begun.

    Returns:
        float64 of shape `(images, …)`, where `…` is what the predictor returns for one.

    Raises:
        RunError: The answers are no numbers.
    """
    from keras_inception.data.pipeline import crop_batches

    total: np.ndarray | None = None
    for views, places in crop_batches(images, config, crops=crops, batch_size=batch_size).as_numpy_iterator():
        answers = predictor.probabilities(views)
        if not np.isfinite(answers).all():
            raise RunError("the model answers with what are no numbers: its training diverged; lower the learning rate")
        if total is None:
            total = np.zeros((len(images), *answers.shape[1:]))
        np.add.at(total, places, answers)
        on_progress(int(places[-1]) + 1)
    assert total is not None  # a set without a readable image is refused where it is read
    return total / crops
