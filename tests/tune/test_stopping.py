"""When a study ends early, and what is said before it begins."""

import re
import signal
import time
from datetime import datetime
from shlex import quote

import pytest
from fed.tiny import tiny_plan
from tune.spaces import PLAIN, play, space_of

from mm_ray.errors import UserError
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.tune.estimate import Measured, duration, estimate, measure, size
from mm_ray.tune.live_table import LiveTable
from mm_ray.tune.searcher import SearchSettings, StudySearch
from mm_ray.tune.stopping import Budget, StopConditions, seconds_of, since_best, stops_on_signals

ROUNDS = """
    ENQUEUED = [{"phase2.rounds": 3, "phase2.temperature": 4.0}, {"phase2.rounds": 5, "phase2.temperature": 4.0}]

    def space(trial):
        return {
            "phase2.rounds": trial.suggest_int("phase2.rounds", 3, 5),
            "phase2.temperature": trial.suggest_float("phase2.temperature", 1, 20),
        }
"""


@pytest.mark.parametrize(
    ("text", "seconds"), [("", 0), ("90", 90), ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("1.5 h", 5400), ("2D", 172800)]
)
def test_times(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["soon", "3x", "-5", "1h and a bit"])
def test_no_time(text):
    with pytest.raises(UserError, match=re.escape(f"--time {quote(text)}: ")):
        seconds_of(text)


@pytest.fixture
def search(tmp_path):
    return StudySearch(space_of(tmp_path), tmp_path / "run", "run", 0, SearchSettings("random"))


def open_after(search, budget):
    """Whether a trial that Tune stops after the budget's word stays open."""
    search.suggest("open")
    assert budget.stop_all()
    search.on_trial_complete("open", {"score": 0.1, "steps": [(1, 0.1)], "finished": False})
    return search.study.trials[-1].state.name == "RUNNING"


def test_nothing_ends_without_a_limit(search):
    play(search, 0, 3, lambda params: 0.5)
    budget = Budget(search, StopConditions())
    assert not budget("t", {"rounds_computed": 10**9})
    assert (budget.stop_all(), budget.reason, budget.remaining_s) == (False, "", None)


def test_rounds_of_all_processes_count_once(search):
    search.suggest("earlier")
    search.on_trial_complete("earlier", {"score": 0.5, "finished": True, "rounds_computed": 30, "rounds_reused": 500})
    budget = Budget(search, StopConditions(rounds=50))
    for rounds in (5, 12, 19):
        budget("now", {"rounds_computed": rounds})
    assert not budget.stop_all()
    budget("other", {"rounds_computed": 1})
    assert open_after(search, budget)
    assert budget.reason == "50 rounds were computed"


def test_time(search):
    assert Budget(search, StopConditions(time_s=1000)).stop_all() is False
    budget = Budget(search, StopConditions(time_s=1e-9))
    assert open_after(search, budget)
    assert budget.reason == "its limit of 1e-09 s is reached"


def test_plateau(search):
    scores = iter([0.5, 0.7, 0.6, 0.7, 0.7])
    budget, ended = Budget(search, StopConditions(patience=3)), []
    for index in range(5):
        play(search, index, 1, lambda params: next(scores), rounds=1)
        ended.append((since_best(search.study.trials), budget.stop_all()))
    assert ended == [(0, False), (0, False), (1, False), (2, False), (3, True)]
    assert "the last 3 trials" in budget.reason


def test_patience_counts_in_the_order_of_the_ends_and_not_by_a_clock(tmp_path, monkeypatch):
    """Trial 1 ends before trial 0, on a clock that is set back by a year in between."""
    search = StudySearch(space_of(tmp_path), tmp_path / "run", "run", 0, SearchSettings("random"))
    for name in ("a", "b", "c"):
        search.suggest(name)
    days = iter(("2030-06-01", "2029-06-01", "2028-06-01"))

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromisoformat(next(days)).replace(tzinfo=tz)

    monkeypatch.setattr("optuna.storages.journal._storage.datetime", Clock)
    for name, score in (("b", 0.1), ("a", 0.3), ("c", 0.2)):
        search.on_trial_complete(name, {"score": score, "steps": [(1, score)], "finished": True})
    trials = search.study.trials
    assert [trial.datetime_complete.year for trial in trials] == [2029, 2030, 2028]
    assert since_best(trials) == 1, "one trial, c, ended after the best one, a"


