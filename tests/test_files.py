"""Files that are never half-written, also when the process is killed."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import keras_inception
from keras_inception.files import folder_written_beside, left_beside, write_json, write_text, written_beside

ROOT = Path(keras_inception.__file__).parents[1]
LINES = 1_000_000  # 10 MB: long enough to be caught half-way

# Both write again and again until they are killed, and say after each time that they did.
FILE_WRITER = f"""
import sys
from pathlib import Path
from keras_inception.files import write_text
for number in range(10**9):
    write_text(Path(sys.argv[1]), f"{{number:9}}\\n" * {LINES})
    print(number, flush=True)
"""
FOLDER_WRITER = """
import sys
from pathlib import Path
from keras_inception.files import folder_written_beside
for number in range(10**9):
    with folder_written_beside(Path(sys.argv[1])) as folder:
        for part in range(20):
            (folder / f"part{part}").write_text(str(number) * 50_000)
    print(number, flush=True)
"""


def killed_while_writing(program, path, after):
    """Kill the program when it has written `after` times, at the first sign of a change to what it wrote."""

    def state():
        try:
            status = path.stat()
        except FileNotFoundError:  # between the two renames of a folder
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    with subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        for _ in range(after):
            assert process.stdout.readline()
        before = state()
        while state() == before:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_killed_process_leaves_a_whole_file(tmp_path, after):
    path = tmp_path / "file.txt"
    killed_while_writing(FILE_WRITER, path, after)
    text = path.read_bytes()
    line = text[:10]
    assert text == line * LINES
    assert int(line) >= after


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_killed_process_leaves_a_whole_folder(tmp_path, after):
    path = tmp_path / "folder"
    killed_while_writing(FOLDER_WRITER, path, after)
    if not path.exists():  # killed between the two renames: the old folder stands aside, whole
        (path,) = tmp_path.glob(".folder-*/old")
    contents = [part.read_text() for part in path.iterdir()]
    assert len(contents) == 20
    assert len(set(contents)) == 1


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "deep" / "er" / "file.txt"
    write_text(path, "old")
    write_text(path, "new ×\n")
    assert path.read_bytes() == "new ×\n".encode()
    assert list(tmp_path.rglob("*")) == [path.parents[1], path.parent, path]


def test_a_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_text("")
    write_text(tmp_path / "ours", "")
    with folder_written_beside(tmp_path / "folder"):
        pass
    (tmp_path / "usual folder").mkdir()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "usual folder").stat().st_mode


def test_the_path_beside_has_the_ending_and_the_disk_of_the_file(tmp_path):
    with written_beside(tmp_path / "model.keras") as beside:
        assert beside.suffix == ".keras"
        assert tmp_path in beside.parents
        assert not (tmp_path / "model.keras").exists()
        beside.write_bytes(b"x")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_while_writing_leaves_the_old_file_and_no_rubbish(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail():
        with written_beside(path) as beside:
            beside.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_wrote_nothing_is_an_error_and_the_old_file_stays(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), written_beside(path):
        pass
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_of_a_file_is_told_from_all_else(tmp_path):
    (tmp_path / ".a-killed1").mkdir()
    (tmp_path / ".a-killed2").mkdir()
    (tmp_path / ".a-killed2" / "a.json").write_text("{")
    for kept in (".a-mine", ".b-killed", "a-killed"):
        (tmp_path / kept).mkdir()
    (tmp_path / ".a-mine" / "notes.txt").write_text("mine")
    (tmp_path / ".a-file").write_text("mine")
    assert {path.name for path in left_beside(tmp_path / "a.json")} == {".a-killed1", ".a-killed2"}


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    with folder_written_beside(path) as folder:
        assert not list(folder.iterdir())
        (folder / "new").write_text("new")
        assert (path / "old").read_text() == "old"
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_while_writing_leaves_the_old_folder_and_no_rubbish(tmp_path, error):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")

    def fail():
        with folder_written_beside(path) as folder:
            (folder / "new").write_text("new")
            raise error

    with pytest.raises(error):
        fail()
    assert [file.name for file in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_the_writer_lost_leaves_the_old_one(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(FileNotFoundError), folder_written_beside(path) as folder:
        folder.rmdir()
    assert (path / "old").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_at_the_same_time_leave_one_of_their_files(tmp_path):
    path = tmp_path / "file.txt"
    texts = [str(number) * 10_000 for number in range(10)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda text: write_text(path, text), texts * 5))
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_utf8_with_its_own_letters(tmp_path):
    value = {"größe": [1, 0.5, None, True], "猫": "×"}
    write_json(tmp_path / "value.json", value)
    raw = (tmp_path / "value.json").read_bytes()
    assert json.loads(raw) == value
    assert "größe".encode() in raw
    assert raw.endswith(b"}\n")


def test_json_can_name_a_file_whose_name_is_no_utf8(tmp_path):
    # How Python holds the file name b"caf\xe9.jpg", as found in archives from other systems.
    value = {"broken_images": [os.fsdecode(b"caf\xe9.jpg")]}
    write_json(tmp_path / "value.json", value)
    assert json.loads((tmp_path / "value.json").read_text(encoding="utf-8")) == value
