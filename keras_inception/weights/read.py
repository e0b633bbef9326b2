"""From a file of a named source, or the name of published weights, to the weights of an architecture."""

from pathlib import Path

from keras_inception.weights.caffe import read_caffe
from keras_inception.weights.fetch import fetched
from keras_inception.weights.layout import LayerWeights
from keras_inception.weights.published import PUBLISHED, Source
from keras_inception.weights.slim import read_slim
from keras_inception.weights.torchvision import read_torchvision


def read_weights(path: Path, source: Source, *, background: bool = False) -> LayerWeights:
    """Read a checkpoint.

    Args:
        path: The file.
        source: Whose it is.
        background: As in `read_slim`.

    Raises:
        WeightsError: It is missing, damaged, not safe to read, or no GoogLeNet of that source.
    """
    if source == "torchvision":
        return read_torchvision(path)
    return read_slim(path, background) if source == "slim" else read_caffe(path)


def published_weights(name: str, *, background: bool = False) -> LayerWeights:
    """Fetch and read published weights; raises WeightsError as `fetched` and `read_weights`.

    Args:
        name: As in `PUBLISHED`.
        background: As in `read_slim`.
    """
    one = PUBLISHED[name]
    return read_weights(fetched(one), one.source, background=background)
