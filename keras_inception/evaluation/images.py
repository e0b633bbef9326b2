"""Which images are measured: the same for all models."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from keras_inception.card import Card, kind_of
from keras_inception.config import DataConfig
from keras_inception.errors import DataError, RunError

if TYPE_CHECKING:
    from keras_inception.data.images import Images


def check_own_images(cards: Sequence[Card], remedy: str) -> None:
    """Raise DataError where a model is no run: it does not know what it was trained and tested on."""
    for card in cards:
        if kind_of(card.path) != "run":
            raise DataError(f"{str(card.path)!r} is no run and knows no images; {remedy}")


def same_classes(cards: Sequence[Card]) -> tuple[str, ...]:
    """Return the classes of models; raises RunError where they differ."""
    first = cards[0]
    for card in cards[1:]:
        if card.labels != first.labels:
            raise RunError(
                f"{str(first.path)!r} and {str(card.path)!r} have different classes, {', '.join(first.labels)} and "
                f"{', '.join(card.labels)}; give runs with the same"
            )
    return first.labels


def same_images(cards: Sequence[Card], read: Callable[[DataConfig], "Images"]) -> list["Images"]:
    """Return the images of every model; those of models with equal settings are read once.

    Args:
        cards: Of the models.
        read: From a model's settings to its images.

    Raises:
        DataError: They are not the same for all.
    """
    known: dict[DataConfig, Images] = {}
    found = []
    for card in cards:
        if card.data not in known:
            known[card.data] = read(card.data)
        images = known[card.data]
        found.append(images)
        first = found[0]
        if list(images.names) != list(first.names) or images.labels.tolist() != first.labels.tolist():
            raise DataError(
                f"{str(cards[0].path)!r} and {str(card.path)!r} have different images, {len(first):,} and "
                f"{len(images):,}; give runs of the same data and splits"
            )
    return found
