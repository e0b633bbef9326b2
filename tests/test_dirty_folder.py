"""A dirty folder from end to end: every command finishes, tells each broken file, and loses no good image."""

import itertools
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from dirty import CLASSES, Dirty, make_dirty

from keras_inception.cli import main
from keras_inception.data.decode import printable


@pytest.fixture(scope="module")
def dirty(tmp_path_factory) -> Dirty:
    made = make_dirty(tmp_path_factory.mktemp("dirty") / "photos")
    if os.geteuid() != 0:  # root may read everything
        secret = made.root / "lying" / "secret.png"
        secret.write_bytes((made.root / "lying" / "00.png").read_bytes())
        secret.chmod(0)
        made.broken[secret] = "it may not be read"
    return made


@pytest.fixture(scope="module")
def report(dirty, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("report") / "check"
    assert main(["data", "check", str(dirty.root), "--output", str(folder)]) == 0
    return {"folder": folder, **json.loads((folder / "check.json").read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def dirty_run(dirty, tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "dirty"
    words = ["--data", str(dirty.root), "--run-dir", str(folder), *tiny, "--epochs", "2", "--set", "data.max_broken=1"]
    assert main(["train", *words]) == 0
    return folder


def test_check_counts_every_good_image(dirty, report):
    found: Counter[str] = Counter()
    for counts in report["readable"].values():
        found.update(counts)
    assert found == Counter(dirty.good.values())
    assert report["images"] == len(dirty.good) + len(dirty.broken)
    assert list(report["counts"]["train"]) == sorted(CLASSES)


def test_check_tells_each_broken_file_with_its_reason(dirty, report):
    reasons = {Path(one["name"]): one["reason"] for one in report["broken"]}
    assert reasons.keys() == dirty.broken.keys()
    for path, reason in dirty.broken.items():
        assert reason in reasons[path]
        assert "\n" not in reasons[path]
        assert not reasons[path].startswith(str(dirty.root))  # the reason alone


def test_check_names_what_it_passed_over(dirty, report):
    assert {Path(name) for name in report["passed_over"]} == dirty.passed_over
    assert "2 files passed over (endings: .jpg, .txt)" in " ".join(report["advice"])


def test_check_says_what_kinds_of_images_there_are(dirty, report):
    assert sum(report["formats"].values()) == len(dirty.good)
    kinds = {"JPEG CMYK": 1, "PNG I;16": 1, "PNG P": 1, "GIF P, animated": 1, "WEBP RGB, animated": 1, "BMP RGB": 1}
    assert kinds.items() <= report["formats"].items()
    assert [Path(one["name"]).name for one in report["blank"]] == ["pixel.png"]
    assert report["sizes"]["width"]["smallest"] == 1
    assert report["sizes"]["height"]["largest"] == 60  # of the image that EXIF turns upright


def test_check_shows_it_on_the_terminal_and_the_page(dirty, report, capsys, tmp_path):
    assert main(["data", "check", str(dirty.root), "--output", str(tmp_path / "again")]) == 0
    printed = capsys.readouterr().out
    page = (report["folder"] / "check.html").read_text(encoding="utf-8")
    for path in dirty.broken:
        name = printable(str(path.relative_to(dirty.root)))
        assert name in printed
        assert name in page
    assert f"{len(dirty.broken)} broken files: left out in training" in printed
    assert len(list((report["folder"] / "sheets").iterdir())) == len(CLASSES)


def test_training_tells_the_broken_files_and_no_other(dirty, dirty_run):
    splits = _split_names(dirty.root)
    assert sorted(itertools.chain(*splits.values())) == sorted(map(str, [*dirty.good, *dirty.broken]))
    read = {*splits["train"], *splits["validation"]}
    told = json.loads((dirty_run / "summary.json").read_text(encoding="utf-8"))["broken_images"]
    expected = {path: reason for path, reason in dirty.broken.items() if str(path) in read}
    assert len(told) == len(expected) > 0
    for path, reason in expected.items():
        (line,) = (line for line in told if line.startswith(printable(str(path))))
        assert reason in line


@pytest.mark.parametrize("split", ["train", "test"])
def test_evaluation_measures_every_good_image(dirty, dirty_run, split, capsys):
    assert main(["evaluate", str(dirty_run), "--split", split]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    names = _split_names(dirty.root)[split]
    good = [name for name in names if Path(name) in dirty.good]
    assert 0 < len(good) < len(names)
    assert f"of {len(good):,} {split} images" in printed


def _split_names(root: Path) -> dict[str, list[str]]:
    from keras_inception.config import DataConfig
    from keras_inception.data.sources import load_dataset

    dataset = load_dataset(DataConfig(source=str(root)))
    return {name: list(split.names) for name, split in dataset.splits.items()}
