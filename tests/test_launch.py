"""tools/launch, with small commands in the place of trainings."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parent.parent / "tools" / "launch"


def launcher(*words) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, LAUNCH, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def launched(*words) -> tuple[int, list[str], list[str]]:
    """Return status and lines of standard output and error."""
    process = launcher(*words)
    out, error = process.communicate(timeout=120)
    return process.returncode, out.splitlines(), error.splitlines()


def python(code: str) -> list[str]:
    """A command that knows which worker it is, as `index`; alone it is worker 0."""
    return [
        sys.executable,
        "-c",
        "import json, os, signal, sys, time\n"
        "config = json.loads(os.environ.get('TF_CONFIG', '{}'))\n"
        f"index = config.get('task', {{}}).get('index', 0)\n{code}",
    ]


def test_a_chief_gives_workers_what_keras_tuner_reads():
    names = "('KERASTUNER_TUNER_ID', 'KERASTUNER_ORACLE_IP', 'KERASTUNER_ORACLE_PORT', 'TF_CONFIG')"
    # A line in one piece: print writes its end by itself, and another process may come between.
    code = f"import json, os; os.write(1, (json.dumps([os.environ.get(n) for n in {names}]) + chr(10)).encode())"
    words = [sys.executable, "-c", code]
    status, out, error = launched("--chief", "--workers", 2, "--", *words)
    assert (status, error) == (0, [])
    found = {line[: line.index('["')]: json.loads(line[line.index('["') :]) for line in out}
    assert {prefix: told[0] for prefix, told in found.items()} == {
        "": "chief",
        "[worker 0] ": "worker0",
        "[worker 1] ": "worker1",
    }
    assert len({tuple(told[1:]) for told in found.values()}) == 1
    assert found[""][1] == "127.0.0.1"
    assert int(found[""][2]) > 0
    assert found[""][3] is None


def wait_for(files: list[Path]) -> list[int]:
    """Return the numbers that workers have written to files, once all are there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        texts = [path.read_text() if path.exists() else "" for path in files]
        if all(text.endswith("\n") for text in texts):
            return [int(text) for text in texts]
        time.sleep(0.02)  # polls processes that run on their own clock
    raise AssertionError(f"{files} were not written")


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def have_ended(pids: list[int]) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not any(is_running(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def writes_pid(folder: Path) -> str:
    return f"open({str(folder)!r} + f'/{{index}}', 'w').write(f'{{os.getpid()}}\\n')\n"


def test_every_worker_knows_all_and_which_it_is():
    status, out, error = launched("--workers", 3, "--", *python("print(os.environ['TF_CONFIG'])"))
    assert (status, error) == (0, [])
    configs = {}
    for line in out:
        prefix, _, text = line.partition("] ")
        configs[prefix] = json.loads(text)
    assert {prefix: config["task"] for prefix, config in configs.items()} == {
        f"[worker {index}": {"type": "worker", "index": index} for index in range(3)
    }
    (cluster,) = {json.dumps(config["cluster"]) for config in configs.values()}
    assert len(set(json.loads(cluster)["worker"])) == 3


def test_one_worker_is_alone_and_its_lines_are_its_own():
    code = "print(os.environ.get('TF_CONFIG')); print('wrong', file=sys.stderr)"
    assert launched(*python(code)) == (0, ["None"], ["wrong"])


def test_the_status_is_of_the_first_that_failed_and_the_others_are_stopped():
    code = "if index == 1: sys.exit(7)\nprint('waits', flush=True)\ntime.sleep(600)"
    status, _, error = launched("--workers", 2, *python(code))
    assert status == 7
    assert error == ["tools/launch: worker 1 failed with status 7"]


def test_a_killed_worker_is_named_and_all_are_started_again(tmp_path):
    """Both begin twice; in the second turn nothing is wrong any more."""
    code = (
        f"turns = open({str(tmp_path)!r} + f'/{{index}}', 'a'); turns.write('x'); turns.close()\n"
        f"first = os.path.getsize({str(tmp_path)!r} + f'/{{index}}') == 1\n"
        "if first and index == 0: time.sleep(600)\n"
        f"while first and not os.path.exists({str(tmp_path)!r} + '/0'): time.sleep(0.02)\n"
        "if first: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    status, _, error = launched("--workers", 2, "--restarts", 3, "--grace", 0, *python(code))
    assert status == 0
    assert error == ["tools/launch: worker 1 was ended by SIGKILL", "tools/launch: restart 1 of 3"]
    assert [(tmp_path / name).read_text() for name in "01"] == ["xx", "xx"]


def test_what_fails_always_fails_in_the_end():
    status, out, error = launched("--restarts", 2, *python("print('begun'); sys.exit(1)"))
    assert (status, out) == (1, ["begun"] * 3)
    assert error[-1] == "tools/launch: worker 0 failed with status 1"


@pytest.mark.parametrize("final", [2, 130, 143])
def test_a_wrong_word_or_a_wish_to_stop_is_not_tried_again(final):
    status, out, _ = launched("--restarts", 5, *python(f"print('begun'); sys.exit({final})"))
    assert (status, out) == (final, ["begun"])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_wish_to_stop_reaches_all_workers_once(number, status, tmp_path):
    code = (
        "def leave(number, frame): print('saves', number, flush=True); time.sleep(0.2); sys.exit(128 + number)\n"
        "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, leave)\n"
        f"{writes_pid(tmp_path)}time.sleep(600)"
    )
    process = launcher("--workers", 2, "--restarts", 5, *python(code))
    pids = wait_for([tmp_path / name for name in "01"])
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert sorted(out.splitlines()) == [f"[worker {index}] saves {int(number)}" for index in range(2)]
    assert have_ended(pids)


def test_who_does_not_leave_is_killed(tmp_path):
    code = f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{writes_pid(tmp_path)}time.sleep(600)"
    process = launcher("--workers", 2, "--grace", 1, *python(code))
    pids = wait_for([tmp_path / name for name in "01"])
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert have_ended(pids)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells children that their parent died")
def test_a_killed_launcher_leaves_no_orphans(tmp_path):
    code = f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{writes_pid(tmp_path)}time.sleep(600)"
    process = launcher("--workers", 2, *python(code))
    pids = wait_for([tmp_path / name for name in "01"])
    assert all(is_running(pid) for pid in pids)
    process.kill()
    process.communicate(timeout=60)
    assert have_ended(pids)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--workers", "0", "true"), "--workers: is 0; it takes 1 or more"),
        (("--workers", "2"), "needs a command"),
        (("no-such-command",), "cannot run 'no-such-command'"),
    ],
)
def test_a_wrong_word_ends_with_2_and_one_line(words, named):
    status, _, error = launched(*words)
    assert status == 2
    assert named in error[-1]
    assert "Traceback" not in "".join(error)


def test_it_runs_without_the_environment():
    """By its own first line, in another folder."""
    done = subprocess.run([LAUNCH, "true"], cwd="/", env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
