"""What is shipped: the built wheel, the pinned versions and the scripts around them."""

import configparser
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [
    ROOT / ".ci/run",
    *sorted(path for path in (ROOT / "tools").iterdir() if path.is_file() and path.suffix == ""),
]
BUILT_FROM = ["setup.cfg", "pyproject.toml", "README.md", "LICENSE", "keras_inception"]

setup = configparser.ConfigParser(interpolation=None)
setup.read(ROOT / "setup.cfg", encoding="utf-8")
REQUIREMENTS = [
    Requirement(line)
    for lines in (setup["options"]["install_requires"], *setup["options.extras_require"].values())
    for line in lines.split("\n")
    if line
]


# ---- The pinned versions and the scripts ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def constraints():
    lines = (ROOT / "tools" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def test_constraints_pin_every_package_once(constraints):
    assert [str(pin) for pin in constraints if [s.operator for s in pin.specifier] != ["=="] or pin.url] == []
    names = [canonicalize_name(pin.name) for pin in constraints]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_requirement_is_pinned_to_a_version_it_allows(requirement, constraints):
    (pin,) = [pin for pin in constraints if canonicalize_name(pin.name) == canonicalize_name(requirement.name)]
    (specifier,) = pin.specifier
    assert requirement.specifier.contains(specifier.version, prereleases=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_executable_and_parses(script):
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    if text.startswith('#!/usr/bin/env python3\n"""'):
        compile(text, script, "exec")
        return
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=True).stderr == ""


def test_install_refuses_an_unknown_extra():
    done = subprocess.run([ROOT / "tools" / "install", "elvp"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "tools/install: setup.cfg has no extra 'elvp'\n")


def test_install_leaves_alone_what_a_link_points_to(tmp_path):
    (tmp_path / "tools").mkdir()
    for name in ("setup.cfg", "tools/install"):
        shutil.copy(ROOT / name, tmp_path / name)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "bin").mkdir(parents=True)
    (tmp_path / ".venv").symlink_to(elsewhere)
    done = subprocess.run([tmp_path / "tools" / "install"], capture_output=True, text=True)
    assert done.returncode == 2
    assert f".venv is a link to {elsewhere}" in done.stderr
    assert (elsewhere / "bin").is_dir()


# ---- The wheel, outside the checkout ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    sources, built = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("built")
    for path in filter(Path.exists, map(ROOT.joinpath, BUILT_FROM)):
        if path.is_dir():
            shutil.copytree(path, sources / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, sources)
    run([sys.executable, "-m", "build", "--wheel", "--outdir", built, sources], built)
    (path,) = built.iterdir()
    return path


def run(command, cwd):
    """Run `command` in `cwd`, without the checkout on Python's path, and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900
    )
    assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout[-4000:]}"
    return done.stdout.strip()


@pytest.mark.slow
def test_wheel_holds_every_module_types_and_licence(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "keras_inception").rglob("*")
        if path.suffix in (".py", ".pyi", ".typed")
    }
    assert modules | {"keras_inception/py.typed", "keras_inception/__init__.pyi"} <= names
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
    others = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert others == {"keras_inception"}


@pytest.mark.slow
def test_wheel_installs_and_trains_outside_the_checkout(wheel, tmp_path):
    run([sys.executable, "-m", "venv", tmp_path / "venv"], tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], tmp_path)
    # The dependencies come from the environment that runs the tests. Its folders are added at the end of the path and
    # their own .pth files are not read, so that an editable installation there is not found.
    site_packages = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path))
    there = {sysconfig.get_path("purelib"): None, sysconfig.get_path("platlib"): None}
    (site_packages / "zz_dependencies.pth").write_text("".join(f"{path}\n" for path in there), encoding="utf-8")

    imported = run([python, "-c", "import keras_inception; print(keras_inception.__file__)"], tmp_path)
    assert Path(imported).is_relative_to(site_packages)

    command = "train --data digits --run-dir run --architecture googlenet-small --width 0.125 --epochs 1"
    run([tmp_path / "venv" / "bin" / "keras-inception", *shlex.split(command)], tmp_path)
    assert (tmp_path / "run" / "best.keras").is_file()
    assert json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
