"""The one family of errors a user can meet: each message is one line that names the value and the remedy."""

import difflib
import importlib
from collections.abc import Iterable
from typing import Any


class InceptionError(Exception):
    """Base of all errors this package raises on purpose; the command line prints it and exits with `exit_status`."""

    exit_status = 2


class ArchitectureError(InceptionError, ValueError):
    """An architecture, block or model was asked for with values that cannot be built."""


class ConfigError(InceptionError, ValueError):
    """A configuration names an unknown field or holds a value outside its range."""


class DataError(InceptionError, ValueError):
    """Images or labels are missing, unreadable or do not fit."""


class DeviceError(InceptionError, ValueError):
    """A device was asked for that this machine lacks or that can no longer be set up."""


class RunError(InceptionError, ValueError):
    """A run folder or an exported model is missing, exists already, or is incomplete."""


class WeightsError(InceptionError, ValueError):
    """Published weights are missing, cannot be fetched or read, are not safe to read, or do not fit."""


class TrainingError(InceptionError):
    """A training had to stop before its end: it can go on, or must begin again otherwise, as the message says."""

    exit_status = 1


class DivergedError(TrainingError):
    """The loss or the weights are no longer numbers."""


class StoppedError(TrainingError):
    """A signal asked the training to stop; its state is saved.

    Args:
        message: What is saved and how to go on.
        signal: Number of the signal.
    """

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.exit_status = 128 + signal


class ExportError(InceptionError):
    """A model could not be exported, or the export does not answer like the model it was made from."""

    exit_status = 1


# So many names are still read.
_LISTED = 20


def unknown(what: str, value: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name: the nearest known names or, where none is near, the first of them.

    >>> unknown("architecture", "goglenet", ["googlenet", "googlenet-bn", "nin"])
    "unknown architecture 'goglenet'; did you mean googlenet or googlenet-bn?"
    >>> unknown("digit", "ten", map(str, range(100))).removeprefix("unknown digit 'ten'; known: 0, 1, 10, 11, ")
    '12, 13, 14, 15, 16, 17, 18, 19, 2, 20, 21, 22, 23, 24, 25, 26 and 80 more'
    """
    names = sorted(known)
    near = difflib.get_close_matches(value, names, n=3, cutoff=0.6)
    if near:
        return f"unknown {what} {value!r}; did you mean {' or '.join(near)}?"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"unknown {what} {value!r}; known: {', '.join(names[:_LISTED])}{more}"


def imported(module: str, extra: str) -> Any:
    """Import a module that only some users need; raises RunError, which names the extra, where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise RunError(f"{module} is not installed; run: pip install 'keras-inception[{extra}]'") from None
