"""Updates that must not enter the model: set aside, counted, named; and what is left is as if that client had not come."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fed.attacks import ATTACKS, attacked_plan
from fed.tiny import Run
from hypothesis import given
from hypothesis import strategies as st

from mm_ray.config import ServerConfig
from mm_ray.fed import rounds
from mm_ray.fed.aggregation import clipped, norm_of, refusals, rejection_reason, screen_update
from mm_ray.fed.evaluation import confusion_of, predicted
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.types import ClientUpdate, RoundReport

SENT = {"a": np.zeros(2, np.float32), "b": np.zeros(1, np.float32)}
ALL = {"clients.sample_frac": 1.0}


def update(a=(3.0, 0.0), b=(4.0,), weight=2.0):
    sums = {"a": np.array(a, np.float32) * np.float32(weight), "b": np.array(b, np.float32) * np.float32(weight)}
    return ClientUpdate({"a": weight, "b": weight}, sums, {"loss": 1.0})


def test_a_good_update_is_taken_as_it_is():
    assert rejection_reason(update(), SENT, 0.0) == ""
    assert screen_update(ServerConfig(), SENT, 7, update()).sums["a"].tolist() == [6.0, 0.0]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (update(a=(np.nan, 0)), "a: not finite"),
        (update(b=(np.inf,)), "b: not finite"),
        (update(a=(1, 2, 3)), "a: shape (3,)"),
        (ClientUpdate({"a": 1.0}, {"a": np.zeros(2)}), "a: dtype float64"),
        (ClientUpdate({"c": 1.0}, {"c": np.zeros(2, np.float32)}), "c: no such part"),
        (ClientUpdate({"a": 1.0}, {}), "a: no such part"),
        (ClientUpdate({"a": float("nan")}, {"a": np.zeros(2, np.float32)}), "a: weight nan"),
        (ClientUpdate({"a": -1.0}, {"a": np.zeros(2, np.float32)}), "a: weight -1"),
        (ClientUpdate({}, {"anything": np.array([np.nan])}), "anything: not finite"),
    ],
)
def test_a_broken_update_is_set_aside(bad, why):
    assert rejection_reason(bad, SENT, 0.0) == why
    taken = screen_update(ServerConfig(), SENT, 7, bad)
    assert (taken.weights, taken.sums, taken.metrics, taken.refused) == ({}, {}, {}, {7: why})


def test_what_stays_with_its_client_is_not_screened():
    silent = ClientUpdate(metrics={"clips": 2.0}, kept={7: {"logits": np.array([np.nan])}})
    assert screen_update(ServerConfig(max_norm=1e-9), SENT, 7, silent) is silent


@pytest.mark.parametrize(("rule", "compares"), [("mean", True), ("median", False), ("median", True)])
def test_a_server_that_compares_clients_gets_each_update_by_itself(rule, compares):
    taken = screen_update(ServerConfig(rule=rule), SENT, 7, update(), compares)
    assert (taken.weights, taken.sums, taken.metrics) == ({}, {}, {"loss": 1.0})
    assert taken.by_client[7].sums["a"].tolist() == [6.0, 0.0]
    broken = screen_update(ServerConfig(rule=rule), SENT, 7, update(a=(np.nan, 0)), compares)
    assert (broken.by_client, broken.refused) == ({}, {7: "a: not finite"})


def test_the_bound_is_on_the_change_and_not_on_the_weighted_sum():
    assert norm_of(update()) == norm_of(update(weight=100.0)) == 5.0
    assert rejection_reason(update(), SENT, 5.0) == ""
    assert rejection_reason(update(), SENT, 4.9) == "norm 5"


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=2), st.floats(0.01, 100))
def test_a_clipped_update_has_the_norm_or_less_and_its_direction(values, norm):
    before = update(a=values)
    after = clipped(before, norm)
    assert norm_of(after) <= norm * (1 + 1e-4)
    if norm_of(before) <= norm:
        assert after.sums["a"].tolist() == before.sums["a"].tolist()
    np.testing.assert_allclose(after.sums["a"] * norm_of(before), before.sums["a"] * norm_of(after), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("attack", ["nan", "shape", "dtype", "scaled"])
def test_a_bad_client_is_named_in_the_report_and_leaves_no_trace(tmp_path, attack):
    bound = {"phase1.server.max_norm": 20.0} if attack == "scaled" else {}
    run = Run(tmp_path, ALL | bound, plan=attacked_plan(ALL | bound, {2}, attack))
    phase = run.plan.method.phases[0]
    hit = [report for report in run.reports if report.phase == phase.name]
    assert hit
    for report in hit:
        (reason,) = report.refused.values()
        assert set(report.refused) == {"2"}
        assert report.metrics["refused"] == 1.0
        assert reason.startswith({"nan": "audio.", "shape": "audio.", "dtype": "audio.", "scaled": "norm "}[attack])
        assert json.loads(json.dumps(report.to_json()))["refused"] == {"2": reason}
    assert all(np.isfinite(a).all() for a in run.store.load(run.keys[phase.name], hit[-1].round).params.values())
    assert all(not report.refused for report in run.reports if report.phase != phase.name)
    (line,) = run.result["refused"]
    assert line.startswith(f"{phase.name}: updates were left out in each of {len(hit)} rounds: client 2, {len(hit)} times (")
    stored = PhaseStore(str(tmp_path)).reports(run.keys[phase.name], hit[-1].round)
    assert [report.refused for report in stored] == [report.refused for report in hit]


def test_the_others_go_on_as_if_the_bad_client_had_not_answered(tmp_path, monkeypatch):
    one_by_one = ALL | {"clients.chunk_size": 6, "clients.vectorize": "off"}
    plan = attacked_plan(one_by_one, {2}, "nan")
    refused, first = Run(tmp_path / "refused", plan=plan), plan.method.phases[0]
    plan = replace(plan, method=replace(plan.method, phases=(replace(first, bad=frozenset()), *plan.method.phases[1:])))
    monkeypatch.setattr(rounds, "reports_back", lambda phase, federation, number, client: client.id != 2)
    silent = Run(tmp_path / "silent", plan=plan)
    assert silent.states[first.name] == refused.states[first.name]


def test_a_round_in_which_all_are_refused_leaves_the_model(tmp_path):
    run = Run(tmp_path, ALL, plan=attacked_plan(ALL, range(6), "nan"))
    phase = run.plan.method.phases[0]
    before = phase.init(run.plan.federation, {})
    after = run.store.load(run.keys[phase.name], phase.rounds)
    assert all(np.array_equal(before.params[part], after.params[part]) for part in before.params)


def reports_of(*refused):
    return [RoundReport("one", i, {}, 2, 0.0, 0, 0, refused=by_client) for i, by_client in enumerate(refused, 1)]


def test_what_was_refused_is_said_in_a_line_a_phase():
    assert refusals(reports_of({}, {})) == []
    some = reports_of({"12": "a: not finite"}, {}, {"12": "norm 7", "3": "norm 9"})
    words = "client 12, 2 times (norm 7), client 3, 1 times (norm 9)"
    assert refusals(some) == [f"one: updates were left out in 2 of 3 rounds: {words}"]
    (line,) = refusals(reports_of({str(i): "norm 9" for i in range(5)}))
    assert line.startswith("one: updates were left out in each of 1 rounds: client 0, 1 times (norm 9), client 1")
    assert line.endswith("client 2, 1 times (norm 9), 2 more clients")


def test_logits_that_are_not_finite_count_as_wrong_and_not_as_class_0():
    logits_BC = np.array([[np.nan] * 3, [np.nan] * 3, [0, np.inf, 0], [0, 2, 1], [1, np.nan, 0]])
    labels_B = np.array([0, 2, 1, 1, 0])
    assert predicted(logits_BC, labels_B).tolist() == [1, 0, 2, 1, 1]


def test_a_network_that_diverged_gets_no_clip_right(tmp_path):
    run = Run(tmp_path)
    first, federation = run.plan.method.phases[0], run.plan.federation
    params = {part: np.full_like(array, np.nan) for part, array in first.init(federation, {}).params.items()}
    rows = federation.table.rows("dev")
    confusion_CC = confusion_of("audio", params, first.model, federation.table, [rows])
    assert confusion_CC.trace() == 0
    assert confusion_CC.sum(1).tolist() == np.bincount(federation.table.labels_N[rows], minlength=4).tolist()


def test_attacks_are_what_they_say():
    assert set(ATTACKS) >= {"nan", "shape", "dtype", "scaled", "sign"}
