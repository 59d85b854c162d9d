"""A full disk and TERM, for real: a small file system of its own, a process that gets the signal."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from entry.process import Done, finish, run, start
from fed.tiny import tiny_flags

from mm_ray.storage import FULL

TRAIN = "mm_ray.train"
FULL_DISK = """
set -e
mount -t tmpfs -o size=2m tmpfs small
dd if=/dev/zero of=small/filler bs=1k count="$FILLED_KB" status=none
code=0; "$@" >first.out 2>first.err || code=$?; echo $code >first.code
find small -name '.*' -type f ! -name .lock >unfinished
rm small/filler
code=0; "$@" >second.out 2>second.err || code=$?; echo $code >second.code
cp small/runs/run/result.json . 2>/dev/null || cp runs/run/result.json .
"""
SPACE = """
def space(trial):
    return {"phase2.temperature": trial.suggest_float("phase2.temperature", 1, 20, log=True)}
"""


def may_mount(folder):
    if not shutil.which("unshare"):
        return False
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


def digest(path):
    return json.loads(path.read_text())["params_digest"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("filled_kb", "flags", "named"),
    [
        (1700, ["--runs=small/runs"], "small/runs"),  # the folder of the run, or the features in it
        (2000, ["--phases=small/phases"], "small/phases"),
    ],
)
def test_a_full_disk_ends_in_one_line_and_the_same_command_goes_on_once_there_is_room(tmp_path, filled_kb, flags, named):
    (tmp_path / "small").mkdir()
    if not may_mount(tmp_path / "small"):
        pytest.skip("no right to mount a file system here (unshare -m)")
    small = tiny_flags({"phase1.rounds": 30, "phase2.rounds": 10})
    (tmp_path / "calm").mkdir()
    assert run(TRAIN, ["--serial", *small, "--name=run"], tmp_path / "calm").code == 0
    command = [sys.executable, "-m", TRAIN, "--serial", *small, "--name=run", *flags]
    environment = os.environ | {"FILLED_KB": str(filled_kb)}
    script = ["unshare", "-m", "sh", "-c", FULL_DISK, "sh", *command]
    subprocess.run(script, cwd=tmp_path, env=environment, check=True, timeout=600)
    first, second = (
        Done(
            int((tmp_path / f"{name}.code").read_text()), *((tmp_path / f"{name}.{end}").read_text() for end in ("out", "err"))
        )
        for name in ("first", "second")
    )
    assert first.code == 1, first
    assert first.err.count("\n") == 1, first.err
    assert named in first.err
    assert ": no room left (No space left on device); make room; then the same command resumes" in first.err
    assert (tmp_path / "unfinished").read_text() == ""
    assert (second.code, second.err) == (0, "")
    assert digest(tmp_path / "result.json") == digest(tmp_path / "calm/runs/run/result.json")


@pytest.mark.slow
def test_a_full_disk_ends_a_study_in_one_line_and_is_no_trials_fault(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "small").mkdir()
    if not may_mount(tmp_path / "small"):
        pytest.skip("no right to mount a file system here (unshare -m)")
    (tmp_path / "mine.py").write_text(SPACE)
    small = tiny_flags({"phase1.rounds": 30, "phase2.rounds": 10})
    flags = [*small, "--name=run", "--space=mine.py", "--trials=2", "--test_seeds=0", "--phases=small/phases"]
    script = ["unshare", "-m", "sh", "-c", FULL_DISK, "sh", sys.executable, "-m", "mm_ray.tune", *flags]
    subprocess.run(script, cwd=tmp_path, env=os.environ | {"FILLED_KB": "1900"}, check=True, timeout=600)
    assert (tmp_path / "first.code").read_text() == "1\n"
    line = (tmp_path / "first.err").read_text().splitlines()[-1]
    assert line.startswith("error: ")
    assert "small/phases" in line
    assert ": no room left (No space left on device); make room; then the same command resumes" in line
    assert ((tmp_path / "second.code").read_text(), (tmp_path / "second.err").read_text()) == ("0\n", "")
    rows = [json.loads(row) for row in (tmp_path / "runs/run/trials.jsonl").read_text().splitlines()]
    ended = [(row["number"], row["state"]) for row in rows]  # either may end first
    assert sorted(ended) == [(0, "COMPLETE"), (1, "COMPLETE")]


def test_a_used_up_quota_counts_as_full():
    assert {os.strerror(number) for number in FULL} == {"No space left on device", "Disk quota exceeded"}


SERIAL, ON_RAY = ["--serial"], ["--clients.num_actors=1", "--clients.num_cpus=0.5"]


@pytest.mark.parametrize("module", ["mm_ray.train", "mm_ray.predict"])
def test_ctrl_c_during_the_imports_ends_without_a_word(tmp_path, module):
    command = [sys.executable, "-X", "importtime", "-m", module, "--config", "nowhere"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=_heeds_ctrl_c)
    while not (line := process.stderr.readline()).endswith("| mm_ray\n"):
        assert line, "mm_ray was not imported"
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=600)
    assert (process.returncode, [line for line in rest.splitlines() if not line.startswith("import time:")]) == (130, [])


def _heeds_ctrl_c():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in a shell's background


@pytest.mark.slow
def test_a_signal_after_the_last_word_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    process, said = start(TRAIN, [*tiny_flags(), *ON_RAY, "--name=run"], tmp_path), tmp_path / ".out"
    while process.is_alive() and not (said.exists() and "\ntensorboard --logdir" in said.read_text()):
        time.sleep(0.01)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(process.pid, number)
    done = finish(process, tmp_path)
    assert (done.code, done.err) == (0, "")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("how", "number"),
    [
        (SERIAL, signal.SIGTERM),
        pytest.param(ON_RAY, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(ON_RAY, signal.SIGINT, marks=pytest.mark.slow),
    ],
    ids=["serial-term", "ray-term", "ray-int"],
)
def test_a_run_that_is_told_to_end_says_how_to_go_on_and_does(tmp_path, monkeypatch, how, number):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    flags = [*tiny_flags({"phase1.rounds": 90, "phase2.rounds": 10}), "--name=run"]
    for name in ("calm", "hunted"):
        (tmp_path / name).mkdir()
    assert run(TRAIN, ["--serial", *flags], tmp_path / "calm").code == 0
    process, rounds = start(TRAIN, [*flags, *how], tmp_path / "hunted"), tmp_path / "hunted/runs/run/rounds.jsonl"
    until = time.monotonic() + 60
    while not (rounds.exists() and rounds.read_text().count("\n") >= 8) and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, number)
    stopped = finish(process, tmp_path / "hunted")
    assert stopped.code == 130
    assert stopped.err == "stopped; the same command resumes from the last stored round\n"
    done = run(TRAIN, dict.fromkeys(["--serial", *flags, *how]), tmp_path / "hunted")
    assert (done.code, done.err) == (0, "")
    result = json.loads(Path(tmp_path, "hunted/runs/run/result.json").read_text())
    assert result["rounds_reused"] >= 5
    assert result["params_digest"] == digest(tmp_path / "calm/runs/run/result.json")
