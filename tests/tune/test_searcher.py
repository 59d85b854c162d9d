"""The searcher: what it suggests, what it tells the study, and how a study goes on after its driver died."""

import pickle
import textwrap

import optuna
import pytest
from optuna.trial import TrialState

from mm_ray.errors import UserError
from mm_ray.tune.searcher import ENDED_AFTER, StudySearch, TrialDirCallback
from mm_ray.tune.space import load_space
from mm_ray.tune.stopping import Budget, StopConditions
from mm_ray.tune.study_storage import JOURNAL

SPACE = """
    OBJECTIVES = {"dev/audio_top1": "max"}
    ENQUEUED = [{"phase2.temperature": 4.0, "phase2.loss_weight": 0.0}, {"phase2.loss_weight": 1.0}]

    def space(trial):
        return {
            "phase2.temperature": trial.suggest_float("phase2.temperature", 1, 20, log=True),
            "phase2.loss_weight": trial.suggest_float("phase2.loss_weight", 0, 1),
            "phase2.rounds": trial.suggest_int("phase2.rounds", 1, 4),
        }
"""
TINY = """
    def space(trial):
        return {"phase2.rounds": trial.suggest_int("phase2.rounds", 1, 2)}
"""
# Good trials first, so that ASHA has something to compare the poor ones with; weight 1 is the trial that fails.
RAY = SPACE.replace("ENQUEUED = [", "ENQUEUED = [{'phase2.loss_weight': w} for w in (0.9, 0.8, 1.0, 0.1, 0.05)] #")
PAIR = TINY + '\n    OBJECTIVES = {"dev/audio_top1": "max", "bytes": "min"}\n'


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def make_space(tmp_path):
    def make(text=SPACE, name="mine.py"):
        (tmp_path / name).write_text(textwrap.dedent(text))
        return load_space(str(tmp_path / name))

    return make


@pytest.fixture
def search(tmp_path, make_space):
    return StudySearch(make_space(), tmp_path / "run", "run", seed=3)


def objective(params):
    return 1 - abs(params["phase2.loss_weight"] - 0.7) - params["phase2.temperature"] / 100


def finish(search, trial_id, score=0.5, **extra):
    search.on_trial_complete(trial_id, {"score": score, "finished": True, "done": True, "round": 9} | extra)


def run(search, number, first=0):
    """Trials one at a time; the sequence of their parameters."""
    sequence = []
    for index in range(first, first + number):
        params = search.suggest(f"t{index}")["params"]
        finish(search, f"t{index}", objective(params))
        sequence.append(params)
    return sequence


def states(search):
    return [trial.state for trial in search.study.trials]


def test_suggests_the_enqueued_first_then_its_own(search):
    first, second, third = (search.suggest(f"t{i}") for i in range(3))
    assert first["overrides"] == first["params"]
    assert first["params"]["phase2.loss_weight"] == 0.0
    assert first["params"]["phase2.temperature"] == 4.0
    assert second["params"]["phase2.loss_weight"] == 1.0
    assert [first["number"], second["number"], third["number"]] == [0, 1, 2]


def test_finished_is_complete_with_the_best_score(search):
    search.suggest("a")
    search.on_trial_result("a", {"score": 0.2, "round": 1})
    search.on_trial_result("a", {"score": 0.6, "round": 2})
    finish(search, "a", 0.6, round=3, summary={"teacher": 0.9}, rounds_computed=2, rounds_reused=7, seconds=1.5)
    (trial,) = search.study.get_trials(states=(TrialState.COMPLETE,))
    assert trial.value == 0.6
    assert trial.intermediate_values == {1: 0.2, 2: 0.6, 3: 0.6}
    notes = {"teacher": 0.9, "rounds_computed": 2, "rounds_reused": 7, "seconds": 1.5}
    assert trial.user_attrs == notes | {ENDED_AFTER: 0}


