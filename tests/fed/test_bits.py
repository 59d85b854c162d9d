"""Resumed, continued and reused rounds are the uninterrupted ones bit for bit: digests, states, metrics, test scores."""

import shutil
from functools import lru_cache
from itertools import islice

import numpy as np
import pytest
from fed.tiny import Run, tiny_plan

from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import role_params

pytestmark = pytest.mark.thorough

# Six modality-wise, two fusion, one teacher, six distillation rounds; with this seed the best rounds lie in the middle, and
# the third round is not kept.
LONG = {"phase1.rounds": 8, "phase1.fusion_frac": 0.25, "phase2.rounds": 6, "seed": 7}
NUM_ROUNDS = 15


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("uninterrupted"), LONG)


@lru_cache(maxsize=1)
def plan():
    return tiny_plan(LONG)


def test_two_fresh_stores_give_the_same(tmp_path, uninterrupted):
    assert Run(tmp_path, LONG).bits() == uninterrupted.bits()
    assert uninterrupted.result["best_round"] > 1
    assert 3 not in uninterrupted.store.rounds(uninterrupted.keys["phase1/unimodal"])


@pytest.mark.parametrize("cut", [1, 3, 6, 7, 8, 9, 12, 14])
def test_a_run_that_was_stopped_after_any_round_goes_on_to_the_same_end(tmp_path, uninterrupted, cut):
    rounds = run_experiment(plan(), PhaseStore(str(tmp_path)), SerialExecutor(), control=False)
    list(islice(rounds, cut))
    rounds.close()
    run = Run(tmp_path, plan=plan())
    assert (run.result["rounds_reused"], run.result["rounds_computed"]) == (cut, NUM_ROUNDS - cut)
    assert run.bits() == uninterrupted.bits()


def test_a_run_that_is_stopped_after_every_round(tmp_path, uninterrupted):
    for cut in range(1, NUM_ROUNDS):
        rounds = run_experiment(plan(), PhaseStore(str(tmp_path)), SerialExecutor(), control=False)
        assert [report.reused for report in islice(rounds, cut)] == [True] * (cut - 1) + [False]
        rounds.close()
    assert Run(tmp_path, plan=plan()).bits() == uninterrupted.bits()


def test_what_lies_on_disk_after_any_round_is_enough(tmp_path, uninterrupted):
    # As a power failure leaves it: nobody had the time to store the last rounds, which are computed again.
    for number, _ in enumerate(run_experiment(plan(), PhaseStore(str(tmp_path / "live")), SerialExecutor(), control=False), 1):
        if number % 3 == 0:
            image = tmp_path / str(number)
            shutil.copytree(tmp_path / "live", image, ignore=shutil.ignore_patterns("lease-*"))
    for number in range(3, NUM_ROUNDS, 3):
        run = Run(tmp_path / str(number), plan=plan())
        assert number - 5 < run.result["rounds_reused"] <= number
        assert run.bits() == uninterrupted.bits()


# Of phase 1's four rounds three are modality-wise; a longer phase 1 has another best round, hence another fusion.
@pytest.mark.parametrize(("first", "reused"), [({"phase2.rounds": 2}, 11), ({"phase1.rounds": 4, "phase2.rounds": 1}, 3)])
def test_fewer_rounds_continued_are_all_rounds_directly(tmp_path, uninterrupted, first, reused):
    Run(tmp_path, LONG | first)
    run = Run(tmp_path, plan=plan())
    assert (run.result["rounds_reused"], run.result["rounds_computed"]) == (reused, NUM_ROUNDS - reused)
    assert run.bits() == uninterrupted.bits()


def test_phase_1_from_another_temperature_s_store_is_phase_1_computed_here(tmp_path):
    other = {"phase2.temperature": 9.0, "phase2.loss_weight": 0.9}
    Run(tmp_path / "shared")
    shared, fresh = Run(tmp_path / "shared", other), Run(tmp_path / "fresh", other)
    assert (shared.result["rounds_reused"], shared.result["rounds_computed"]) == (5, 3)
    assert shared.bits() == fresh.bits()
    assert shared.digest != Run(tmp_path / "shared").digest


def test_the_control_beside_a_run_is_the_control_alone(tmp_path):
    beside = Run(tmp_path / "shared", control=True)
    after, alone = Run(tmp_path / "shared", {"method": "control"}), Run(tmp_path / "alone", {"method": "control"})
    assert after.result["rounds_computed"] == 0
    assert after.bits() == alone.bits()
    assert beside.digest != alone.digest


ROADS = [("phase1.kind", "joint"), ("phase2.audio_clients", "train"), ("phase2.student_init", "random")]


@pytest.mark.parametrize(("field", "value"), ROADS)
def test_other_roads_are_reproducible_too(tmp_path, field, value):
    assert Run(tmp_path / "a", {field: value}).bits() == Run(tmp_path / "b", {field: value}).bits()


@pytest.mark.parametrize("field", ["seed", "partition.alpha", "phase1.local.lr", "model.dropout"])
def test_what_changes_the_key_changes_the_digest(tmp_path, field):
    value = {"seed": 2, "partition.alpha": 0.3, "phase1.local.lr": 0.11, "model.dropout": 0.2}[field]
    assert Run(tmp_path, {field: value}).digest != Run(tmp_path).digest


def test_the_chunk_size_moves_the_last_bits_only_and_enters_the_key(tmp_path):
    # One round: floats are summed in another order, which later rounds would let grow.
    some = {"phase1.rounds": 2, "clients.sample_frac": 1.0}
    one, two = (Run(tmp_path / str(size), some | {"clients.chunk_size": size}) for size in (1, 3))
    assert one.keys["phase1/unimodal"] != two.keys["phase1/unimodal"]
    params = [role_params(run.plan.method.phase1_audio, run.finished.outcomes, run.store) for run in (one, two)]
    for part in params[0]:
        np.testing.assert_allclose(params[0][part], params[1][part], atol=1e-5)
    assert any(params[0][part].tobytes() != params[1][part].tobytes() for part in params[0])


def test_actors_do_not_enter(tmp_path):
    run = Run(tmp_path)
    again = Run(tmp_path, {"clients.num_actors": 5, "clients.num_cpus": 0.5, "clients.num_gpus": 0.25})
    assert again.result["rounds_computed"] == 0
    assert again.bits() == run.bits()
