"""The output size of convolutions and pools: (in − F + 2P) / S + 1, for a chain of them.

Padding is a number on either side, `valid` for none, or `same` as in TensorFlow: as much in all as makes
ceil(in / S), the odd pixel behind.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from keras_inception.errors import ArchitectureError, unknown

Kind = Literal["conv", "pool"]
Rounding = Literal["floor", "ceil", "exact"]


@dataclass(frozen=True)
class Window:
    """A convolution or a pool: a window that moves over the image.

    Args:
        kind: "conv" or "pool"; the arithmetic is the same.
        size: F, the window's side, px, ≥ 1.
        stride: S, px, ≥ 1.
        padding: P on either side, px; or "same" or "valid".
        rounding: What becomes of a window that only partly fits: "floor" leaves it out, as Keras and as convolutions
            do everywhere; "ceil" keeps it where it begins inside, as Caffe's pools do; "exact" refuses it.
    """

    kind: Kind
    size: int
    stride: int = 1
    padding: int | Literal["same", "valid"] = "valid"
    rounding: Rounding = "floor"

    def __str__(self) -> str:
        rounding = "" if self.rounding == "floor" else f" {self.rounding}"
        return f"{self.kind} {self.size} {self.stride} {self.padding}{rounding}"


@dataclass(frozen=True)
class Step:
    """What a window makes of a side.

    Args:
        window: The window.
        input: Side of its input, px.
        before: Padding in front, px.
        behind: Padding behind, px.
        quotient: The formula's result, before it is rounded.
        output: Side of its output, px.
    """

    window: Window
    input: int
    before: int
    behind: int
    quotient: float
    output: int

    @property
    def formula(self) -> str:
        """The formula with its numbers."""
        padding = f"2·{self.before}" if self.before == self.behind else f"{self.before} + {self.behind}"
        return f"({self.input} − {self.window.size} + {padding}) / {self.window.stride} + 1 = {self.quotient:g}"


def output_sizes(size: int, windows: Sequence[Window]) -> list[Step]:
    """Return what a chain of windows makes of a side.

    >>> [step.output for step in output_sizes(224, parse_windows("conv 7 2 3, pool 3 2 same, conv 3 1 same"))]
    [112, 56, 56]

    Args:
        size: Side of the image, px, ≥ 1.
        windows: From the image on.

    Raises:
        ArchitectureError: A window does not fit, or does not divide where it is asked to be exact.
    """
    if size < 1:
        raise ArchitectureError(f"a side of {size} px is no image; it takes a number ≥ 1")
    steps = []
    for window in windows:
        steps.append(_step(size, window))
        size = steps[-1].output
    return steps


def parse_windows(text: str) -> list[Window]:
    """Read windows with commas between them, each a kind, a size, and a stride, a padding and a rounding if need be.

    >>> parse_windows("conv 7 2 3, pool 3 2 0 ceil")[1]
    Window(kind='pool', size=3, stride=2, padding=0, rounding='ceil')

    Raises:
        ArchitectureError: A word is none of these.
    """
    windows = [_window(row.strip()) for row in text.split(",") if row.strip()]
    if not windows:
        raise ArchitectureError(f"there is no window; give some, as in {_EXAMPLE!r}")
    return windows


def exact(windows: Sequence[Window]) -> list[Window]:
    """Return the same windows, each refused where it does not divide."""
    return [replace(window, rounding="exact") for window in windows]


_EXAMPLE = "conv 7 2 3, pool 3 2 same"
_FIELDS = ("kind", "size", "stride", "padding", "rounding")


def _step(size: int, window: Window) -> Step:
    before, behind = _padding(size, window)
    room = size - window.size + before + behind
    if room < 0:
        raise ArchitectureError(
            f"{str(window)!r} on {size} px: a window of {window.size} px does not fit {size + before + behind} px "
            f"with padding; take a smaller window or more padding"
        )
    step = Step(window, size, before, behind, room / window.stride + 1, room // window.stride + 1)
    if room % window.stride == 0:
        return step
    if window.rounding == "exact":
        raise ArchitectureError(
            f"{str(window)!r}: {step.formula} is no whole number; take floor or ceil, or another padding or size"
        )
    # The last window of ceil must begin inside the image or in front of it, or it would see padding alone.
    fits = step.output * window.stride < size + before
    return replace(step, output=step.output + 1) if window.rounding == "ceil" and fits else step


def _padding(size: int, window: Window) -> tuple[int, int]:
    if window.padding == "same":
        both = max((math.ceil(size / window.stride) - 1) * window.stride + window.size - size, 0)
        return both // 2, both - both // 2
    padding = 0 if window.padding == "valid" else window.padding
    return padding, padding


def _window(row: str) -> Window:
    kind, *words = row.split()
    if kind not in get_args(Kind):
        raise ArchitectureError(f"{row!r}: {unknown('window', kind, get_args(Kind))}")
    rounding: Rounding = "floor"
    for known in get_args(Rounding):
        if words and words[-1] == known:
            rounding = known
            words = words[:-1]
            break
    if not 1 <= len(words) <= 3:
        raise ArchitectureError(f"{row!r} has not a size, a stride and a padding; write it as in {_EXAMPLE!r}")
    size, stride = (_number(row, name, word, 1) for name, word in zip(("size", "stride"), [*words, "1"], strict=False))
    padding = words[2] if len(words) == 3 else "valid"
    if padding == "same" or padding == "valid":
        return Window(kind, size, stride, padding, rounding)  # type: ignore[arg-type]
    return Window(kind, size, stride, _number(row, "padding", padding, 0), rounding)  # type: ignore[arg-type]


def _number(row: str, name: str, word: str, lowest: int) -> int:
    if not (word.isascii() and word.isdecimal() and int(word) >= lowest):
        others = ", same or valid" if name == "padding" else ""
        raise ArchitectureError(f"{row!r}: its {name} is {word!r}; it takes a whole number ≥ {lowest}{others}")
    return int(word)
