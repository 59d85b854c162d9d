"""The round loop: what it computes, what it keeps, what it takes over, and for whom it waits."""

import shutil
import threading
import time
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
from fed.tiny import Run, state_digest, tiny_plan

from mm_ray.errors import UserError
from mm_ray.evaluate.metrics import recall
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import run_experiment, run_rounds
from mm_ray.fed.lease import Lease
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import PhaseResult, dev_top1, drive, role_params, train_metrics
from mm_ray.types import RoundReport

UNIMODAL, DISTILL = "phase1/unimodal", "phase2/distill"
# Five modality-wise and two fusion rounds.
LONG = {"phase1.rounds": 7, "phase1.fusion_frac": 0.25, "phase2.rounds": 7}


def outcome(*accuracies):
    reports = [RoundReport("p", n, {dev_top1("audio"): a}, 1, 0.0, 0, 0) for n, a in enumerate(accuracies, start=1)]
    return PhaseResult("k", tuple(reports))


@pytest.mark.parametrize(
    ("accuracies", "best"), [((0.1, 0.3, 0.2), 2), ((0.1, 0.3, 0.3, 0.2, 0.3), 2), ((0.5,), 1), ((0.0, 0.0, 0.0), 1)]
)
def test_the_best_round_is_the_first_with_the_best_accuracy(accuracies, best):
    assert outcome(*accuracies).best_round("audio") == best
    assert outcome(*accuracies).best_round(None) == len(accuracies)


def test_training_metrics_are_means_over_the_clips_seen():
    sums = {"audio_loss": 6.0, "audio_seen": 4.0, "video_loss": 1.0, "video_seen": 8.0, "correct": 3.0}
    assert train_metrics(sums) == {"train/audio_loss": 1.5, "train/video_loss": 0.125}


def first(plan, store, count, executor=None):
    """The first reports of a run that is then closed."""
    rounds = run_rounds(plan, store, executor or SerialExecutor())
    reports = list(islice(rounds, count))
    rounds.close()
    return reports


def test_all_rounds_of_all_phases_are_reported_in_order(tmp_path):
    run = Run(tmp_path)
    assert [(report.phase, report.round, report.reused) for report in run.reports] == [
        (UNIMODAL, 1, False),
        (UNIMODAL, 2, False),
        (UNIMODAL, 3, False),
        ("phase1/fusion", 1, False),
        ("phase1/teacher_logits", 1, False),
        (DISTILL, 1, False),
        (DISTILL, 2, False),
        (DISTILL, 3, False),
    ]
    assert [report.num_clients for report in run.reports] == [4, 4, 4, 2, 3, 4, 4, 4]
    assert (run.result["rounds_computed"], run.result["rounds_reused"]) == (8, 0)


def test_a_second_run_computes_nothing_and_gives_the_same(tmp_path):
    one, two = Run(tmp_path), Run(tmp_path)
    assert (two.result["rounds_computed"], two.result["rounds_reused"]) == (0, 8)
    assert all(report.reused for report in two.reports)
    assert two.bits() == one.bits()


def test_the_kept_rounds_are_records_every_fifth_and_the_last(tmp_path):
    run = Run(tmp_path, LONG)
    for name, outcome in run.finished.outcomes.items():
        kept, expected, best = run.store.rounds(run.keys[name]), set(), {}
        for report in outcome.reports:
            for metric in (key for key in report.metrics if key.endswith("_top1")):
                if report.metrics[metric] > best.get(metric, -1):
                    best[metric] = report.metrics[metric]
                    expected.add(report.round)
        assert kept == sorted(expected | {n for n in range(5, len(outcome.reports), 5)} | {len(outcome.reports)})


@pytest.mark.parametrize("count", [1, 3, 4])
def test_closing_early_keeps_the_last_round(tmp_path, count):
    plan, store = tiny_plan(LONG), PhaseStore(str(tmp_path))
    reports = first(plan, store, count)
    key = Run(tmp_path / "elsewhere", LONG).keys[UNIMODAL]
    assert store.rounds(key)[-1] == count
    assert store.reports(key, count) == reports
    assert not [name for name in store.files.list(key) if name.startswith("lease")]
    again = first(plan, store, count + 1)
    assert [report.reused for report in again] == [True] * count + [False]


