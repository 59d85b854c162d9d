"""Real jobs, each with a Ray of its own: a training run under Ray Train, and a study under Ray Tune."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from entry.process import on_any_machine, run
from fed.tiny import Run, tiny_flags

from mm_ray.config import flatten
from mm_ray.tune.estimate import MEASURED_ROUNDS

pytestmark = pytest.mark.ray


def python_m(module, flags, folder):
    """Run an entry point as a user does, without the Ray of other tests."""
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", module, *map(str, flags)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def read(path):
    return json.loads(path.read_text())


def test_a_train_job_ends_in_the_student_of_the_serial_run(tmp_path):
    flags = [*tiny_flags({"clients.num_actors": 2, "clients.num_cpus": 0.5}), "--name", "job", "--control"]
    done = python_m("mm_ray.train", flags, tmp_path)
    assert (done.returncode, on_any_machine(done.stderr)) == (0, "")
    assert "2 client actors" in done.stdout
    for line in ("phase1/unimodal: 3 rounds", "phase2/distill: 3 rounds", "control/cross_entropy: 3 rounds", "best round"):
        assert line in done.stdout
    folder, serial = tmp_path / "runs" / "job", Run(tmp_path / "serial", control=True)
    result = read(folder / "result.json")
    same = set(serial.result) - {"seconds", "compute_s", "peak_memory_bytes", "energy_j"}
    assert {key: result[key] for key in same} == {key: serial.result[key] for key in same}
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert [(line["phase"], line["round"], line["metrics"]) for line in lines] == serial.metrics
    assert {"config.yaml", "result.json", "rounds.jsonl", "student.safetensors", "student.json", "tensorboard"} <= {
        path.name for path in folder.iterdir()
    }


def test_a_study_computes_phase_1_once_and_leaves_the_best(tmp_path):
    flags = ["--space", "smoke", "--trials", 3, "--export", *tiny_flags(), "--name", "study"]
    done = python_m("mm_ray.tune", [*flags, "--test_seeds=0"], tmp_path)
    assert (done.returncode, on_any_machine(done.stderr)) == (0, "")
    folder = tmp_path / "runs" / "study"
    names = {path.name for path in folder.iterdir()}
    assert {
        "config.yaml", "best.yaml", "report.html", "trials.jsonl", "result.json", "student.safetensors", "student.json",
        "tensorboard", "export",
    } <= names  # fmt: skip

    rows = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert [row["number"] for row in sorted(rows, key=lambda row: row["number"])] == [0, 1, 2]
    assert {row["state"] for row in rows} == {"COMPLETE"}
    assert {row["params"]["phase2.loss_weight"] for row in rows} == {0.9, 0.0, 1.0}
    # Three modality-wise rounds, of which the estimate computed two, one of fusion and one of the teacher's logits for all;
    # two rounds of phase 2 each.
    assert sum(row["rounds_computed"] for row in rows) == 5 - MEASURED_ROUNDS + 3 * 2
    assert all(row["rounds_computed"] + row["rounds_reused"] == 7 for row in rows)
    computed = [(r["phase"], r["round"]) for row in rows for r in row["curve"] if not r["reused"] and "phase1" in r["phase"]]
    assert len(computed) == len(set(computed)) == 5 - MEASURED_ROUNDS

    best = max(rows, key=lambda row: (row["score"], -row["number"]))
    stored = flatten(yaml.safe_load((folder / "best.yaml").read_text()))
    assert {key: stored[key] for key in best["overrides"]} == best["overrides"]
    assert set(read(folder / "result.json")["test"]) == {"student", "teacher", "phase1_audio", "control", "control_all"}
    assert "best of 3 trials" in done.stdout
    assert {path.name for path in (folder / "export").iterdir()} == {
        "README.md", "SHA256SUMS", "predict.py", "student.int8.onnx", "student.json", "student.onnx", "student.safetensors",
    }  # fmt: skip
    card = (folder / "export" / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert (head["license"], head["datasets"]) == ("unknown", ["synthetic"])
    assert f"| distilled student | {read(folder / 'result.json')['test']['student']['top1']:.3f} |" in card
    assert card.count("| event0") == 4
    assert "estimate: 21 rounds asked, about 11 to compute" in done.stdout

    again = run("mm_ray.train", ["--serial", "--config", folder / "best.yaml", "--name=again", "--phases=new"], tmp_path)
    assert (again.code, again.err) == (0, "")
    retrained = read(tmp_path / "runs" / "again" / "result.json")
    assert retrained["params_digest"] == read(folder / "result.json")["params_digest"]
    assert retrained["dev"]["student"]["top1"] == best["score"]
    assert retrained["rounds_reused"] == 0

    more = run("mm_ray.tune", ["--resume", "study", "--test_seeds", "2"], tmp_path)
    assert (more.code, more.err) == (0, "")
    assert "the chosen configuration and both controls, 2 fresh seeds: 6 of 6 runs" in more.out
    assert [one["seed"] for one in read(folder / "result.json")["seeds"]] == [3, 4]
    assert "student - control_all: " in more.out
    assert len((folder / "trials.jsonl").read_text().splitlines()) == 3
