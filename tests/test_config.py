"""Flags, files, search spaces and Python go through one check of types, choices and ranges."""

import pickle

import pytest
import yaml

from mm_ray.cli import experiment_parser, parse
from mm_ray.config import FIELDS, ExperimentConfig, LocalConfig, Phase1Config, with_overrides
from mm_ray.errors import UserError
from mm_ray.tune.space import load_space

CONFIG = ExperimentConfig()

WRONG = [
    ({"phase1.rounds": 2.5}, "--phase1.rounds 2.5: must be a whole number (default: 64)"),
    ({"phase1.rounds": True}, "--phase1.rounds True: must be a whole number"),
    ({"phase1.rounds": -1}, "--phase1.rounds -1: must be at least 2"),
    ({"phase1.local.lr": float("inf")}, "--phase1.local.lr inf: must be finite"),
    ({"phase2.local.lr": float("nan")}, "--phase2.local.lr nan: must be finite"),
    ({"phase2.local.lr": 10**400}, "--phase2.local.lr 1000"),
    ({"phase1.kind": "nonsense"}, "--phase1.kind nonsense: must be modality_wise or joint"),
    ({"clients.vectorize": "Off"}, "--clients.vectorize Off: must be auto, on or off; did you mean off?"),
    (
        {"phase2.server.optimizer": "adamw"},
        "--phase2.server.optimizer adamw: must be fedavg, sgd, adam or yogi; did you mean adam?",
    ),
    (
        {"phase1.kind": "Joint"},
        "--phase1.kind Joint: must be modality_wise or joint; did you mean joint?",
    ),
    ({"partition.video_missing": 1.5}, "--partition.video_missing 1.5: must be between 0 and 1 (default: 0.5)"),
    ({"phase2.student_init": "Phase1"}, "--phase2.student_init Phase1: must be phase1 or random; did you mean phase1?"),
    ({"phase2.audio_clients": "Train"}, "--phase2.audio_clients Train: must be idle or train; did you mean train?"),
    ({"phase1.fusion_frac": 1}, "--phase1.fusion_frac 1: must be above 0 and below 1"),
    ({"model.conv_channels": [1, 2]}, "--model.conv_channels [1, 2]: must be 3 whole numbers, each between 1"),
    ({"model.conv_channels": [1, 2, True]}, "--model.conv_channels [1, 2, True]: must be 3 whole numbers"),
    ({"data.features.sample_rate": 44_101}, "--data.features.sample_rate 44101: must be a multiple of 25"),
    ({"data.fold": -1}, "--data.fold -1: must be at least 0"),
    ({"phase1.server.noise": 0.5}, "--phase1.server.noise 0.5: needs --phase1.server.clip_norm; try 1"),
    ({"clients.num_gpus": 1.5}, "--clients.num_gpus 1.5: must be whole or a fraction such as 0.25"),
]
ONLY_PYTHON = [
    ({"phase1.local.scaffold": "false"}, "--phase1.local.scaffold false: must be true or false"),
    ({"phase1.local.scaffold": 0}, "--phase1.local.scaffold 0: must be true or false"),
    ({"phase2.temperature": "2"}, "--phase2.temperature 2: must be a number"),
    ({"data.name": 3}, "--data.name 3: must be text"),
    ({"phase2.temperature": None}, "--phase2.temperature None: must be a number"),
    ({"phase1": {"rounds": 3}}, "--phase1 {'rounds': 3}: is a group of fields; set them one by one, such as --phase1.kind"),
    ({"phase2": "x"}, "--phase2 x: is a group of fields"),
    ({"phase2.local": 3}, "--phase2.local 3: is a group of fields; set them one by one, such as --phase2.local."),
    ({"phase2": LocalConfig()}, "--phase2 LocalConfig("),
    ({"phase2.temprature": 1}, "--phase2.temprature 1: no such field; did you mean temperature?"),
    ({"phase3.rounds": 1}, "--phase3.rounds 1: no such field; did you mean phase"),
    ({"phase1.rounds.x": 1}, "--phase1.rounds.x 1: no such field"),
    ({"": 1}, "-- 1: no such field"),
]


@pytest.mark.parametrize(("overrides", "message"), WRONG + ONLY_PYTHON)
def test_python(overrides, message):
    with pytest.raises(UserError) as caught:
        with_overrides(CONFIG, overrides)
    assert str(caught.value).startswith(message)


def as_text(value):
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


