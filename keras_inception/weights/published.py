"""The public GoogLeNets as data: where each is published, what it takes, what it reached. Without TensorFlow."""

from dataclasses import dataclass
from typing import Literal

from keras_inception.architecture import GOOGLENET, GOOGLENET_SLIM, GOOGLENET_TORCHVISION
from keras_inception.config import Bound

#: Whose file it is.
Source = Literal["torchvision", "slim", "caffe"]

#: What images must become: `VALUE_RANGES` has the numbers.
Mode = Literal["tf", "torch", "caffe"]

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours, as torchvision has them
_CAFFE_MEAN = (123.0, 117.0, 104.0)  # red, green, blue: bvlc_googlenet's train_val.prototxt, which has them turned


def _three(values: list[float]) -> Bound:
    red, green, blue = values
    return red, green, blue


#: What 0 and 255 of an RGB image become: −1 and 1; less ImageNet's mean and divided by its deviation, each of [0, 1];
#: or less the mean that Caffe's model was trained with.
VALUE_RANGES: dict[Mode, tuple[Bound, Bound]] = {
    "tf": (-1.0, 1.0),
    "torch": (
        _three([-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)]),
        _three([(1 - mean) / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)]),
    ),
    "caffe": (_three([-mean for mean in _CAFFE_MEAN]), _three([255 - mean for mean in _CAFFE_MEAN])),
}

#: What each source's own files take.
MODE_OF: dict[Source, Mode] = {"torchvision": "torch", "slim": "tf", "caffe": "caffe"}

#: What the card of an imported file has in its provenance: the name of the table, and whether a layer of this name,
#: "true" or "false", brings torchvision's normalised images to [−1, 1].
IMPORTED_ARCHITECTURE, TRANSFORM_INPUT = "architecture", "transform_input"

#: Share of the resized shorter side in the centre crop, of all three: 224 of 256, or TF-Slim's 87.5%.
CROP_FRACTION = 0.875


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that can be asked for by name.

    Args:
        name: What `GoogLeNet(weights=...)` and `train --from` know them by.
        source: Whose file it is.
        url: Of the file.
        architecture: Name of its table.
        mode: What `preprocess_input` makes of an image for it.
        top1: Published accuracy on ILSVRC 2012's validation images, one crop.
        top5: The same, right answer among five.
        licence: What its publishers say.
        reference: The page that says so.
        classes: Number of classes.
        image_size: Side of the input that it was measured with, px.
        sha256: Of the file, or the first digits of it, as far as they are published; "" where they are not.
        sha1: The same of another digest.
        member: Name of the checkpoint inside an archive; "" where the file is the checkpoint.
    """

    name: str
    source: Source
    url: str
    architecture: str
    mode: Mode
    top1: float
    top5: float
    licence: str
    reference: str
    classes: int = 1000
    image_size: int = 224
    sha256: str = ""
    sha1: str = ""
    member: str = ""

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]

    @property
    def value_range(self) -> tuple[Bound, Bound]:
        """What 0 and 255 of an image become."""
        return VALUE_RANGES[self.mode]


PUBLISHED = {
    one.name: one
    for one in (
        # Normalised images are brought to [−1, 1] inside torchvision's model (`transform_input`); here the network
        # takes that range itself, which is the same.
        PublishedWeights(
            name="imagenet",
            source="torchvision",
            url="https://download.pytorch.org/models/googlenet-1378be20.pth",
            architecture=GOOGLENET_TORCHVISION.name,
            mode="tf",
            top1=0.69778,
            top5=0.89530,
            licence="BSD-3-Clause (torchvision); trained on ImageNet, whose terms may bind users",
            reference="https://docs.pytorch.org/vision/stable/models/googlenet.html",
            sha256="1378be20",
        ),
        PublishedWeights(
            name="imagenet-slim",
            source="slim",
            url="http://download.tensorflow.org/models/inception_v1_2016_08_28.tar.gz",
            architecture=GOOGLENET_SLIM.name,
            mode="tf",
            top1=0.698,
            top5=0.896,
            licence="Apache-2.0 (tensorflow/models); trained on ImageNet, whose terms may bind users",
            reference="https://github.com/tensorflow/models/tree/master/research/slim",
            member="inception_v1.ckpt",
        ),
        PublishedWeights(
            name="imagenet-caffe",
            source="caffe",
            url="http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel",
            architecture=GOOGLENET.name,
            mode="caffe",
            top1=0.687,
            top5=0.889,
            licence="unrestricted use (BVLC); trained on ImageNet, whose terms may bind users",
            reference="https://github.com/BVLC/caffe/tree/master/models/bvlc_googlenet",
            sha1="405fc5acd08a3bb12de8ee5e23a96bec22f08204",
        ),
    )
}


def list_weights() -> tuple[PublishedWeights, ...]:
    """Return what is known of all weights that can be asked for by name.

    >>> [(weights.name, weights.architecture, weights.top1) for weights in list_weights()][0]
    ('imagenet', 'googlenet-torchvision', 0.69778)
    """
    return tuple(PUBLISHED.values())
