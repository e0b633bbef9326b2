"""The commands about data: what they refuse before they read any image."""

import os

import pytest

from keras_inception.cli import main

# A source that is looked for only once all else is in order.
MISSING = "missing/"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(capsys, *words):
    assert main(["data", *words]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize(
    ("command", "output", "problem"),
    [
        ("check", "file/report", "'file' is a file"),
        ("check", "file", "'file' is a file"),
        ("check", "/proc/report", "cannot be written"),
        ("preview", "file/x.png", "'file' is a file"),
        ("preview", "photos", "that is a folder"),
        ("preview", "/proc/x.png", "cannot be written"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_images_are_looked_for(capsys, command, output, problem):
    said = refusal(capsys, command, MISSING, "--output", output)
    assert f"output is {output!r}" in said
    assert problem in said
    assert said.rstrip().endswith("give --output another place")
    assert sorted(os.listdir()) == ["file", "photos"]


def test_shards_in_a_file_are_refused(capsys, stripes):
    assert "'file/shards' cannot hold shards: Not a directory" in refusal(
        capsys, "convert", str(stripes), "file/shards"
    )


@pytest.mark.parametrize(
    "words",
    [("check", "photos/x"), ("preview", "photos/x"), ("convert", "photos/x", "out")],
    ids=lambda words: words[0],
)
def test_a_source_whose_folder_may_not_be_entered_ends_with_status_2(capsys, monkeypatch, words):
    stat = os.stat

    def guarded(path, *arguments, **options):
        if not isinstance(path, int) and os.fspath(path).startswith("photos/"):
            raise PermissionError(13, "Permission denied", path)
        return stat(path, *arguments, **options)

    # As root, who may run this, may enter all.
    monkeypatch.setattr(os, "stat", guarded)
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path) != "photos")
    assert "'photos' may not be read; give yourself the permission" in refusal(capsys, *words)
