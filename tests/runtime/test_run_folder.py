"""The files of a run."""

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from fed.tiny import Run, table_of, tiny_config

from mm_ray.cli import experiment_parser, parse
from mm_ray.config import ExperimentConfig, LocalConfig, with_overrides
from mm_ray.errors import UserError
from mm_ray.fed.rounds import role_params
from mm_ray.models.student import load_student
from mm_ray.runtime.run_folder import RoundLog, config_yaml, default_name, open_folder, phases_place, write_results
from mm_ray.storage import write_text

CONFIGS = [
    ExperimentConfig(),
    tiny_config(),
    with_overrides(
        ExperimentConfig(),
        {
            "data.name": "avdigits",
            "data.root": "/data/a b: c #d",
            "model.conv_channels": (1, 2, 3),
            "phase1.kind": "joint",
            "phase2.local": LocalConfig(lr=1e-5, weight_decay=0.0),
            "phase2.loss_weight": 1.0,
            "clients.num_gpus": 0.25,
            "seed": 12345678901,
        },
    ),
    *(with_overrides(ExperimentConfig(), {"data.root": root}) for root in ("1", "null", "true", "1e5", "~/x", "-x", "[a]")),
]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_the_config_file_gives_the_same_config(tmp_path, config):
    path = open_folder(str(tmp_path), "run", config) / "config.yaml"
    parsed, _ = parse(experiment_parser("test", "test"), ["--config", str(path)])
    assert parsed == config
    assert config_yaml(parsed) == path.read_text()
    assert yaml.safe_load(path.read_text())["seed"] == config.seed


def test_flags_override_the_file(tmp_path):
    path = open_folder(str(tmp_path), "run", tiny_config()) / "config.yaml"
    parsed, _ = parse(experiment_parser("test", "test"), ["--phase2.temperature", "2", "--config", str(path), "--seed=9"])
    assert parsed == tiny_config({"phase2.temperature": 2.0, "seed": 9})


def test_the_same_config_opens_the_folder_again_and_another_is_refused(tmp_path):
    folder = open_folder(str(tmp_path), "run", tiny_config())
    (folder / "rounds.jsonl").write_text("kept")
    assert open_folder(str(tmp_path), "run", tiny_config()) == folder
    assert (folder / "rounds.jsonl").read_text() == "kept"
    with pytest.raises(UserError, match=r"^--name run: .*config\.yaml holds another config; choose another --name, or remove"):
        open_folder(str(tmp_path), "run", tiny_config({"seed": 2}))
    assert (folder / "config.yaml").read_text() == config_yaml(tiny_config())


def test_names_may_be_grouped_in_folders(tmp_path):
    assert (open_folder(str(tmp_path), "seeds/3", tiny_config()) / "config.yaml").exists()


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_folder("~/runs", "run", tiny_config()) == tmp_path / "runs" / "run"


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^--runs .*file: cannot be made .*; choose another --runs$"):
        open_folder(str(tmp_path / "file"), "run", tiny_config())


def test_the_default_name_belongs_to_the_config():
    name = default_name(tiny_config())
    assert name.startswith("modality_mirror-synthetic-")
    assert default_name(tiny_config()) == name
    assert default_name(tiny_config({"phase2.rounds": 4})) != name
    assert default_name(tiny_config({"data.name": "lab.mydata", "method": "a.b.mine"})).startswith("mine-mydata-")


