"""What the documents show is run as it stands, what they link to is there, and the site is built of them."""

import ast
import contextlib
import doctest
import functools
import html.parser
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import keras_tuner
import numpy as np
import pytest
from checkpoints import write_published
from PIL import Image

from keras_inception.architecture import GOOGLENET_BN
from keras_inception.card import Card
from keras_inception.cli import COMMANDS, GROUPS, dispatch, main, screen
from keras_inception.config import DataConfig, RunConfig
from keras_inception.export.saved_model import write_saved_model
from keras_inception.export.tflite import write_tflite
from keras_inception.googlenet import GoogLeNet
from keras_inception.weights.published import PUBLISHED

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"\bkeras-inception (?!/)(.*)")


def blocks(page, *languages):
    """The fenced blocks of a page that are in one of the languages."""
    return [text for language, text in _FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def quoted(page):
    """What stands in code font within a page's sentences, each on one line."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [" ".join(text.split()) for text in re.findall(r"`([^`]+)`", prose)]


def commands(page):
    """The words of every command line of a page, without the program's name."""
    lines = "\n".join(blocks(page, "", "console")).replace("\\\n", " ").splitlines()
    shown = [_COMMAND.search(line) for line in lines if not line.lstrip().startswith("#")]
    named = [_COMMAND.fullmatch(text) for text in quoted(page) if "…" not in text]
    words = [shlex.split(found[1].split(" > ")[0], comments=True) for found in [*shown, *named] if found]
    # A command that is only named, as `keras-inception data check` is, has nothing to be checked but its name.
    return [[*one, "--help"] if one and one in map(shlex.split, names()) else one for one in words]


def names():
    """The names of all commands, as in "data check"."""
    return [*COMMANDS, *GROUPS, *(f"{group} {name}" for group, commands in GROUPS.items() for name in commands)]


@pytest.fixture
def parsed(monkeypatch):
    """A function that parses words as the command line does, and returns what its command would be called with."""

    def recorder(function):
        return functools.wraps(function)(lambda **given: given)

    for commands in (COMMANDS, *GROUPS.values()):
        for name, function in commands.items():
            monkeypatch.setitem(commands, name, recorder(function))

    def recorded(words):
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                return dispatch(words)
        except SystemExit as end:
            if end.code:
                pytest.fail(f"keras-inception {shlex.join(words)}\n{said.getvalue()}")
            return {}

    return recorded


def test_pages_show_every_command():
    shown = {
        " ".join(words[: 2 if words[0] in ("data", "analyze") else 1]) for page in PAGES for words in commands(page)
    }
    assert set(names()) - set(GROUPS) <= shown


@each_page
def test_commands_parse_and_fields_are_known(page, parsed):
    for words in commands(page):
        given = parsed(words)
        RunConfig().override(screen.fields(given.get("set", ())))


@each_page
def test_fields_that_are_named_exist(page):
    for text in quoted(page):
        RunConfig().override(dict(re.findall(r"\b((?:data|model|training)\.\w+)=(\S+)", text)))
        named = re.fullmatch(r"(data|model|training)\.(\w+)", text)
        if named and named[2] not in ("json", "keras", "onnx", "tflite"):  # which are files
            assert hasattr(getattr(RunConfig(), named[1]), named[2]), text


@each_page
def test_what_stands_below_a_command_is_what_it_prints(page, capsys):
    for block in blocks(page, "console"):
        command, printed = block.split("\n", 1)
        assert main(shlex.split(command.removeprefix("$ keras-inception "))) == 0
        assert capsys.readouterr().out.strip() == printed.strip()


def test_the_papers_table_is_what_the_command_prints(capsys):
    assert main(["analyze", "table", "googlenet", "--format", "markdown"]) == 0
    assert capsys.readouterr().out in (DOCS / "table.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "export.md"], ids=lambda page: page.stem)
def test_python_runs(page, tmp_path, monkeypatch):
    """All Python of a page is one program, of which statements run and doctests give what they show.

    Published weights are seeded ones in the cache. The guide to exports has a client in a file of its own: see below.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keras_tuner.BayesianOptimization, "search", lambda *given, **named: None)
    if "weights=" in "".join(blocks(page, "python")):
        seeded = write_published(tmp_path / "keras", ["imagenet"])
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
        monkeypatch.setitem(PUBLISHED, "imagenet", seeded["imagenet"])
    known = {"train": None, "validation": None, "photographs": np.zeros((1, 224, 224, 3), np.uint8)}
    for place, text in enumerate(blocks(page, "python")):
        if text.startswith(">>>"):
            example = doctest.DocTestParser().get_doctest(text, known, page.name, str(page), place)
            assert doctest.DocTestRunner().run(example, clear_globs=False).failed == 0
            known = example.globs
        else:
            exec(compile(text, f"{page.name}, block {place}", "exec"), known)


@each_page
def test_scripts_and_files_that_are_named_are_there(page):
    for text in [*quoted(page), *blocks(page, "")]:
        for path in re.findall(r"(?<![\w/])(?:tools|tests|notebooks|\.ci)/[\w./-]*\w", text):
            assert (ROOT / path).exists(), path


@each_page
def test_links_lead_to_files(page):
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert [link for link in links if "://" not in link and link.startswith("/")] == []
    for link in links:
        path = unquote(link.split("#")[0])
        if "://" not in link and path:
            assert (page.parent / path).is_file(), link


def test_every_page_is_in_the_sites_navigation_once():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- [^:\n]+: (\S+\.md)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_reference_has_every_public_name():
    stub = ast.parse((ROOT / "keras_inception" / "__init__.pyi").read_text(encoding="utf-8"))
    public = {name.name for node in stub.body if isinstance(node, ast.ImportFrom) for name in node.names}
    text = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    shown = set(re.findall(r"^::: keras_inception\.(\w+)$", text, re.MULTILINE))
    assert public - {"InceptionError"} <= shown  # which is shown with the other errors


def test_readme_is_a_page_with_a_light_picture():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
    assert all(picture.stat().st_size < 60_000 for picture in (DOCS / "images").iterdir())


def test_the_script_refuses_what_it_does_not_know():
    done = subprocess.run([ROOT / "tools" / "docs", "sevre"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "tools/docs: does not know 'sevre'; it takes nothing, or serve\n")


class _Fetched(html.parser.HTMLParser):
    """What a page would fetch from elsewhere when it is opened."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        wanted = [given.get("src"), given.get("srcset"), given.get("href") if tag == "link" else None]
        self.found += [url for url in wanted if url and re.match(r"(https?:)?//", url)]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_fetches_nothing(tmp_path):
    pytest.importorskip("mkdocstrings", reason="tools/install docs")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) == len(PAGES)  # one of its own for what is not found in place of README's
    for page in pages:
        reader = _Fetched()
        reader.feed(page.read_text(encoding="utf-8"))
        assert (page.name, reader.found) == (page.name, [])
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"url\(.?(https?:)?//", style.read_text(encoding="utf-8")), style.name
    reference = (tmp_path / "site" / "reference" / "config.html").read_text(encoding="utf-8")
    assert "Largest shift, as a share of the range." in reference  # a comment beside its field
    assert ">&gt;&gt;&gt; </span>" in reference  # a doctest, as code


