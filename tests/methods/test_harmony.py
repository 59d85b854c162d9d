"""Harmony with two clients: its second phase recomputed in numpy, to the last bit, for one cluster and for two."""

import numpy as np
import pytest
from fed.tiny import Run, state_digest
from methods.two_clients import BOTH_AUDIOVISUAL, sources_of, state_after, two_client_plan, updates_of

from mm_ray.fed.phase import shared_inputs
from mm_ray.methods import harmony
from mm_ray.types import ClientUpdate, Key, ServerState

ENCODERS = ("audio.encoder", "video.encoder")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("harmony"), plan=two_client_plan("harmony", BOTH_AUDIOVISUAL, {"phase2.rounds": 2}))


def rounds(run):
    """(state before, update by client id, state after) of each round of phase 2."""
    phase, federation = run.plan.method.phases[1], run.plan.federation
    sources = sources_of(run, phase)
    state = phase.init(federation, sources)
    for number in range(1, phase.rounds + 1):
        updates = updates_of(run.plan, phase, state, number, sources)
        after = phase.server_update(state, sum(updates.values(), ClientUpdate()))
        yield state, updates, after
        state = after


def test_phase_1_is_that_of_modality_mirror(run, tmp_path):
    mirror = two_client_plan("modality_mirror", BOTH_AUDIOVISUAL)
    assert run.keys["phase1/unimodal"] == Run(tmp_path, plan=mirror).keys["phase1/unimodal"]
    assert run.result["test"].keys() == {"student"}
    assert run.plan.method.student.phase == "phase1/unimodal"


def test_the_last_round_is_the_stored_one(run):
    *_, (_, _, after) = rounds(run)
    stored = state_after(run, run.plan.method.phases[1], 2)
    assert state_digest(stored) == state_digest(after)


@pytest.mark.parametrize("labels", [[0, 0], [0, 1]])
def test_a_head_moves_by_the_mean_change_of_its_cluster(run, monkeypatch, labels):
    monkeypatch.setattr(harmony, "clusters_of", lambda distances_KM: np.array(labels))
    clips = {client.id: client.num_clips for client in run.plan.federation.clients}
    for before, updates, after in rounds(run):
        changes = {client: updates[client].by_client[client].sums["fusion"] for client in (0, 1)}
        both = (changes[0] + changes[1]) / np.float32(clips[0] + clips[1])
        for client in (0, 1):
            mean = both if labels == [0, 0] else changes[client] / np.float32(clips[client])
            expected = before.clients[client]["fusion"] + mean
            assert after.clients[client]["fusion"].tobytes() == expected.tobytes()


def test_encoders_go_on_from_the_client_s_own_and_only_distances_leave_it(run):
    phase = run.plan.method.phases[1]
    first = shared_inputs(sources_of(run, phase))
    (_, one, middle), (_, two, _) = rounds(run)
    for client in (0, 1):
        assert one[client].by_client[client].sums.keys() == {"fusion", harmony.DISTANCES}
        assert (one[client].sums, set(one[client].kept[client])) == ({}, set(ENCODERS))
        for part in ENCODERS:
            kept = one[client].kept[client][part]
            assert middle.clients[client][part].tobytes() == kept.tobytes() != first[part].tobytes()
            assert two[client].kept[client][part].tobytes() != kept.tobytes()
        kept = [one[client].kept[client][part].astype(float) for part in ENCODERS]
        start = [first[part].astype(float) for part in ENCODERS]
        cosines = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(kept, start, strict=True)]
        distances = one[client].by_client[client].sums[harmony.DISTANCES]
        assert distances == pytest.approx([1 - cosine for cosine in cosines], rel=1e-5)


def test_who_is_not_in_the_round_keeps_its_head(run):
    phase = run.plan.method.phases[1]
    before, updates, _ = next(rounds(run))
    after = phase.server_update(before, updates[1])
    assert after.clients[0]["fusion"].tobytes() == before.clients[0]["fusion"].tobytes()
    assert after.clients[1]["fusion"].tobytes() != before.clients[1]["fusion"].tobytes()
    assert state_digest(phase.server_update(before, ClientUpdate())) == state_digest(before)


def test_server_optimisers_and_scaffold_run(tmp_path):
    adam = {"phase2.server.optimizer": "adam", "phase2.local.scaffold": True, "phase2.rounds": 2}
    run = Run(tmp_path, plan=two_client_plan("harmony", BOTH_AUDIOVISUAL, adam))
    state = state_after(run, run.plan.method.phases[1], 2)
    assert isinstance(state, ServerState)
    assert np.abs(state.server[Key("momentum", "0")]).max() > 0
    assert not any("control" in path for path in state.flat())
