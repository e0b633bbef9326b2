"""The report on a collection: what stands in the folder, and what it must never replace."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_inception.cli import main
from keras_inception.data.check import Check, DuplicateSet, ImageRef, check_dataset
from keras_inception.data.dataset import ImageDataset
from keras_inception.errors import DataError
from keras_inception.report.collection import (
    check_report_folder,
    contact_sheet,
    draw_aspects,
    draw_sizes,
    file_name,
    summary,
    tables,
    write_report,
)

HOSTILE = ["../../etc", "a/b", "<script>alert(1)</script>", "con", ".", "caf\udce9", "x" * 300, "写真"]


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.fixture(scope="module")
def check() -> Check:
    labels = [label for label in HOSTILE for _ in range(3)]
    splits = ["train", "validation", "test"] * len(HOSTILE)
    return check_dataset(ImageDataset.from_arrays([picture(n) for n in range(len(labels))], labels, splits=splits))


def test_the_folder_holds_page_json_and_a_sheet_per_class(check, tmp_path):
    folder = tmp_path / "check"
    write_report(check, folder)
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    value = json.loads((folder / "check.json").read_text(encoding="utf-8"))
    assert set(value["files"]) == written
    assert {"check.html", "check.json", "sizes.png", "aspects.png"} <= written
    sheets = list((folder / "sheets").iterdir())
    assert len(sheets) == len(HOSTILE)
    assert all(sheet.name.isascii() and len(sheet.name) < 60 for sheet in sheets)
    assert list(value["counts"]["test"]) == list(check.classes)
    page = (folder / "check.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("data:image/png") == len(HOSTILE) + 2
    for path in folder.rglob("*.png"):
        Image.open(path).verify()


def test_a_report_may_be_replaced_and_nothing_else(check, tmp_path):
    folder = tmp_path / "check"
    check_report_folder(folder, "photos")
    folder.mkdir()
    check_report_folder(folder, "photos")  # empty
    write_report(check, folder)
    before = (folder / "check.json").read_bytes()
    check_report_folder(folder, "photos")
    write_report(check, folder)
    assert (folder / "check.json").read_bytes() == before
    (folder / "sheets" / "mine.txt").write_text("keep me")
    with pytest.raises(DataError, match=r"something else than a report \(sheets/mine\.txt\)"):
        check_report_folder(folder, "photos")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"report": "of others", "files": ["check.json"]}', "\udce9"])
def test_a_check_json_of_others_marks_no_report(tmp_path, content):
    (tmp_path / "check.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match="something else than a report"):
        check_report_folder(tmp_path, "photos")


def test_a_file_and_a_place_among_the_images_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file; give --output a folder"):
        check_report_folder(tmp_path / "file", "elpv")
    for inside in (tmp_path, tmp_path / "a" / "b", tmp_path / "x" / ".." / "a"):
        with pytest.raises(DataError, match="give --output a folder outside"):
            check_report_folder(inside, str(tmp_path))


def test_a_sheet_shows_each_image_in_the_middle_of_its_cell():
    images = [np.full((10, 20, 3), 10 * number, np.uint8) for number in range(1, 6)] + [np.zeros((16, 6, 3), np.uint8)]
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(images, columns=4))))
    assert sheet.shape == (2 * (16 + 4) + 4, 4 * (20 + 4) + 4, 3)
    for number, image in enumerate(images):
        top, left = 4 + 20 * (number // 4), 4 + 24 * (number % 4)
        cell = sheet[top : top + 16, left : left + 20]
        height, width = image.shape[:2]
        above, before = (16 - height) // 2, (20 - width) // 2
        np.testing.assert_array_equal(cell[above : above + height, before : before + width], image)
        assert (cell != 255).any(axis=-1).sum() == height * width
    assert np.asarray(Image.open(io.BytesIO(contact_sheet(images[:1])))).shape == (18, 28, 3)


def test_histograms_of_one_size_and_of_many(tmp_path):
    for sizes in ([[30, 20]], [[1, 20_000], [20_000, 1], [300, 200]]):
        for draw in (draw_sizes, draw_aspects):
            draw(np.asarray(sizes), tmp_path / "x.png", title="$1$ _x_\n")
            assert np.asarray(Image.open(tmp_path / "x.png").convert("L")).min() < 100


def test_tables_leave_out_what_is_not_there_and_shorten_names(check):
    names = {table.caption for table in tables(check)}
    assert names == {"Readable images, and broken ones", "Sizes", "Formats", "Channels, on [0, 1]"}
    assert summary(check).endswith("Nothing needs mending.")
    refs = tuple(ImageRef("train", "a", f"/data/photos/a/{name}") for name in ("1.png", "x\n/2.png"))
    found = replace(check, near=(DuplicateSet(refs, (0, 3)),), passed_over=("a/b.txt", "/c.txt"))
    near, passed = (table for table in tables(found) if table.caption.startswith(("Nearly", "Files")))
    assert near.caption == "Nearly equal images: 1 set in /data/photos/a"
    assert near.rows == [[1, "1.png", "a", "train", 0], [1, r"x\n/2.png", "a", "train", 3]]
    assert passed.caption == "Files passed over"
    assert [row[0] for row in passed.rows] == ["a/b.txt", "/c.txt"]


def test_file_names_are_safe():
    for text in [*HOSTILE, "", "\0", "a\nb", "...", "ü"]:
        name = file_name(text)
        assert name == Path(name).name
        assert name.isascii()
        assert 0 < len(name) <= 40


def _commanded(*words, cwd):
    command = [sys.executable, "-m", "keras_inception", "data", "check", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def test_the_command_writes_beside_where_it_is_called_and_cuts_nothing(stripes, tmp_path):
    done = _commanded(stripes, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"check-{stripes.name}"
    assert "…" not in done.stdout
    assert "80 images of 2 classes, 0 broken" in done.stdout
    assert f"The report stands in {folder.name}/check.html" in done.stdout


def test_json_is_what_the_report_holds(stripes, tmp_path, capsys):
    assert main(["data", "check", str(stripes), "--output", str(tmp_path / "x"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "x" / "check.json").read_text())
    assert {key: value for key, value in written.items() if key not in ("report", "files")} == printed
    assert sum(sum(split.values()) for split in printed["readable"].values()) == 80


def test_long_tables_say_what_is_left_out(tmp_path, capsys):
    for label in "ab":
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(30):
            (tmp_path / "photos" / label / f"{number}.jpg").write_text(f"no image {label}{number}")
    assert main(["data", "check", str(tmp_path / "photos"), "--output", str(tmp_path / "x")]) == 0
    printed = capsys.readouterr().out
    assert "… 20 more rows in" in printed
    assert "60 broken files" in printed


def test_a_source_that_cannot_be_read_ends_with_status_2(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path / "nowhere") + "/", "--output", str(tmp_path / "x")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
