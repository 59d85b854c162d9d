"""FLOPs by formula: a network's by hand, and a client's from the clips that it sees."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from fed.tiny import Run, tiny_plan

from mm_ray.config import LocalConfig
from mm_ray.fed.cost import clips_seen, forward_flops
from mm_ray.fed.local_training import batch_plan
from mm_ray.types import RoundContext


def test_the_audio_network_s_operations_by_hand():
    plan = tiny_plan()
    federation, model = plan.federation, plan.config.model
    (frames, _), shapes = federation.mean_frames, federation.shapes
    convs, widths = 0, (shapes.audio_bins, *model.conv_channels)
    for before, after in itertools.pairwise(widths):
        convs += 2 * frames * before * after * 5
        frames = (frames + 1) // 2
    gru = 2 * frames * (widths[-1] + model.hidden) * 3 * model.hidden
    head = 2 * (model.hidden * model.classifier_hidden + model.classifier_hidden * shapes.num_classes)
    assert forward_flops("audio", model, federation) == convs + gru + head


@pytest.mark.parametrize("local", [LocalConfig(epochs=2, batch_size=4), LocalConfig(steps=7, batch_size=4)])
@pytest.mark.parametrize("clips", [1, 4, 6, 9])
@pytest.mark.parametrize("epoch_clips", [0, 21])
def test_the_clips_seen_are_those_of_the_batches(local, clips, epoch_clips):
    client = replace(
        tiny_plan().federation.clients[0], indices=np.arange(clips), labels=np.zeros(clips, int), epoch_clips=epoch_clips
    )
    batches, _ = batch_plan(RoundContext(0, 1, {}, {}, None, None), client, local, "audio", "s")
    assert clips_seen(local, client) == sum(map(len, batches))


def test_a_round_reports_three_forward_passes_for_each_clip_seen(tmp_path):
    run = Run(tmp_path, {"method": "central_audio", "phase1.rounds": 2, "phase2.rounds": 1})
    train = len(run.plan.federation.table.rows("train"))
    clip = forward_flops("audio", run.plan.config.model, run.plan.federation)
    assert run.reports[0].flops == 3 * clip * train * run.plan.config.phase1.local.epochs
    assert run.result["flops"] == 3 * run.reports[0].flops
    again = Run(tmp_path, {"method": "central_audio", "phase1.rounds": 2, "phase2.rounds": 1})
    assert [report.flops for report in again.reports] == [report.flops for report in run.reports]
