"""What a phase's key depends on: everything that its result depends on, and never the number of rounds."""

import dataclasses
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
from fed.tiny import TINY, table_of, tiny_config, tiny_plan

from mm_ray.config import ExperimentConfig, flatten, to_dict
from mm_ray.fed.experiment import plan_experiment
from mm_ray.fed.phase import key_settings
from mm_ray.fed.phase_store import phase_key
from mm_ray.fed.rounds import PhaseResult, _key_content, dev_top1
from mm_ray.types import RoundReport

UNIMODAL, FUSION, LOGITS, DISTILL = "phase1/unimodal", "phase1/fusion", "phase1/teacher_logits", "phase2/distill"
ALL = {UNIMODAL, FUSION, LOGITS, DISTILL}
SMALL = {"data.synthetic.clips_per_class": 15, "phase2.loss_weight": 0.5}
REPORT = RoundReport("any", 1, {dev_top1(network): 0.5 for network in ("audio", "video", "av")}, 1, 0.1, 0, 0)


def keys_of(plan):
    """Key by phase, as if every phase had its best accuracy in round 1."""
    outcomes = {}
    for phase in plan.method.phases:
        key = phase_key(_key_content(phase, plan.federation, outcomes))
        outcomes[phase.name] = PhaseResult(key, (REPORT,))
    return {name: outcome.key for name, outcome in outcomes.items()}


@lru_cache(maxsize=1)
def base_keys():
    return keys_of(tiny_plan(SMALL))


def changed(overrides, before=()):
    keys = keys_of(tiny_plan(SMALL | overrides))
    base = keys_of(tiny_plan(SMALL | before)) if before else base_keys()
    return {name for name in ALL if keys.get(name) != base[name]}


@pytest.mark.parametrize(
    ("field", "value", "phases"),
    [
        ("phase1.rounds", 50, set()),
        ("phase1.fusion_frac", 0.5, set()),
        ("phase2.rounds", 50, set()),
        ("clients.num_actors", 8, set()),
        ("clients.num_cpus", 0.25, set()),
        ("clients.num_gpus", 0.5, set()),
        ("clients.profile", "phone", set()),
        ("phase2.temperature", 4.0, {DISTILL}),
        ("phase2.loss_weight", 0.9, {DISTILL}),
        ("phase2.loss", "mm_ray.losses.kd", {DISTILL}),
        ("phase2.local.lr", 0.01, {DISTILL}),
        ("phase2.audio_clients", "idle", {DISTILL}),
        ("phase2.student_init", "random", {DISTILL}),
        ("phase1.local.lr", 0.01, ALL),
        ("clients.chunk_size", 1, ALL),
        ("clients.vectorize", "off", ALL),
        ("clients.vectorize", "on", set()),
        ("clients.precision", "float32", set()),
        ("clients.precision", "bfloat16", {UNIMODAL, FUSION, DISTILL, LOGITS}),
        ("clients.sample_frac", 1.0, ALL),
        ("partition.alpha", 0.3, ALL),
        ("partition.video_missing", 0.2, ALL),
        ("model.hidden", 9, ALL),
        ("seed", 2, ALL),
    ],
)
def test_a_setting_changes_the_keys_of_the_phases_that_it_reaches(field, value, phases):
    assert changed({field: value}) == phases


WITHOUT_RESULT = {"phase1.rounds", "phase1.fusion_frac", "phase2.rounds", "clients.profile"} | {
    f"clients.num_{what}" for what in ("actors", "cpus", "gpus")
}
ELSEWHERE = {
    f"data.{name}"
    for name in ["name", "root", "fold", "annotations", "classes", "video_weights", "dev_from_train", "group_pattern"]
}
ELSEWHERE |= {"method", "partition.label_confusion", "data.folds", "data.features.audio", "data.label_column"}
"""Data enters by the fingerprint of what was read, wrong labels by their matrix (both below); methods share phases, so a
method's name must not enter."""
OTHER = {
    **{
        f"phase{n}.{name}": value
        for n in (1, 2)
        for name, value in {"local.prox_mu": 0.1, "server.optimizer": "adam", "local.optimizer": "adam"}.items()
    },
    **{f"phase{n}.server.{name}": value for n in (1, 2) for name, value in {"rule": "median", "max_norm": 1.0}.items()},
    **{f"phase{n}.server.clip_norm": 1.0 for n in (1, 2)},
    "clients.dropout_frac": 0.2,
    "clients.deadline_s": 9.0,
    "clients.sim_deadline_s": 9.0,
    "clients.vectorize": "off",
    "clients.precision": "bfloat16",
    "phase1.server.lr": 0.5,
    "phase2.server.lr": 0.5,
    "phase2.class_temperature": 2.0,
    "partition.kind": "natural",
    "phase1.kind": "joint",
    "phase2.student_init": "random",
    "phase2.audio_clients": "idle",
    "phase2.loss": "mm_ray.losses.kd",
    "model.audio_pooling": "attention",
    "model.audio_encoder": "mlp",
    "model.video_encoder": "mlp",
    "model.conv_channels": [4, 4, 9],
    "partition.video_missing": 0.2,
    "partition.label_noise": 0.3,
    "partition.num_clients": 5,
    "partition.min_clips": 4,
    "data.features.sample_rate": 8_000,
    "data.features.video": "media_files:brightness",
    "data.features.video_color": "rgb",
    "data.features.normalize": "group",
    "data.features.window_hop_s": 0.5,
    "data.synthetic.label_noise": 0.5,
    "data.synthetic.num_groups": 10,
}
NEEDS = {f"phase{n}.local.optimizer": {f"phase{n}.local.lr": 0.01} for n in (1, 2)}
NEEDS |= {"clients.sim_deadline_s": {"clients.profile": "phone"}}
"""What must be there before and after: adam refuses the tiny config's learning rate, a simulated deadline needs devices."""
FIELDS = {name: TINY.get(name, value) for name, value in flatten(to_dict(ExperimentConfig())).items()} | SMALL


