"""An export, or a copy of it, is checked file by file."""

import json

import pytest

from keras_inception.cli import main
from keras_inception.errors import ExportError, RunError
from keras_inception.export.manifest import MANIFEST, verify, write_manifest


@pytest.fixture
def exported(tmp_path):
    folder = tmp_path / "export"
    (folder / "saved_model" / "1").mkdir(parents=True)
    (folder / "model.tflite").write_bytes(b"abc")
    (folder / "saved_model" / "1" / "saved_model.pb").write_bytes(b"")
    write_manifest(folder, {"run": "first", "epoch": "7"})
    return folder


def test_an_untouched_export_is_as_it_was_written(exported, capsys):
    manifest = verify(exported)
    # SHA-256 of "abc": FIPS 180-2, appendix B.1.
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert manifest["files"]["model.tflite"] == {"bytes": 3, "sha256": known}
    assert main(["export", "--verify", str(exported)]) == 0
    assert "all 2 files" in capsys.readouterr().out


def test_what_changed_is_named(exported, capsys):
    (exported / "model.tflite").write_bytes(b"abd")
    (exported / "saved_model" / "1" / "saved_model.pb").unlink()
    (exported / "new.txt").touch()
    with pytest.raises(ExportError) as caught:
        verify(exported)
    for words in ("changed: model.tflite", "missing: saved_model/1/saved_model.pb", "unknown: new.txt"):
        assert words in str(caught.value)
    assert main(["export", "--verify", str(exported)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_folder_that_is_no_export(tmp_path, exported, capsys):
    with pytest.raises(RunError, match="holds no export"):
        verify(tmp_path)
    (exported / MANIFEST).write_text(json.dumps([]))
    with pytest.raises(RunError, match="cannot be read"):
        verify(exported)
    assert main(["export", "--verify", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
