"""A run's folder on the head's own disk, which the nodes that do the work do not see."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="hides a folder in a mount namespace: root on Linux")
def test_a_run_keeps_its_files_on_the_disk_of_the_command_that_started_it(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), *environment.get("PYTHONPATH", "").split(os.pathsep)])
    command = [sys.executable, HERE / "head_disk.py", tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["rounds_computed"] == (tmp_path / "run" / "rounds.jsonl").read_text().count("\n") > 0
    assert (tmp_path / "run" / "student.safetensors").exists()
