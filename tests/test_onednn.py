"""oneDNN's kernels: chosen by the command line before TensorFlow is loaded, written down, and kept on resume."""

import json
import os
import subprocess
import sys

import pytest

from keras_inception.cli import screen

TINY = ("--data", "digits", "--architecture", "googlenet-small", "--width", "0.25", "--epochs", "1")


def choice(monkeypatch, tmp_path, *, flags="fpu avx avx2", variable=None):
    """Return what is chosen for a processor with these features, with TensorFlow not loaded."""
    (tmp_path / "cpuinfo").write_text(f"flags\t: {flags}\n")
    monkeypatch.setattr(screen, "_PROCESSOR", tmp_path / "cpuinfo")
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if variable is not None:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", variable)
    return screen.onednn()


def test_it_is_on_where_the_processor_has_avx2(monkeypatch, tmp_path):
    assert choice(monkeypatch, tmp_path) is True
    assert choice(monkeypatch, tmp_path, flags="fpu avx") is None
    assert choice(monkeypatch, tmp_path, flags="asimd sve") is None


def test_the_environment_is_the_users_word(monkeypatch, tmp_path):
    assert choice(monkeypatch, tmp_path, variable="0") is False
    assert choice(monkeypatch, tmp_path, flags="fpu", variable="1") is True


@pytest.mark.parametrize("word", ["0", "1"])
@pytest.mark.slow
def test_a_run_writes_it_down_and_keeps_it_when_resumed(tmp_path, word):
    def train(variable, *words):
        environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
        command = [sys.executable, "-m", "keras_inception", "train", *TINY, "--run-dir", str(tmp_path / "run"), *words]
        done = subprocess.run(command, env=environment | variable, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "last digits differ" not in done.stderr
        config = json.loads((tmp_path / "run" / "config.json").read_text())["training"]["onednn"]
        found = json.loads((tmp_path / "run" / "environment.json").read_text())["onednn"]
        return config, found

    assert train({"TF_ENABLE_ONEDNN_OPTS": word}) == (word == "1", word)
    other = {"TF_ENABLE_ONEDNN_OPTS": "10"[int(word)]}
    assert train(other, "--resume", "--epochs", "2") == (word == "1", word)