def another(name):
    value = FIELDS[name]
    if isinstance(value, bool):
        return not value
    if name in OTHER or isinstance(value, int):
        return OTHER.get(name, value + 1 if isinstance(value, int) else None)
    return value * 0.9


OF_SOME_LOSSES = {name for name in FIELDS if name.startswith("phase2.losses.")}
OF_SOME_OPTIMISERS = {f"phase{n}.server.{name}" for n in (1, 2) for name in ("momentum", "beta2", "tau", "bad_frac", "noise")}
OF_SOME_ENCODERS = {name for name in FIELDS if name.startswith("model.") and name.count(".") == 2}
"""They enter with what reads them (the last test here, tests/distill/test_loss_spec.py, tests/fed/test_server_optimizers.py,
tests/fed/test_aggregators.py), and not with the default."""


@pytest.mark.parametrize(
    "field", sorted(set(FIELDS) - WITHOUT_RESULT - ELSEWHERE - OF_SOME_LOSSES - OF_SOME_OPTIMISERS - OF_SOME_ENCODERS)
)
def test_every_other_field_of_the_config_enters_the_student_s_key(field):
    assert another(field) != FIELDS[field]
    needs = NEEDS.get(field, {})
    assert DISTILL in changed(needs | {field: another(field)}, needs)


@pytest.mark.parametrize("field", sorted(WITHOUT_RESULT))
def test_the_fields_that_do_not_enter_exist(field):
    assert field in FIELDS


@pytest.mark.parametrize("field", ["dkd_alpha", "dkd_beta", "c2kd_min_tau"])
def test_a_loss_s_own_setting_enters_with_that_loss_only(field):
    name = field.partition("_")[0]
    with_loss, without = ({"phase2.loss": loss} for loss in (f"kd+{name}", "kd"))
    own = {f"phase2.losses.{field}": 0.5}
    assert keys_of(tiny_plan(SMALL | with_loss))[DISTILL] != keys_of(tiny_plan(SMALL | with_loss | own))[DISTILL]
    assert changed(without | own) == set()


def test_the_data_s_fingerprint_enters():
    # The fold is part of the fingerprint (tests/data/test_feature_store.py).
    config = tiny_config(SMALL)
    other = replace(table_of(config.data), fingerprint="another fold")
    keys = keys_of(plan_experiment(config, other))
    assert all(keys[name] != base_keys()[name] for name in ALL)


def test_a_confusion_matrix_enters_by_its_numbers_and_not_by_its_file_s_name(tmp_path):
    noise, keys = {"partition.label_noise": 0.3}, {}
    next_class, before = "0,1,0,0\n0,0,1,0\n0,0,0,1\n1,0,0,0\n", "0,0,0,1\n1,0,0,0\n0,1,0,0\n0,0,1,0\n"
    for name, matrix in (("a", next_class), ("copy", next_class), ("other", before)):
        (tmp_path / name).write_text(matrix)
        keys[name] = keys_of(tiny_plan(SMALL | noise | {"partition.label_confusion": str(tmp_path / name)}))
    assert keys["a"] == keys["copy"]
    assert all(keys["a"][name] != keys["other"][name] for name in ALL)
    assert changed({"partition.label_confusion": str(tmp_path / "a")}) == set()  # no label is replaced


def test_a_device_that_changes_bits_enters_and_the_cpu_leaves_the_keys_as_they_were():
    plan = tiny_plan(SMALL)
    phase = plan.method.phases[0]
    assert _key_content(phase, plan.federation, {}, "cuda") == _key_content(phase, plan.federation, {}) | {"device": "cuda"}
    assert "device" not in _key_content(phase, plan.federation, {}, "cpu")