def test_the_first_signal_asks_and_the_second_ends(search, capsys):
    budget = Budget(search, StopConditions())
    before = signal.getsignal(signal.SIGTERM)
    with stops_on_signals(budget):
        signal.raise_signal(signal.SIGTERM)
        assert budget.interrupted
        assert budget.stop_all()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert "open trials keep their last round" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is before


class Actors(SerialExecutor):
    """Client actors that take a while to start."""

    started = 0

    def __init__(self):
        Actors.started += 1
        time.sleep(0.3)

    def close(self):
        """Nothing to end."""


def test_the_measured_rounds_stay_in_the_store_and_are_measured_once(tmp_path):
    plan, store, before = tiny_plan(), PhaseStore(str(tmp_path)), Actors.started
    found = measure(plan, store, "cpu", Actors)
    assert found.round_s > 0
    assert found.state_bytes > 1000
    (key,) = (path.name for path in tmp_path.iterdir())
    assert 2 in store.rounds(key)
    again = measure(plan, store, "cpu", Actors)
    assert (Actors.started - before, again.start_s, again.state_bytes) == (1, 0.0, found.state_bytes)


MEASURED = Measured(start_s=4.0, round_s=1.0, state_bytes=1000)


def test_an_estimate_counts_shared_phases_once_and_what_comes_after_the_trials(tmp_path):
    plan, space = tiny_plan(), space_of(tmp_path, ROUNDS)
    guess = estimate(plan, space, MEASURED, 2, seeds=(1, 0), at_once=1, processes=2)
    # 3 modality-wise rounds, 1 of fusion, 1 of the teacher's logits; 3 and 5 of phase 2 at the same temperature.
    assert guess.rounds_asked == 2 * 5 + 3 + 5
    assert guess.rounds_computed == 5 + 5
    assert guess.rounds_after == 2 * 3, "two controls"
    assert guess.seconds > 2 * 4 + 2 * 3 * 1
    three = estimate(plan, space, MEASURED, 2, seeds=(3, 0), at_once=1, processes=2)
    assert (three.rounds_asked, three.rounds_computed) == (3 * 18, 3 * 10)
    # Two controls, phase 1 once and phase 2 for both finalists, each with three seeds.
    assert three.rounds_after == 3 * (2 * 3 + 5 + 2 * 3)
    tested = estimate(plan, space, MEASURED, 2, seeds=(1, 4), at_once=1, processes=2)
    assert tested.rounds_after == 4 * (2 * 3 + 8), "two controls and the chosen configuration, with four seeds"
    assert "54 rounds asked, about 30 to compute and 51 for the finals and the controls; about " in three.line(2)
    assert "(from a measured round of 1 s, the first one 4 s longer)" in three.line(2)


def test_of_two_temperatures_each_has_its_own_phase_2(tmp_path):
    text = PLAIN + '\n    ENQUEUED = [{"phase2.temperature": t, "phase2.loss_weight": 0.5} for t in (2.0, 4.0)]\n'
    guess = estimate(tiny_plan(), space_of(tmp_path, text), MEASURED, 2, (1, 0), 1, 2)
    assert (guess.rounds_asked, guess.rounds_computed) == (2 * 8, 5 + 2 * 3)


def test_words():
    assert [duration(s) for s in (0.2, 42, 600, 7200)] == ["1 s", "42 s", "10 min", "2.0 h"]
    assert [size(b) for b in (10, 2_500_000, 80e6, 1.25e9)] == ["1 kB", "2.5 MB", "80 MB", "1.2 GB"]


def test_the_live_title():
    live = LiveTable(4, lambda: 30.0)
    for number, (computed, reused) in enumerate([(60, 0), (20, 60)]):
        live.begin(number, {})
        live.update(number, {"score": 0.5 + number / 10, "reports": [], "rounds_computed": computed, "rounds_reused": reused})
    live.end(1, "COMPLETE")
    assert live.title().startswith("1 of 4 trials, best dev audio top-1 0.600, 140 rounds so far (60 from the store), about ")
    assert live.title().endswith(" left")


def test_a_trial_that_fails_before_it_begins_is_told(capsys):
    LiveTable(2).end(1, "FAIL")
    assert "trial 1 FAIL: no score" in capsys.readouterr().out
