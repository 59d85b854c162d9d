"""What training, studies and comparisons send to a tracker: one of our own notes it."""

import json
from types import SimpleNamespace

import pytest
from fed.tiny import TINY, tiny_config

from mm_ray import api
from mm_ray.runtime.tracking import check_trackers
from mm_ray.tune.live_table import LiveTable
from mm_ray.tune.study_log import StudyLog

NOTES = """
import json
class begin:
    def __init__(self, run):
        self.log, self.name, self.group, self.seed = run.folder / "notes", run.name, run.group, run.config["seed"]
    def add_round(self, report, number): self.note(number=number)
    def finish(self, status, metrics, files): self.note(status=status, metrics=dict(metrics), files=[f.name for f in files])
    def note(self, **what):
        with self.log.open("a") as file:
            file.write(json.dumps({"run": self.name, "group": self.group, "seed": self.seed} | what) + "\\n")
"""
FIELDS = TINY | {"phase1.rounds": 2, "phase2.rounds": 2}


@pytest.fixture(autouse=True)
def own_tracker(tmp_path, monkeypatch):
    (tmp_path / "notes.py").write_text(NOTES)
    monkeypatch.chdir(tmp_path)


def notes(folder):
    return [json.loads(line) for line in (folder / "notes").read_text().splitlines()]


def test_a_run_has_its_rounds_scores_and_files(tmp_path):
    result = api.train(tracker="notes.py", name="mine", progress=False, **FIELDS)
    *rounds, end = notes(result.folder)
    assert [one["number"] for one in rounds] == list(range(1, len(result.rounds) + 1))
    assert end["status"] == "SUCCESS"
    assert end["metrics"]["best_round"] == result.best_round
    assert end["metrics"]["test/student_top1"] == result.test["student"].top1
    assert end["files"] == ["config.yaml", "result.json", "student.safetensors", "student.json"]
    assert not (result.folder / "tensorboard").exists()


def test_a_run_that_fails_says_so(tmp_path, monkeypatch):
    def fail(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr("mm_ray.training.write_results", fail)
    with pytest.raises(KeyboardInterrupt):
        api.train(tracker="notes.py", name="mine", progress=False, **FIELDS)
    assert notes(tmp_path / "runs" / "mine")[-1]["status"] == "FAILURE"


def test_a_comparison_has_a_run_for_each_cell_and_its_seeds_as_a_group(tmp_path):
    methods = ["modality_mirror", "control"]
    found = api.compare(methods, seeds=2, executor="serial", tracker="notes.py", name="mine", progress=False, **FIELDS)
    ends = [one for one in notes(found.folder) if "status" in one]
    group = "modality_mirror-q0.5-alpha5"
    first, last = ends[0], ends[-1]
    assert [(one["group"], one["seed"]) for one in ends[:2]] == [(group, 1), (group, 2)]
    assert first["run"] == f"{group}-seed1-fold0"
    assert first["metrics"]["test/student_top1"] == found.cells[0]["top1"]
    assert last["files"] == ["config.yaml", "compare.html", "compare.csv"]
    assert last["metrics"].keys() == {"test/modality_mirror_top1", "test/control_top1"}
    rounds = [one for one in notes(found.folder) if one["run"] == first["run"] and "number" in one]
    assert len(rounds) == found.cells[0]["rounds"]


def test_the_seeds_of_a_trial_are_runs_of_a_group(tmp_path):
    log = StudyLog(tmp_path, LiveTable(1), tiny_config(), check_trackers("notes.py"))
    suggestion = {"number": 3, "params": {"t": 2.0}, "overrides": {"phase2.temperature": 2.0}}
    trial = SimpleNamespace(config=suggestion)
    log.on_trial_start(0, [], trial)
    for seed, scores in ((1, (0.2, 0.6)), (2, (0.4, 0.3))):
        reports = [
            {"phase": "p", "round": number, "metrics": {"dev/audio_top1": score}, "seed": seed, "reused": False}
            for number, score in enumerate(scores, start=1)
        ]
        log.on_trial_result(0, [], trial, {"reports": reports, "score": 0.5})
    log.end(suggestion, "COMPLETE")
    ends = [one for one in notes(tmp_path) if "status" in one]
    assert [(one["run"], one["group"], one["seed"]) for one in ends] == [
        ("trial-003-seed-1", "trial-003", 1),
        ("trial-003-seed-2", "trial-003", 2),
    ]
    assert [one["metrics"] for one in ends] == [
        {"best_round": 2, "dev/audio_top1": 0.6, "score": 0.5},
        {"best_round": 1, "dev/audio_top1": 0.4, "score": 0.5},
    ]


def test_a_trial_that_is_to_be_resumed_is_left_running(tmp_path):
    log = StudyLog(tmp_path, LiveTable(1), tiny_config(), check_trackers("notes.py"))
    trial = SimpleNamespace(config={"number": 0, "params": {}, "overrides": {}})
    log.on_trial_start(0, [], trial)
    log.on_trial_complete(0, [], trial)
    assert [one["status"] for one in notes(tmp_path)] == ["RUNNING"]
