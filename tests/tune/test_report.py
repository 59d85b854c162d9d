"""The report: complete for a finished study, a sentence instead of a plot for a young one, and no network."""

import math
import re

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from mm_ray.tune.report import write_report
from mm_ray.tune.report_curves import learning_curves
from mm_ray.tune.report_gains import class_gains, pareto

METRIC = "dev/audio_top1"
SPACE = {
    "phase2.temperature": FloatDistribution(1, 20, log=True),
    "phase2.loss_weight": FloatDistribution(0, 1),
    "phase2.rounds": IntDistribution(10, 40, step=5),
    "phase2.student_init": CategoricalDistribution(["phase1", "random"]),
}


def params_of(number):
    unit = [(number * step) % 1 for step in (0.618, 0.382, 0.237)] if number else [0.5, 0.5, 0.5]
    return {
        "phase2.temperature": 20 ** unit[0],
        "phase2.loss_weight": 0.0 if number == 1 else unit[1],
        "phase2.rounds": 10 + 5 * int(unit[2] * 7),
        "phase2.student_init": "phase1" if number % 4 else "random",
    }


def curve_of(number, score):
    def point(phase, i, reused, value):
        return {"phase": phase, "round": i, "reused": reused, "metrics": {METRIC: value}}

    first = [point("phase1/unimodal", i, number > 0, 0.5 * (1 - math.exp(-i / 8))) for i in range(1, 31)]
    fusion = [
        {"phase": "phase1/fusion", "round": i, "reused": number > 0, "metrics": {"dev/av_top1": 0.6}} for i in range(1, 11)
    ]
    end = params_of(number)["phase2.rounds"]
    second = [point("phase2/distill", i, False, 0.48 + (score - 0.48) * (1 - math.exp(-i / 5))) for i in range(1, end + 1)]
    return first + fusion + second


def make_study(num_trials, directions=("maximize",)):
    study = optuna.create_study(directions=directions)
    rows = []
    for number in range(num_trials):
        params = params_of(number)
        score = 0.6 + 0.2 * params["phase2.loss_weight"] - 0.03 * math.log(params["phase2.temperature"])
        state = TrialState.PRUNED if number % 7 == 6 else TrialState.FAIL if number % 11 == 10 else TrialState.COMPLETE
        values = [score] + [float(number)] * (len(directions) - 1) if state == TrialState.COMPLETE else None
        study.add_trial(create_trial(state=state, params=params, distributions=SPACE, values=values))
        rows.append(row_of(number, state, params, score))
    return study, rows


def row_of(number, state, params, score):
    failed = state == TrialState.FAIL
    return {
        "number": number,
        "state": state.name,
        "params": params,
        "score": None if failed else score,
        "best_round": None if failed else 20,
        "rounds_computed": 20,
        "rounds_reused": 40 if number else 0,
        "seconds": None if failed else 12.345,
        "metrics": {} if failed else {"bytes": 1e6 * (number + 1)},
        "curve": [] if failed else curve_of(number, score),
    }


def best_of(rows):
    row = max((row for row in rows if row["state"] == "COMPLETE"), key=lambda row: row["score"])
    return {key: row[key] for key in ("number", "params", "score")}


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_a_finished_study(tmp_path):
    study, rows = make_study(40)
    recall = {"student": [0.9, 0.4], "control": [0.5, 0.6], "teacher": [1.0, 1.0]}
    best = best_of(rows) | {"classes": ["dog", "<cat>"], "recall": recall}
    write_report(tmp_path / "report.html", study, rows, best)
    page = (tmp_path / "report.html").read_text()
    text = page.split("</head>")[1]
    assert text.count("plotly-graph-div") == 8
    assert page.count("<script src") == 0
    assert len(re.findall("plotly.js v", page)) == 1
    assert f"best trial ({best['number']})" in text
    assert f"<b>{best['score']:.4g}</b>" in text
    assert f"<b>{rows[1]['score']:.4g}</b><span>control" in text
    assert f"<b>{0.5 * (1 - math.exp(-30 / 8)):.4g}</b><span>phase 1" in text
    assert f"python -m mm_ray.train --config {tmp_path / 'best.yaml'}" in text
    assert "40 trials (" in text
    assert text.count('<tr class="best">') == 1


def test_values_and_command_that_are_given_win(tmp_path):
    study, rows = make_study(5)
    given = {"phase1": 0.111, "control": 0.222, "command": "retrain <this>"}
    write_report(tmp_path / "report.html", study, rows, best_of(rows) | given)
    text = (tmp_path / "report.html").read_text().split("</head>")[1]
    assert "<b>0.111</b>" in text
    assert "<b>0.222</b>" in text
    assert "retrain &lt;this&gt;" in text


