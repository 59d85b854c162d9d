"""FLOPs by formula: a network's by hand, and a client's from the clips that it sees."""

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fed.tiny import Run, tiny_plan
from torch.utils.flop_counter import FlopCounterMode

from mm_ray.config import LocalConfig
from mm_ray.fed.cost import clips_seen, forward_flops
from mm_ray.fed.local_training import batch_plan
from mm_ray.models.flat_params import FlatNetwork
from mm_ray.types import Batch, RoundContext


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


@pytest.mark.parametrize("encoder", ["conv_gru", "resnet", "transformer", "mlp", "gru"])
def test_the_count_is_torch_s_own(encoder):
    plan = tiny_plan()
    model = replace(plan.config.model, audio_encoder=encoder)
    network = FlatNetwork("audio", model, plan.federation.shapes, "cpu").network
    frames = plan.federation.mean_frames[0]
    audio, lengths = torch.zeros(1, frames, plan.federation.shapes.audio_bins), torch.tensor([frames])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(Batch(audio, lengths, None, None, torch.zeros(1, dtype=torch.int64), np.zeros(1, np.int64)))
    assert forward_flops("audio", model, plan.federation) == counter.get_total_flops()


def test_a_run_does_not_import_torch_s_compiler():
    program = """
import sys
from fed.tiny import tiny_plan
from mm_ray.fed.cost import forward_flops
plan = tiny_plan()
assert forward_flops("audio", plan.config.model, plan.federation)
assert "torch._dynamo" not in sys.modules
"""
    tests = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"PYTHONPATH": f"{tests.parent}:{tests}"})


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
