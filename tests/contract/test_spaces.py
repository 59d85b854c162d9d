"""Every space of tune_spaces/ obeys the contract of a space; a new file there is tested from the day it exists."""

from dataclasses import replace

import optuna
import pytest

from mm_ray.config import ExperimentConfig, flatten, to_dict, with_overrides
from mm_ray.distill.objective import parse_loss
from mm_ray.errors import UserError
from mm_ray.plugins import modules_in, resolve
from mm_ray.testing import check_space
from mm_ray.tune.space import load_space, probe_study

SPACES = modules_in("tune_spaces")
FIELDS = flatten(to_dict(ExperimentConfig()))


def play(space, params):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(params)
    trial = study.ask()
    return trial, space.overrides(trial)


def test_the_shipped_spaces_are_there():
    assert {"distill", "two_phase", "losses", "optimizers", "pareto", "smoke"} <= set(SPACES)


@pytest.mark.parametrize("name", SPACES)
def test_loads_and_says_when_to_use_it(name):
    space = load_space(name)
    assert "Use it" in (resolve("space", name, "tune_spaces").__doc__ or "")
    assert space.objectives
    assert len(space.digest) == 16


@pytest.mark.parametrize("name", SPACES)
def test_optuna_names_are_config_names(name):
    space = load_space(name)
    for trial in probe_study(50):
        overrides = space.overrides(trial)
        assert {param.split("@")[0] for param in trial.params} <= set(overrides) <= set(FIELDS)
        with_overrides(ExperimentConfig(), overrides)


@pytest.mark.filterwarnings("error:.*out of range.*")
@pytest.mark.parametrize("name", SPACES)
def test_enqueued_trials_lie_in_the_space_and_hold_default_control_and_pure_kd(name):
    space = load_space(name)
    weights = []
    for params in space.enqueued:
        trial, overrides = play(space, params)
        assert {key: trial.params[key] for key in params} == params
        weights.append(overrides["phase2.loss_weight"])
    assert weights[:3] == [0.9, 0.0, 1.0]


@pytest.mark.parametrize("name", [name for name in SPACES if name != "smoke"])
def test_the_first_trial_is_the_default_config(name):
    space = load_space(name)
    _, overrides = play(space, space.enqueued[0])
    config, default = with_overrides(ExperimentConfig(), overrides), ExperimentConfig()
    assert config.phase1.server.step == default.phase1.server.step
    same = {f"phase{n}.server.lr": default.phase1.server.lr for n in (1, 2)}  # 0 stands for the optimizer's own rate
    assert with_overrides(config, same) == default


def test_a_random_student_has_its_own_learning_rates():
    space = load_space("two_phase")
    for trial in probe_study(50):
        overrides = space.overrides(trial)
        fresh = overrides["phase2.student_init"] == "random"
        assert ("phase2.local.lr@random" in trial.params) == fresh
        assert ("phase2.local.lr" in trial.params) != fresh


def test_a_loss_comes_with_its_own_parameters_and_no_others():
    space, seen = load_space("losses"), set()
    for trial in probe_study(200):
        overrides = space.overrides(trial)
        terms = {term.name for term in parse_loss(overrides["phase2.loss"])}
        own = {"dkd": "phase2.losses.dkd_beta", "c2kd": "phase2.losses.c2kd_min_tau", "crd": "phase2.losses.crd_tau"}
        assert all((field in overrides) == (name in terms) for name, field in own.items())
        assert ("phase2.temperature" in overrides) == bool({"kd", "dkd", "c2kd"} & terms)
        seen |= terms
    assert seen == {"kd", "dkd", "c2kd", "mse_logits", "fitnets", "rkd", "crd"}


def test_both_phases_step_alike():
    space, seen = load_space("optimizers"), set()
    for trial in probe_study(60):
        config = with_overrides(ExperimentConfig(), space.overrides(trial))
        assert config.phase1.server == config.phase2.server
        assert replace(config.phase1.local, lr=config.phase2.local.lr) == config.phase2.local
        assert not (config.phase1.local.scaffold and config.phase1.local.prox_mu)
        seen.add(config.phase1.server.optimizer)
    assert seen == {"fedavg", "sgd", "adam", "yogi"}


@pytest.mark.parametrize("name", SPACES)
def test_the_check_for_users_passes(name):
    check_space(name)


WRONG = {
    "suggests nothing": "def space(trial): return {}",
    "ENQUEUED lies outside the space: .*phase2.temperature.* 40": "ENQUEUED = [{'phase2.temperature': 40}]\ndef space(trial):\n"
    "    return {'phase2.temperature': trial.suggest_float('phase2.temperature', 1, 20)}",
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_fault_of_an_own_space_is_named(tmp_path, monkeypatch, fault):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(WRONG[fault])
    with pytest.raises(AssertionError, match=fault):
        check_space("mine.py")


def test_a_field_that_there_is_not_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def space(trial): return {'phase2.heat': trial.suggest_float('phase2.heat', 1, 2)}")
    with pytest.raises(UserError, match=r"^--space mine.py: phase2.heat"):
        check_space("mine.py")