@pytest.mark.slow
def test_the_client_of_the_guide_answers_without_tensorflow(tmp_path):
    (client,) = blocks(DOCS / "export.md", "python")
    assert len([line for line in client.splitlines() if line and not line.startswith(("import", "from"))]) <= 10
    model = GoogLeNet(architecture=GOOGLENET_BN.scaled(1 / 16), input_shape=(64, 64, 3), classes=3)
    card = Card(tmp_path, "tiny", ("cat", "dog", "Öre"), DataConfig(image_size=64))
    write_saved_model(model, card, tmp_path / "saved_model")
    write_tflite(tmp_path / "saved_model", card, tmp_path / "model.tflite")
    Image.fromarray(np.full((80, 50, 3), 90, np.uint8)).save(tmp_path / "photo.jpg")
    block = "import sys\nsys.modules['tensorflow'] = None\n"
    (tmp_path / "client.py").write_text(block + client, encoding="utf-8")
    words = [sys.executable, "client.py", "model.tflite", "photo.jpg"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert sorted(line.split("% ")[1] for line in lines) == ["cat", "dog", "Öre"]
    shares = [float(line.split("%")[0]) for line in lines]
    assert shares == sorted(shares, reverse=True)
    assert abs(sum(shares) - 100) < 0.2


def imported(tree):
    """Yield the modules of this package that a module imports when it runs, not for its annotations alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "keras_inception":
            yield from (alias.name for alias in node.names if alias.name != "__version__")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras_inception."):
            yield node.module.split(".")[1]
        yield from imported(node)


def test_imports_run_downwards_as_the_design_says():
    rows = re.findall(r"^\| (`[^|]*`) \|", (DOCS / "design.md").read_text(encoding="utf-8"), re.MULTILINE)
    layers = [re.findall(r"`(\w+)(?:/|\.py)`", row) for row in rows]
    place = {name: number for number, names in enumerate(layers) for name in names}
    upwards = []
    for path in (ROOT / "keras_inception").rglob("*.py"):
        module = path.relative_to(ROOT / "keras_inception").with_suffix("").parts[0]
        if module in ("__init__", "__main__"):
            continue
        found = set(imported(ast.parse(path.read_text(encoding="utf-8"))))
        assert {module, *found} <= place.keys(), path
        upwards += [f"{path.name} imports {name}" for name in found if place[name] < place[module]]
    assert upwards == []
