"""Every module in `mm_ray/methods` builds a method that runs, and whose roles exist."""

import dataclasses

import pytest
from fed.tiny import Run, tiny_config

from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.errors import UserError
from mm_ray.fed.method import find_method
from mm_ray.fed.phase import NetworkRef
from mm_ray.plugins import modules_in, resolve
from mm_ray.testing import check_method, check_phases
from mm_ray.tune.method_search import default_of

NAMES = modules_in("mm_ray.methods")
SIDE_BY_SIDE = {"unifl": 2}
"""Federations that share nothing, each with all the rounds."""


@pytest.fixture(scope="module", params=NAMES)
def run(request, tmp_path_factory):
    return Run(tmp_path_factory.mktemp(request.param), {"method": request.param})


def test_the_folder_holds_methods():
    assert {"modality_mirror", "control"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_its_phases_fit_together_and_its_roles_are_the_fields(name):
    assert resolve("method", name, "mm_ray.methods").__doc__
    check_phases(tiny_config({"method": name}))
    method = find_method(tiny_config({"method": name}))
    assert all(isinstance(role, NetworkRef) for role in method.roles.values())
    networks = {role: where.network for role, where in method.roles.items()}
    assert networks.items() <= {"student": "audio", "phase1_audio": "audio", "teacher": "av"}.items()
    assert method.main == method.student or (method.student is None and method.main == method.teacher)


OWN = """
from mm_ray.methods import modality_mirror

def build(config):
    return modality_mirror.build(config)
"""


def test_an_own_method_is_checked_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    check_method("mine.py")


@pytest.mark.parametrize("name", NAMES)
def test_it_has_as_many_rounds_as_every_other(name):
    method = find_method(tiny_config({"method": name, "phase1.rounds": 9, "phase2.rounds": 5}))
    trained = [phase.rounds for phase in method.phases if phase.name != "phase1/teacher_logits"]
    assert sum(trained) == 14 * SIDE_BY_SIDE.get(name, 1)


def test_it_runs_and_every_role_is_scored(run):
    method, result = run.plan.method, run.result
    assert result["rounds_computed"] == len(run.reports) == sum(phase.rounds for phase in method.phases)
    assert set(result["test"]) == set(result["dev"]) == set(method.roles)
    assert all(0 <= score <= 1 for scores in result["test"].values() for score in scores.values())
    rounds = {phase.name: phase.rounds for phase in method.phases}
    assert 1 <= result["best_round"] <= rounds[method.main.phase]


def test_the_result_is_that_of_the_roles_best_rounds(run):
    method, outcomes = run.plan.method, run.finished.outcomes
    for name, role in method.roles.items():
        top1 = [report.metrics[f"dev/{role.network}_top1"] for report in outcomes[role.phase].reports]
        assert run.result["dev"][name]["top1"] == max(top1)


def test_it_gives_the_same_bits_again(run, tmp_path):
    assert Run(tmp_path, plan=run.plan).bits() == run.bits()


def test_fusion_gets_its_share_of_phase_1():
    for rounds, unimodal, fusion in ((2, 1, 1), (3, 2, 1), (8, 7, 1), (16, 14, 2), (64, 56, 8)):
        phases = find_method(tiny_config({"phase1.rounds": rounds})).phases
        assert [phase.rounds for phase in phases] == [unimodal, fusion, 1, 3]
    phases = find_method(tiny_config({"phase1.rounds": 8, "phase1.fusion_frac": 0.99})).phases
    assert [phase.rounds for phase in phases[:2]] == [1, 7]


@pytest.mark.parametrize(("name", "audio_clients"), [("control", "idle"), ("control_all", "train")])
def test_a_control_differs_in_the_loss_weight_only(name, audio_clients):
    fields = {"phase2.audio_clients": audio_clients}
    method, control = (find_method(tiny_config(fields | {"method": one})) for one in ("modality_mirror", name))
    assert control.phases[:-1] == method.phases[:-1]
    last = method.phases[-1]
    without = dataclasses.replace(last, phase2=dataclasses.replace(last.phase2, loss_weight=0.0))
    assert control.phases[-1] == without


def test_an_unknown_method_lists_what_is_there():
    with pytest.raises(
        UserError, match=r"^--method controll: did you mean 'control'\? known names: .*control, .*modality_mirror"
    ):
        find_method(tiny_config({"method": "controll"}))


def test_dashes_and_dotted_names_are_fine():
    method = find_method(tiny_config())
    for name in ("modality-mirror", "mm_ray.methods.modality_mirror"):
        assert find_method(tiny_config({"method": name})) == method


@pytest.mark.parametrize("name", NAMES)
def test_its_search_space_begins_with_the_defaults(name):
    first = default_of(name)
    assert "phase1.local.lr" in first
    assert with_overrides(ExperimentConfig(), first) == ExperimentConfig()
    assert callable(resolve("method", name, "mm_ray.methods").space)


def test_a_method_without_a_space_gets_both_learning_rates(tmp_path, monkeypatch):
    (tmp_path / "spaceless.py").write_text("def build(config): ...")
    monkeypatch.chdir(tmp_path)
    assert default_of("spaceless") == {"phase1.local.lr": 0.05, "phase2.local.lr": 0.05}
