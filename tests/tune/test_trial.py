"""A trial: its results are those of the runs that it is made of."""

import pytest
from fed.tiny import Run, table_of, tiny_config

from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.method import find_method
from mm_ray.tune.trial import TrialMetrics, TrialRun, TrialSettings
from mm_ray.types import RoundReport

OVERRIDES = {"phase2.temperature": 2.0}


def trial_of(tmp_path, **settings):
    config = tiny_config()
    table = table_of(config.data)
    return TrialRun(TrialSettings(config, str(tmp_path / "phases"), **settings), OVERRIDES, table, SerialExecutor())


def play(trial):
    results = [trial.step()]
    while not results[-1]["finished"]:
        results.append(trial.step())
    trial.close()
    return results


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return [Run(tmp_path_factory.mktemp("run"), OVERRIDES | {"seed": seed}) for seed in (1, 2)]


def test_a_trial_ends_with_the_figures_of_its_run(tmp_path, runs):
    last = play(trial_of(tmp_path))[-1]
    run = runs[0]
    assert last["score"] == last["dev/audio_top1"] == run.result["dev"]["student"]["top1"]
    assert last["dev/gain_top1"] == pytest.approx(last["score"] - run.result["dev"]["phase1_audio"]["top1"])
    assert last["bytes"] == run.result["bytes_up"] + run.result["bytes_down"]
    assert last["rounds"] == last["rounds_computed"] == len(run.reports)
    best = next(r for r in run.reports if r.phase == "phase2/distill" and r.round == run.result["best_round"])
    assert (last["best_round"], last["dev/audio_uar"]) == (best.round, best.metrics["dev/audio_uar"])


def test_flops_and_simulated_time_are_sums_over_all_rounds(tmp_path, runs):
    config, run = tiny_config({"clients.profile": "phone,laptop"}), Run(tmp_path / "run", {"clients.profile": "phone,laptop"})
    settings, table = TrialSettings(config, str(tmp_path / "phases")), table_of(config.data)
    last = play(TrialRun(settings, {}, table, SerialExecutor()))[-1]
    assert (last["sim_seconds"], last["flops"]) == (run.result["sim_seconds"], run.result["flops"])
    assert "sim_seconds" not in play(trial_of(tmp_path))[-1]


def test_steps_are_the_rounds_of_phase_2_as_they_were(tmp_path, runs):
    steps = [step for result in play(trial_of(tmp_path)) for step in result["steps"]]
    top1 = [report.metrics["dev/audio_top1"] for report in runs[0].reports if report.phase == "phase2/distill"]
    assert steps == [*enumerate(top1, 1)]
    again = play(trial_of(tmp_path))  # everything is stored: one result, and the same steps
    assert (len(again), again[0]["steps"], again[0]["rounds_computed"]) == (1, steps, 0)


def test_a_step_has_its_own_score_and_the_trial_that_of_its_best_round():
    figures = TrialMetrics(find_method(tiny_config()), "dev/audio_uar")
    for number, (top1, uar) in enumerate([(0.5, 0.3), (0.6, 0.5), (0.4, 0.7)], start=1):
        metrics = {"dev/audio_top1": top1, "dev/audio_uar": uar}
        figures.add(RoundReport("phase2/distill", number, metrics, 1, 0.0, 0, 0))
    assert figures.steps == [(1, 0.3), (2, 0.5), (3, 0.7)]
    assert (figures.score, figures.position["best_round"]) == (0.5, 2)


def test_where_a_scheduler_judges_a_stored_round_is_a_result_as_a_new_one_is(tmp_path):
    fresh, stored = ([(r["steps"], r["score"]) for r in play(trial_of(tmp_path, judged=True))] for _ in "ab")
    assert [steps[0][0] for steps, _ in stored if steps] == [1, 2, 3]
    assert [result for result in stored if result[0]] == [result for result in fresh if result[0]]


def test_another_objective_is_read_at_the_best_round(tmp_path, runs):
    last = play(trial_of(tmp_path, objective="dev/audio_macro_f1"))[-1]
    assert last["score"] == last["dev/audio_macro_f1"] != last["dev/audio_top1"]


def test_several_seeds_are_the_runs_of_these_seeds(tmp_path, runs):
    results = play(trial_of(tmp_path, num_seeds=2))
    scores = [run.result["dev"]["student"]["top1"] for run in runs]
    last = results[-1]
    assert last["seed_scores"] == scores
    assert last["score"] == pytest.approx(sum(scores) / 2)
    assert last["steps"] == [(1, scores[0]), (2, scores[1])]
    assert last["rounds_computed"] == sum(len(run.reports) for run in runs)
    assert last["bytes"] == pytest.approx(sum(run.result["bytes_up"] + run.result["bytes_down"] for run in runs) / 2)
    told = [(report["seed"], report["phase"], report["round"]) for result in results for report in result["reports"]]
    assert told == [
        (seed, report.phase, report.round) for seed, run in zip((1, 2), runs, strict=True) for report in run.reports
    ]


def test_fresh_seeds(tmp_path, runs):
    config = tiny_config()
    settings = TrialSettings(config, str(tmp_path / "phases"), num_seeds=3)
    trial = TrialRun(settings, OVERRIDES, table_of(config.data), SerialExecutor(), seeds=[2])
    assert play(trial)[-1]["seed_scores"] == [runs[1].result["dev"]["student"]["top1"]]
