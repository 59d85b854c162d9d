"""UniFL, MultiFL, the controls and the central references with two clients: each round recomputed in numpy, to the last bit."""

import numpy as np
import pytest
from fed.tiny import Run
from methods.two_clients import (
    BOTH_AUDIOVISUAL,
    ONE_AUDIO_ONLY,
    clients_of,
    sources_of,
    state_after,
    two_client_plan,
    updates_of,
)

from mm_ray.errors import UserError
from mm_ray.models.network import PARTS
from mm_ray.types import ServerState


def finished(tmp_path, method, kind, **overrides):
    return Run(tmp_path, plan=two_client_plan(method, kind, overrides))


def test_fedcmi_trains_all_heads_with_video_and_the_audio_network_without(tmp_path):
    run = finished(tmp_path, "fedcmi", ONE_AUDIO_ONLY)
    (audio,), (both,) = clients_of(run.plan)
    (joint,) = run.plan.method.phases
    assert check_rounds(run, joint) == {audio.id: set(PARTS["audio"]), both.id: set(PARTS["cmi"])}
    assert run.result["test"].keys() == {"student", "teacher"}


def moved(start, updates, part):
    """start + (sum of clips * change over the part's holders) / (their clips)."""
    holders = [update for update in updates.values() if part in update.sums]
    total = holders[0].sums[part]
    for update in holders[1:]:
        total = total + update.sums[part]
    return start + total / np.float32(sum(update.weights[part] for update in holders))


def check_rounds(run, phase):
    """Every round of a phase from the state before it; returns who sent which parts in round 1."""
    plan = run.plan
    sources = sources_of(run, phase)
    state = phase.init(plan.federation, sources)
    senders = {}
    for number in range(1, phase.rounds + 1):
        updates = updates_of(plan, phase, state, number, sources)
        parts = {part: moved(array, updates, part) for part, array in state.params.items()}
        stored = state_after(run, phase, number) if number in run.store.rounds(run.keys[phase.name]) else None
        if stored:
            assert {name: a.tobytes() for name, a in stored.params.items()} == {name: a.tobytes() for name, a in parts.items()}
        state = ServerState(parts, meta=state.meta)
        senders = senders or {client: set(update.sums) for client, update in updates.items()}
    assert stored
    return senders


def test_unifl_trains_each_modality_set_apart(tmp_path):
    run = finished(tmp_path, "unifl", ONE_AUDIO_ONLY)
    (audio,), (both,) = clients_of(run.plan)
    assert [phase.rounds for phase in run.plan.method.phases] == [3, 3]
    first, second = run.plan.method.phases
    assert check_rounds(run, first) == {audio.id: set(PARTS["audio"])}
    assert check_rounds(run, second) == {both.id: set(PARTS["av"])}
    assert run.result["test"].keys() == {"student", "teacher"}


def test_multifl_averages_the_audio_encoder_over_all_and_the_rest_over_its_holders(tmp_path):
    run = finished(tmp_path, "multifl", ONE_AUDIO_ONLY)
    (audio,), (both,) = clients_of(run.plan)
    (joint,) = run.plan.method.phases
    assert joint.rounds == 3
    assert check_rounds(run, joint) == {audio.id: set(PARTS["audio"]), both.id: set(PARTS["av"])}


def test_multifl_is_phase_1_of_kind_joint_and_shares_it(tmp_path):
    mirror = Run(tmp_path, plan=two_client_plan("modality_mirror", ONE_AUDIO_ONLY, {"phase1.kind": "joint"}))
    multifl = Run(tmp_path, plan=two_client_plan("multifl", ONE_AUDIO_ONLY))
    assert (multifl.result["rounds_reused"], multifl.result["rounds_computed"]) == (2, 1)
    assert multifl.keys["phase1/joint"] == mirror.keys["phase1/joint"]


@pytest.mark.parametrize("method", ["unifl", "multifl"])
def test_without_audio_only_clients_one_line_says_so(method):
    with pytest.raises(
        UserError, match=r"^--partition\.video_missing 0\.0: no client trains the audio network of .*; raise|lower"
    ):
        two_client_plan(method, BOTH_AUDIOVISUAL)


def test_the_controls_differ_in_who_goes_on(tmp_path):
    runs = {method: finished(tmp_path, method, ONE_AUDIO_ONLY) for method in ("control", "control_all")}
    (audio,), (both,) = clients_of(runs["control"].plan)
    senders = {method: check_rounds(run, run.plan.method.phases[-1]) for method, run in runs.items()}
    assert {method: set(who) for method, who in senders.items()} == {
        "control": {both.id},
        "control_all": {audio.id, both.id},
    }
    assert runs["control_all"].result["rounds_reused"] == 3  # phase 1 and the teacher's logits
    assert runs["control"].digest != runs["control_all"].digest


def test_central_audio_trains_on_the_clips_of_all(tmp_path):
    run = finished(tmp_path, "central_audio", ONE_AUDIO_ONLY)
    (phase,) = run.plan.method.phases
    (client,) = phase.cohort(run.plan.federation, 1)
    assert client.indices.tolist() == run.plan.federation.table.rows("train").tolist()
    assert check_rounds(run, phase) == {0: set(PARTS["audio"])}
    assert (run.result["bytes_up"], run.result["bytes_down"]) == (0, 0)


def test_central_av_sees_the_video_of_clients_that_lack_it(tmp_path):
    some, all_video = (finished(tmp_path, "central_av", kind) for kind in (ONE_AUDIO_ONLY, BOTH_AUDIOVISUAL))
    (phase,) = some.plan.method.phases
    assert check_rounds(some, phase) == {0: set(PARTS["av"])}
    assert some.digest == all_video.digest
    assert set(some.result["test"]) == {"teacher"}


def test_a_central_round_does_not_depend_on_sampling_or_chunks(tmp_path):
    one = finished(tmp_path, "central_audio", ONE_AUDIO_ONLY)
    other = finished(
        tmp_path,
        "central_audio",
        ONE_AUDIO_ONLY,
        **{"clients.sample_frac": 0.5, "clients.chunk_size": 2, "clients.dropout_frac": 0.5},
    )
    assert (other.digest, other.result["rounds_computed"]) == (one.digest, 0)
