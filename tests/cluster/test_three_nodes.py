"""Three Ray nodes on this machine (`ray.cluster_utils.Cluster`): the bits of a serial run, also when a node dies meanwhile."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cluster.three_nodes import ROUNDS
from fed.tiny import Run

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("serial"), ROUNDS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["calm", "killed"])
def test_a_run_on_three_nodes_gives_the_bits_of_a_serial_run(tmp_path, serial, kind):
    folder = tmp_path / "run"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), *environment.get("PYTHONPATH", "").split(os.pathsep)])
    command = [sys.executable, HERE / "three_nodes.py", folder, kind]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    result = json.loads((folder / "result.json").read_text())
    assert result["params_digest"] == serial.digest
    assert result["test"] == serial.result["test"]
    assert ("killed at round" in done.stdout) == (kind == "killed")
    assert result["rounds_reused"] == 0, "the driver is on the head, which did not die"
