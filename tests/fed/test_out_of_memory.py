"""Where a GPU's memory does not suffice, a chunk is trained in smaller stacks; here a function stands in for the GPU."""

import numpy as np
import pytest
import torch
from fed.tiny import Run, tiny_plan

from mm_ray.errors import EnvironmentFailure
from mm_ray.fed import batched_training
from mm_ray.fed.batched_training import OUT_OF_MEMORY, does_not_fit, in_smaller_stacks
from mm_ray.types import ClientUpdate, RoundContext


def small_memory(most, log):
    """Trains at most `most` numbers at once; an update holds the size of its stack."""

    def train(numbers):
        log.append(len(numbers))
        if len(numbers) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [ClientUpdate({"a": float(number)}, {}, {"stack": float(len(numbers))}) for number in numbers]

    return train


@pytest.mark.parametrize(
    ("most", "tried", "stacks"),
    [
        (7, [7], [7] * 7),
        (4, [7, 7, 4, 3], [4] * 4 + [3] * 3),
        (2, [7, 7, 4, 4, 2, 2, 3, 3, 2, 1], [2, 2, 2, 2, 2, 2, 1]),
    ],
)
def test_halves_keep_the_order_of_the_clients(most, tried, stacks):
    log, released = [], []
    updates = in_smaller_stacks(small_memory(most, log), range(1, 8), lambda: released.append(1))
    assert log == tried
    assert [update.weights["a"] for update in updates] == [1, 2, 3, 4, 5, 6, 7]
    assert [update.metrics["stack"] for update in updates] == stacks
    assert [update.metrics.get(OUT_OF_MEMORY, 0.0) for update in updates] == [0.0 if most == 7 else 1.0] * 7


def test_memory_that_caches_held_is_given_back_first():
    full, log = [True], []

    def train(numbers):
        log.append(len(numbers))
        if full:
            raise torch.OutOfMemoryError
        return [ClientUpdate() for _ in numbers]

    updates = in_smaller_stacks(train, range(4), full.clear)
    assert log == [4, 4]
    assert all(OUT_OF_MEMORY not in update.metrics for update in updates)


def test_one_client_that_does_not_fit_is_an_error():
    with pytest.raises(torch.OutOfMemoryError) as caught:
        in_smaller_stacks(small_memory(0, []), range(3), lambda: None)
    line = str(does_not_fit(caught.value))
    assert "\n" not in line
    assert "--clients.num_gpus" in line
    assert isinstance(does_not_fit(caught.value), EnvironmentFailure)


@pytest.fixture
def limit(monkeypatch):
    """At most two clients at once: more raise in the middle of their training."""
    train, sizes = batched_training.BatchedLocalTrainer._move, []

    def move(self, active):
        train(self, active)
        sizes.append(len(self._clients))
        if len(self._clients) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(batched_training.BatchedLocalTrainer, "_move", move)
    return sizes


def test_a_run_goes_on_and_reports_it(tmp_path, limit, monkeypatch):
    settings = {"method": "unifl", "clients.chunk_size": 4, "clients.sample_frac": 1.0, "phase1.rounds": 2, "phase2.rounds": 1}
    short = Run(tmp_path / "short", settings)
    assert {3, 4} & set(limit)
    assert any(report.metrics.get(OUT_OF_MEMORY) for report in short.reports)
    monkeypatch.undo()
    whole = Run(tmp_path / "whole", settings)
    assert all(OUT_OF_MEMORY not in report.metrics for report in whole.reports)
    assert [report.key for report in whole.reports][:2] == [report.key for report in short.reports][:2]


def test_updates_of_smaller_stacks_are_those_of_stacks_cut_to_that_size(limit, monkeypatch):
    plan = tiny_plan()
    phase, federation, clients = plan.method.phases[0], plan.federation, plan.federation.clients[:4]
    params = phase.init(federation, {}).params
    context = RoundContext(federation.seed, 1, params, {}, federation.table, federation.shapes)
    halved = phase.client_updates(context, clients)
    monkeypatch.undo()
    monkeypatch.setattr(batched_training, "MOST_CLIENTS", 2)
    for ours, theirs in zip(halved, phase.client_updates(context, clients), strict=True):
        metrics = {name: value for name, value in ours.metrics.items() if name != OUT_OF_MEMORY}
        assert (ours.weights, metrics) == (theirs.weights, theirs.metrics)
        assert all(np.array_equal(ours.sums[part], theirs.sums[part]) for part in ours.sums)