def test_flattened_summary(search):
    search.suggest("a")
    finish(search, "a", **{"summary/teacher": 0.9})
    assert search.study.trials[0].user_attrs == {"teacher": 0.9, ENDED_AFTER: 0}


def test_stopped_by_a_scheduler_is_pruned_with_the_best_reported(search):
    search.suggest("a")
    search.on_trial_result("a", {"score": 0.4, "round": 1})
    # Tune does not pass the result on which the scheduler stops a trial to on_trial_result, and marks it as done.
    search.on_trial_complete("a", {"score": 0.45, "round": 2, "done": True, "finished": False})
    trial = search.study.trials[0]
    assert (trial.state, trial.value) == (TrialState.PRUNED, 0.45)
    assert trial.intermediate_values == {1: 0.4, 2: 0.45}


def test_stopped_while_paused_has_no_result(search):
    search.suggest("a")
    search.on_trial_result("a", {"score": 0.4, "round": 1})
    search.on_trial_complete("a")
    assert (search.study.trials[0].state, search.study.trials[0].value) == (TrialState.PRUNED, 0.4)


def test_error_is_failed_with_its_reason(search, tmp_path):
    search.suggest("a")
    search.on_trial_complete("a", error="out of memory")
    search.suggest("b")
    (tmp_path / "error.txt").write_text("Failure # 1\nTraceback\nValueError: no such clip\n")
    search.watch("b", str(tmp_path))
    search.on_trial_complete("b", error=True)
    search.suggest("c")
    search.on_trial_complete("c", error=True)
    assert [trial.state for trial in search.study.trials[:3]] == [TrialState.FAIL] * 3
    reasons = [trial.user_attrs["error"] for trial in search.study.trials[:3]]
    assert reasons == ["out of memory", "ValueError: no such clip", "the trial's process failed"]


def test_a_trial_that_is_given_up_with_tries_left_is_handed_out_again(search):
    first = search.suggest("a")
    for now, then in (("a", "b"), ("b", "c"), ("c", "d")):
        search.has_tries_left[now] = True
        search.on_trial_complete(now, error=True)
        assert search.suggest(then) == first
    search.has_tries_left["d"] = True
    search.on_trial_complete("d", error=True)
    assert search.study.trials[0].state == TrialState.FAIL
    assert search.suggest("e")["number"] == 1


def test_storage_that_fails_is_not_the_trials_fault(search, tmp_path):
    search.suggest("a")
    said = "/phases/k/a: no room left"
    (tmp_path / "error.txt").write_text(f"Failure # 4\nTraceback\nmm_ray.errors.StorageError: {said}\n")
    search.watch("a", str(tmp_path))
    search.on_trial_complete("a", error=True)
    assert search.study.trials[0].state == TrialState.RUNNING
    assert Budget(search, StopConditions()).stop_all()
    assert search.refusal == said


@pytest.mark.parametrize("score", [float("nan"), None])
def test_a_trial_without_a_number_is_failed_not_bad(search, score):
    search.suggest("a")
    search.on_trial_result("a", {"score": score, "round": 1})
    finish(search, "a", score)
    assert search.study.trials[0].state == TrialState.FAIL
    assert search.study.trials[0].value is None


def test_a_replayed_end_is_ignored(search, tmp_path):
    search.suggest("a")
    finish(search, "a", 0.5)
    finish(search, "a", 0.1)
    search.on_trial_result("a", {"score": 0.1, "round": 99})
    search.on_trial_complete("a", error=True)
    restored = pickle.loads(pickle.dumps(search))
    finish(restored, "a", 0.1)
    finish(restored, "of another driver", 0.1)
    assert restored.study.trials[0].value == 0.5


