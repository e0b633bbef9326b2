"""tools/benchmark: how contenders take turns, and that those of this package can still be measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).resolve().parent.parent / "tools" / "benchmarks"
PARTS = ("feed", "infer", "memory", "scale", "start", "train")
COUNTING = """
import os, sys
sys.path.insert(0, {benchmarks!r})
from rounds import Contender, Options, Part

def counted(name):
    def measure(log):
        with open(log, "a") as file:
            file.write(name + os.environ.get("TOLD", "") + " ")
        return {{"length": os.path.getsize(log)}}
    return measure

def failing(log):
    raise ValueError("no such thing")

PART = Part(__file__, {{"one": Contender(counted("one")), "two": Contender(counted("two"), {{"TOLD": "!"}}),
                       "broken": Contender(failing)}})
if __name__ == "__main__":
    PART.run(None, Options)
"""


@pytest.fixture
def part(tmp_path, monkeypatch):
    """A part whose contenders write down when they are measured."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "counting.py").write_text(COUNTING.format(benchmarks=str(BENCHMARKS)))
    monkeypatch.delitem(sys.modules, "counting", raising=False)
    import counting

    return counting.PART


def test_all_are_measured_in_every_round_and_the_first_once_more(part, tmp_path, capsys):
    from rounds import AGAIN, pairs

    figures = part.take_turns(["one", "two"], 2, str(tmp_path / "log"), title="a title, ")
    assert (tmp_path / "log").read_text() == "one two! one one two! one "
    assert figures == {"one": {"length": [4, 17]}, "two": {"length": [9, 22]}, AGAIN: {"length": [13, 26]}}
    assert pairs(figures["two"]["length"], figures["one"]["length"]) == [9 / 4, 22 / 17]
    assert "a title, round 2/2: the first again: length 26" in capsys.readouterr().out


def test_one_that_fails_ends_the_comparison_by_name(part, tmp_path):
    with pytest.raises(SystemExit, match=r"(?s)broken failed:.*no such thing"):
        part.take_turns(["one", "broken"], 1, str(tmp_path / "log"))


def test_without_a_part_the_command_names_them_all():
    done = subprocess.run([BENCHMARKS.parent / "benchmark"], capture_output=True, text=True)
    assert done.returncode == 2
    assert set(PARTS) < set(done.stderr.rpartition(": ")[2].split())


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of some photographs of noise."""
    folder, chance = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(300):
        Image.fromarray(chance.integers(0, 256, (60, 80, 3), np.uint8)).save(folder / f"{number:03}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "contender", "words"),
    [
        ("train", "keras_inception", ("2", "80")),
        ("train", "keras_inception, nothing fused", ("2", "80")),
        ("scale", "step on a core", ("2", "80", "0.25")),
        ("feed", "decode + crop + resize alone", ("{photographs}",)),
        ("feed", "pipeline with distortion, from files", ("{photographs}",)),
        ("feed", "share of a training step spent waiting for images", ("{photographs}",)),
        ("feed", "epoch, tuned by TensorFlow", ()),
        ("start", "keras-inception --help", ("",)),
    ],
)
def test_a_contender_of_this_package_is_measured(name, contender, words, photographs):
    words = [word.format(photographs=photographs) for word in words]
    command = [sys.executable, BENCHMARKS / f"{name}.py", "--measure", contender, *words]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures
    assert all(value > 0 for value in figures.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_help_says_what_a_part_compares(name):
    done = subprocess.run([sys.executable, BENCHMARKS / f"{name}.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--rounds" in done.stdout
    assert "How" in done.stdout  # each begins its docstring so
