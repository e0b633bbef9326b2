"""What all commands share: the terminal, how files are read from it, and TensorFlow without its noise."""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from keras_inception.errors import InceptionError

if TYPE_CHECKING:
    from rich.console import Console

    from keras_inception.report.page import Table


# Where Linux lists the features of the processor.
_PROCESSOR = Path("/proc/cpuinfo")


def flag(metavar: str, default: str) -> Any:
    """Describe a flag whose default is known only further inside."""
    return arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


def several(metavar: str) -> Any:
    """Describe words of which there may be any number, one at least."""
    return arg(metavar=f"{metavar} [{metavar} ...]", help_behavior_hint="(one or more)")


#: What several commands take without a flag: a run's folder, a collection as --data names it, and a table.
Run = Positional[Annotated[Path, arg(metavar="RUN")]]
Source = Positional[Annotated[str, arg(metavar="SOURCE")]]
ArchitectureName = Positional[Annotated[str | None, flag("[ARCHITECTURE]", "googlenet")]]


def console() -> "Console":
    """Return a console that never cuts a table when its output is piped."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)


@contextlib.contextmanager
def counting(screen: "Console", what: str) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how many images are done, how many in a second and how long the rest takes.

    The display goes when all are done, and comes again with the next that are counted.

    Args:
        screen: Where.
        what: Is done, as in "reading images".
    """
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    display = Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)
    task = display.add_task("", rate="", start=False)

    def on_progress(done: int, total: int) -> None:
        if not display.tasks[task].started:
            display.reset(task)
            display.start()
        speed = display.tasks[task].speed
        display.update(task, completed=done, total=total, rate=f"{speed:.1f} images/s" if speed else "")
        if done == total:
            display.stop()
            display.reset(task, start=False)

    try:
        yield on_progress
    finally:
        display.stop()


def say(screen: "Console", line: str) -> None:
    """Print a line as it is."""
    screen.print(line, highlight=False, markup=False)


def say_left_out(screen: "Console", broken: Sequence[str]) -> None:
    """Print which images were left out, and why."""
    for line in broken:
        screen.print(f"left out: {line}", style="yellow", highlight=False, markup=False)


def onednn() -> bool | None:
    """Return whether oneDNN's kernels are to be used in training on this machine; None leaves it to TensorFlow.

    TensorFlow leaves them off on x86 processors without VNNI, where they make training faster all the same. Answers of
    single images they make slower there.
    """
    if (word := os.environ.get("TF_ENABLE_ONEDNN_OPTS")) is not None:
        return word == "1"
    if "tensorflow" in sys.modules or not _PROCESSOR.exists():
        return None
    return True if "avx2" in _PROCESSOR.read_text().split() else None


def load_tensorflow(kernels: bool | None = None) -> None:
    """Import TensorFlow without the lines that it writes past Python about missing GPU drivers.

    Args:
        kernels: Whether with those of oneDNN; None leaves it to TensorFlow.

    Raises:
        InceptionError: Keras is to run on another backend.
    """
    if kernels is not None and "tensorflow" not in sys.modules:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = str(int(kernels))
    # Before Keras is imported too, which ends in a traceback where that backend is not installed.
    _check_backend(os.environ.get("KERAS_BACKEND") or "tensorflow")
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            import keras
            import tensorflow as tf

            tf.config.list_physical_devices()
        except ModuleNotFoundError as error:  # of a backend that ~/.keras/keras.json names
            raise InceptionError(f"Keras cannot be imported: {error}; set KERAS_BACKEND=tensorflow") from None
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    _check_backend(keras.config.backend())


def _check_backend(name: str) -> None:
    if name != "tensorflow":
        raise InceptionError(f"Keras runs on {name!r}; training and export need KERAS_BACKEND=tensorflow")


def check_model(path: Path) -> None:
    """Refuse what is neither a run nor an exported file before TensorFlow is loaded."""
    from keras_inception.card import read_card

    read_card(path)


def check_output(path: Path, *, folder: bool) -> None:
    """Refuse a place that cannot be written, before minutes are spent on what would stand there.

    Raises:
        ConfigError: It is a file where a folder is meant or the other way, lies in a file, or is read-only.
    """
    from keras_inception.errors import ConfigError

    place = path if folder else path.parent
    while not os.path.exists(place) and place != place.parent:
        place = place.parent
    if not os.path.isdir(place) or (not folder and os.path.isdir(path)):
        what = f"{str(place)!r} is a file" if not os.path.isdir(place) else "that is a folder"
        raise ConfigError(f"output is {str(path)!r}, and {what}; give --output another place")
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ConfigError(
            f"output is {str(path)!r}, which cannot be written ({error.strerror}); give --output another place"
        ) from None


# The field of a configuration that a flag gives.
_FIELDS = {
    "data": "data.source",
    "data_dir": "data.data_dir",
    "image_size": "data.image_size",
    "max_broken": "data.max_broken",
    "architecture": "model.architecture",
    "width": "model.width",
    "start_from": "model.start_from",
    "epochs": "training.epochs",
    "batch_size": "training.batch_size",
    "learning_rate": "training.learning_rate",
    "class_weights": "training.class_weights",
    "freeze_until": "training.freeze_until",
    "deterministic": "training.deterministic",
    "precision": "training.precision",
    "devices": "training.devices",
    "seed": "training.seed",
    "name": "name",
}


def fields(words: tuple[str, ...], **flags: Any) -> dict[str, Any]:
    """Return the fields of a configuration that flags give, and the words of --set, which are section.field=value each.

    Args:
        words: Of --set.
        **flags: Of `_FIELDS`; None is one that was not given.
    """
    from keras_inception.errors import ConfigError

    for word in words:
        if "=" not in word:
            raise ConfigError(f"--set takes section.field=value, not {word!r}")
    given = {_FIELDS[flag]: value for flag, value in flags.items() if value is not None}
    return given | dict(word.split("=", 1) for word in words)


def listed(text: str, what: str, known: Sequence[str]) -> list[str]:
    """Read words with commas between them; raises ConfigError for one that is not among the known."""
    from keras_inception.errors import ConfigError, unknown

    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in known:
            raise ConfigError(unknown(what, word, known))
    return list(dict.fromkeys(words))


def read_text(path: Path) -> str:
    from keras_inception.errors import ConfigError

    if not path.is_file():
        raise ConfigError(f"there is no configuration {str(path)!r}; give the config.json of a run")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{str(path)!r} cannot be read ({error}); give the config.json of a run") from None


def print_json(value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # A file name that is no UTF-8 holds surrogates; their escapes read back as they were.
    print(text.encode(errors="backslashreplace").decode())


def print_table(screen: "Console", table: "Table") -> None:
    """Print a table of a page."""
    import rich.table
    from rich.text import Text

    from keras_inception.report.page import cell

    if table.caption:
        screen.print(Text(table.caption, "bold"))
    shown = rich.table.Table()
    for place, name in enumerate(table.columns):
        shown.add_column(Text(name), justify="left" if place == 0 else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell(value)) for value in row))
    screen.print(shown)
