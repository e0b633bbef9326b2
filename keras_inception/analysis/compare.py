"""GoogLeNet beside the networks before and after it: parameters, multiply-adds, depth and published errors."""

from dataclasses import dataclass

from keras_inception.analysis.published import ALEXNET, NIN_IMAGENET, VGG16, VGG19, NetworkCost, network_cost
from keras_inception.architecture import GOOGLENET
from keras_inception.cost import row_costs


@dataclass(frozen=True)
class Error:
    """A top-5 error on ImageNet's validation images (ILSVRC 2012), of one network.

    Args:
        top5: In %.
        protocol: On what of each image the network was asked.
        source: Who reports it, and where.
    """

    top5: float
    protocol: str
    source: str


@dataclass(frozen=True)
class System:
    """A network.

    Args:
        name: Its name.
        source: Its paper.
        image_size: Side of the image, px.
        cost: What it costs at that size, with 1,000 classes.
        errors: As published, the one that is compared first; none where its paper has none for ImageNet.
        remark: What must be known of its figures.
    """

    name: str
    source: str
    image_size: int
    cost: NetworkCost
    errors: tuple[Error, ...] = ()
    remark: str = ""


@dataclass(frozen=True)
class Ratio:
    """How many times one count is another.

    Args:
        what: Which, in words.
        value: How many times.
    """

    what: str
    value: float


#: keras.applications' Inception v3 and ResNet-50, batch normalisation's moving statistics counted; a test builds them.
INCEPTION_V3 = NetworkCost(parameters=23_851_784, multiply_adds=5_713_216_096, depth=48)
RESNET50 = NetworkCost(parameters=25_636_712, multiply_adds=3_857_973_248, depth=50)

#: Parameters of GoogLeNet as arXiv:1512.00567 (section 1) counts them where it tells of 12 times fewer than AlexNet's.
CLAIMED_PARAMETERS = 5_000_000

_TEN_CROPS = "10 crops of 224 px"


def googlenet_cost() -> NetworkCost:
    """Return what the paper's network costs, without heads."""
    rows = row_costs(GOOGLENET)
    return NetworkCost(
        parameters=sum(row.parameters for row in rows),
        multiply_adds=sum(row.multiply_adds for row in rows),
        depth=sum(row.depth for row in rows),
    )


def systems() -> list[System]:
    """Return the networks in the order of their papers."""
    return [
        System(
            "AlexNet",
            "Krizhevsky et al., NIPS 2012",
            227,
            network_cost(ALEXNET),
            (Error(18.2, _TEN_CROPS, "NIPS 2012, table 2"),),
            "with its two groups; the paper says 224 px, its maps of 55×55 need 227",
        ),
        System(
            "Network in Network",
            "arXiv:1312.4400",
            224,
            network_cost(NIN_IMAGENET),
            remark="its first author's Caffe model for ImageNet; the paper has CIFAR, SVHN and MNIST alone",
        ),
        System(
            "VGG-16",
            "arXiv:1409.1556",
            224,
            network_cost(VGG16),
            (
                Error(7.5, "dense, shorter side 256, 384 and 512 px", "arXiv:1409.1556, table 4"),
                Error(8.1, "dense, shorter side 384 px", "arXiv:1409.1556, table 3"),
                Error(9.33, _TEN_CROPS, "arXiv:1512.03385, table 3"),
            ),
        ),
        System(
            "VGG-19",
            "arXiv:1409.1556",
            224,
            network_cost(VGG19),
            (
                Error(7.5, "dense, shorter side 256, 384 and 512 px", "arXiv:1409.1556, table 4"),
                Error(8.0, "dense, shorter side 384 px", "arXiv:1409.1556, table 3"),
            ),
        ),
        System(
            "GoogLeNet",
            "arXiv:1409.4842",
            224,
            googlenet_cost(),
            (
                Error(9.15, _TEN_CROPS, "arXiv:1409.4842, table 3"),
                Error(10.07, "1 crop of 224 px", "arXiv:1409.4842, table 3"),
                Error(7.89, "144 crops of 224 px", "arXiv:1409.4842, table 3"),
            ),
            "without heads",
        ),
        System(
            "Inception v3",
            "arXiv:1512.00567",
            299,
            INCEPTION_V3,
            (Error(5.6, "1 crop of 299 px, 48,238 of the 50,000 images", "arXiv:1512.00567, abstract and section 10"),),
            "as in keras.applications, without head; its paper calls it 42 layers deep",
        ),
        System(
            "ResNet-50",
            "arXiv:1512.03385",
            224,
            RESNET50,
            (Error(6.71, _TEN_CROPS, "arXiv:1512.03385, table 3"),),
            "as in keras.applications, convolutions with biases",
        ),
    ]


def ratios() -> list[Ratio]:
    """Return GoogLeNet's share of VGG-16, and AlexNet against GoogLeNet: as it is told, and by the counts."""
    alexnet, vgg16, googlenet = network_cost(ALEXNET), network_cost(VGG16), googlenet_cost()
    claimed = f"{CLAIMED_PARAMETERS / 1e6:g} million parameters that arXiv:1512.00567 counts"
    return [
        Ratio("parameters of VGG-16 to GoogLeNet's", vgg16.parameters / googlenet.parameters),
        Ratio(f"parameters of AlexNet to the {claimed} for GoogLeNet", alexnet.parameters / CLAIMED_PARAMETERS),
        Ratio("parameters of AlexNet to GoogLeNet's", alexnet.parameters / googlenet.parameters),
        Ratio("multiply-adds of VGG-16 to GoogLeNet's", vgg16.multiply_adds / googlenet.multiply_adds),
        Ratio("multiply-adds of GoogLeNet to AlexNet's", googlenet.multiply_adds / alexnet.multiply_adds),
    ]
