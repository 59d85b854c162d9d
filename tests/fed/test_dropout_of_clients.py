"""Sampled clients that do not answer: they receive, and send nothing."""

import pytest
from fed.tiny import Run, tiny_plan

from mm_ray.config import ClientsConfig
from mm_ray.errors import UserError
from mm_ray.fed.cohort import reports_back
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import run_rounds
from mm_ray.fed.phase_store import PhaseStore


def answering(plan, number):
    phase = plan.method.phases[0]
    return [who.id for who in phase.cohort(plan.federation, number) if reports_back(phase, plan.federation, number, who)]


def test_the_cohort_is_the_same_and_a_share_of_it_answers():
    whole, half = tiny_plan(), tiny_plan({"clients.dropout_frac": 0.5})
    rounds = range(1, 200)
    for number in rounds:
        cohorts = [[who.id for who in plan.method.phases[0].cohort(plan.federation, number)] for plan in (whole, half)]
        assert cohorts[0] == cohorts[1] == answering(whole, number)
    counts = [len(answering(half, number)) for number in rounds]
    assert set(counts) == {0, 1, 2, 3, 4}
    assert sum(counts) / sum(len(answering(whole, number)) for number in rounds) == pytest.approx(0.5, abs=0.05)
    assert [answering(half, number) for number in rounds] == [answering(half, number) for number in rounds]


def test_every_audiovisual_client_still_gets_its_teacher_s_logits():
    plan = tiny_plan({"clients.dropout_frac": 0.9})
    logits = plan.method.phases[2]
    assert all(reports_back(logits, plan.federation, 1, who) for who in logits.cohort(plan.federation, 1))


def test_who_does_not_answer_has_received_and_not_sent(tmp_path):
    run, whole = (Run(tmp_path / str(f), {"clients.dropout_frac": f, "phase1.rounds": 6}) for f in (0.5, 0.0))
    phases = {phase.name: phase for phase in run.plan.method.phases}
    federation, fewer = run.plan.federation, 0
    for report, full in zip(run.reports, whole.reports, strict=True):
        phase = phases[report.phase]
        there = [who for who in phase.cohort(federation, report.round) if reports_back(phase, federation, report.round, who)]
        assert (report.bytes_down, report.num_clients) == (full.bytes_down, len(there))
        assert report.bytes_up == sum(phase.cost(federation, who)[1] for who in there)
        fewer += report.bytes_up < full.bytes_up
    assert fewer > 2


def test_a_round_without_any_answer_leaves_the_state(tmp_path):
    plan = tiny_plan({"clients.dropout_frac": 0.999999, "phase1.server.optimizer": "adam", "phase1.local.scaffold": True})
    store = PhaseStore(str(tmp_path))
    report = next(run_rounds(plan, store, SerialExecutor()))
    assert (report.num_clients, report.bytes_up) == (0, 0)
    assert report.bytes_down > 0
    assert not any(name.startswith("train/") for name in report.metrics)
    phase = plan.method.phases[0]
    before, after = phase.init(plan.federation, {}).params, store.load(report.key, 1).params
    assert {name: array.tobytes() for name, array in before.items()} == {name: a.tobytes() for name, a in after.items()}


def test_a_federation_in_which_nobody_ever_answers_is_refused():
    with pytest.raises(UserError, match=r"--dropout_frac 1\.0: must be at least 0 and below 1"):
        ClientsConfig(dropout_frac=1.0)
