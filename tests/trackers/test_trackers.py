"""The trackers with their real libraries, offline: what was written is read back."""

import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from mm_ray import api
from mm_ray.errors import EnvironmentFailure, UserError
from mm_ray.plugins import code_used, modules_in
from mm_ray.runtime import tracking
from mm_ray.runtime.tracking import RunInfo, TrackedRun, best_round, check_trackers

SCRIPT = """
import os, signal, sys
from pathlib import Path
from mm_ray.runtime.tracking import RunInfo, TrackedRun
tracker, rounds, ends = sys.argv[1], int(sys.argv[2]), sys.argv[3]
run = TrackedRun([tracker], RunInfo(Path("mine"), "trial-001-seed-4", {"seed": 4}, "trial-001", {"lr": 0.1}, "trial-001"))
for number in range(1, rounds + 1):
    phase, round_number = ("a", number) if number <= 2 else ("b", number - 2)
    run.add_round({"phase": phase, "round": round_number, "metrics": {"dev/audio_top1": number / 10}})
if ends == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
run.finish("SUCCESS", {"best_round": 2, "dev/audio_top1": 0.4, "score": 0.4}, artifacts=True)
"""
ROUNDS = {"a": [(1, 0.1), (2, 0.2)], "b": [(1, 0.3), (2, 0.4)]}
"""Round and value by phase, of four rounds over all."""


def needs(library):
    found = find_spec(library)
    return pytest.param(library, marks=pytest.mark.skipif(not (found and found.origin), reason=f"{library} is not installed"))


LIBRARIES = [needs("wandb"), needs("mlflow"), needs("trackio")]


def environment(folder):
    own = {"WANDB_MODE": "offline", "MLFLOW_TRACKING_URI": f"file://{folder}/mlruns", "MLFLOW_ALLOW_FILE_STORE": "true"}
    own |= {"MLFLOW_DISABLE_TELEMETRY": "true", "TRACKIO_DIR": f"{folder}/trackio", "HF_HUB_OFFLINE": "1"}
    return os.environ | own


def track(folder, tracker, rounds, ends="well"):
    command = [sys.executable, "-c", SCRIPT, tracker, str(rounds), ends]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=600)
    assert done.returncode == (-signal.SIGKILL if ends == "killed" else 0), done.stderr


def wandb_records(data):
    """The records of a `.wandb` file: LevelDB's log format after a header of seven bytes."""
    place, whole = 7, b""
    while place + 7 <= len(data):
        if (left := BLOCK - place % BLOCK) < 7:  # the rest of a block is padding
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or its last piece
            yield whole
            whole = b""


BLOCK = 32_768


def read_wandb(folder):
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("mine/wandb/offline-run-*/*.wandb")
    rounds, best, files, group = {}, {}, [], ""
    for record in map(Record.FromString, wandb_records(path.read_bytes())):
        group = record.run.run_group or group
        row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for name, value in row.items():
            if name.endswith("dev/audio_top1"):
                phase = name.partition("/")[0]
                rounds.setdefault(phase, []).append((row[f"{phase}/round"], value))
        for item in record.summary.update:
            name = item.key or "/".join(item.nested_key)
            if name.startswith("best/"):
                best[name] = json.loads(item.value_json)
        files += [entry.path for entry in record.request.log_artifact.artifact.manifest.contents]
        files += [entry.path for entry in record.artifact.manifest.contents]
    return rounds, best, sorted(files), group