def test_resume_suggests_what_an_uninterrupted_study_does(tmp_path, make_space):
    space = make_space()
    whole = StudySearch(space, tmp_path / "whole", "run", seed=5)
    expected = run(whole, 14)
    killed = StudySearch(space, tmp_path / "killed", "run", seed=5)
    got = run(killed, 11)
    orphan = killed.suggest("orphan")
    killed.on_trial_result("orphan", {"score": 0.1, "round": 1})
    del killed
    resumed = StudySearch(space, tmp_path / "killed", "run", seed=5)
    assert resumed.remaining(14) == 3
    again = resumed.suggest("again")
    assert again == orphan
    resumed.on_trial_result("again", {"score": 0.1, "round": 1})
    finish(resumed, "again", objective(again["params"]))
    got += [again["params"], *run(resumed, 2, first=12)]
    assert got == expected
    assert len({tuple(params.values()) for params in got}) == 14
    assert [trial.values for trial in resumed.study.trials] == [trial.values for trial in whole.study.trials]


@pytest.mark.parametrize("before", [2, 10], ids=["while drawn at random", "while drawn by TPE"])
def test_an_orphan_killed_amid_its_suggestions_is_asked_to_the_end(tmp_path, make_space, before):
    space = make_space()
    whole = StudySearch(space, tmp_path / "whole", "run")
    expected = run(whole, before + 1)[-1]
    killed = StudySearch(space, tmp_path / "killed", "run")
    run(killed, before)
    journal = tmp_path / "killed" / JOURNAL
    lines = journal.read_bytes()
    killed.suggest("orphan")
    with_orphan = journal.read_bytes()[len(lines) :].splitlines(keepends=True)
    assert len(with_orphan) > len(expected)
    for kept in range(1, len(with_orphan) + 1):
        journal.write_bytes(lines + b"".join(with_orphan[:kept]))
        resumed = StudySearch(space, tmp_path / "killed", "run")
        assert resumed.suggest("again")["params"] == expected, f"{kept} of {len(with_orphan)} lines"


def test_a_journal_whose_last_line_is_torn_still_opens(tmp_path, make_space):
    search = StudySearch(make_space(), tmp_path / "run", "run")
    run(search, 3)
    with (tmp_path / "run/optuna.journal").open("ab") as file:
        file.write(b'{"op_code":5,"worker')
    resumed = StudySearch(make_space(), tmp_path / "run", "run")
    run(resumed, 1, first=3)
    assert StudySearch(make_space(), tmp_path / "run", "run").remaining(10) == 6


def test_seeds_differ(tmp_path, make_space):
    one, two = (StudySearch(make_space(), tmp_path / str(seed), "run", seed=seed) for seed in (1, 2))
    assert run(one, 4)[2:] != run(two, 4)[2:]


def test_a_changed_space_is_refused_with_both_digests(tmp_path, make_space):
    old = make_space()
    StudySearch(old, tmp_path / "run", "run")
    new = make_space(SPACE.replace("1, 20", "1, 10"))
    with pytest.raises(UserError, match=f"digest is {new.digest}, but this run was started with {old.digest}"):
        StudySearch(new, tmp_path / "run", "run")


def test_two_runs_do_not_share_a_study(tmp_path, make_space):
    one, two = (StudySearch(make_space(), tmp_path / name, name) for name in ("one", "two"))
    run(one, 3)
    assert one.study.study_name != two.study.study_name
    assert two.remaining(5) == 5


def test_enqueued_once(tmp_path, make_space):
    for _ in range(3):
        search = StudySearch(make_space(), tmp_path / "run", "run")
    assert states(search) == [TrialState.WAITING] * 2
    run(search, 3)
    assert len(states(StudySearch(make_space(), tmp_path / "run", "run"))) == 3


def test_a_duplicate_is_answered_from_what_is_stored(tmp_path, make_space):
    search = StudySearch(make_space(TINY), tmp_path / "run", "run")
    first = search.suggest("a")
    finish(search, "a", 0.25)
    second = search.suggest("b")
    assert second["params"] != first["params"]
    copies = [trial for trial in search.study.trials if "same_as" in trial.user_attrs]
    assert all(trial.value == 0.25 and trial.user_attrs["same_as"] == first["number"] for trial in copies)
    finish(search, "b", 0.5)
    third = search.suggest("c")
    told = [trial for trial in search.study.trials if "same_as" in trial.user_attrs]
    assert len(told) == len(copies) + 20
    assert search.study.trials[third["number"]].state == TrialState.RUNNING
    assert search.remaining(10) == 8