def test_an_error_in_a_round_keeps_the_round_before_it(tmp_path):
    class Failing(SerialExecutor):
        def run_round(self, params, round_number, chunks, clients):
            if round_number == 4:
                raise RuntimeError("lost")
            return super().run_round(params, round_number, chunks, clients)

    plan, store = tiny_plan(LONG), PhaseStore(str(tmp_path))
    with pytest.raises(RuntimeError, match="lost"):
        drive(run_rounds(plan, store, Failing()))
    assert [report.reused for report in first(plan, store, 4)] == [True, True, True, False]


def test_after_a_broken_file_the_remedy_of_the_error_works(tmp_path):
    run = Run(tmp_path)
    folder = tmp_path / run.keys[UNIMODAL]
    path = folder / f"round-{run.finished.outcomes[UNIMODAL].best_round('audio'):06d}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="delete its folder"):
        Run(tmp_path, {"phase2.temperature": 2.0})
    shutil.rmtree(folder)
    again = Run(tmp_path)
    assert again.result["rounds_computed"] == 3
    assert again.bits() == run.bits()


def test_who_waits_for_another_looks_ever_more_seldom(tmp_path, monkeypatch):
    store, pauses = PhaseStore(str(tmp_path)), []
    key = Run(tmp_path / "elsewhere").keys[UNIMODAL]
    held = Lease(store.files, key)
    assert held.try_take()

    def sleep(seconds):
        pauses.append(seconds)
        if sum(pauses) > 60:
            held._delete(held._mine)

    monkeypatch.setattr("mm_ray.fed.rounds.time", SimpleNamespace(sleep=sleep, perf_counter=time.perf_counter))
    first(tiny_plan(), store, 1)
    assert pauses[0] <= 0.2
    assert pauses[-1] == 5
    assert len(pauses) < 30, "60 s at five looks a second were 300"
    assert all(pause <= 0.21 + 0.3 * sum(pauses[:i]) for i, pause in enumerate(pauses)), "little is waited in vain"


def test_fewer_rounds_than_stored_are_taken_as_they_are(tmp_path):
    Run(tmp_path, {"phase2.rounds": 7})
    run = Run(tmp_path, {"phase2.rounds": 5})
    assert run.result["rounds_computed"] == 0
    assert len(run.finished.outcomes[DISTILL].reports) == 5
    assert run.bits() == Run(tmp_path / "fresh", {"phase2.rounds": 5}).bits()


@pytest.mark.parametrize(("init", "network"), [("phase1", True), ("random", False)])
def test_the_student_starts_from_the_best_audio_network_of_phase_1_or_anew(tmp_path, init, network):
    run = Run(tmp_path, {"phase2.student_init": init, "seed": 7})
    audio = NetworkRef(UNIMODAL, "audio")
    assert run.finished.outcomes[UNIMODAL].best_round("audio") not in (1, 3)
    best = role_params(audio, run.finished.outcomes, run.store)
    distill = run.plan.method.phases[-1]
    start = distill.init(run.plan.federation, {audio: best} if network else {}).params
    assert all(np.array_equal(start[part], best[part]) for part in best) is network
    assert list(start) == list(best)


def test_a_role_without_a_network_is_the_whole_last_state(tmp_path):
    run = Run(tmp_path)
    assert set(role_params(NetworkRef("phase1/teacher_logits"), run.finished.outcomes, run.store)) == {"logits"}
    assert set(role_params(NetworkRef(UNIMODAL, "video"), run.finished.outcomes, run.store)) == {"video.encoder", "video.head"}