def read_mlflow(folder):
    from mlflow import MlflowClient

    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY"):
            patch.setenv(name, "true")
        client = MlflowClient(tracking_uri=f"file://{folder}/mlruns")
        (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
        assert run.info.status == "FINISHED"
        assert run.data.params == {"seed": "4"}
        history = {p: client.get_metric_history(run.info.run_id, f"{p}/dev/audio_top1") for p in ROUNDS}
        rounds = {phase: [(one.step, one.value) for one in points] for phase, points in history.items()}
        best = {name: value for name, value in run.data.metrics.items() if name.startswith("best/")}
        files = sorted(file.path for file in client.list_artifacts(run.info.run_id))
    return rounds, best, files, run.data.tags["group"]


def read_trackio(folder):
    (path,) = (folder / "trackio").glob("mine*.db")
    with sqlite3.connect(path) as database:
        rows = [json.loads(text) for (text,) in database.execute("select metrics from metrics order by step")]
        (config,) = {text for (text,) in database.execute("select config from configs")}
        files = [
            name for (text,) in database.execute("select manifest from artifact_versions") for name in _paths(json.loads(text))
        ]
    rounds, best = {}, {}
    for row in rows:
        best |= {name: value for name, value in row.items() if name.startswith("best/")}
        for name, value in row.items():
            if name.endswith("dev/audio_top1") and not name.startswith("best/"):
                phase = name.partition("/")[0]
                rounds.setdefault(phase, []).append((row[f"{phase}/round"], value))
    return rounds, best, sorted(files), json.loads(config)["_Group"]


def _paths(manifest):
    entries = manifest["entries"] if isinstance(manifest, dict) and "entries" in manifest else manifest
    return [entry if isinstance(entry, str) else entry["path"] for entry in entries]


READERS = {"wandb": read_wandb, "mlflow": read_mlflow, "trackio": read_trackio}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_run_that_was_killed_and_resumed_has_each_round_once(tmp_path, library):
    (tmp_path / "mine").mkdir()
    for name in ("config.yaml", "report.html", "student.safetensors"):
        (tmp_path / "mine" / name).write_text(name)
    track(tmp_path, library, 3, "killed")
    track(tmp_path, library, 4)
    rounds, best, files, group = READERS[library](tmp_path)
    assert rounds == ROUNDS
    assert best == {"best/best_round": 2, "best/dev/audio_top1": 0.4, "best/score": 0.4}
    assert files == ["config.yaml", "report.html", "student.safetensors"]
    assert group == "trial-001"


def test_an_unknown_tracker_is_refused_and_one_that_is_not_installed_says_how(monkeypatch):
    with pytest.raises(UserError, match="tracker wanbd: did you mean 'wandb'"):
        api.tune(tracker="tensorboard,wanbd")
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    for command in (api.train, api.tune, api.compare):
        with pytest.raises(UserError, match=r"tracker wandb: is not installed; pip install 'mm-ray\[wandb\]'"):
            command(tracker="wandb")
    assert check_trackers("none") == ()
    assert check_trackers("tensorboard, tensorboard") == ("tensorboard",)


def test_each_library_is_an_extra_of_the_package():
    import tomllib

    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {*modules_in("mm_ray.trackers")} - {"tensorboard"} <= {*extras}


def test_an_own_tracker_gets_each_round_once_and_its_error_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("""
class begin:
    def __init__(self, run): self.path = run.folder / "log"
    def add_round(self, report, number): self.path.open("a").write(f"{number} {report['phase']} {report['round']}\\n")
    def finish(self, status, metrics, files): raise ValueError("no\\nserver")
""")
    monkeypatch.chdir(tmp_path)
    before = code_used()
    run = TrackedRun(check_trackers("mine.py"), RunInfo(tmp_path, "", {}))
    assert code_used() == before, "an edited tracker changes no phase"
    for number in (1, 2, 2, 1, 3):  # a worker that was started again begins anew
        run.add_round({"phase": "a", "round": number, "metrics": {}})
    assert (tmp_path / "log").read_text() == "1 a 1\n2 a 2\n3 a 3\n"
    with pytest.raises(EnvironmentFailure, match=r"--tracker mine.py: fails \(ValueError: no server\)"):
        run.finish("SUCCESS")


def test_the_best_round_is_the_first_of_the_last_phase():
    curve = [("a", 1, 0.9), ("b", 1, 0.2), ("b", 2, 0.5), ("b", 3, 0.5)]
    reports = [{"phase": phase, "round": number, "metrics": {"m": value}} for phase, number, value in curve]
    assert best_round(reports, "m") == {"best_round": 2.0, "m": 0.5}
    assert best_round([], "m") == best_round(reports, "other") == {}
