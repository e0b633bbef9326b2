"""The network of *Going deeper with convolutions* as data: Table 1 in rows, and the tables derived from it.

Source: Szegedy et al., arXiv:1409.4842 (2014), Table 1 and section 5. Nothing here imports TensorFlow: an
`Architecture` can be read, scaled, costed (`keras_inception.cost`) and written as JSON without it.
"""

import bisect
import dataclasses
import itertools
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from keras_inception.errors import ArchitectureError, unknown

Normalization = Literal["none", "lrn", "batch"]
T = TypeVar("T")


@dataclass(frozen=True)
class Conv:
    """One convolution with ReLU, optionally behind a 1×1 reduction (the table's "#3×3 reduce").

    Args:
        name: Name of the layer.
        filters: Number of output channels, ≥ 1.
        kernel: Side of the square kernel in pixels, odd.
        stride: Stride in pixels.
        reduce: Channels of the 1×1 convolution in front; 0 for none.
        padding: "symmetric" pads by (kernel − 1) / 2 on each side, so that at stride 2 the window is centred, as in
            Caffe and torchvision; "same" is TensorFlow's, which at stride 2 pads the right and lower side more.
    """

    name: str
    filters: int
    kernel: int
    stride: int = 1
    reduce: int = 0
    padding: Literal["symmetric", "same"] = "symmetric"

    def output_size(self, size: int) -> int:
        if self.padding == "same":
            return math.ceil(size / self.stride)
        return (size + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1


@dataclass(frozen=True)
class MaxPool:
    """Max pooling with SAME padding, which at 224 px gives the sizes of Caffe's ceil mode.

    Args:
        name: Name of the layer.
        size: Side of the square window in pixels.
        stride: Stride in pixels.
        padding: "same", or "ceil", Caffe's and torchvision's: windows begin at the first pixel, and the last may reach
            beyond the map. The two differ on maps of odd size alone.
    """

    name: str
    size: int = 3
    stride: int = 2
    padding: Literal["same", "ceil"] = "same"

    def output_size(self, size: int) -> int:
        if self.padding == "ceil":
            return math.ceil((size - self.size) / self.stride) + 1
        return math.ceil(size / self.stride)


@dataclass(frozen=True)
class LRN:
    """Local response normalisation over channels, as in the published network.

    Args:
        name: Name of the layer.
        depth_radius: Channels on either side that are summed; 2 makes Caffe's size of 5.
        bias: Added to the weighted sum of squares.
        alpha: Weight of the sum of squares; Caffe's 1e-4 divided by its size of 5.
        beta: Exponent.
    """

    name: str
    depth_radius: int = 2
    bias: float = 1.0
    alpha: float = 2e-5
    beta: float = 0.75

    def output_size(self, size: int) -> int:
        return size


@dataclass(frozen=True)
class Inception:
    """One Inception module: four branches, concatenated along channels.

    With all its widths it is the module with dimension reductions (figure 2b); with zeros for the reductions and the
    projection the naive one (figure 2a).

    Args: in the column order of Table 1, each a number of channels, ≥ 1 where 0 has no meaning.
        name: Name of the module, such as "3a"; its layers are called `inception_3a_...`.
        conv1x1: 1×1 convolution of the first branch.
        reduce3x3: 1×1 in front of the 3×3; 0 for none.
        conv3x3: 3×3 convolution of the second branch.
        reduce5x5: 1×1 in front of the 5×5; 0 for none.
        conv5x5: 5×5 convolution of the third branch.
        pool_projection: 1×1 behind the 3×3/1 max pool of the fourth branch; 0 for none, so that the branch keeps all
            channels of the input.
        kernel5x5: Side of the third branch's kernel in pixels, odd: 5 in Table 1; TF-Slim's and torchvision's ports
            have 3 there.
    """

    name: str
    conv1x1: int
    reduce3x3: int
    conv3x3: int
    reduce5x5: int
    conv5x5: int
    pool_projection: int
    kernel5x5: int = 5

    @property
    def filters(self) -> int:
        """Number of output channels that convolutions make: all of them, where the pool has its projection."""
        return self.conv1x1 + self.conv3x3 + self.conv5x5 + self.pool_projection

    def output_channels(self, inputs: int) -> int:
        """Return the number of output channels; a pool without projection adds the `inputs`."""
        return self.filters + (0 if self.pool_projection else inputs)

    def output_size(self, size: int) -> int:
        return size


@dataclass(frozen=True)
class MlpConv:
    """One mlpconv layer of *Network in Network* (arXiv:1312.4400): a convolution and two 1×1 convolutions behind it.

    Every pixel of the convolution's output goes through the same small fully connected network. It is what Inception's
    1×1 convolutions come from (arXiv:1409.4842, section 2).

    Args:
        name: Name of the layer; the 1×1 are called `..._mlp1` and `..._mlp2`.
        conv: Output channels of the convolution, ≥ 1.
        kernel: Side of its square kernel in pixels, odd.
        mlp1: Output channels of the first 1×1, ≥ 1.
        mlp2: Output channels of the second 1×1, ≥ 1.
        stride: Stride of the convolution in pixels.
    """

    name: str
    conv: int
    kernel: int
    mlp1: int
    mlp2: int
    stride: int = 1

    @property
    def filters(self) -> int:
        """Number of output channels."""
        return self.mlp2

    def output_size(self, size: int) -> int:
        return Conv(self.name, self.conv, self.kernel, self.stride).output_size(size)


@dataclass(frozen=True)
class FullyConnected:
    """A fully connected layer with ReLU on the whole map, as networks had them in front of the classifier.

    It is what global average pooling takes the place of (arXiv:1312.4400, section 3.2; arXiv:1409.4842, section 5),
    and it ties the network to one size of image. Its output is a map of 1×1, which the average leaves as it is.

    Args:
        name: Name of the layer.
        units: Number of units, ≥ 1.
    """

    name: str
    units: int

    def output_size(self, size: int) -> int:
        return 1


Row = Conv | MaxPool | LRN | Inception | MlpConv | FullyConnected


@dataclass(frozen=True)
class AuxiliaryHead:
    """A classifier on a middle row that feeds gradient to the lower rows; it is dropped at inference (section 5).

    Args:
        name: Name of the output and prefix of the layers.
        after: Name of the row whose output it reads.
        filters: Channels of the 1×1 convolution, ≥ 1.
        units: Units of the fully connected layer, ≥ 1.
        dropout: Share of units dropped, in [0, 1).
        pool_size: Side of the average pool in pixels, no padding.
        pool_stride: Stride of the average pool in pixels.
        pooled_size: Side of the pooled map, whatever the image's size, as torchvision's heads have it; 0 is what
            `pool_size` and `pool_stride` give.
    """

    name: str
    after: str
    filters: int = 128
    units: int = 1024
    dropout: float = 0.7
    pool_size: int = 5
    pool_stride: int = 3
    pooled_size: int = 0

    def output_size(self, size: int) -> int:
        """Side of the pooled map; below 1 where the map is smaller than the window."""
        if self.pooled_size:
            return self.pooled_size
        return (size - self.pool_size) // self.pool_stride + 1


@dataclass(frozen=True)
class Architecture:
    """A network of the Inception family as a table.

    Args:
        name: Name, as `get_architecture` and the command line know it.
        rows: Rows from the image to the last feature map; names are unique.
        auxiliary: Auxiliary heads, from the lower to the upper.
        batch_normalization: Whether every convolution is followed by batch normalisation and has no bias.
        dropout: Share of features dropped in front of the classifier, in [0, 1).
        image_size: Side of the square input in pixels when nothing else is asked for.

    Raises:
        ArchitectureError: A width is below 1, a name cannot be a layer's or is used twice, a head reads a row that is
            not there, or a window stands where no size of image fills it.
    """

    name: str
    rows: tuple[Row, ...]
    auxiliary: tuple[AuxiliaryHead, ...] = ()
    batch_normalization: bool = False
    dropout: float = 0.4
    image_size: int = 224

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or "/" in self.name:
            raise ArchitectureError(f"{self.name!r} is no name for an architecture; use a text without /")
        for part in (*self.rows, *self.auxiliary):
            _check_values(part)
        names = [row.name for row in self.rows]
        for name in names:
            if names.count(name) > 1:
                raise ArchitectureError(f"architecture {self.name!r} has two rows named {name!r}; give each its own")
        heads = ["main", *(head.name for head in self.auxiliary)]
        for head in self.auxiliary:
            if heads.count(head.name) > 1:
                raise ArchitectureError(
                    f"architecture {self.name!r} has two outputs named {head.name!r}; give each its own"
                )
            if head.after not in names:
                raise ArchitectureError(f"head {head.name!r}: {unknown('row', str(head.after), names)}")
        _check_layer_names((*self.rows, *self.auxiliary))
        _check_behind_fully_connected(self.rows, self.auxiliary)
        if type(self.image_size) is not int or self.image_size < 1:
            raise ArchitectureError(f"image_size is {self.image_size!r}; it takes a whole number ≥ 1")
        if type(self.batch_normalization) is not bool:
            raise ArchitectureError(f"batch_normalization is {self.batch_normalization!r}; it takes true or false")
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout < 1:
            raise ArchitectureError(f"dropout is {self.dropout!r}; it takes a share in [0, 1)")
        if not any(isinstance(row, Conv | Inception | MlpConv) for row in self.rows):
            raise ArchitectureError(f"architecture {self.name!r} has no convolution; it needs at least one")

    @property
    def normalization(self) -> Normalization:
        """What is normalised: "batch" after every convolution, "lrn" in the stem, or "none"."""
        if self.batch_normalization:
            return "batch"
        return "lrn" if any(isinstance(row, LRN) for row in self.rows) else "none"

    @property
    def stem(self) -> tuple[Row, ...]:
        """The rows in front of the first module or mlpconv layer."""
        return _stem(self.rows)

    def with_normalization(self, normalization: Normalization) -> "Architecture":
        """Return this table with another normalisation; LRN stands around the last convolution of the stem.

        Raises:
            ArchitectureError: `normalization` is none of "none", "lrn", "batch", or LRN finds no convolution in the
                stem.
        """
        if normalization not in get_args(Normalization):
            raise ArchitectureError(unknown("normalization", str(normalization), get_args(Normalization)))
        if normalization == self.normalization:
            return self
        rows: tuple[Row, ...] = tuple(row for row in self.rows if not isinstance(row, LRN))
        if normalization == "lrn":
            rows = _with_lrn(rows)
        return dataclasses.replace(self, rows=rows, batch_normalization=normalization == "batch")

    def with_dropout(self, main: float | None = None, auxiliary: float | None = None) -> "Architecture":
        """Return this table with other shares dropped in front of the classifier and in the heads; None keeps one."""
        heads = self.auxiliary
        if auxiliary is not None:
            heads = tuple(dataclasses.replace(head, dropout=auxiliary) for head in heads)
        return dataclasses.replace(self, dropout=self.dropout if main is None else main, auxiliary=heads)

    def scaled(self, width: float) -> "Architecture":
        """Return this table with every width, stem and heads included, multiplied by `width` and rounded, at least 1.

        >>> GOOGLENET.scaled(width=0.5).rows[0]
        Conv(name='conv1', filters=32, kernel=7, stride=2, reduce=0, padding='symmetric')

        Raises:
            ArchitectureError: `width` is not a positive number.
        """
        if not (isinstance(width, int | float) and math.isfinite(width) and width > 0):
            raise ArchitectureError(f"width is {width!r}; it takes a factor above 0, such as 0.5")
        if width == 1:
            return self

        def scale(part: Any) -> Any:
            widths = {name: getattr(part, name) for name in WIDTHS.get(type(part), ())}
            # A reduction of 0 channels means that there is none, at any width.
            return dataclasses.replace(part, **{k: max(1, round(v * width)) if v else 0 for k, v in widths.items()})

        return dataclasses.replace(
            self,
            name=f"{self.name}-w{width:g}",
            rows=tuple(map(scale, self.rows)),
            auxiliary=tuple(map(scale, self.auxiliary)),
        )

    def smallest_image(self, auxiliary: bool = False) -> int:
        """Return the smallest side in pixels that the network takes.

        This is the total stride, so that a pixel of the last map never stands for more than the image, or the first
        size above it at which every window finds a pixel; with heads, at which every head's map fills its pool too.
        """
        stride = enough = math.prod(getattr(row, "stride", 1) for row in self.rows)
        while not self._takes(enough, auxiliary):
            enough *= 2
        sizes = range(stride, enough + 1)
        return sizes[bisect.bisect_left(sizes, True, key=lambda size: self._takes(size, auxiliary))]

    def check_image(self, height: int | None, width: int | None, auxiliary: bool = False) -> None:
        """Raise ArchitectureError where an image is too small, with the smallest that works; None is any size."""
        smallest = self.smallest_image(auxiliary)
        if any(size is not None and size < smallest for size in (height, width)):
            raise ArchitectureError(
                f"an image of {height}×{width} px is too small for {self.name!r}"
                f"{' with auxiliary heads' if auxiliary else ''}; the smallest is {smallest}×{smallest} px"
            )

    def _takes(self, size: int, auxiliary: bool) -> bool:
        """Return whether no map is empty at a size of image."""
        maps = {}
        for row in self.rows:
            size = maps[row.name] = row.output_size(size)
            if size < 1:
                return False
        return not auxiliary or all(head.output_size(maps[head.after]) >= 1 for head in self.auxiliary)

    def to_json(self) -> str:
        """Return the table as JSON text that `from_json` reads back to an equal value."""
        value = dataclasses.asdict(self)
        value["rows"] = [{"kind": type(row).__name__, **dataclasses.asdict(row)} for row in self.rows]
        return json.dumps(value, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Architecture":
        """Return the table that `to_json` wrote.

        Raises:
            ArchitectureError: The text is no JSON, or a field is missing, unknown or out of range.
        """
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise ArchitectureError(f"an architecture must be JSON text: {error}") from None
        if not isinstance(value, dict):
            raise ArchitectureError(f"an architecture must be a JSON object, not {type(value).__name__}")
        value = dict(value)
        value["rows"] = tuple(_row_from_dict(row) for row in _list(value, "rows"))
        value["auxiliary"] = tuple(_from_dict(AuxiliaryHead, head) for head in _list(value, "auxiliary"))
        return _from_dict(cls, value)


_KINDS: dict[str, type] = {kind.__name__: kind for kind in (Conv, MaxPool, LRN, Inception, MlpConv, FullyConnected)}

#: The fields of each kind of row that count channels or units: what `scaled` multiplies.
WIDTHS: dict[type, tuple[str, ...]] = {
    Conv: ("filters", "reduce"),
    Inception: ("conv1x1", "reduce3x3", "conv3x3", "reduce5x5", "conv5x5", "pool_projection"),
    MlpConv: ("conv", "mlp1", "mlp2"),
    FullyConnected: ("units",),
    AuxiliaryHead: ("filters", "units"),
}
_MAY_BE_ZERO = {"reduce", "depth_radius", "reduce3x3", "reduce5x5", "pool_projection", "pooled_size"}
#: What the builder calls the layers of no row.
_RESERVED = ("image", "avg_pool", "max_pool", "dropout", "main")


def _check_values(part: Row | AuxiliaryHead) -> None:
    """Raise ArchitectureError where a number of a row or head is out of range."""
    if not isinstance(part.name, str) or not re.fullmatch(r"[A-Za-z0-9_]+", part.name):
        raise ArchitectureError(f"{part.name!r} is no name for a row; use letters, digits and _")
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        lowest = 0 if field.name in _MAY_BE_ZERO else 1
        if field.type is int and (type(value) is not int or value < lowest):
            raise ArchitectureError(
                f"{field.name} of row {part.name!r} is {value!r}; it takes a whole number ≥ {lowest}"
            )
        if field.type is float and type(value) not in (int, float):
            raise ArchitectureError(f"{field.name} of row {part.name!r} is {value!r}; it takes a number")
        if field.name == "dropout" and not 0 <= value < 1:
            raise ArchitectureError(f"dropout of head {part.name!r} is {value!r}; it takes a share in [0, 1)")
        if field.name in ("kernel", "kernel5x5") and value % 2 == 0:
            raise ArchitectureError(f"{field.name} of row {part.name!r} is {value}; it takes an odd number")
        if field.name == "padding" and value not in (known := get_args(field.type)):
            raise ArchitectureError(f"padding of row {part.name!r} is {value!r}; it takes {' or '.join(known)}")


def _check_layer_names(parts: tuple[Row | AuxiliaryHead, ...]) -> None:
    """Raise ArchitectureError where two layers of the built network would have one name."""
    owners = dict.fromkeys(_RESERVED, "the network itself")
    for part in parts:
        for layer in _layer_names(part):
            if layer in owners:
                raise ArchitectureError(
                    f"{part.name!r} would have a layer {layer!r}, which is one of {owners[layer]}; give it another name"
                )
        owners |= dict.fromkeys(_layer_names(part), repr(part.name))


def _layer_names(part: Row | AuxiliaryHead) -> list[str]:
    """Return the names that the builder gives to the layers of a row or head, whatever is normalised or padded."""
    name = part.name
    match part:
        case Conv():
            return _around(name, f"{name}_reduce") if part.reduce else _around(name)
        case MlpConv():
            return _around(name, f"{name}_mlp1", f"{name}_mlp2")
        case Inception():
            branches = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_projection")
            name = f"inception_{name}"
            return [name, f"{name}_pool", *_around(*(f"{name}_{branch}" for branch in branches))]
        case AuxiliaryHead():
            layers = (f"{name}_{layer}" for layer in ("pool", "flatten", "dense", "relu", "dropout"))
            return [name, *layers, *_around(f"{name}_1x1")]
        case FullyConnected():
            return [name, f"{name}_relu"]
        case MaxPool():
            return [name, f"{name}_pad"]
        case LRN():
            return [name]


def _around(*convolutions: str) -> list[str]:
    """Return the names of convolutions and of the layers around them."""
    return [f"{name}{layer}" for name in convolutions for layer in ("", "_pad", "_bn", "_relu")]


def _check_behind_fully_connected(rows: tuple[Row, ...], heads: tuple[AuxiliaryHead, ...]) -> None:
    """Raise ArchitectureError where a window is to slide over the 1×1 that a fully connected layer leaves."""
    behind = tuple(itertools.dropwhile(lambda row: not isinstance(row, FullyConnected), rows))
    names = [row.name for row in behind]
    for part in (*behind, *(head for head in heads if head.after in names)):
        if part.output_size(1) < 1:
            before = part.after if isinstance(part, AuxiliaryHead) else names[0]
            raise ArchitectureError(
                f"{part.name!r} pools a map of 1×1 px, for it stands behind {before!r}, and {names[0]!r} is fully "
                f"connected; put it in front"
            )


def _stem(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(itertools.takewhile(lambda row: not isinstance(row, Inception | MlpConv), rows))


def _with_lrn(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Put LRN before and after the last convolution of the stem: in the paper's rows, after pool1 and after conv2."""
    convolutions = [index for index, row in enumerate(_stem(rows)) if isinstance(row, Conv)]
    if not convolutions:
        raise ArchitectureError("LRN stands around a convolution of the stem, and this table has none; use 'batch'")
    last = convolutions[-1]
    return (*rows[:last], LRN("norm1"), rows[last], LRN("norm2"), *rows[last + 1 :])


def _list(value: dict[str, Any], field: str) -> list[Any]:
    if not isinstance(value.get(field), list):
        raise ArchitectureError(f"an architecture needs a list called {field!r}")
    return value[field]


def _row_from_dict(value: Any) -> Row:
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ArchitectureError(unknown("kind of row", str(kind), _KINDS))
    return _from_dict(_KINDS[kind], {name: item for name, item in value.items() if name != "kind"})


def _from_dict(kind: Callable[..., T], value: Any) -> T:
    try:
        return kind(**value)
    except TypeError as error:
        raise ArchitectureError(f"a {getattr(kind, '__name__', kind)} cannot be read: {error}") from None


# ---------------------------------------------------------------------------------------------------------------------
# Config
# ---------------------------------------------------------------------------------------------------------------------

#: Table 1 of arXiv:1409.4842, with the local response normalisation of the published network. Shapes at 224 px.
GOOGLENET = Architecture(
    name="googlenet",
    rows=(
        Conv("conv1", 64, kernel=7, stride=2),  # 112×112×64
        MaxPool("pool1"),  # 56×56×64
        LRN("norm1"),
        Conv("conv2", 192, kernel=3, reduce=64),  # 56×56×192
        LRN("norm2"),
        MaxPool("pool2"),  # 28×28×192
        #                 1×1  3×3 reduce, 3×3  5×5 reduce, 5×5  pool projection
        Inception("3a", 64, 96, 128, 16, 32, 32),  # 28×28×256
        Inception("3b", 128, 128, 192, 32, 96, 64),  # 28×28×480
        MaxPool("pool3"),  # 14×14×480
        Inception("4a", 192, 96, 208, 16, 48, 64),  # 14×14×512
        Inception("4b", 160, 112, 224, 24, 64, 64),  # 14×14×512
        Inception("4c", 128, 128, 256, 24, 64, 64),  # 14×14×512
        Inception("4d", 112, 144, 288, 32, 64, 64),  # 14×14×528
        Inception("4e", 256, 160, 320, 32, 128, 128),  # 14×14×832
        MaxPool("pool4"),  # 7×7×832
        Inception("5a", 256, 160, 320, 32, 128, 128),  # 7×7×832
        Inception("5b", 384, 192, 384, 48, 128, 128),  # 7×7×1024
    ),
    auxiliary=(AuxiliaryHead("aux1", after="4a"), AuxiliaryHead("aux2", after="4d")),
)

#: The same table with batch normalisation (arXiv:1502.03167) in place of LRN and biases: trains without care.
GOOGLENET_BN = dataclasses.replace(GOOGLENET.with_normalization("batch"), name="googlenet-bn")

#: The Inception rows of Table 1 behind a stem of stride 2 instead of 8, for images of 28 to 64 px. Shapes at 32 px.
GOOGLENET_SMALL = dataclasses.replace(
    GOOGLENET_BN,
    name="googlenet-small",
    rows=(
        Conv("conv1", 64, kernel=3),  # 32×32×64
        Conv("conv2", 192, kernel=3, reduce=64),  # 32×32×192
        *GOOGLENET_BN.rows[3:],  # pool2: 16×16×192; 3a to 5b: 16, 8 and 4 px
    ),
    image_size=32,
)

#: *Network in Network* for images of 32 px (arXiv:1312.4400, figure 2 and section 4), by the widths of its authors'
#: published CIFAR-10 model. The last 1×1 convolution of its third layer, to the classes and in front of the average, is
#: the linear layer behind the average here: the same weights and, but for a ReLU, the same answers.
NIN = Architecture(
    name="nin",
    rows=(
        MlpConv("conv1", 192, kernel=5, mlp1=160, mlp2=96),  # 32×32×96
        MaxPool("pool1"),  # 16×16×96
        MlpConv("conv2", 192, kernel=5, mlp1=192, mlp2=192),  # 16×16×192
        MaxPool("pool2"),  # 8×8×192
        Conv("conv3", 192, kernel=3),  # 8×8×192
        Conv("conv3_mlp1", 192, kernel=1),  # 8×8×192
    ),
    dropout=0.5,
    image_size=32,
)


def _port(row: Row, padding: Literal["symmetric", "same"], pooling: Literal["same", "ceil"]) -> Row:
    """Return a row of Table 1 as the ports have it, which share a 3×3 in place of the 5×5 and a last pool of 2×2."""
    match row:
        case Conv():
            return dataclasses.replace(row, padding=padding)
        case MaxPool():
            return dataclasses.replace(row, size=2 if row.name == "pool4" else row.size, padding=pooling)
        case Inception():
            return dataclasses.replace(row, kernel5x5=3)
    return row


#: torchvision's `googlenet`: batch normalisation, pools in ceil mode, heads that pool to 4×4 at any size.
GOOGLENET_TORCHVISION = dataclasses.replace(
    GOOGLENET_BN,
    name="googlenet-torchvision",
    rows=tuple(_port(row, "symmetric", "ceil") for row in GOOGLENET_BN.rows),
    auxiliary=tuple(dataclasses.replace(head, pooled_size=4) for head in GOOGLENET_BN.auxiliary),
    dropout=0.2,
)

#: TF-Slim's `inception_v1`: batch normalisation, SAME padding everywhere, no heads.
GOOGLENET_SLIM = dataclasses.replace(
    GOOGLENET_BN,
    name="googlenet-slim",
    rows=tuple(_port(row, "same", "same") for row in GOOGLENET_BN.rows),
    auxiliary=(),
    dropout=0.2,
)

ARCHITECTURES = {
    table.name: table
    for table in (GOOGLENET, GOOGLENET_BN, GOOGLENET_SMALL, GOOGLENET_TORCHVISION, GOOGLENET_SLIM, NIN)
}


def get_architecture(name: str) -> Architecture:
    """Return the table of that name, or of the file that `Architecture.to_json` wrote if the name ends in .json.

    Raises:
        ArchitectureError: No table has that name, with the nearest in the message; or the file cannot be read.
    """
    if name.endswith(".json"):
        return _read(Path(name))
    if name not in ARCHITECTURES:
        raise ArchitectureError(unknown("architecture", name, ARCHITECTURES))
    return ARCHITECTURES[name]


def _read(path: Path) -> Architecture:
    try:
        return Architecture.from_json(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ArchitectureError(f"architecture {str(path)!r} cannot be read: {error}") from None
    except ArchitectureError as error:
        raise ArchitectureError(f"architecture {str(path)!r}: {error}") from None
