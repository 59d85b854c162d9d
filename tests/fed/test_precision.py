"""bfloat16 in the clients' products: other bits, the same ones in every run, near those of float32, and float32 all around."""

import numpy as np
import pytest
import torch
from fed.tiny import Run, tiny_plan

from mm_ray.fed.executor import run_chunk
from mm_ray.fed.rounds import role_params
from mm_ray.types import RoundContext

HALF = {"clients.precision": "bfloat16"}
ALONE = {"clients.vectorize": "off"}
METHODS = ("modality_mirror", "harmony", "fedcmi", "mfcpl")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", [{}, ALONE], ids=["together", "one by one"])
def test_two_runs_give_the_same_bits_and_not_those_of_float32(tmp_path, method, how):
    overrides = {"method": method, **how}
    runs = [Run(tmp_path / name, overrides | HALF) for name in ("a", "b")]
    assert runs[0].bits() == runs[1].bits()
    assert runs[0].digest != Run(tmp_path / "c", overrides).digest
    role = runs[0].plan.method.main
    assert {array.dtype for array in role_params(role, runs[0].finished.outcomes, runs[0].store).values()} == {np.dtype("f4")}


@pytest.mark.parametrize("network", ["audio", "av"])
@pytest.mark.parametrize("vectorize", ["on", "off"])
def test_an_update_is_near_that_of_float32(network, vectorize):
    updates = []
    for precision in ("float32", "bfloat16"):
        settings = {"clients.precision": precision, "clients.vectorize": vectorize, "model.dropout": 0.0}
        plan = tiny_plan(settings | {"method": "unifl", "phase1.local.lr": 0.01, "phase1.local.momentum": 0.0})
        phase = next(phase for phase in plan.method.phases if phase.networks == (network,))
        federation = plan.federation
        context = RoundContext(federation.seed, 1, phase.init(federation, {}).params, {}, federation.table, federation.shapes)
        updates.append(run_chunk(phase, context, phase.cohort(federation, 1)))
    exact, rounded = (np.concatenate([update.mean(part) for part in sorted(update.weights)]) for update in updates)
    assert rounded.dtype == np.float32
    distance = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 1e-6 < distance < 0.1


def test_losses_are_taken_in_float32(tmp_path, monkeypatch):
    seen = set()
    cross_entropy = torch.nn.functional.cross_entropy

    def spy(logits_BC, labels_B, **given):
        seen.add(logits_BC.dtype)
        return cross_entropy(logits_BC, labels_B, **given)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", spy)
    for how in ({}, ALONE):
        Run(tmp_path / str(len(how)), {"method": "fedcmi", "phase1.rounds": 2, "phase2.rounds": 1, **HALF, **how})
    assert seen == {torch.float32}


@pytest.mark.parametrize("encoders", [("transformer", "mlp"), ("resnet", "gru"), ("mlp", "frame_cnn")])
def test_other_encoders_train_in_bfloat16(tmp_path, encoders):
    named = dict(zip(("model.audio_encoder", "model.video_encoder"), encoders, strict=True))
    settings = {**named, "phase1.rounds": 2, "phase2.rounds": 1}
    half, whole = Run(tmp_path / "half", settings | HALF), Run(tmp_path / "whole", settings)
    assert half.digest != whole.digest
    losses = [[run.reports[0].metrics[f"train/{network}_loss"] for network in ("audio", "video")] for run in (half, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


def test_auto_is_float32(tmp_path):
    assert Run(tmp_path / "a", {"clients.precision": "float32"}).bits() == Run(tmp_path / "b").bits()
