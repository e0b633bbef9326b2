"""Pictures of networks side by side and of sparse products: values in, PNG files out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from keras_inception.report.pictures import entitle, save

if TYPE_CHECKING:
    from keras_inception.analysis.compare import System
    from keras_inception.analysis.sparsity import Timing


def draw_systems(systems: "Sequence[System]", path: Path) -> None:
    """Draw networks by multiply-adds and published top-5 error; the area of a point is its parameters.

    Those without a published error are named below.

    Args:
        systems: The networks.
        path: The PNG to write.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    shown = [one for one in systems if one.errors]
    for place, one in enumerate(shown):
        point = one.cost.multiply_adds / 1e9, one.errors[0].top5
        axes.scatter(*point, s=one.cost.parameters / 5e4, color=f"C{place}", alpha=0.5)
        axes.plot(*point, ".", color="black", markersize=3)
        name = f"{one.name}\n{one.cost.parameters / 1e6:.1f} M, {_short(one.errors[0].protocol)}"
        axes.annotate(name, point, xytext=_PLACES.get(one.name, (14, 12)), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    ticks = (0.5, 1, 2, 5, 10, 20, 40)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlim=(0.45, 45), ylim=(0, max(one.errors[0].top5 for one in shown) * 1.2))
    axes.set(xlabel="multiply-adds for one image, 10⁹", ylabel="published top-5 error, % (protocols differ)")
    figure.suptitle("Published errors on ImageNet over multiply-adds; areas are parameters")
    missing = [one.name for one in systems if not one.errors]
    if missing:
        axes.text(0.01, 0.02, f"no published error: {', '.join(missing)}", transform=axes.transAxes, fontsize=8)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    save(figure, path)


#: Where names stand that would cover one another, in points from their network's.
_PLACES = {"VGG-16": (-66, 34), "VGG-19": (10, -52), "ResNet-50": (-30, 22), "Inception v3": (-30, -38)}


def draw_timings(timings: "Sequence[Timing]", path: Path, *, title: str) -> None:
    """Draw how many times as long as the dense product the sparse ones take, over density, a colour for each size.

    Args:
        timings: As measured.
        path: The PNG to write.
        title: Written above.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    entitle(figure, title)
    axes = figure.subplots()
    for place, size in enumerate(dict.fromkeys(one.size for one in timings)):
        own = [one for one in timings if one.size == size]
        percents = [100 * one.density for one in own]
        ratios = [one.sparse_ms / one.dense_ms for one in own]
        axes.plot(percents, ratios, "o-", color=f"C{place}", label=f"{size}×{size}, anywhere")
        blocks = [(100 * one.density, one.blocks_ms / one.dense_ms) for one in own if one.blocks_ms is not None]
        if blocks:
            axes.plot(*zip(*blocks, strict=True), "s--", color=f"C{place}", label=f"{size}×{size}, in blocks")
    axes.axhline(1, color="black", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="elements that are not zero, %", ylabel="time, in dense products")
    axes.text(0.01, 0.97, "dense is faster above 1", transform=axes.transAxes, va="top", fontsize=9)
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    save(figure, path)


def _short(protocol: str) -> str:
    return protocol.partition(" of ")[0].partition(",")[0]
