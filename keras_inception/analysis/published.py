"""Networks that came before GoogLeNet, as tables of layers with weights, and what each costs.

Biases stand everywhere, as published. A layer's input channels are the output channels of the one above it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A convolution, or a dense layer, which is a convolution whose kernel is the whole map.

    Args:
        filters: Output channels.
        kernel: Side of the kernel.
        side: Of the output's map, px.
        groups: Parts that the channels are split into; each part sees its own share of the input.
    """

    filters: int
    kernel: int
    side: int
    groups: int = 1


@dataclass(frozen=True)
class NetworkCost:
    """What a network costs.

    Args:
        parameters: Weights and biases.
        multiply_adds: For one image.
        depth: Layers with weights, one after the other.
    """

    parameters: int
    multiply_adds: int
    depth: int


def network_cost(layers: Sequence[Layer], channels: int = 3) -> NetworkCost:
    """Return what layers cost that stand one after the other.

    >>> network_cost(ALEXNET)
    NetworkCost(parameters=60965224, multiply_adds=724406816, depth=8)

    Args:
        layers: From the image to the classes.
        channels: Of the image.
    """
    inputs = [channels, *(layer.filters for layer in layers[:-1])]
    weights = [
        layer.kernel**2 * before // layer.groups * layer.filters for layer, before in zip(layers, inputs, strict=True)
    ]
    return NetworkCost(
        parameters=sum(weights) + sum(layer.filters for layer in layers),
        multiply_adds=sum(layer.side**2 * count for layer, count in zip(layers, weights, strict=True)),
        depth=len(layers),
    )


def _vgg(convolutions: Sequence[int]) -> Iterator[Layer]:
    """Yield VGG's layers: so many 3×3 convolutions at 224, 112, 56, 28 and 14 px, and three dense layers."""
    for stage, count in enumerate(convolutions):
        for _ in range(count):
            yield Layer((64, 128, 256, 512, 512)[stage], kernel=3, side=224 >> stage)
    yield Layer(4096, kernel=7, side=1)
    yield Layer(4096, kernel=1, side=1)
    yield Layer(1000, kernel=1, side=1)


#: Krizhevsky et al., NIPS 2012, section 3.5 and figure 2, with its two groups; 227 px make its 55×55 maps.
ALEXNET = (
    Layer(96, kernel=11, side=55),
    Layer(256, kernel=5, side=27, groups=2),
    Layer(384, kernel=3, side=13),
    Layer(384, kernel=3, side=13, groups=2),
    Layer(256, kernel=3, side=13, groups=2),
    Layer(4096, kernel=6, side=1),
    Layer(4096, kernel=1, side=1),
    Layer(1000, kernel=1, side=1),
)

#: Network in Network (arXiv:1312.4400) for ImageNet: its first author's public Caffe model, 224 px; the average over
#: the last maps of 6×6 is the classifier. The paper itself has none for ImageNet.
NIN_IMAGENET = (
    *(Layer(96, kernel, side=54) for kernel in (11, 1, 1)),
    *(Layer(256, kernel, side=27) for kernel in (5, 1, 1)),
    *(Layer(384, kernel, side=13) for kernel in (3, 1, 1)),
    Layer(1024, kernel=3, side=6),
    Layer(1024, kernel=1, side=6),
    Layer(1000, kernel=1, side=6),
)

#: Simonyan and Zisserman, arXiv:1409.1556, table 1, columns D and E.
VGG16 = tuple(_vgg((2, 2, 3, 3, 3)))
VGG19 = tuple(_vgg((2, 2, 4, 4, 4)))