def test_while_another_holds_the_lease_a_run_waits_and_then_takes_what_it_stored(tmp_path):
    finished = Run(tmp_path / "elsewhere")
    key, store = finished.keys[UNIMODAL], PhaseStore(str(tmp_path / "here"))
    holder, reports = Lease(store.files, key), []
    assert holder.try_take()
    waiting = threading.Thread(target=lambda: reports.extend(first(tiny_plan(), store, 4)), daemon=True)
    with holder:
        waiting.start()
        for number in (1, 2, 3):
            waiting.join(0.25)
            assert waiting.is_alive()
            store.save(key, number, finished.store.load(key, number), [finished.store.reports(key, 3)[number - 1]])
    waiting.join(20)
    assert [(report.phase, report.reused) for report in reports] == [(UNIMODAL, True)] * 3 + [("phase1/fusion", False)]


def reused_of(run, control):
    """Round and whether it was reused, of a control's own rounds."""
    return [(report.round, report.reused) for report in run.reports if report.phase == f"{control}/cross_entropy"]


def test_the_controls_tell_their_own_rounds_only_and_share_phase_1(tmp_path):
    run = Run(tmp_path, control=True)
    assert len(run.reports) == 8 + 3 + 3
    assert run.result["rounds_computed"] == 8
    for control in ("control", "control_all"):
        assert reused_of(run, control) == [(1, False), (2, False), (3, False)]
        alone = Run(tmp_path / control, {"method": control})
        assert run.result["test"][control] == alone.result["test"]["student"]


@pytest.mark.parametrize(("audio_clients", "control"), [("idle", "control"), ("train", "control_all")])
def test_a_control_that_is_asked_for_with_weight_0_is_all_reused(tmp_path, audio_clients, control):
    run = Run(tmp_path, {"phase2.loss_weight": 0.0, "phase2.audio_clients": audio_clients}, control=True)
    assert reused_of(run, control) == [(1, True), (2, True), (3, True)]
    assert run.result["test"][control] == run.result["test"]["student"]


def test_the_result_has_its_keys_and_adds_up(tmp_path):
    run = Run(tmp_path)
    result = run.result
    assert set(result) == {
        "method", "seed", "data", "test", "dev", "best_round", "rounds_computed", "rounds_reused", "seconds", "compute_s",
        "bytes_up", "bytes_down", "flops", "peak_memory_bytes", "energy_j", "params_digest", "diagnosis", "clients",
    }  # fmt: skip
    assert (result["method"], result["seed"], result["data"]) == ("modality_mirror", 1, "synthetic")
    assert {role: set(scores) for role, scores in result["test"].items()} == {
        role: {"top1", "uar", "macro_f1"} for role in ("student", "teacher", "phase1_audio")
    }
    federation = run.plan.federation
    assert result["clients"]["student"]["n"] == result["clients"]["clips"]["n"] == len(federation.clients)
    accuracies = federation.client_accuracies(np.array(recall(run.tested.confusions["student"])))
    assert result["clients"]["student"]["mean"] == pytest.approx(np.mean(accuracies))
    assert set(result["clients"]) == {"student", "loss", "clips"}
    best = run.finished.outcomes[DISTILL].best_round("audio")
    assert result["best_round"] == best
    assert result["dev"]["student"]["top1"] == run.reports[4 + best].metrics["dev/audio_top1"]
    assert result["bytes_up"] == sum(report.bytes_up for report in run.reports)
    assert result["bytes_down"] == sum(report.bytes_down for report in run.reports)


def test_state_digests_see_every_bit(tmp_path):
    run = Run(tmp_path)
    state = run.store.load(run.keys[DISTILL], 3)
    before = state_digest(state)
    state.params["audio.head"][0] = np.nextafter(state.params["audio.head"][0], np.float32(9))
    assert state_digest(state) != before


def test_run_experiment_can_be_closed_at_any_time(tmp_path):
    rounds = run_experiment(tiny_plan(), PhaseStore(str(tmp_path)), SerialExecutor(), control=True)
    next(rounds)
    rounds.close()
    assert first(tiny_plan(), PhaseStore(str(tmp_path)), 1)[0].reused
