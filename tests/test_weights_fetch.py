"""Downloads from a server on this machine: whole, broken off, resumed, damaged, and none."""

import dataclasses
import errno
import fcntl
import hashlib
import http.server
import io
import logging
import re
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keras_inception.errors import WeightsError
from keras_inception.weights.fetch import fetched, models_folder
from keras_inception.weights.published import PUBLISHED, PublishedWeights

CONTENT = bytes(range(256)) * 4000


class Server(http.server.ThreadingHTTPServer):
    """Serves one content, as far as it is told, once `may_end`; `ranges` lists what was asked for."""

    content, breaks_at, knows_ranges = CONTENT, None, True

    def __init__(self):
        self.ranges = []
        self.may_end = threading.Event()
        self.may_end.set()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/weights.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        content, start = self.server.content, 0
        if asked and self.server.knows_ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.server.breaks_at][:-1])
        self.server.may_end.wait(60)
        self.wfile.write(content[start : self.server.breaks_at][-1:])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras"


def weights(server: Server, **changes) -> PublishedWeights:
    changes = {"sha256": hashlib.sha256(CONTENT).hexdigest()[:8], "sha1": "", "member": ""} | changes
    return dataclasses.replace(PUBLISHED["imagenet"], url=server.url, **changes)


def test_a_file_is_fetched_once_with_progress_and_kept_where_keras_keeps_models(server, home):
    seen = []
    path = fetched(weights(server), lambda here, total: seen.append((here, total)))
    assert path == home / "models" / "weights.bin"
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [here for here, _ in seen] == sorted(here for here, _ in seen)
    assert fetched(weights(server)) == path
    assert server.ranges == [None]
    assert list(path.parent.iterdir()) == [path]


def test_the_cache_is_that_of_get_file(monkeypatch):
    monkeypatch.delenv("KERAS_HOME")
    assert models_folder() == Path.home() / ".keras" / "models"


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_download_that_broke_off_goes_on_where_it_was(knows_ranges, server, home):
    server.breaks_at = 300_000
    with pytest.raises(WeightsError, match=r"cannot be fetched .*try again, or fetch it by hand and put it at"):
        fetched(weights(server))
    part = home / "models" / "weights.bin.part"
    assert part.stat().st_size == 300_000
    server.breaks_at, server.knows_ranges = None, knows_ranges
    seen = []
    assert fetched(weights(server), lambda *at: seen.append(at)).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]
    assert (seen[0][0] > 300_000) == knows_ranges
    assert not part.exists()


def test_a_part_that_is_no_beginning_of_the_file_is_fetched_anew(server, home):
    part = home / "models" / "weights.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(len(CONTENT) + 5))  # of an older, longer file
    assert fetched(weights(server)).read_bytes() == CONTENT
    part.write_bytes(bytes(10))
    (home / "models" / "weights.bin").unlink()
    with pytest.raises(WeightsError, match=r"has the sha256 .* in place of .*it was removed: try again"):
        fetched(weights(server))
    assert list(part.parent.iterdir()) == []


def fetched_by_three(one, server, caplog):
    """Let three fetch the same: the download of the first ends when the two others wait for it."""
    server.may_end.clear()
    waiting = threading.Semaphore(0)

    def heard(record: logging.LogRecord) -> bool:
        if "waiting for it" in record.getMessage():
            waiting.release()
        return True

    caplog.handler.addFilter(heard)
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(fetched, one, lambda *at: None) for _ in range(3)]
        both = all(waiting.acquire(timeout=20) for _ in range(2))
        server.may_end.set()
    caplog.handler.removeFilter(heard)
    assert both
    return answers


def test_of_several_that_want_the_same_file_one_fetches_it(server, home, caplog):
    answers = fetched_by_three(weights(server), server, caplog)
    assert [answer.result().read_bytes() == CONTENT for answer in answers] == [True] * 3
    assert server.ranges == [None]
    assert [path.name for path in (home / "models").iterdir()] == ["weights.bin"]
    assert set(caplog.messages) == {"another process fetches weights.bin; waiting for it"}


def test_those_that_waited_for_a_damaged_file_fetch_it_one_by_one(server, home, caplog):
    server.content = CONTENT[::-1]
    for answer in fetched_by_three(weights(server), server, caplog):
        with pytest.raises(WeightsError, match="it was removed: try again"):
            answer.result()
    assert server.ranges == [None] * 3
    assert list((home / "models").iterdir()) == []


def test_where_a_file_system_has_no_locks_files_come_all_the_same(server, home, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert fetched(weights(server)).read_bytes() == CONTENT
    assert [path.name for path in (home / "models").iterdir()] == ["weights.bin"]


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_another_file_than_the_published_one_is_refused(algorithm, server, home):
    digest = hashlib.new(algorithm, CONTENT).hexdigest()
    server.content = CONTENT[::-1]
    with pytest.raises(WeightsError, match=rf"has the {algorithm} \w+ in place of {digest}"):
        fetched(weights(server, **{"sha256": "", algorithm: digest}))
    # The same of a file that somebody put there.
    (home / "models" / "weights.bin").write_bytes(CONTENT[::-1])
    with pytest.raises(WeightsError, match=rf"weights\.bin' has the {algorithm} .*remove it"):
        fetched(weights(server, **{"sha256": "", algorithm: digest}))


def test_without_a_network_one_line_says_what_to_fetch_and_where_to_put_it(server, home):
    one = weights(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(WeightsError) as error:
        fetched(one)
    said = str(error.value)
    assert "\n" not in said
    assert one.url in said
    assert f"put it at {str(home / 'models' / 'weights.bin')!r}" in said
    assert list((home / "models").iterdir()) == []
    (home / "models" / "weights.bin").write_bytes(CONTENT)
    assert fetched(one).read_bytes() == CONTENT


def test_an_error_of_the_server_is_said(server):
    gone = dataclasses.replace(weights(server), url=f"http://127.0.0.1:{server.server_port}/absent")
    server.content = None  # the handler fails, and the connection is closed without an answer
    with pytest.raises(WeightsError, match="absent cannot be fetched"):
        fetched(gone)


def test_the_checkpoint_is_taken_out_of_an_archive(server, home):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in (("../../outside", b"x"), ("inner/model.ckpt", b"weights")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    server.content = file.getvalue()
    path = fetched(weights(server, sha256="", member="model.ckpt"))
    assert path == home / "models" / "model.ckpt"
    assert path.read_bytes() == b"weights"
    assert sorted(child.name for child in path.parent.iterdir()) == ["model.ckpt", "weights.bin"]
    with pytest.raises(WeightsError, match=r"is no archive with one other\.ckpt"):
        fetched(weights(server, sha256="", member="other.ckpt"))


def test_what_is_published_is_complete():
    assert list(PUBLISHED) == ["imagenet", "imagenet-slim", "imagenet-caffe"]
    for name, one in PUBLISHED.items():
        assert one.name == name
        assert one.url.startswith("http")
        assert 0.6 < one.top1 < one.top5 < 1
        assert one.licence
        assert one.reference.startswith("https://")
    # torchvision's file is named by the beginning of its digest.
    assert PUBLISHED["imagenet"].file == f"googlenet-{PUBLISHED['imagenet'].sha256}.pth"
