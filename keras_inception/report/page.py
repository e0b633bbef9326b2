"""An HTML page in one file: sections of text, tables and pictures; it fetches nothing and runs nothing."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import jinja2

from keras_inception import __version__
from keras_inception.files import write_text


@dataclass(frozen=True)
class Table:
    """Rows below a header.

    Args:
        columns: The header.
        rows: A cell for each column. Text stands as it is; whole numbers get thousands separators, others four
            significant digits or as many as stand before the point, and both stand to the right; what is not finite
            becomes a dash.
        caption: Written above.
        beside: Names of columns that a narrow terminal does not part from the one in front of them.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float]]
    caption: str = ""
    beside: Sequence[str] = ()


@dataclass(frozen=True)
class Picture:
    """A PNG.

    Args:
        png: Its bytes.
        caption: Written below.
        alt: What it shows, for who cannot see it; by default the caption.
    """

    png: bytes
    caption: str
    alt: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Args:
        title: Its heading.
        text: Plain text; a blank line parts paragraphs, and line feeds are kept.
        tables: Stand below the text, each as wide as it is.
        pictures: Stand below the tables, side by side where there is room.
    """

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


def write_page(path: Path, *, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Write a self-contained HTML page: all that is given is text and is escaped, pictures stand inside.

    Args:
        path: The file to write.
        title: Of the page.
        lead: What a reader should know first; as `Section.text`.
        sections: In their order.
    """
    template = _environment().get_template("page.html.j2")
    write_text(path, template.render(title=title, lead=lead, sections=sections, version=__version__))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("keras_inception", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(cell=cell, data_uri=_data_uri, paragraphs=_paragraphs)
    return environment


def cell(value: str | int | float) -> str:
    """Return how a value of a table is written."""
    if isinstance(value, str):
        return value
    if isinstance(value, Integral):
        return f"{value:,}"
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _paragraphs(text: str) -> list[str]:
    return [paragraph.strip("\n") for paragraph in text.split("\n\n") if paragraph.strip()]
