"""FedCMI's lesson and loss by hand, and that it reaches the weak modality alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fed.tiny import tiny_plan
from methods.two_clients import BOTH_AUDIOVISUAL, clients_of, two_client_plan, updates_of

from mm_ray.methods.fedcmi import CrossModalInfiltration, InfiltrationTarget
from mm_ray.models.layers import Output
from mm_ray.types import Batch, RoundContext

LOG = np.log


def phase_of(**overrides):
    plan = two_client_plan("fedcmi", BOTH_AUDIOVISUAL, {"phase1.local.weight_decay": 0.0} | overrides)
    return plan, plan.method.phases[0]


@pytest.mark.parametrize("weak", ["audio", "video"])
def test_the_loss_of_a_clip_by_hand(weak):
    _, phase = phase_of(**{"phase2.loss_weight": 0.75})
    assert isinstance(phase, CrossModalInfiltration)
    # Probabilities of the right class, the first of two: 1/2 fused, 1/4 audio, 1/8 video.
    heads = {
        "audio.head": torch.tensor([[LOG(1), LOG(3)]]),
        "video.head": torch.tensor([[LOG(1), LOG(7)]]),
        "audio.imitation": torch.zeros(1, 2),
        "video.imitation": torch.zeros(1, 2),
    }
    heads[f"{'video' if weak == 'audio' else 'audio'}.imitation"] += torch.tensor([[5.0, -5.0]])  # not asked
    output = Output(torch.zeros(1, 2), torch.zeros(1, 2), heads)
    batch = Batch(None, None, None, None, torch.tensor([0]), np.array([9]))
    # The teacher says 9:1 at temperature 1, so 81:1 at temperature 1/2; the imitating head says 1:1.
    lesson = InfiltrationTarget(weak, np.array([[LOG(9), 0.0]], np.float32), np.array([0.5], np.float32))
    divergence = 81 / 82 * LOG(81 / 82 * 2) + 1 / 82 * LOG(1 / 82 * 2)
    expected = LOG(2) + 2 * (LOG(4) + LOG(8)) + 0.75 * 0.5**2 * divergence
    assert float(phase.infiltration_loss(output, batch, lesson, [0])) == pytest.approx(expected, rel=1e-5)


def context_of(plan, phase, params=()):
    federation = plan.federation
    state = phase.init(federation, {}).params | dict(params)
    return RoundContext(federation.seed, 1, state, {}, federation.table, federation.shapes)


@pytest.mark.parametrize("strong", ["audio", "video"])
def test_the_modality_that_knows_the_right_class_better_teaches_the_other(strong):
    plan, phase = phase_of()
    client = replace(clients_of(plan)[1][0])
    label = int(client.labels[0])
    same = client.labels == label
    client = replace(client, indices=client.indices[same], labels=client.labels[same])
    context = context_of(plan, phase)
    head = context.params[f"{strong}.head"].copy()
    head[-4 + label] += 5  # the bias of that class
    lesson = phase.infiltration_target(context_of(plan, phase, {f"{strong}.head": head}), client)
    assert lesson.weak == {"audio": "video", "video": "audio"}[strong]
    assert (lesson.logits_NC.argmax(1) == label).all()
    assert lesson.temperatures_N == pytest.approx(np.ones(client.num_clips))  # one class: its lead is the mean lead


def test_only_the_weak_modality_s_second_head_learns():
    plan, phase = phase_of()
    update = updates_of(plan, phase, phase.init(plan.federation, {}))[0]
    weak = phase.infiltration_target(context_of(plan, phase), plan.federation.clients[0]).weak
    learned = {name for name in ("audio.imitation", "video.imitation") if update.sums[name].any()}
    assert learned == {f"{weak}.imitation"}


def test_without_weight_nothing_is_imitated_and_with_it_the_weak_encoder_changes():
    updates = {}
    for weight in (0.0, 0.5):
        plan, phase = phase_of(**{"phase2.loss_weight": weight})
        updates[weight] = updates_of(plan, phase, phase.init(plan.federation, {}))[0].sums
    assert not updates[0.0]["audio.imitation"].any()
    assert not updates[0.0]["video.imitation"].any()
    changed = {part for part in updates[0.5] if updates[0.5][part].tobytes() != updates[0.0][part].tobytes()}
    assert len(changed & {"audio.encoder", "video.encoder"}) >= 1


def test_it_needs_no_audio_only_clients():
    assert tiny_plan({"method": "fedcmi", "partition.video_missing": 0.0})
