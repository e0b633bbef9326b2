"""Every notebook runs from top to bottom with the installed package alone, and is kept with clean, light outputs."""

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed(notebook):
    """What every cell prints, joined: a busy machine hands it over in several pieces."""
    cells = [cell.get("outputs", []) for cell in notebook.cells]
    return ["".join(output.text for output in cell if output.get("name") == "stdout") for cell in cells]


def pictures(notebook):
    return [output for output in outputs(notebook) if "image/png" in output.get("data", {})]


def test_there_are_notebooks():
    assert "01_architecture" in [path.stem for path in NOTEBOOKS]


@each_notebook
def test_notebook_runs_and_prints_what_is_kept_in_it(path, tmp_path):
    kept = nbformat.read(path, as_version=4)
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    # A folder of its own: a notebook that needs the checkout fails here.
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    assert printed(notebook) == printed(kept)
    assert len(pictures(notebook)) == len(pictures(kept))


@each_notebook
def test_notebook_is_light_and_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < 150 * 1024
    assert notebook.metadata.kernelspec.name == "python3"
    assert all(cell.metadata == {} for cell in notebook.cells)
    assert [output for output in outputs(notebook) if output.get("name") == "stderr"] == []
    assert [output for output in outputs(notebook) if output.output_type == "error"] == []
    text = path.read_text(encoding="utf-8")
    assert [folder for folder in ("/home/", "/root/", "/tmp/", "site-packages") if folder in text] == []
