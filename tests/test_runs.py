"""Lists and comparisons of runs, through the library and the command line; nothing here needs TensorFlow."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keras_inception.architecture import get_architecture
from keras_inception.cli import main
from keras_inception.cli.history import age
from keras_inception.config import RunConfig
from keras_inception.errors import RunError
from keras_inception.files import write_json
from keras_inception.run_folder import RunFolder
from keras_inception.runs import compare_runs, list_runs

TABLE = get_architecture("googlenet-small").scaled(0.5)


def make(path, *, top1=(), finished=False, age=0, fingerprint="a", keras="3.15", **fields):
    """A run whose epochs had these figures on validation, as old as `age` seconds."""
    given = {name.replace("__", "."): value for name, value in fields.items()}
    config = RunConfig.of_recipe("modern").override({"name": path.name, "training.epochs": 3, **given})
    run = RunFolder(path)
    run.start(config, TABLE, ("a", "b"))
    write_json(run.data_json, {"fingerprint": fingerprint})
    write_json(run.environment_json, {"packages": {"keras": keras}, "replicas": 1})
    rows = [
        {"epoch": n, "loss": 2 / n, "val_loss": 3 / n, "val_main_top1": top1[n - 1]} for n in range(1, 1 + len(top1))
    ]
    if rows:
        run.write_metrics(rows)
    if finished:
        write_json(run.summary_json, {"last": rows[-1], "parameters": 1234, "training_seconds": 5.5})
    for file in path.iterdir():
        os.utime(file, (time.time() - age,) * 2)
    return run


def test_runs_are_found_three_levels_down_the_latest_first(tmp_path):
    make(tmp_path / "old", top1=(0.5, 0.75, 0.75), finished=True, age=500)
    make(tmp_path / "a/b/deep", top1=(0.25,), age=100)
    make(tmp_path / "new", training__recipe="paper")
    make(tmp_path / "a/b/c/too-deep")
    make(tmp_path / ".hidden/run")
    (tmp_path / "images").mkdir()
    new, deep, old = list_runs(tmp_path)
    assert [run.path for run in (new, deep, old)] == [tmp_path / name for name in ("new", "a/b/deep", "old")]
    assert [run.state for run in (new, deep, old)] == ["stopped", "stopped", "finished"]
    assert (old.epoch, old.epochs, old.top1, old.top1_epoch) == (3, 3, 0.75, 2)  # the first of the best
    assert (new.epoch, new.top1, new.top1_epoch) == (0, None, None)
    assert (new.recipe, old.recipe, old.architecture) == ("paper", "modern", TABLE.name)
    assert 500 <= old.age < 600
    assert [run.path for run in list_runs(old.path)] == [old.path]


def test_a_saved_state_makes_a_run_young(tmp_path):
    run = make(tmp_path / "run", age=900)
    run.checkpoints.mkdir()
    state = run.checkpoints / "00000-00000100.npz"
    state.touch()
    os.utime(state, (time.time() - 60,) * 2)
    (found,) = list_runs(tmp_path)
    assert 60 <= found.age < 120
    os.utime(state, (time.time() + 60,) * 2)  # a clock that was put back
    assert list_runs(tmp_path)[0].age == 0


def test_a_run_that_is_trained_is_running(tmp_path):
    with make(tmp_path / "run", top1=(0.5,)).claimed():
        assert list_runs(tmp_path)[0].state == "running"
    assert list_runs(tmp_path)[0].state == "stopped"


def spoil(run, what):
    if what == "an unknown field":
        config = json.loads(run.config_json.read_text())
        config["training"]["polyak"] = 0.5
        write_json(run.config_json, config)
    elif what == "no text":
        run.config_json.write_bytes(b"\xff\xfe\x00")
    elif what == "an architecture of another kind":
        run.architecture_json.write_text('{"rows": 3}')
    elif what == "a summary of another kind":
        write_json(run.summary_json, {"best": 1})


@pytest.mark.parametrize(
    "what", ["an unknown field", "no text", "an architecture of another kind", "a summary of another kind"]
)
def test_a_run_that_cannot_be_read_stands_in_the_list_with_the_reason(tmp_path, what, capsys):
    spoil(make(tmp_path / "strange", top1=(0.5, 0.25)), what)
    make(tmp_path / "good", age=100)
    strange, good = list_runs(tmp_path)
    assert (strange.state, good.state) == ("unreadable", "stopped")
    assert (strange.epoch, strange.top1) == (2, 0.5)
    assert strange.problem
    assert "\n" not in strange.problem
    assert main(["runs", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "unreadable" in text
    assert f"strange: {strange.problem}" in text
    if what == "an unknown field":
        assert "polyak" in text
        compared = compare_runs(strange.path, good.path)
        assert ("training.polyak", 0.5, None) in compared.configuration


def test_a_run_from_before_recipes_has_none(tmp_path):
    run = make(tmp_path / "run")
    config = json.loads(run.config_json.read_text())
    del config["training"]["recipe"]
    write_json(run.config_json, config)
    assert list_runs(tmp_path)[0].recipe is None


def test_other_programs_folders_are_no_runs(tmp_path, capsys):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    assert list_runs(tmp_path) == []
    assert main(["runs", str(tmp_path)]) == 0
    assert "no runs in" in capsys.readouterr().out


def test_two_runs_are_compared_in_what_differs_and_what_came_of_it(tmp_path):
    make(tmp_path / "a", top1=(0.5, 0.75, 0.625), finished=True, keras="3.15")
    make(tmp_path / "b", top1=(0.5,), keras="3.16", training__momentum=0.5, data__crop_area=(0.5, 1.0))
    found = compare_runs(tmp_path / "a", tmp_path / "b")
    assert sorted(found.configuration) == [
        ("data.crop_area", [0.08, 1.0], [0.5, 1.0]),
        ("training.momentum", 0.9, 0.5),
    ]
    assert found.environment == [("packages.keras", "3.15", "3.16")]
    assert found.results == [
        ("state", "finished", "stopped"),
        ("epochs", 3, 1),
        ("best validation top-1", 0.75, 0.5),
        ("in epoch", 2, 1),
        ("last training loss", 2 / 3, 2.0),
        ("last validation loss", 1.0, 3.0),
        ("training, s", 5.5, None),
        ("parameters", 1234, None),
    ]
    assert found.same_data is True


@pytest.mark.parametrize(("fingerprints", "same"), [(("a", "a"), True), (("a", "b"), False), (("a", None), None)])
def test_data_are_compared_by_fingerprint(tmp_path, fingerprints, same):
    for name, fingerprint in zip("ab", fingerprints, strict=True):
        make(tmp_path / name, fingerprint=fingerprint)
    assert compare_runs(tmp_path / "a", tmp_path / "b").same_data is same


def test_json_is_json_also_of_a_loss_that_is_no_number(tmp_path, capsys):
    run = make(tmp_path / "a", top1=(0.5,))
    run.write_metrics([{"epoch": 1, "loss": float("nan"), "val_loss": float("inf"), "val_main_top1": 0.5}])
    make(tmp_path / "b", age=50)

    def refuse(word):
        raise AssertionError(word)

    assert main(["runs", str(tmp_path), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert [row["path"] for row in listed] == [str(tmp_path / name) for name in "ab"]
    assert listed[0]["top1"] == 0.5
    assert main(["runs", "--compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    compared = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert compared["configuration"] == []
    assert ["last training loss", None, None] in compared["results"]
    assert compared["same_data"] is True


def test_the_terminal_shows_a_table_of_runs_and_of_differences(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a long path would be folded
    make(tmp_path / "first\nrun", top1=(0.5, 0.75), training__epochs=12)
    make(tmp_path / "second", age=7_300, training__recipe="paper", fingerprint="b")
    assert main(["runs", "."]) == 0
    text = capsys.readouterr().out
    for part in (r"first\nrun", "2/12", "75.00%", "0/3", "2 h", "paper", TABLE.name):
        assert part in text
    assert main(["runs", "--compare", str(tmp_path / "first\nrun"), str(tmp_path / "second")]) == 0
    text = capsys.readouterr().out
    for part in ("training.recipe", "modern", "versions and devices are equal", "75.00%", "–", "the data differ"):
        assert part in text


def test_a_wrong_folder_ends_in_one_line(tmp_path, capsys):
    with pytest.raises(RunError):
        list_runs(tmp_path / "missing")
    for words in ([str(tmp_path / "missing")], ["--compare", str(tmp_path), str(tmp_path)]):
        assert main(["runs", *words]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert str(tmp_path) in said


def test_a_folder_that_may_not_be_entered_is_passed_over(tmp_path, monkeypatch):
    """As Python 3.11 says it of a folder that this user may list but not enter."""
    make(tmp_path / "run", top1=(0.5,))
    (tmp_path / "closed").mkdir()
    known = Path.is_file

    def is_file(path: Path) -> bool:
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied")
        return known(path)

    monkeypatch.setattr(Path, "is_file", is_file)
    assert [found.path.name for found in list_runs(tmp_path)] == ["run"]


def test_runs_load_no_tensorflow(tmp_path):
    make(tmp_path / "run", top1=(0.5,))
    code = (
        "import sys\nfrom keras_inception.cli import main\n"
        "assert main(['runs', sys.argv[1]]) == 0\n"
        "assert main(['runs', '--compare', sys.argv[1] + '/run', sys.argv[1] + '/run']) == 0\n"
        "print(sorted({'tensorflow', 'keras', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("seconds", "written"), [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3_600, "1 h"), (86_399, "23 h"), (1e6, "11 d")]
)
def test_ages_are_written_in_their_largest_unit(seconds, written):
    assert age(seconds) == written