def test_upstream_enters_by_its_key_and_its_best_round():
    plan = tiny_plan(SMALL)
    distill = plan.method.phases[-1]
    outcomes = {phase.name: PhaseResult(phase.name, (REPORT,)) for phase in plan.method.phases}
    key = phase_key(_key_content(distill, plan.federation, outcomes))
    late = replace(REPORT, round=2, metrics={name: 0.9 for name in REPORT.metrics})
    for other in (PhaseResult("other", (REPORT,)), PhaseResult(UNIMODAL, (REPORT, late))):
        assert phase_key(_key_content(distill, plan.federation, outcomes | {UNIMODAL: other})) != key


@pytest.mark.parametrize("field", ["temperature", "loss_weight", "loss"])
def test_the_control_is_the_same_whatever_it_does_not_use(field):
    value = {"temperature": 9.0, "loss_weight": 0.7, "loss": "mm_ray.losses.kd"}[field]
    control = keys_of(tiny_plan(SMALL | {"method": "control"}))
    assert keys_of(tiny_plan(SMALL | {"method": "control", f"phase2.{field}": value})) == control
    assert (
        keys_of(tiny_plan(SMALL | {"phase2.loss_weight": 0.0, "phase2.temperature": 9.0, "phase2.audio_clients": "idle"}))
        == control
    )


def test_the_control_shares_phase_1_with_what_it_controls():
    control = keys_of(tiny_plan(SMALL | {"method": "control"}))
    assert {name for name in ALL if control[name] != base_keys()[name]} == {DISTILL}


def test_settings_name_no_number_of_rounds():
    for phase in tiny_plan().method.phases:
        assert "rounds" not in key_settings(phase)
        assert key_settings(dataclasses.replace(phase, rounds=99)) == key_settings(phase)


@pytest.mark.parametrize(
    ("method", "field", "phases"),
    [
        ("harmony", "phase1.local.lr", {UNIMODAL, "harmony/fusion"}),
        ("harmony", "phase2.local.lr", {"harmony/fusion"}),
        ("harmony", "phase2.server.lr", {"harmony/fusion"}),
        ("harmony", "phase2.loss_weight", set()),
        ("fedcmi", "phase1.local.lr", {"fedcmi/joint"}),
        ("fedcmi", "phase2.loss_weight", {"fedcmi/joint"}),
        ("fedcmi", "phase2.local.lr", set()),
        ("mfcpl", "phase1.local.lr", {"mfcpl/joint"}),
        ("mfcpl", "phase2.loss_weight", {"mfcpl/joint"}),
        ("mfcpl", "phase2.temperature", set()),
    ],
)
def test_a_setting_enters_the_keys_of_the_baselines_that_read_it(method, field, phases):
    before, after = (keys_of(tiny_plan(SMALL | {"method": method} | own)) for own in ({}, {field: 0.123}))
    assert {name for name in before if before[name] != after[name]} == phases


@pytest.mark.parametrize("name", ["transformer.layers", "resnet.channels", "mlp.layers"])
def test_an_encoder_s_own_setting_enters_with_that_encoder_only(name):
    encoder, own = {"model.audio_encoder": name.partition(".")[0]}, {f"model.{name}": (5, 5, 5) if "channels" in name else 1}
    assert changed(encoder | own, encoder) == ALL
    assert changed(own) == set()


def test_the_channels_of_convolutions_enter_with_their_encoder_only():
    channels, gru = {"model.conv_channels": (4, 4, 4)}, {"model.audio_encoder": "gru"}
    assert changed(channels) == ALL
    assert changed(gru | channels, gru) == set()


def test_how_an_encoder_s_name_is_spelled_does_not_enter():
    assert changed({"model.audio_encoder": "conv-gru"}) == set()
    spelled = {"model.video_encoder": "frame_cnn", "model.frame_cnn.channels": (5, 5)}
    assert changed(spelled | {"model.video_encoder": "frame-cnn"}, spelled) == set()


def test_the_default_encoders_leave_the_keys_as_they_were():
    model = key_settings(tiny_plan(SMALL).method.phases[0])["model"]
    assert sorted(model) == [
        "attention_heads", "attention_size", "audio_pooling", "classifier_hidden", "conv_channels", "dropout", "hidden",
    ]  # fmt: skip


def test_an_own_encoder_enters_by_its_source(tmp_path, monkeypatch):
    own, keys = {"model.audio_encoder": "mine.py"}, []
    for comment in ("", "# an edit"):
        (tmp_path / f"at{len(keys)}").mkdir()
        monkeypatch.chdir(tmp_path / f"at{len(keys)}")
        Path("mine.py").write_text(f"from mm_ray.models.encoders.mlp import MLP\n{comment}\nbuild = MLP\n")
        keys.append(keys_of(tiny_plan(SMALL | own)))
    assert all(keys[0][name] != keys[1][name] for name in ALL)


def test_an_encoder_that_is_trained_one_by_one_has_the_key_of_one_by_one():
    encoder = {"model.audio_encoder": "transformer"}
    assert changed(encoder | {"clients.vectorize": "off"}, encoder) == set()
