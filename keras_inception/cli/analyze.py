"""analyze: tables about an architecture."""

from typing import Annotated, Any

from tyro.conf import Positional

from keras_inception.cli.screen import console, flag


def table(
    architecture: Positional[str] = "googlenet",
    image_size: Annotated[int | None, flag("INT", "the architecture's")] = None,
    classes: int = 1000,
) -> None:
    """Print an architecture row by row: output size, depth, weights and multiply-adds, by arithmetic.

    Example: keras-inception analyze table googlenet-bn

    Args:
        architecture: googlenet, googlenet-bn, googlenet-small, or a file such as a run's architecture.json.
        image_size: Side of the image in px.
        classes: Number of classes.
    """
    from rich.table import Table

    from keras_inception.architecture import get_architecture
    from keras_inception.cost import row_costs
    from keras_inception.errors import ArchitectureError

    if classes < 1:
        raise ArchitectureError(f"classes is {classes}; it takes a number ≥ 1")
    network = get_architecture(architecture)
    shape = None if image_size is None else (image_size, image_size, 3)
    body = row_costs(network, shape, classes)
    heads = row_costs(network, shape, classes, auxiliary=True)[len(body) :]
    printed = Table("row", "output", "depth", "weights", "parameters", "multiply-adds", title=network.name)
    for column in printed.columns[1:]:
        column.justify = "right"
    for row in body:
        printed.add_row(*_cells(row))
    printed.add_section()
    printed.add_row("total", "", *_totals(body))
    printed.add_section()
    for row in heads:
        printed.add_row(*_cells(row))
    printed.add_row("total with heads", "", "", *_totals([*body, *heads])[1:])
    console().print(printed)


def _cells(row: Any) -> list[str]:
    numbers = (row.depth, row.weights, row.parameters, row.multiply_adds)
    return [row.name, "×".join(map(str, row.output)), *(f"{number:,}" if number else "" for number in numbers)]


def _totals(rows: list[Any]) -> list[str]:
    return [f"{sum(getattr(row, k) for row in rows):,}" for k in ("depth", "weights", "parameters", "multiply_adds")]