def test_text_is_written_whole(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("old")
    write_text(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    assert path.read_text() == "new"


def test_the_round_log_has_a_line_a_round_and_begins_anew(tmp_path):
    run = Run(tmp_path / "phases")
    for _ in range(2):
        with RoundLog(tmp_path) as log:
            for number, report in enumerate(run.reports, start=1):
                log.add(report)
                lines = (tmp_path / "rounds.jsonl").read_text().splitlines()
                assert len(lines) == number  # a reader sees a round as soon as it is over
        assert [json.loads(line) for line in lines] == [report.to_json() for report in run.reports]


def test_the_results_are_the_student_and_its_numbers(tmp_path):
    run = Run(tmp_path / "phases")
    table = table_of(run.plan.config.data)
    path = write_results(tmp_path, run.tested, run.store, table)
    assert json.loads((tmp_path / "result.json").read_text()) == run.result
    student = load_student(path)
    assert (student.class_names, student.features) == (table.class_names, run.plan.config.data.features)
    best = role_params(run.plan.method.student, run.finished.outcomes, run.store)
    assert sum(p.numel() for p in student.network.parameters()) == sum(map(len, best.values()))
    head = best["audio.head"]
    last = dict(student.network.named_parameters())["parts.audio_head.classes.bias"].detach().numpy()
    assert np.array_equal(head[-len(last) :], last)


def test_the_phase_store_is_named_so_that_every_process_finds_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home-of-someone")
    assert phases_place("", "runs", "x") == str(tmp_path / "runs" / "phases")
    assert phases_place("here", "runs", "x") == str(tmp_path / "here")
    assert phases_place("~/here", "runs", "x") == "/home-of-someone/here"
    assert phases_place("s3://bucket/phases", "runs", "x") == "s3://bucket/phases"


@pytest.mark.parametrize(
    "phases", ["runs/x", "runs/x/phases", "{tmp}/runs/x", "file://{tmp}/runs/x", "runs/other/here", "link"]
)
def test_the_phase_store_lies_in_no_run(tmp_path, monkeypatch, phases):
    monkeypatch.chdir(tmp_path)
    open_folder("runs", "other", ExperimentConfig())
    (tmp_path / "link").symlink_to("runs/x")
    with pytest.raises(UserError, match=r"^--phases \S+: lies in the folder of the run \S+/runs/(x|other); leave it out, or"):
        phases_place(phases.format(tmp=tmp_path), "runs", "x")
    (tmp_path / "config.yaml").write_text("")  # of something else, around all runs
    assert phases_place("runs/mine", "runs", "x") == str(tmp_path / "runs" / "mine")


HOLDER = """
import sys, time
from mm_ray.config import ExperimentConfig
from mm_ray.runtime.run_folder import open_folder
open_folder(sys.argv[1], "run", ExperimentConfig())
print("open", flush=True)
time.sleep(60)
"""


def test_a_folder_belongs_to_one_process_until_it_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(UserError, match="another process works in"):
            open_folder(str(tmp_path), "run", ExperimentConfig())
        holder.kill()
    assert open_folder(str(tmp_path), "run", ExperimentConfig()) == open_folder(str(tmp_path), "run", ExperimentConfig())


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", ".."])
def test_a_name_stays_within_the_runs(tmp_path, name):
    with pytest.raises(UserError, match="leads out of"):
        open_folder(str(tmp_path / "runs"), name, ExperimentConfig())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [".", "./.", "phases", "features", "Phases/x", "features/a/b"])
def test_a_name_is_not_that_of_a_folder_which_all_runs_share(tmp_path, name):
    with pytest.raises(UserError, match=r"^--name \S+: .*choose a"):
        open_folder(str(tmp_path / "runs"), name, ExperimentConfig())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a", "a/b/c"), ("a/b", "a")])
def test_a_run_lies_in_no_other_run(tmp_path, first, second):
    open_folder(str(tmp_path), first, ExperimentConfig())
    with pytest.raises(UserError, match=r"^--name \S+: (lies in the folder of the run|holds runs)"):
        open_folder(str(tmp_path), second, ExperimentConfig())
    assert [path.parent for path in tmp_path.rglob("config.yaml")] == [tmp_path / first]


@pytest.mark.parametrize("name", ["rounds.jsonl", "tensorboard", "optuna.journal"])
def test_a_link_in_a_run_s_folder_is_not_followed(tmp_path, name):
    folder = open_folder(str(tmp_path), "run", ExperimentConfig())
    (tmp_path / "target").write_text("precious")
    (folder / "optuna.journal.lock").symlink_to(folder / "optuna.journal")  # Optuna's own, left by a killed driver
    open_folder(str(tmp_path), "run", ExperimentConfig())
    (folder / name).symlink_to(tmp_path / "target")
    with pytest.raises(UserError, match=rf"{name} is a link, .*; remove it"):
        open_folder(str(tmp_path), "run", ExperimentConfig())
    assert (tmp_path / "target").read_text() == "precious"
