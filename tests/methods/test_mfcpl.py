"""MFCPL with two clients: prototypes and parts of each round recomputed in numpy, to the last bit."""

import numpy as np
import pytest
from fed.tiny import Run
from methods.two_clients import ONE_AUDIO_ONLY, clients_of, state_after, two_client_plan, updates_of
from torch.nn import functional

from mm_ray.methods.mfcpl import encoded_on, prototypes_of
from mm_ray.models.flat_params import FlatNetwork
from mm_ray.models.network import PARTS
from mm_ray.types import RoundContext, ServerState

AUDIO, VIDEO = TABLES = (prototypes_of("audio"), prototypes_of("video"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("mfcpl"), plan=two_client_plan("mfcpl", ONE_AUDIO_ONLY))


def expected_after(state, updates):
    """Parts: start + clips * change over clips; prototypes: the mean over the clips of a class."""
    expected = {}
    for name, array in state.params.items():
        held = [update for update in updates.values() if name in update.sums]
        total = sum((update.sums[name] for update in held[1:]), held[0].sums[name])
        if name in TABLES:
            expected[name] = np.where(total[:, -1:] > 0, total / np.maximum(total[:, -1:], 1), array)
        else:
            expected[name] = array + total / np.float32(sum(update.weights[name] for update in held))
    return expected


def test_every_round_is_the_mean_of_what_the_holders_send(run):
    phase = run.plan.method.phases[0]
    (audio,), (both,) = clients_of(run.plan)
    state = phase.init(run.plan.federation, {})
    for number in range(1, phase.rounds + 1):
        updates = updates_of(run.plan, phase, state, number)
        assert updates[audio.id].sums.keys() == {*PARTS["audio"], AUDIO}
        assert updates[both.id].sums.keys() == {*PARTS["av"], *TABLES}
        assert all(np.isfinite(array).all() for update in updates.values() for array in update.sums.values())
        state = ServerState(expected_after(state, updates))
    stored = state_after(run, phase, phase.rounds)
    assert {name: a.tobytes() for name, a in stored.params.items()} == {name: a.tobytes() for name, a in state.params.items()}


def test_a_client_s_prototypes_are_those_of_what_it_trained(run):
    phase, federation = run.plan.method.phases[0], run.plan.federation
    (client,), _ = clients_of(run.plan)
    state = phase.init(federation, {})
    update = updates_of(run.plan, phase, state)[client.id]
    net = FlatNetwork("audio", phase.model, federation.shapes, "cpu")
    net.load({part: state.params[part] + update.sums[part] / np.float32(client.num_clips) for part in PARTS["audio"]})
    features = encoded_on(net, RoundContext(1, 1, {}, {}, federation.table, federation.shapes), client)["audio"]
    labels = federation.table.labels_N[client.indices]
    for label in range(federation.shapes.num_classes):
        *sums, count = update.sums[AUDIO][label]
        assert count == (labels == label).sum()
        assert sums == pytest.approx(features[labels == label].sum(0), rel=1e-3, abs=1e-5)


def test_audio_only_clients_hear_of_video_by_its_prototypes_alone(run):
    phase = run.plan.method.phases[0]
    (client,), _ = clients_of(run.plan)
    state = state_after(run, phase, phase.rounds)
    before = updates_of(run.plan, phase, state, 4)[client.id].sums
    for name, changes in ((VIDEO, True), ("video.encoder", False), ("fusion", False)):
        other = ServerState({**state.params, name: state.params[name] + np.float32(0.1)})
        after = updates_of(run.plan, phase, other, 4)[client.id].sums
        assert (after["audio.encoder"].tobytes() != before["audio.encoder"].tobytes()) == changes


WITHOUT = {"phase2.loss_weight": 0.0, "clients.vectorize": "off"}  # clients trained together sum in another order


def test_without_weight_it_is_multifl(tmp_path):
    plans = [two_client_plan(name, ONE_AUDIO_ONLY, WITHOUT) for name in ("mfcpl", "multifl")]
    mfcpl, multifl = (Run(tmp_path, plan=plan) for plan in plans)
    assert mfcpl.digest == multifl.digest


def test_the_alignment_is_there_before_any_prototype(run, monkeypatch):
    phase = run.plan.method.phases[0]
    (audio,), (both,) = clients_of(run.plan)
    state = phase.init(run.plan.federation, {})
    with_it = updates_of(run.plan, phase, state)
    monkeypatch.setattr(functional, "mse_loss", lambda one, other: 0.0 * one.sum())
    without = updates_of(run.plan, phase, state)
    encoders = [{client: update.sums["audio.encoder"].tobytes() for client, update in u.items()} for u in (with_it, without)]
    assert encoders[0][audio.id] == encoders[1][audio.id]
    assert encoders[0][both.id] != encoders[1][both.id]
