"""The report: complete for a finished study, a sentence instead of a plot for a young one, and no network."""

import math
import re
import time

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from mm_ray.report.pages import render
from mm_ray.report.study import StudyEnding, StudyRecord, write_study
from mm_ray.report.study_figures import class_gains, curves_by_seed, pareto, scores_by_seed, trial_curves
from mm_ray.tune.report import write_report

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


def text_of(folder):
    """The page without its scripts and style."""
    return (folder / "report.html").read_text().split("</head>")[1]


def ending(**changes):
    test = {"student": [0.6, 0.8], "control_all": [0.4, 0.6], "teacher": [0.9, 0.9]}
    given = {"test": test, "chance": 0.1, "verdict": ["Distillation helped: student 0.700", "student - control_all: +0.200"]}
    return StudyEnding(**given | changes)


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_a_finished_study(tmp_path):
    study, rows = make_study(40)
    best = best_of(rows)
    curves = {"student": [[(1, 0.5), (2, 0.6)]], "control_all": [[(1, 0.4), (2, 0.45)]]}
    gains = [{"name": "<cat>", "clips": 9, "control": 0.5, "student": 0.6, "mean": 0.1, "low": 0.05, "high": 0.15}]
    client = {
        "id": 3,
        "modalities": "audio",
        "clips": 12,
        "labelled": 12,
        "classes": [7, 5],
        "rounds": 4,
        "participation": 0.2,
        "refused": 1,
    }
    client |= {"loss": 1.25, "norm": 0.5, "reason": "norm 9", "accuracy": {"student": 0.6, "control_all": 0.5}}
    end = ending(
        curves=curves, gains=gains, classes=["dog", "<cat>"], clients=[client], cost={"bytes": "1 MB"},
        what_was_run={"versions": "ray 2"}, command="python -m mm_ray.train <this>", dev={"student": [0.71, 0.73]},
    )  # fmt: skip
    write_report(tmp_path / "report.html", study, rows, best, METRIC, end)
    page, text = (tmp_path / "report.html").read_text(), text_of(tmp_path)
    assert text.count('class="plotly-graph-div"') == 15, "all figures, of which 4 are slices"
    assert page.count("<script src") == 0
    assert len(re.findall("plotly.js v", page)) == 1
    assert '<meta name="viewport"' in page
    claim = '<p class="verdict good">Distillation helped: student 0.700</p>'
    assert text.index(claim) < text.index("cards"), "the claim comes first"
    assert text.index("distilled student, test") < text.index("distilled student, dev")
    assert "python -m mm_ray.train &lt;this&gt;" in text
    assert "<cat>" not in text
    assert "dog 7, &lt;cat&gt; 5" in text
    assert "1 (norm 9)" in text
    assert '<td>training loss</td><td class="n">1.250</td><td class="n">1.250</td>' in text
    assert '<td>norm of the update</td><td class="n">0.500</td>' in text
    assert "40 trials (" in text
    assert text.count('<tr class="best">') == 1


def test_stopped_and_failed_trials_say_where_and_why(tmp_path):
    study = optuna.create_study(direction="maximize")
    rows = [row_of(n, state, params_of(n), 0.5) for n, state in enumerate((TrialState.PRUNED, TrialState.FAIL))]
    for row in rows:
        steps = {5: 0.4, 7: 0.5} if row["state"] == "PRUNED" else {}
        notes = {"error": "it broke: <b>"} if row["state"] == "FAIL" else {}
        state = TrialState[row["state"]]
        study.add_trial(
            create_trial(
                state=state, params=row["params"], distributions=SPACE, intermediate_values=steps, user_attrs=notes,
                value=0.5 if state == TrialState.PRUNED else None,
            )
        )  # fmt: skip
    write_report(tmp_path / "report.html", study, rows, {})
    text = text_of(tmp_path)
    assert "<th>stopped at</th>" in text
    assert '<td class="n" data-value="7">7</td>' in text
    assert "it broke: &lt;b&gt;" in text


@pytest.mark.parametrize("num_trials", [0, 1, 2, 3])
def test_a_young_study_says_what_is_missing(tmp_path, num_trials):
    study, rows = make_study(num_trials)
    write_report(tmp_path / "report.html", study, rows, best_of(rows) if rows else {})
    text = text_of(tmp_path)
    there = {0: "there are none", 1: "there is 1", 2: "there are 2", 3: "there are 3"}[num_trials]
    assert f"Parameter importance needs at least 10 complete trials; {there}." in text
    assert f"needs at least 4 complete trials that differ in both; {there}." in text
    claim = "Nothing is tested yet." if num_trials else "No trial is complete yet."
    assert f'<p class="verdict ">{claim}</p>' in text


def test_a_study_of_equal_scores_and_one_without_the_usual_parameters(tmp_path):
    study = optuna.create_study(direction="maximize")
    space = {"phase1.rounds": IntDistribution(1, 20)}
    rows = []
    for number in range(12):
        params = {"phase1.rounds": number + 1}
        study.add_trial(create_trial(params=params, distributions=space, value=0.5))
        rows.append(row_of(number, TrialState.COMPLETE, params, 0.5) | {"curve": []})
    write_report(tmp_path / "report.html", study, rows, best_of(rows))
    text = text_of(tmp_path)
    assert "here all are equal" in text
    assert "The learning curves need a trial that reported dev/audio_top1" in text
    assert "differ in both; there are none" in text


