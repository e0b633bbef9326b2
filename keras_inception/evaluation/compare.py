"""Two runs on the same images: is one better, or was it luck?"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_inception.card import read_card
from keras_inception.data.dataset import TEST
from keras_inception.evaluation.answers import answers_of_models
from keras_inception.evaluation.images import check_own_images, same_classes, same_images
from keras_inception.predictor import open_model

if TYPE_CHECKING:
    from keras_inception.data.crops import Crops

# Below this probability a difference is called significant.
_LEVEL = 0.05


def compare(
    first: str | Path,
    second: str | Path,
    split: str = TEST,
    *,
    crops: "Crops" = 1,
    on_images: Callable[[int, int], None] = lambda done, total: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Compare the best models of two runs on the same images by McNemar's exact test.

    Args:
        first: A run's folder.
        second: Another's.
        split: "test", "validation" or "train".
        crops: 1, 10 or 144 of each image.
        on_images: As in `evaluate`.
        on_progress: As in `evaluate`.

    Returns:
        `runs`, `split`, `crops`, `images`, `top1` of each, and what `mcnemar` gives.

    Raises:
        RunError: There is no trained run, or the classes differ.
        DataError: The images are gone or differ, or their classes are others now.
    """
    from keras_inception.data.images import read_split

    cards = [read_card(first), read_card(second)]
    check_own_images(cards, "give the folders of two runs")
    classes = same_classes(cards)
    predictors = [open_model(card.path) for card in cards]
    images = same_images(cards, lambda config: read_split(config, classes, split, on_images, whole=crops > 1))
    answers = answers_of_models(cards, predictors, images, crops, on_progress)
    right = [rows.argmax(axis=1) == images[0].labels for rows in answers]
    return {
        "runs": [str(card.path) for card in cards],
        "split": split,
        "crops": crops,
        "images": len(images[0]),
        "top1": [float(hits.mean()) for hits in right],
        **mcnemar(*right),
    }


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Test whether two ways to answer are right equally often (McNemar, 1947), exactly, two-sided.

    Only the images that one of them alone gets right tell them apart: were they equally good, each of these would be
    the first's or the second's by the toss of a coin.

    Args:
        first: Of shape `(images,)`: whether the first is right.
        second: Whether the second is.

    Returns:
        Numbers of images that `both`, `only_first`, `only_second` and `neither` get right, the `p_value`, and a
        `sentence` that says what they mean.
    """
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    apart = only_first + only_second
    p_value = float(binomtest(only_first, apart).pvalue) if apart else 1.0
    return {
        "both": int((first & second).sum()),
        "only_first": only_first,
        "only_second": only_second,
        "neither": int((~first & ~second).sum()),
        "p_value": p_value,
        "sentence": _sentence(only_first, only_second, p_value),
    }


def _sentence(only_first: int, only_second: int, p_value: float) -> str:
    if not only_first + only_second:
        return "Both are right on the same images: nothing tells them apart."
    counts = f"{only_first:,} images are right with the first run alone and {only_second:,} with the second alone"
    chance = f"if both were equally good, a difference of this size or more would have a probability of {p_value:.2g}"
    if p_value >= _LEVEL:
        return f"{counts}; {chance}: neither is shown to be better."
    better = "first" if only_first > only_second else "second"
    return f"{counts}; {chance}: the {better} is better, at the 5% level."
