"""Every notebook runs from top to bottom with the installed package alone, and is kept with clean, light outputs."""

import importlib.util
import re
import shlex
from pathlib import Path

import nbclient
import nbformat
import pytest

from keras_inception.cli import main

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

#: Those that train networks: minutes, and figures that differ between machines.
TRAINING = {
    "02_your_own_photographs",
    "03_auxiliary_heads",
    "04_tune_widths",
    "05_export_and_prove",
    "06_look_inside",
}

#: Pictures that are not kept, because what they show is not ours to give away.
PHOTOGRAPHS = {"02_your_own_photographs": 3}

# What differs between machines where a network is trained: its figures, its answers, and the tables around them.
MEASURED = re.compile(r"-?\d[\d.,]*%?|\b(?:mono|poly|none of these)\b|[\u2500-\u257f]")


def words(text):
    """What is left of a text without what was measured; a command that fails or says something else leaves others."""
    return MEASURED.sub(" ", text).split()


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed(notebook):
    """What every cell prints, joined: a busy machine hands it over in several pieces."""
    cells = [cell.get("outputs", []) for cell in notebook.cells]
    return ["".join(output.text for output in cell if output.get("name") == "stdout") for cell in cells]


def pictures(notebook):
    kinds = [kind for output in outputs(notebook) for kind in output.get("data", {})]
    return [kind for kind in kinds if kind.startswith("image/")]


def commands(notebook):
    """The words of every command line, without the program's name and without what its output is piped into."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code").replace("\\\n", " ")
    return [shlex.split(line.split("|")[0]) for line in re.findall(r"^!keras-inception (.*)", code, re.MULTILINE)]


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == [
        "01_architecture",
        "02_your_own_photographs",
        "03_auxiliary_heads",
        "04_tune_widths",
        "05_export_and_prove",
        "06_look_inside",
    ]


def test_words_are_compared_and_figures_are_not():
    right = "┃ poly │ 98.4% │\r\n└──┘\ntop-1 88.79% (82.76% to 93.97%) of 116 test images"
    assert words(right) == words("┃ none of these │ 7% │\n└─┘\ntop-1 9% (1% to 12%) of 1,160 test images")
    assert words(right) != words("┃ poly │ 98.4% │\n└──┘\ntop-1 88.79% (82.76% to 93.97%) of 116 validation images")
    assert words(right) != words("keras-inception: there is no run folder 'runs/first'")


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in TRAINING)) for path in NOTEBOOKS],
)
def test_notebook_runs_and_prints_what_is_kept_in_it(path, tmp_path):
    if path.stem in PHOTOGRAPHS and not importlib.util.find_spec("elpv_dataset"):
        pytest.skip("its photographs are not installed: tools/install elpv")
    kept = nbformat.read(path, as_version=4)
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    # A folder of its own: a notebook that needs the checkout fails here.
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    if path.stem in TRAINING:
        assert [*map(words, printed(notebook))] == [*map(words, printed(kept))]
    else:
        assert printed(notebook) == printed(kept)
    assert len(pictures(notebook)) == len(pictures(kept)) + PHOTOGRAPHS.get(path.stem, 0)
    assert [output for output in outputs(notebook) if output.get("name") == "stderr"] == []


def test_commands_in_notebooks_have_the_flags_they_are_given(capsys):
    typed = [command for path in NOTEBOOKS for command in commands(nbformat.read(path, as_version=4))]
    assert {command[0] for command in typed} >= {"data", "train", "evaluate", "predict"}
    for command in typed:
        name = command[: 2 if command[0] in ("data", "analyze") else 1]
        with pytest.raises(SystemExit, match="0"):
            main([*name, "--help"])
        shown = capsys.readouterr().out
        assert [word for word in command if word.startswith("--") and word not in shown] == []


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
