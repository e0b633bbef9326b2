"""What the rows of a table, and the branches of its Inception modules, are called in a built network."""

from keras_inception.architecture import Architecture, Conv, FullyConnected, Inception, MlpConv, Row
from keras_inception.errors import ArchitectureError, unknown

#: The branches of an Inception module, and how the names of the layers they end with go on.
BRANCHES = {"1×1": "1x1", "3×3": "3x3", "5×5": "5x5", "pool": "pool_projection"}


def modules(table: Architecture) -> list[Inception]:
    """Return the Inception modules of a table, the lowest first.

    Raises:
        ArchitectureError: There is none.
    """
    found = [row for row in table.rows if isinstance(row, Inception)]
    if not found:
        raise ArchitectureError(f"architecture {table.name!r} has no Inception module; give one that has branches")
    return found


def module(table: Architecture, name: str) -> Inception:
    """Return the Inception module of that name, such as "4a"; raises ArchitectureError where there is none."""
    known = {row.name: row for row in modules(table)}
    if name not in known:
        raise ArchitectureError(unknown("module", name, known))
    return known[name]


def branch_layer(row: Inception, branch: str) -> str:
    """Return the name of the layer that a branch ends with.

    >>> branch_layer(Inception("4a", 192, 96, 208, 16, 48, 64), "pool")
    'inception_4a_pool_projection_relu'
    """
    if branch == "pool" and not row.pool_projection:
        return f"inception_{row.name}_pool"
    return f"inception_{row.name}_{BRANCHES[branch]}_relu"


def output_layer(row: Row) -> str:
    """Return the name of the layer that a row ends with."""
    match row:
        case Inception():
            return f"inception_{row.name}"
        case Conv() | FullyConnected():
            return f"{row.name}_relu"
        case MlpConv():
            return f"{row.name}_mlp2_relu"
        case _:
            return row.name
