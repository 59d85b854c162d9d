"""Clients trained together end where they end alone, and depend on their chunk only.

Alone and together differ in the order in which floats are summed: about 1e-6 of an update's norm. Where a unit lies within that
of a kink (ReLU, the maximum of pooling), one gradient takes the other side, and an update differs by up to some 1e-3.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fed.tiny import Run, tiny_plan

from mm_ray.fed import batched_training
from mm_ray.fed.executor import run_chunk, sum_updates
from mm_ray.fed.phase import shared_inputs
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import role_params
from mm_ray.types import ClientUpdate, RoundContext

AFTER_A_KINK, USUAL = 2e-2, 1e-4


def context_of(plan, phase, sources=None, round_number=1):
    federation, sources = plan.federation, sources or {}
    params = phase.init(federation, sources).params
    return RoundContext(federation.seed, round_number, params, shared_inputs(sources), federation.table, federation.shapes)


def distances(together, alone):
    """Distance of each client's update from the one that it has alone, relative to that one's norm."""
    flat = [np.concatenate([update.sums[name] for name in sorted(update.sums, key=str)]) for update in (*together, *alone)]
    ours, theirs = flat[: len(together)], flat[len(together) :]
    return [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(ours, theirs, strict=True)]


def assert_near(phase, context, clients):
    together, alone = phase.client_updates(context, clients), [phase.client_update(context, client) for client in clients]
    for ours, theirs in zip(together, alone, strict=True):
        assert set(ours.sums) == set(theirs.sums)
        assert ours.weights == theirs.weights
        assert ours.metrics == pytest.approx(theirs.metrics, rel=1e-3)
    apart = distances(together, alone)
    assert max(apart) < AFTER_A_KINK
    assert np.median(apart) < USUAL


SETTINGS = [
    {},
    {"model.audio_pooling": "attention"},
    {"phase1.kind": "joint"},
    {"phase1.local.epochs": 2, "phase1.local.batch_size": 3, "partition.alpha": 0.3},
    {"phase1.local.prox_mu": 1.0},
    {"phase1.local.scaffold": True},
    {"model.dropout": 0.0, "phase1.local.clip_norm": 0.1},
    {"model.video_encoder": "frame_cnn"},
    {"model.video_encoder": "frame_cnn", "phase1.kind": "joint", "data.features.video_color": "rgb"},
]


@pytest.mark.parametrize("overrides", SETTINGS)
def test_phase_1_together_is_phase_1_alone(overrides):
    plan = tiny_plan(overrides)
    phase = plan.method.phases[0]
    assert_near(phase, context_of(plan, phase), plan.federation.clients)


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("run"), {"phase2.loss": "kd+rkd", "phase2.audio_clients": "train"})


LOSSES = ["kd", "dkd", "rkd", "c2kd:0.5+fitnets", "crd+mse_logits"]


@pytest.mark.parametrize("loss", LOSSES)
def test_distillation_together_is_distillation_alone(distilled, loss):
    phase = replace(distilled.plan.method.phases[-1], phase2=replace(distilled.plan.config.phase2, loss=loss))
    sources = {role: role_params(role, distilled.finished.outcomes, distilled.store) for role in phase.sources}
    clients = distilled.plan.federation.clients
    assert {client.modalities for client in clients} == {("audio",), ("audio", "video")}
    assert_near(phase, context_of(distilled.plan, phase, sources), clients)


def test_only_losses_that_are_means_over_clips_are_taken_at_once(distilled):
    phase, config = distilled.plan.method.phases[-1], distilled.plan.config.phase2
    separable = {loss: replace(phase, phase2=replace(config, loss=loss)).loss_is_separable for loss in LOSSES}
    assert separable == {"kd": True, "dkd": True, "rkd": False, "c2kd:0.5+fitnets": True, "crd+mse_logits": False}
    assert replace(phase, phase2=replace(config, loss_weight=0.0)).loss_is_separable


def test_class_wise_temperatures_are_made_client_by_client():
    off, on = (tiny_plan({"phase2.class_temperature": value}).method.phases[-1] for value in (0.0, 2.0))
    assert (off.can_batch_clients, on.can_batch_clients) == (True, False)


def test_a_phase_with_its_own_client_update_is_played_client_by_client():
    plan = tiny_plan()
    calls = []

    class Own(type(plan.method.phases[0])):
        def client_update(self, context, client):
            calls.append(client.id)
            return ClientUpdate()

    phase = Own(1, **{name: getattr(plan.method.phases[0], name) for name in ("model", "local", "sample_frac", "chunk_size")})
    run_chunk(replace(phase, vectorize=True), context_of(plan, phase), plan.federation.clients)
    assert calls == [client.id for client in plan.federation.clients]


def bits(updates):
    return [(dict(u.weights), {n: a.tobytes() for n, a in u.sums.items()}, dict(u.metrics)) for u in updates]


def test_what_ran_before_in_this_process_leaves_no_trace():
    plan = tiny_plan()
    phase, clients = plan.method.phases[0], plan.federation.clients
    context = context_of(plan, phase)
    first = bits(phase.client_updates(context, clients[:3]))
    torch.rand(3)
    phase.client_updates(context_of(plan, phase, round_number=2), clients)
    assert bits(phase.client_updates(context, clients[:3])) == first
    assert bits(phase.client_updates(replace(context, round=2), clients[:3])) != first


@pytest.mark.parametrize(("limit", "value"), [("MOST_CLIENTS", 2), ("STACK_PARAMETERS", 1)])
def test_stacks_are_cut_to_size_and_give_each_client_its_update(monkeypatch, limit, value):
    plan = tiny_plan()
    phase, clients = plan.method.phases[0], plan.federation.clients
    context = context_of(plan, phase)
    whole = phase.client_updates(context, clients)
    monkeypatch.setattr(batched_training, limit, value)
    assert max(distances(phase.client_updates(context, clients), whole)) < AFTER_A_KINK


def test_a_client_that_diverges_is_alone_with_its_loss():
    plan = tiny_plan()
    phase = plan.method.phases[0]
    context = context_of(plan, phase)
    # Equal numbers of clips, so that the losses of all of them are taken as one mean.
    clients = [replace(client, indices=client.indices[:8]) for client in plan.federation.clients]
    expected = phase.client_updates(context, clients)
    table = context.table
    audio_flat_XF, row = table.audio_flat_XF.copy(), clients[1].indices[0]
    audio_flat_XF[table.audio_offsets_N1[row] : table.audio_offsets_N1[row + 1]] = np.nan
    found = phase.client_updates(replace(context, table=replace(table, audio_flat_XF=audio_flat_XF)), clients)
    assert not np.isfinite(found[1].metrics["audio_loss"])
    for i, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        if i != 1:
            assert bits([ours]) == bits([theirs])


def test_off_and_on_have_keys_of_their_own(tmp_path):
    on, off = (Run(tmp_path, {"clients.vectorize": value}) for value in ("on", "off"))
    assert off.result["rounds_computed"] == on.result["rounds_computed"] > 0
    assert on.digest != off.digest
    auto = Run(tmp_path, {"clients.vectorize": "auto"})
    assert auto.bits() == on.bits()
    assert isinstance(auto.store, PhaseStore)


def test_updates_add_up_to_what_plus_gives():
    one = ClientUpdate({"a": 1.0}, {"a": np.float32([1, 2])}, {"n": 1.0})
    two = ClientUpdate({"a": 2.0, "b": 1.0}, {"a": np.float32([3, 5]), "b": np.float32([7])}, {"m": 2.0})
    total, plain = sum_updates([one, two, one]), one + two + one
    assert bits([total]) == bits([plain])
    assert one.sums["a"].tolist() == [1, 2]
    assert bits([sum_updates([])]) == bits([ClientUpdate()])