def test_failed_and_running_twins_are_run(tmp_path, make_space):
    search = StudySearch(make_space(TINY), tmp_path / "run", "run")
    for index in range(6):
        search.suggest(f"t{index}")
        if index % 2:
            search.on_trial_complete(f"t{index}", error=True)
    assert len(search.study.trials) == 6


def test_interrupted_trials_are_handed_out_again(search, tmp_path, make_space):
    open_trial = search.suggest("a")
    search.interrupt()
    search.on_trial_complete("a", {"score": 0.3, "round": 1, "finished": False})
    search.suggest("b")
    finish(search, "b")
    resumed = StudySearch(make_space(), tmp_path / "run", "run", seed=3)
    assert resumed.suggest("a2") == open_trial
    assert resumed.remaining(4) == 3


def test_pickles_and_goes_on(search):
    expected = search.suggest("a")
    copy = pickle.loads(pickle.dumps(search))
    copy.on_trial_result("a", {"score": 0.4, "round": 1})
    finish(copy, "a", 0.7)
    assert search.study.trials[expected["number"]].value == 0.7
    assert (copy.metric, copy.mode) == ("score", "max")
    copy.save("nowhere")
    copy.restore("nowhere")


def test_several_objectives(tmp_path, make_space):
    search = StudySearch(make_space(PAIR), tmp_path / "run", "run")
    assert (search.metric, search.mode) == (["dev/audio_top1", "bytes"], ["max", "min"])
    search.suggest("a")
    search.on_trial_result("a", {"score": 0.4, "round": 1})
    finish(search, "a", **{"dev/audio_top1": 0.5, "bytes": 7})
    search.suggest("b")
    search.on_trial_complete("b", {"dev/audio_top1": 0.5, "bytes": 7, "finished": False})
    assert search.study.trials[0].values == [0.5, 7]
    assert states(search)[-1] == TrialState.PRUNED


def test_under_ray_tune_with_asha(tmp_path, make_space, local_ray):
    from ray import tune

    class Curve(tune.Trainable):
        """Rises to its loss weight; one trial fails."""

        def setup(self, config):
            self.weight = config["overrides"]["phase2.loss_weight"]

        def step(self):
            if self.weight == 1.0:
                raise ValueError("this trial fails")
            score = self.weight * (1 - 0.5**self.iteration)
            return {"score": score, "round": self.iteration + 1, "finished": self.iteration == 7, "done": self.iteration == 7}

    space = make_space(RAY)
    search = StudySearch(space, tmp_path / "run", "run")
    scheduler = tune.schedulers.ASHAScheduler(time_attr="round", max_t=100, grace_period=2, reduction_factor=2)
    tuner = tune.Tuner(
        Curve,
        tune_config=tune.TuneConfig(search_alg=search, num_samples=8, metric="score", mode="max", scheduler=scheduler),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=str(tmp_path),
            verbose=0,
            callbacks=[TrialDirCallback(search)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    tuner.fit()
    check_journal(StudySearch(space, tmp_path / "run", "run"))


def check_journal(search):
    trials = search.study.trials
    assert search.remaining(8) == 0
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    for trial in trials:
        weight = trial.params["phase2.loss_weight"]
        if trial.state == TrialState.FAIL:
            assert weight == 1.0
            assert "this trial fails" in trial.user_attrs["error"]
        else:
            assert (len(trial.intermediate_values) == 8) == (trial.state == TrialState.COMPLETE)
            assert trial.value == pytest.approx(weight * (1 - 0.5 ** (trial.last_step - 1)))
