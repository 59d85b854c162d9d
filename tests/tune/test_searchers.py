"""Searchers by name: each searches, goes on after a kill as if there had been none, and turns away from broken constraints."""

from pathlib import Path
from statistics import median

import optuna
import pytest
from tune.spaces import MIXED, PLAIN, play, space_of

from mm_ray.errors import UserError
from mm_ray.testing import check_sampler
from mm_ray.tune.reevaluation import ranking
from mm_ray.tune.samplers import SEARCHERS, check_searcher, grid_points, make_sampler, values_of
from mm_ray.tune.searcher import SearchSettings, StudySearch

PAIR = PLAIN + '\n    OBJECTIVES = {"dev/audio_top1": "max", "bytes": "min"}\n'
BOUND = PLAIN + '\n    AT_LEAST = {"dev/gain_top1": 0.0}\n'


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def score_of(params):
    return 0.9 - abs(params["phase2.loss_weight"] - 0.7) / 2 - params["phase2.temperature"] / 100


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_a_killed_study_goes_on_as_if_it_had_not_been(tmp_path, searcher):
    space, settings = space_of(tmp_path), SearchSettings(searcher, "asha")
    whole = play(StudySearch(space, tmp_path / "whole", "run", 5, settings), 0, 14, score_of)
    killed = StudySearch(space, tmp_path / "killed", "run", 5, settings)
    played = play(killed, 0, 11, score_of)
    killed.suggest("orphan")
    again = play(StudySearch(space, tmp_path / "killed", "run", 5, settings), 0, 3, score_of)
    assert played + again == whole
    assert len({tuple(params.values()) for params, _ in whole}) == 14
    assert {rounds for _, rounds in whole} >= {5, 20}


@pytest.mark.parametrize(("searcher", "trials"), [("tpe", 32), ("gp", 14), ("cmaes", 32), ("nsga2", 48)])
def test_a_searcher_with_a_model_beats_chance(tmp_path, searcher, trials):
    search = StudySearch(space_of(tmp_path), tmp_path / "run", "run", 1, SearchSettings(searcher))
    scores = [score_of(params) for params, _ in play(search, 0, trials, score_of, rounds=1)]
    assert median(scores[8:]) > median(scores[:8])


def test_cmaes_knows_one_objective(tmp_path):
    with pytest.raises(UserError, match="--searcher cmaes: supports one objective"):
        check_searcher("cmaes", space_of(tmp_path, PAIR))


def test_values_of_a_grid():
    d = optuna.distributions
    assert values_of(d.FloatDistribution(0, 1)) == [0, 0.25, 0.5, 0.75, 1]
    assert values_of(d.FloatDistribution(1, 16, log=True)) == pytest.approx([1, 2, 4, 8, 16])
    assert values_of(d.IntDistribution(10, 40, step=5)) == [10, 20, 25, 30, 40]
    assert values_of(d.IntDistribution(1, 3)) == [1, 2, 3]
    assert values_of(d.IntDistribution(1, 4, log=True)) == [1, 2, 3, 4]
    assert values_of(d.CategoricalDistribution(["b", "a"])) == ["b", "a"]


def test_a_grid_has_every_point_once_and_only_what_a_branch_suggests(tmp_path):
    points = grid_points(space_of(tmp_path, MIXED), seed=0)
    kept = [point for point in points if point["phase2.student_init"] == "phase1"]
    fresh = [point for point in points if point["phase2.student_init"] == "random"]
    assert sorted(point["phase2.temperature"] for point in kept) == pytest.approx([1, 2, 4, 8, 16])
    assert all("phase2.rounds" not in point for point in kept)
    assert sorted(point["phase2.rounds"] for point in fresh) == [10] * 5 + [20] * 5 + [30] * 5
    assert grid_points(space_of(tmp_path, MIXED), seed=1) != points


def test_a_grid_ends(tmp_path):
    space = space_of(tmp_path, MIXED)
    search = StudySearch(space, tmp_path / "run", "run", 0, SearchSettings("grid"))
    played = [params for params, _ in play(search, 0, 99, lambda params: 0.5)]
    assert played == grid_points(space, 0)
    assert StudySearch(space, tmp_path / "run", "run", 0, SearchSettings("grid")).suggest("more") == search.FINISHED


def test_a_grid_that_is_too_large(tmp_path, monkeypatch):
    many = "\n".join(f'        trial.suggest_float("p{i}", 0, 1)' for i in range(6))
    text = f"    def space(trial):\n{many}\n        return {{}}\n"
    monkeypatch.setattr("mm_ray.tune.samplers.MAX_POINTS", 200)
    with pytest.raises(UserError, match="more than 200 points"):
        grid_points(space_of(tmp_path, text), 0)


def end(search, trial_id, score, **metrics):
    search.on_trial_complete(trial_id, {"score": score, "dev/audio_top1": score, "finished": True, **metrics})


def test_a_trial_below_its_bound_is_not_chosen(tmp_path):
    search = StudySearch(space_of(tmp_path, BOUND), tmp_path / "run", "run")
    for index, (score, gain) in enumerate([(0.5, 0.1), (0.9, -0.2), (0.6, 0.0)]):
        search.suggest(f"t{index}")
        end(search, f"t{index}", score, **{"dev/gain_top1": gain})
    assert [trial.number for trial in ranking(search.study)] == [2, 0, 1]
    assert search.study.best_trial.number == 2


def test_the_best_of_a_bound_that_none_keeps_is_the_best(tmp_path):
    search = StudySearch(space_of(tmp_path, BOUND), tmp_path / "run", "run")
    for index in range(2):
        search.suggest(f"t{index}")
        end(search, f"t{index}", 0.5 + index / 10, **{"dev/gain_top1": -0.1})
    assert [trial.number for trial in ranking(search.study)] == [1, 0]


def test_of_two_objectives_the_best_trial_lies_on_the_pareto_front(tmp_path):
    search = StudySearch(space_of(tmp_path, PAIR), tmp_path / "run", "run", 0, SearchSettings("nsga2"))
    for index, (top1, sent) in enumerate([(0.5, 10), (0.6, 20), (0.4, 20), (0.6, 30)]):
        search.suggest(f"t{index}")
        end(search, f"t{index}", top1, bytes=sent)
    assert [trial.number for trial in search.study.best_trials] == [0, 1]
    assert ranking(search.study)[0].number == 1


OWN = "import optuna\ndef sampler(seed): return optuna.samplers.RandomSampler(seed)\ndef odd(seed): return seed\n"


def test_an_own_sampler_suggests_and_resumes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("draws.py").write_text(OWN)
    check_searcher("draws.py", space_of(tmp_path, PAIR))
    drawn = [make_sampler(name, 0, 3)._rng.rng.random() for name in ("draws.py", "draws.py:sampler", "random")]
    assert drawn[0] == drawn[1] == drawn[2]
    check_sampler("draws.py")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tp", "searcher tp: .*known names: cmaes, gp"),
        ("none.py", "searcher none.py: no such file"),
        ("draws.py:thing", r"searcher draws.py:thing: the module has no function thing\(seed\)"),
        ("draws.py:odd", "searcher draws.py:odd: gives a int; it must give an optuna.samplers.BaseSampler"),
    ],
)
def test_a_sampler_that_is_none(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    Path("draws.py").write_text(OWN)
    with pytest.raises(UserError, match=message):
        check_searcher(name, space_of(tmp_path, PAIR))
