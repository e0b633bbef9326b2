"""What an export consists of and comes from, so that a copy of it can be checked anywhere."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_inception.errors import ExportError, RunError
from keras_inception.files import file_sha256, write_json

MANIFEST = "manifest.json"


def write_manifest(folder: Path, provenance: Mapping[str, str]) -> None:
    """Write the size and SHA-256 of every file in a folder, and where they come from."""
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)} for name in _names(folder)
    }
    write_json(folder / MANIFEST, {"provenance": dict(provenance), "files": files})


def verify(folder: str | Path) -> dict[str, Any]:
    """Check that every file of an export is what it was when it was written.

    Args:
        folder: The export, or a copy of it.

    Returns:
        The manifest: `provenance`, and `files` with `bytes` and `sha256` of each.

    Raises:
        RunError: The folder holds no manifest that can be read.
        ExportError: Files are missing or changed, or there are others.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise RunError(f"{str(folder)!r} holds no export: {MANIFEST} is missing; give the folder that export wrote")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        expected = {name: row["sha256"] for name, row in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RunError(f"{str(path)!r} cannot be read; export the run anew") from None
    found = {name: file_sha256(folder / name) for name in _names(folder) if name != MANIFEST}
    faults = {
        "missing": sorted(expected.keys() - found.keys()),
        "changed": sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name]),
        "unknown": sorted(found.keys() - expected.keys()),
    }
    if any(faults.values()):
        said = "; ".join(f"{what}: {', '.join(names)}" for what, names in faults.items() if names)
        raise ExportError(f"{str(folder)!r} is not as it was exported: {said}")
    return manifest


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