@pytest.mark.parametrize(("overrides", "message"), WRONG)
def test_flags_end_in_the_same_line(overrides, message):
    flags = [f"--{name}={as_text(value)}" for name, value in overrides.items()]
    with pytest.raises(UserError) as caught:
        parse(experiment_parser("mm_ray.train", ""), flags)
    begin, remedy = str(caught.value).split(": ")[0], message.partition(": ")[2]
    assert begin.split()[0] == message.split()[0]
    assert str(caught.value).partition(": ")[2].startswith(remedy)


@pytest.mark.parametrize(("overrides", "message"), WRONG)
def test_a_file_ends_in_the_same_line(tmp_path, overrides, message):
    path = tmp_path / "c.yaml"
    tree = {}
    for name, value in overrides.items():
        *sections, field = name.split(".")
        inner = tree
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[field] = value
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError) as caught:
        parse(experiment_parser("mm_ray.train", ""), [f"--config={path}"])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("overrides", "message"), [*WRONG[:3], *WRONG[6:8], WRONG[-2], *ONLY_PYTHON[:3]])
def test_a_space_ends_in_the_same_line_and_names_the_parameter(tmp_path, overrides, message):
    path = tmp_path / "mine.py"
    path.write_text(f"def space(trial):\n    return {overrides!r}\n")
    with pytest.raises(UserError) as caught:
        load_space(str(path))
    assert str(caught.value).startswith(f"--space {path}: {message.replace('--', '')}")


def test_all_changes_come_before_the_check():
    noise, clip = ("phase1.server.noise", 0.5), ("phase1.server.clip_norm", 1)
    changed = with_overrides(CONFIG, dict([noise, clip]))
    assert changed == with_overrides(CONFIG, dict([clip, noise]))
    assert (changed.phase1.server.noise, changed.phase1.server.clip_norm) == (0.5, 1.0)
    off = with_overrides(changed, {"phase1.server.clip_norm": 0.0, "phase1.server.noise": 0.0})
    assert off == CONFIG


def test_a_section_and_a_field_of_it():
    for order in (1, -1):
        changes = [("phase1", Phase1Config(rounds=7)), ("phase1.local.lr", 0.5)][::order]
        changed = with_overrides(CONFIG, dict(changes)).phase1
        assert (changed.rounds, changed.local.lr) == (7, 0.5)


def test_whole_numbers_are_numbers_and_become_floats():
    changed = with_overrides(CONFIG, {"phase2.temperature": 2, "model.conv_channels": [1, 2, 3]})
    assert (changed.phase2.temperature, type(changed.phase2.temperature)) == (2.0, float)
    assert changed.model.conv_channels == (1, 2, 3)


def test_the_flags_read_each_type():
    flags = ["--phase1.local.scaffold=True", "--model.conv_channels=[1, 2, 3]", "--phase1.local.lr=1e-3", "--data.root=1"]
    config, _ = parse(experiment_parser("mm_ray.train", ""), flags)
    assert config.phase1.local.scaffold is True
    assert (config.model.conv_channels, config.phase1.local.lr, config.data.root) == ((1, 2, 3), 1e-3, "1")


def test_a_file_may_write_a_number_as_yaml_does_not(tmp_path):
    (tmp_path / "c.yaml").write_text("phase1: {local: {lr: 1e-3}}")  # a text, for YAML
    config, _ = parse(experiment_parser("mm_ray.train", ""), [f"--config={tmp_path / 'c.yaml'}", "--phase1.rounds=9"])
    assert (config.phase1.local.lr, config.phase1.rounds) == (1e-3, 9)


@pytest.mark.parametrize("group", ["--phase1", "--data.features", "--phase2.local"])
def test_a_group_takes_no_file(tmp_path, monkeypatch, group):
    (tmp_path / "lab.py").write_text("raise SystemExit('lab ran')")
    (tmp_path / "stranger.yaml").write_text("class_path: lab.X")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"^{group}: is a group of flags; give one of them, such as {group}"):
        parse(experiment_parser("mm_ray.train", ""), [group, str(tmp_path / "stranger.yaml")])


def test_every_field_has_its_help():
    assert all(info.description for info in FIELDS.values())


def test_it_crosses_processes():
    changed = with_overrides(CONFIG, {"phase2.temperature": 3.0})
    assert pickle.loads(pickle.dumps(changed)) == changed != CONFIG
    with pytest.raises(UserError) as caught:
        LocalConfig(lr=-1.0)
    assert str(pickle.loads(pickle.dumps(caught.value))) == "--lr -1.0: must be above 0 (default: 0.05)"
