"""How the site reads this package: mkdocs.yml names this file as an extension of griffe, which reads the modules.

Examples stand in docstrings as doctests without a heading of their own; the site shows them as code. What a field of a
configuration is, its unit and its source, stands in a comment beside it or above it, where mkdocstrings does not look;
the site shows it as the field's description.
"""

import io
import re
import tokenize
from pathlib import Path
from typing import Any

import griffe

#: A doctest, with what it prints: to the next empty line.
_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Fences examples, and gives attributes their comments."""

    def __init__(self) -> None:
        self._comments: dict[Path, tuple[dict[int, str], dict[int, str]]] = {}

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for everything that it has read."""
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
        elif obj.is_attribute and (text := self._comment(obj)):
            obj.docstring = griffe.Docstring(text, parent=obj)

    def _comment(self, attribute: griffe.Object) -> str:
        path, line = attribute.filepath, attribute.lineno
        if line is None or not isinstance(path, Path):
            return ""
        if path not in self._comments:
            self._comments[path] = _comments(path)
        alone, beside = self._comments[path]
        above = line
        while above - 1 in alone:
            above -= 1
        parts = [" ".join(alone[at] for at in range(above, line))]
        # In a constant of many lines, comments beside its rows belong to these.
        if attribute.parent and attribute.parent.is_class:
            parts += [beside[at] for at in range(line, (attribute.endlineno or line) + 1) if at in beside]
        sentences = [part[0].upper() + part[1:] for part in parts if part]
        return " ".join(part if part.endswith(".") else f"{part}." for part in sentences)


def _comments(path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Return the comments of a module by their lines: those alone on a line, and those beside code."""
    alone: dict[int, str] = {}
    beside: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            place = beside if token.line[: token.start[1]].strip() else alone
            place[token.start[0]] = token.string.lstrip("#:").strip()
    return alone, beside
