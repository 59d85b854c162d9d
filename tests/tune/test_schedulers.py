"""Who is stopped: rules on stored curves, by hand."""

from statistics import fmean

import optuna
import pytest
from optuna.trial import create_trial
from tune.spaces import PLAIN, play, space_of

from mm_ray.errors import UserError
from mm_ray.tune.schedulers import SuccessiveHalving, check_scheduler, make_pruner
from mm_ray.tune.searcher import SearchSettings, StudySearch


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def stopped(pruner, curves):
    """Whether each curve (values at steps 1, 2, ...) is stopped at its last step, with those before it in the study."""
    study, answers = optuna.create_study(direction="maximize"), []
    for values in curves:
        study.add_trial(create_trial(value=fmean(values), intermediate_values=dict(enumerate(values, 1))))
        answers.append(pruner.prune(study, study.trials[-1]))
    return answers


def test_halving_keeps_the_best_third_at_a_rung():
    values = [0.5, 0.4, 0.6, 0.55, 0.3, 0.58, 0.61]
    assert stopped(SuccessiveHalving(2, 3), [[0, value] for value in values]) == [False, True, False, True, True, False, False]


def test_halving_judges_at_rungs_only():
    for length, judged in ((1, False), (2, True), (3, False), (5, False), (6, True), (7, False), (18, True)):
        assert stopped(SuccessiveHalving(2, 3), [[0.9] * length, [0.1] * length])[1] is judged, length


def test_each_bracket_has_its_own_first_rung_and_peers():
    # Trials 0 and 2 begin at round 2, trials 1 and 3 at round 6.
    assert stopped(SuccessiveHalving(2, 3, brackets=2), [[0.9] * 2, [0.1] * 2, [0.5] * 2, [0.1] * 2]) == [
        False,
        False,
        True,
        False,
    ]
    assert stopped(SuccessiveHalving(2, 3, brackets=2), [[0.1] * 6, [0.9] * 6, [0.1] * 6, [0.5] * 6]) == [
        False,
        False,
        False,
        True,
    ]


def test_a_rule_asked_twice_says_the_same():
    study, rule = optuna.create_study(direction="maximize"), SuccessiveHalving(2, 3)
    for value in (0.9, 0.1):
        study.add_trial(create_trial(value=value, intermediate_values={2: value}))
    assert [rule.prune(study, study.trials[1]) for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_a_study_stops_the_hopeless_and_says_so(tmp_path, name):
    search = StudySearch(space_of(tmp_path), tmp_path / "run", "run", 2, SearchSettings("random", name))
    played = play(search, 0, 20, lambda params: params["phase2.loss_weight"])
    ended = [rounds for _, rounds in played]
    assert min(ended) >= 5
    assert 20 in ended
    assert sum(rounds < 20 for rounds in ended) >= 5
    states = [trial.state.name for trial in search.study.trials]
    assert states == ["COMPLETE" if rounds == 20 else "PRUNED" for rounds in ended]
    assert [trial.last_step for trial in search.study.trials] == ended


def test_stored_rounds_are_judged_one_by_one(tmp_path):
    """What lies in the phase store passes in one result, and is stopped at the same round as if it had been computed."""
    search = StudySearch(space_of(tmp_path), tmp_path / "run", "run", 0, SearchSettings("random", "asha"))
    play(search, 0, 1, lambda params: 1.0)
    search.suggest("late")
    assert search.report("late", {"steps": [(step, 0.1) for step in range(1, 13)]})
    assert search.study.trials[1].last_step == 5


def test_a_driver_that_died_before_it_judged(tmp_path):
    settings = SearchSettings("random", "asha")
    search = StudySearch(space_of(tmp_path), tmp_path / "run", "run", 0, settings)
    play(search, 0, 1, lambda params: 1.0)
    search.suggest("b")
    for step in range(1, 6):
        search._live["b"].report(0.1, step)
    again = StudySearch(space_of(tmp_path), tmp_path / "run", "run", 0, settings)
    again.suggest("b again")
    assert not again.report("b again", {"steps": [(step, 0.1) for step in range(1, 5)]})
    assert again.report("b again", {"steps": [(5, 0.1)]})


def test_wilcoxon_stops_what_is_worse_seed_by_seed():
    pruner, best = make_pruner("wilcoxon"), [0.8, 0.7, 0.9, 0.6]
    assert stopped(pruner, [best, [0.7, 0.6]])[1] is False
    assert stopped(pruner, [best, [0.7, 0.6, 0.85]])[1] is True
    assert stopped(pruner, [best, [0.7, 0.9, 0.8]])[1] is False


def test_what_a_scheduler_cannot_compare(tmp_path):
    pair = space_of(tmp_path, PLAIN + '\n    OBJECTIVES = {"dev/audio_top1": "max", "bytes": "min"}\n')
    one = space_of(tmp_path)
    check_scheduler("none", pair, 3)
    check_scheduler("wilcoxon", one, 3)
    for case in (("asha", pair, 1), ("median", one, 3), ("wilcoxon", one, 1)):
        with pytest.raises(UserError, match=f"--scheduler {case[0]}: compares"):
            check_scheduler(*case)


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_a_rule_judges_each_round_by_the_best_up_to_it(name):
    curves = [[0.5, 0.6, 0.2, 0.4, 0.3], [0.1, 0.4, 0.2, 0.3, 0.35]] + [[0.45] * 5] * 4 + [[0.44, 0.1, 0.2, 0.1, 0.43]]
    best = [[max(curve[:n]) for n in range(1, 6)] for curve in curves]
    assert stopped(make_pruner(name), curves) == stopped(make_pruner(name), best)
    assert any(stopped(make_pruner(name), curves))
