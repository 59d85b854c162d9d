"""A Train job whose worker is killed: Train starts it again, and the student is the uninterrupted one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SMALL = (
    "--data.synthetic.num_classes=4", "--data.synthetic.clips_per_class=30", "--data.synthetic.num_groups=10",
    "--partition.num_clients=6", "--phase1.rounds=80", "--phase2.rounds=4",
)  # fmt: skip


def train(runs: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "mm_ray.train", "--runs", str(runs), "--name", "run", *SMALL, *flags]


def result_of(runs: Path) -> dict:
    return json.loads((runs / "run" / "result.json").read_text())


def train_workers_of(driver: int) -> list[int]:
    """Train workers of the Ray that a driver started: Ray's processes hold the driver's pid nowhere, but its session id."""
    session = os.getsid(driver)
    found = []
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            is_worker = status.read_bytes().startswith(b"ray::RayTrainWorker")
            if is_worker and os.getsid(int(status.parent.name)) == session:
                found.append(int(status.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_train_worker_goes_on_to_the_same_student(tmp_path):
    subprocess.run(train(tmp_path / "serial", "--serial"), check=True, stdout=subprocess.DEVNULL)
    rounds = tmp_path / "ray" / "run" / "rounds.jsonl"
    driver = subprocess.Popen(train(tmp_path / "ray"), stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 300
    while not (rounds.exists() and rounds.read_text().count("\n") >= 8):
        assert time.monotonic() < deadline, "no rounds"
        time.sleep(0.05)
    (worker,) = train_workers_of(driver.pid)
    os.kill(worker, signal.SIGKILL)
    assert driver.wait(300) == 0
    ours, reference = result_of(tmp_path / "ray"), result_of(tmp_path / "serial")
    assert ours["params_digest"] == reference["params_digest"]
    assert ours["rounds_reused"] >= 5, "the second worker took the first one's rounds from the store"
    assert ours["rounds_computed"] > 0, "the worker died before the end"
