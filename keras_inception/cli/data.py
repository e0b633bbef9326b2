"""data: what is in a collection, what the network sees of it, and a copy that is read fast."""

from pathlib import Path

from tyro.conf import Positional

from keras_inception.cli.screen import console, load_tensorflow


def check(source: Positional[str]) -> None:
    """To be written.

    Args:
        source: As in train --data.
    """
    raise NotImplementedError


def preview(source: Positional[str], output: Path = Path("preview.png")) -> None:
    """To be written.

    Args:
        source: As in train --data.
        output: The PNG to write.
    """
    raise NotImplementedError


def convert(source: Positional[str], output: Positional[Path]) -> None:
    """To be written.

    Args:
        source: As in train --data.
        output: Folder of the shards.
    """
    raise NotImplementedError