def test_several_objectives(tmp_path):
    study, rows = make_study(20, ("maximize", "minimize"))
    write_report(tmp_path / "report.html", study, rows, best_of(rows))
    assert text_of(tmp_path).count('class="plotly-graph-div"') == 10


def test_a_thousand_trials_are_written_in_seconds(tmp_path):
    _, some = make_study(50)
    rows = [some[number % 50] | {"number": number} for number in range(1000)]
    write_study(tmp_path / "warm.html", StudyRecord("s", some, best=best_of(some)))
    began = time.process_time()
    write_study(tmp_path / "report.html", StudyRecord("s", rows, best=best_of(rows)))
    assert time.process_time() - began < 5
    assert "59 other trials of 999" in text_of(tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 8e6


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
    def gain(name, mean):
        return {"name": name, "clips": 4, "control": 0.5, "student": 0.5 + mean, "mean": mean, "low": mean - 0.1, "high": mean}

    (bars,) = class_gains([gain("a", 0.0), gain("b", 0.3), gain("c", -0.2)], "control_all").data
    assert list(bars.x) == ["b (n=4)", "a (n=4)", "c (n=4)"]
    assert list(bars.y) == pytest.approx([0.3, 0.0, -0.2])
    assert list(bars.error_y.arrayminus) == pytest.approx([0.1] * 3)
    assert bars.customdata[0] == "control_all 0.500, student 0.800"


def test_curves_are_those_of_the_first_seed_and_reused_rounds_are_dotted():
    curve = [
        {"phase": "p", "round": r, "reused": r == 1, "metrics": {METRIC: seed + r / 10}, "seed": seed}
        for seed in (4, 5)
        for r in (1, 2, 3)
    ]
    computed, reused = trial_curves([{"number": 0, "curve": curve}], METRIC, 0).data
    assert list(computed.y) == [4.1, 4.2, 4.3, None], "a computed round's line begins at the point before it"
    assert list(reused.y) == [4.1, None, None, None]
    assert (computed.line.dash, reused.line.dash) == ("solid", "dot")


def test_the_curve_of_several_seeds_is_their_mean_and_levels_are_lines():
    figure = curves_by_seed({"student": [[(1, 0.4), (2, 0.6)], [(1, 0.6), (2, 0.8)]]}, {"teacher": 0.9, "chance": 0.1}, METRIC)
    mean = next(trace for trace in figure.data if trace.name == "distilled student, mean of 2 seeds")
    assert list(mean.y) == pytest.approx([0.5, 0.7])
    assert {"teacher 0.900", "chance 0.100"} <= {trace.name for trace in figure.data}


def test_finals_and_spread_are_told(tmp_path):
    study, rows = make_study(4)
    rows[2]["seed_scores"] = [0.5, 0.7]
    write_report(tmp_path / "report.html", study, rows, best_of(rows), METRIC, ending(finals=["trial 2: mean <0.6>"]))
    text = text_of(tmp_path)
    assert "<li>trial 2: mean &lt;0.6&gt;</li>" in text
    assert ">0.141</td>" in text


def test_cards_of_several_seeds_say_n_and_spread(tmp_path):
    study, rows = make_study(5)
    write_report(tmp_path / "report.html", study, rows, best_of(rows), METRIC, ending(dev={"student": [0.3, 0.3]}))
    text = text_of(tmp_path)
    for mean, spread in (("0.700", "± 0.141 (n=2)"), ("0.900", "(n=2, all equal)"), ("0.300", "(n=2, all equal)")):
        assert f"<b>{mean}</b>\n<small>{spread}</small>" in text
    assert "guessing" not in text


def test_a_study_at_chance_has_no_green_card(tmp_path):
    study, rows = make_study(5)
    end = StudyEnding({"student": [0.1], "teacher": [0.9]}, chance=0.1, at_chance=["student"])
    write_report(tmp_path / "report.html", study, rows, best_of(rows), METRIC, end)
    text = text_of(tmp_path)
    assert text.count("not better than guessing, 0.10") == 1
    assert text.count('<div class="card chance">') == 1
    assert '<div class="card first">' not in text


def test_chance_stands_in_the_legend_where_it_covers_no_score():
    figure = scores_by_seed({"student": [0.2, 0.3], "control": [0.2, 0.2]}, chance=0.25)
    assert not figure.layout.annotations
    assert [trace.name for trace in figure.data if trace.showlegend] == ["chance 0.250"]


def test_figures_cannot_leave_their_script():
    import plotly.graph_objects as go

    figure = go.Figure(go.Bar(x=["</script><b>"], y=np.array([1.0])))
    page = render("data.html", title="<t>", heads=[], classes=[[]], num_groups=1, most_groups=1, by_group=figure, by_length="",
                  durations="", warnings=["<w>"], counts={}, clips=[], silence="")  # fmt: skip
    assert "</script><b>" not in page
    assert "&lt;w&gt;" in page
