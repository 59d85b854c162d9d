"""A study begun from an older one's trials: which are taken, and why the others are not."""

import json

import optuna
import pytest
from fed.tiny import tiny_config
from tune.spaces import space_of

from mm_ray.errors import UserError
from mm_ray.runtime.run_folder import config_yaml
from mm_ray.tune.earlier_study import check_earlier, take_trials
from mm_ray.tune.reevaluation import ranking
from mm_ray.tune.searcher import SearchSettings, StudySearch
from mm_ray.tune.study_log import read_trials
from mm_ray.tune.suggester import Suggester

# The older space had temperatures to 20 and rates of phase 2 as they were; the new one ends at 10 and searches a rate too.
SPACE = """
    AT_LEAST = {"dev/gain_top1": 0.0}

    def space(trial):
        return {
            "phase2.temperature": trial.suggest_float("phase2.temperature", 1, 10),
            "phase2.local.lr": trial.suggest_float("phase2.local.lr", 0.01, 1, log=True),
        }
"""


def row(number, temperature, top1, state="COMPLETE", **more):
    curve = [
        {"phase": "phase2/distill", "round": n, "metrics": {"dev/audio_top1": value}, "reused": False, "seed": 1}
        for n, value in enumerate((top1, top1 - 0.1), start=1)
    ]
    fields = {"phase2.temperature": temperature} | more
    metrics = {"dev/audio_top1": top1, "dev/gain_top1": 0.1, "rounds": 7}
    return {
        "number": number, "state": state, "params": {"phase2.temperature": temperature}, "overrides": fields, "score": top1,
        "seed_scores": [top1], "best_round": 1, "rounds_computed": 5, "rounds_reused": 2, "seconds": 3.0, "metrics": metrics,
        "curve": curve,
    }  # fmt: skip


@pytest.fixture
def old(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "config.yaml").write_text(config_yaml(tiny_config()))
    (folder / "study.json").write_text(json.dumps({"seeds": 1}))
    rows = [
        row(0, 4.0, 0.5),
        row(1, 15.0, 0.9),
        row(2, 5.0, 0.8, **{"phase2.rounds": 2}),
        row(3, 6.0, 0.4, "PRUNED"),
        row(4, 2.0, 0.7),
    ]
    (folder / "trials.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return folder


@pytest.fixture
def search(tmp_path):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return StudySearch(space_of(tmp_path, SPACE), tmp_path / "new", "new", 0, SearchSettings("random"))


def test_trials_of_the_same_configuration_are_known_results(old, search):
    line = take_trials(search, tiny_config(), 1, old)
    assert line == (
        "from old: trials 0, 4 taken; not taken: 1 (outside the space); 2 (phase2.rounds 2, here 3); 3 (not complete)"
    )
    first, second = search.study.trials
    assert first.params == {"phase2.temperature": 4.0, "phase2.local.lr": 0.1}, "the rate is that of the older config"
    assert first.intermediate_values == {1: 0.5, 2: 0.4}
    assert (second.values, second.constraints) == ([0.7], {"dev/gain_top1": -0.1})
    assert [trial.number for trial in ranking(search.study)] == [1, 0]
    assert search.remaining(3) == 3, "they are none of the trials that were asked for"
    rows = read_trials(search.run_dir)
    assert [(one["number"], one["from"], one["rounds_computed"], one["rounds_reused"]) for one in rows] == [
        (0, "old/0", 0, 7), (1, "old/4", 0, 7)
    ]  # fmt: skip
    assert rows[1]["overrides"] == {"phase2.temperature": 2.0, "phase2.local.lr": 0.1}


def test_they_are_taken_once_and_are_answers_to_duplicates(old, search):
    for _ in range(2):
        take_trials(search, tiny_config(), 1, old)
    assert len(search.study.trials) == 2
    search.study.enqueue_trial({"phase2.temperature": 4.0, "phase2.local.lr": 0.1})
    trial, _ = Suggester(search.study, search.space, 0, "random").ask()
    assert search.study.trials[2].user_attrs["same_as"] == 0
    assert trial.number == 3


def test_another_config_or_number_of_seeds_takes_none(old, search):
    assert take_trials(search, tiny_config({"seed": 2}), 1, old).startswith(
        "from old: trials none taken; not taken: 0, 4 (seed 1, here 2); "
    )
    assert "0, 1, 2, 4 (seeds 1, here 3)" in take_trials(search, tiny_config(), 3, old)
    assert not search.study.trials


def test_a_study_that_is_not_there_is_refused(old, tmp_path):
    assert check_earlier("old", str(tmp_path), "new") == old
    with pytest.raises(UserError, match=r"from gone: no study in .*gone; see --runs"):
        check_earlier("gone", str(tmp_path), "new")
    with pytest.raises(UserError, match="from old: is this study itself"):
        check_earlier("old", str(tmp_path), "old")


def test_the_study_has_its_metrics_names(search):
    assert search.study.metric_names == ["dev/audio_top1"]
