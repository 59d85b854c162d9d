"""`python -m mm_ray.train --serial` from start to end, killed and started again, and twice at once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from entry.process import finish, run, start
from fed.tiny import Run, table_of, tiny_config, tiny_flags
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mm_ray.config import flatten, to_dict
from mm_ray.models.student import load_student

TRAIN = "mm_ray.train"
# Long enough to be killed in the middle of a phase: 50 modality-wise rounds take two seconds.
LONG = {"phase1.rounds": 80, "phase1.fusion_frac": 0.1, "phase2.rounds": 6}
LONG_ROUNDS = 87


def flags(name, overrides=()):
    return ["--serial", *tiny_flags(overrides), "--name", name]


def result(folder, name):
    return json.loads((folder / "runs" / name / "result.json").read_text())


def rounds(folder, name):
    path = folder / "runs" / name / "rounds.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def eventually(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def uninterrupted(folder):
    return Run(folder / "uninterrupted", LONG).result


@pytest.fixture(scope="module")
def done(folder):
    return run(TRAIN, [*flags("mine"), "--control"], folder)


def test_it_tells_what_came_out(folder, done):
    assert (done.code, done.err) == (0, "")
    scores = result(folder, "mine")["test"]
    for role in ("student", "teacher", "phase1_audio", "control"):
        assert f"{role:<18}{scores[role]['top1']:>8.3f}{scores[role]['uar']:>8.3f}{scores[role]['macro_f1']:>10.3f}" in done.out
    assert "phase1/unimodal: 3 rounds, dev audio_top1 " in done.out
    assert "control/cross_entropy: 3 rounds, " in done.out
    assert "; 8 rounds computed, 0 taken from the phase store, " in done.out  # the control's own rounds do not count
    assert "runs/mine/student.safetensors" in done.out


def test_it_leaves_its_files(folder, done):
    names = {
        str(path.relative_to(folder / "runs" / "mine")) for path in (folder / "runs" / "mine").rglob("*") if path.is_file()
    }
    boards = {name for name in names if name.startswith("tensorboard/events.out.tfevents.")}
    files = {"config.yaml", "confusions.json", "result.json", "rounds.jsonl", "student.safetensors", "student.json"}
    assert (names - boards, len(boards)) == (files, 1)
    assert {path.name for path in (folder / "runs").iterdir()} == {"mine", "phases", "features"}


def test_the_config_is_complete(folder, done):
    stored = yaml.safe_load((folder / "runs" / "mine" / "config.yaml").read_text())
    expected = {name: list(v) if isinstance(v, tuple) else v for name, v in flatten(to_dict(tiny_config())).items()}
    assert flatten(stored) == expected


def test_the_result_has_the_documented_keys_and_is_that_of_the_library(folder, done, tmp_path):
    stored, here = result(folder, "mine"), Run(tmp_path, control=True).result
    assert set(stored) == set(here)
    assert {
        "method", "seed", "data", "test", "best_round", "rounds_computed", "rounds_reused", "seconds", "compute_s",
        "bytes_up", "bytes_down", "params_digest",
    } <= set(stored)  # fmt: skip
    assert all(set(scores) == {"top1", "uar", "macro_f1"} for scores in stored["test"].values())
    assert 0 < stored["compute_s"] <= stored["seconds"]
    measured = ("seconds", "compute_s", "peak_memory_bytes", "energy_j")
    assert {key: stored[key] for key in stored if key not in measured} == {
        key: here[key] for key in here if key not in measured
    }


def test_the_rounds_are_a_line_each_and_in_tensorboard(folder, done):
    lines = rounds(folder, "mine")
    assert len(lines) == 14, "3 + 1 + 1 + 3, and 3 of each control"
    assert {"phase", "round", "metrics", "num_clients", "seconds", "bytes_up", "bytes_down", "reused"} <= set(lines[0])
    board = EventAccumulator(str(folder / "runs" / "mine" / "tensorboard")).Reload()
    for phase, metric in (("phase1/unimodal", "dev/video_top1"), ("phase2/distill", "dev/audio_top1")):
        expected = {line["round"]: pytest.approx(line["metrics"][metric]) for line in lines if line["phase"] == phase}
        assert {event.step: event.value for event in board.Scalars(f"{phase}/{metric}")} == expected


def test_the_student_can_be_loaded(folder, done):
    student = load_student(folder / "runs" / "mine" / "student.safetensors")
    assert student.class_names == table_of(tiny_config().data).class_names


def test_the_same_command_again_takes_everything_from_the_store(folder, done):
    first = result(folder, "mine")
    again = run(TRAIN, [*flags("mine"), "--control"], folder)
    assert again.code == 0
    second = result(folder, "mine")
    assert (second["rounds_computed"], second["rounds_reused"]) == (0, first["rounds_computed"])
    assert second["params_digest"] == first["params_digest"]
    assert all(line["reused"] for line in rounds(folder, "mine"))


def test_its_config_file_runs_the_same_experiment(folder, done):
    config = folder / "runs" / "mine" / "config.yaml"
    again = run(TRAIN, ["--serial", "--config", config, "--name", "from-file", "--phases", "other-phases"], folder)
    assert again.code == 0
    assert result(folder, "from-file")["rounds_computed"] == 8
    assert result(folder, "from-file")["params_digest"] == result(folder, "mine")["params_digest"]
    assert (folder / "runs" / "from-file" / "config.yaml").read_text() == config.read_text()


def test_dashes_are_underscores_and_a_run_without_a_name_gets_one(folder, done):
    spelled = [flag.replace("_", "-") for flag in tiny_flags({"method": "control"})]
    again = run(TRAIN, ["--serial", *spelled, "--phase2.audio-clients", "idle"], folder)
    assert again.code == 0
    (name,) = [path.name for path in (folder / "runs").iterdir() if path.name.startswith("control-synthetic-")]
    assert result(folder, name)["method"] == "control"
    assert result(folder, name)["rounds_reused"] == 8  # beside the run above


@pytest.mark.slow
def test_killed_in_the_middle_of_a_phase_and_started_again_it_ends_the_same(tmp_path, uninterrupted):
    command = [sys.executable, "-m", TRAIN, *flags("run", LONG)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        assert eventually(lambda: len(rounds(tmp_path, "run")) >= 8)
        os.kill(process.pid, signal.SIGKILL)
    seen = len(rounds(tmp_path, "run"))
    assert process.returncode == -signal.SIGKILL
    assert 8 <= seen < 72
    assert not (tmp_path / "runs" / "run" / "result.json").exists()
    assert run(TRAIN, flags("run", LONG), tmp_path).code == 0
    resumed = result(tmp_path, "run")
    assert resumed["params_digest"] == uninterrupted["params_digest"]
    assert resumed["test"] == uninterrupted["test"]
    assert resumed["best_round"] == uninterrupted["best_round"]
    assert seen - 5 <= resumed["rounds_reused"] <= seen + 1
    assert resumed["rounds_computed"] + resumed["rounds_reused"] == LONG_ROUNDS


@pytest.mark.thorough
def test_of_two_processes_on_one_store_one_computes_each_round(tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    processes = []
    for folder in folders:
        folder.mkdir()
        processes.append(start(TRAIN, [*flags("run", LONG), "--phases", tmp_path / "phases"], folder))
        # Who comes at the very same time may compute the same rounds, and store the same bits.
        assert eventually(lambda: Path(tmp_path, "phases").exists() and any(Path(tmp_path, "phases").glob("*/lease-*")))
    done = [finish(process, folder) for process, folder in zip(processes, folders, strict=True)]
    assert [d.code for d in done] == [0, 0]
    results = [result(folder, "run") for folder in folders]
    assert sum(r["rounds_computed"] for r in results) == LONG_ROUNDS
    assert all(r["rounds_computed"] + r["rounds_reused"] == LONG_ROUNDS for r in results)
    assert results[0]["params_digest"] == results[1]["params_digest"]
    assert results[0]["test"] == results[1]["test"]
    assert not list((tmp_path / "phases").glob("*/lease-*"))


def test_two_processes_that_begin_together_end_the_same(tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    processes = [start(TRAIN, [*flags("run"), "--phases", tmp_path / "phases"], folder) for folder in folders]
    done = [finish(process, folder) for process, folder in zip(processes, folders, strict=True)]
    assert [(d.code, d.err) for d in done] == [(0, "")] * 2
    assert result(folders[0], "run")["params_digest"] == result(folders[1], "run")["params_digest"]
    assert sum(result(folder, "run")["rounds_computed"] for folder in folders) >= 8


@pytest.mark.slow
def test_who_waits_for_a_process_that_is_killed_goes_on_in_its_place(tmp_path, uninterrupted):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    holder = start(TRAIN, [*flags("run", LONG), "--phases", tmp_path / "phases"], first)
    assert eventually(lambda: len(rounds(first, "run")) >= 1)
    follower = start(TRAIN, [*flags("run", LONG), "--phases", tmp_path / "phases"], second)
    assert eventually(lambda: len(rounds(second, "run")) >= 1)
    assert all(line["reused"] for line in rounds(second, "run"))
    holder.kill()
    assert finish(follower, second).code == 0
    taken_over = result(second, "run")
    assert taken_over["rounds_computed"] > 0
    assert taken_over["rounds_computed"] + taken_over["rounds_reused"] == LONG_ROUNDS
    assert taken_over["params_digest"] == uninterrupted["params_digest"]


@pytest.mark.thorough
def test_ctrl_c_says_how_to_go_on(tmp_path):
    process = start(TRAIN, flags("run", LONG), tmp_path)
    assert eventually(lambda: len(rounds(tmp_path, "run")) >= 3)
    os.kill(process.pid, signal.SIGINT)
    done = finish(process, tmp_path)
    assert (done.code, done.err) == (130, "stopped; the same command resumes from the last stored round\n")
    seen = len(rounds(tmp_path, "run"))
    assert run(TRAIN, flags("run", LONG), tmp_path).code == 0
    assert result(tmp_path, "run")["rounds_reused"] >= seen