@pytest.mark.parametrize("num_trials", [0, 1, 2, 3])
def test_a_young_study_says_what_is_missing(tmp_path, num_trials):
    study, rows = make_study(num_trials)
    write_report(tmp_path / "report.html", study, rows, best_of(rows) if rows else {})
    text = (tmp_path / "report.html").read_text().split("</head>")[1]
    there = {0: "there are none", 1: "there is 1", 2: "there are 2", 3: "there are 3"}[num_trials]
    assert f"Parameter importance needs at least 10 complete trials; {there}." in text
    assert f"needs at least 4 complete trials that differ in both; {there}." in text
    assert ("No trial is complete yet" in text) == (num_trials == 0)


def test_a_study_of_equal_scores_and_one_without_the_usual_parameters(tmp_path):
    study = optuna.create_study(direction="maximize")
    space = {"phase1.rounds": IntDistribution(1, 20)}
    rows = []
    for number in range(12):
        params = {"phase1.rounds": number + 1}
        study.add_trial(create_trial(params=params, distributions=space, value=0.5))
        rows.append(row_of(number, TrialState.COMPLETE, params, 0.5) | {"curve": []})
    write_report(tmp_path / "report.html", study, rows, best_of(rows))
    text = (tmp_path / "report.html").read_text().split("</head>")[1]
    assert "here all are equal" in text
    assert "The learning curves need a trial that reported dev/audio_top1" in text
    assert "differ in both; there are none" in text


def test_several_objectives(tmp_path):
    study, rows = make_study(20, ("maximize", "minimize"))
    write_report(tmp_path / "report.html", study, rows, best_of(rows))
    assert (tmp_path / "report.html").read_text().split("</head>")[1].count("plotly-graph-div") == 7


def test_the_front_is_what_no_trial_beats_in_both():
    rows = [
        {"number": n, "state": "COMPLETE", "score": score, "metrics": {"bytes": sent * 1e6}}
        for n, (sent, score) in enumerate([(3, 0.6), (1, 0.5), (2, 0.5), (4, 0.9), (4, 0.8)])
    ]
    line, on_front, beaten = pareto(rows, METRIC, 3).data
    assert list(zip(line.x, line.y, strict=True)) == [(1, 0.5), (3, 0.6), (4, 0.9)]
    assert list(on_front.text) == ["trial 1", "trial 0", "trial 3 (best)"]
    assert list(beaten.text) == ["trial 2", "trial 4"]


def test_the_class_that_gains_most_is_first():
    (bars,) = class_gains(["a", "b", "c"], {"student": [0.5, 0.9, 0.2], "control": [0.5, 0.6, 0.4]}).data
    assert list(bars.x) == ["b", "a", "c"]
    assert list(bars.y) == pytest.approx([0.3, 0.0, -0.2])
    assert bars.text[0] == "0.60 to 0.90"


def test_finals_and_spread_are_told(tmp_path):
    study, rows = make_study(4)
    rows[2]["seed_scores"] = [0.5, 0.7]
    write_report(tmp_path / "report.html", study, rows, best_of(rows) | {"finals": ["trial 2: mean <0.6>"]})
    text = (tmp_path / "report.html").read_text().split("</head>")[1]
    assert "<li>trial 2: mean &lt;0.6&gt;</li>" in text
    assert "<td>0.1414</td>" in text
    assert "looks better than it is" not in text


def test_curves_are_those_of_the_first_seed():
    curve = [
        {"phase": "p", "round": r, "reused": False, "metrics": {METRIC: seed + r / 10}, "seed": seed}
        for seed in (4, 5)
        for r in (1, 2)
    ]
    figure = learning_curves([{"number": 0, "curve": curve}], METRIC, None, None)
    assert list(figure.data[0].y) == [4.1, 4.2]


def test_cards_of_several_seeds_say_n_and_spread(tmp_path):
    study, rows = make_study(5)
    given = {"score": [0.5, 0.7], "control": [0.4, 0.6], "phase1": [0.3, 0.3], "test": {"student": [0.6, 0.8]}}
    write_report(tmp_path / "report.html", study, rows, best_of(rows) | given)
    text = (tmp_path / "report.html").read_text().split("</head>")[1]
    for card in ("0.600 ± 0.141 (n=2)", "0.500 ± 0.141 (n=2)", "0.300 (n=2, all equal)", "0.700 ± 0.141 (n=2)"):
        assert f"<b>{card}</b>" in text
    assert text.count("(n is the number of seeds)</span>") == 4
    assert "guessing" not in text


def test_a_study_at_chance_has_no_green_card(tmp_path):
    study, rows = make_study(5)
    given = {"test": {"student": [0.1], "teacher": [0.9]}, "guessing": 0.1, "at_chance": ["student"]}
    write_report(tmp_path / "report.html", study, rows, best_of(rows) | given)
    text = (tmp_path / "report.html").read_text().split("</head>")[1]
    assert text.count("not better than guessing, 0.10") == 2, "the first card, and the student's on the test set"
    assert text.count('<div class="card chance">') == 2
    assert '<div class="card"><b>0.9</b><span>audiovisual teacher' in text
