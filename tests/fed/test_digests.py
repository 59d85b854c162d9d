"""The bits of every method's parameters and states, as they were when `digests.json` was written.

A change of structure changes none of them. What changes numerics writes the file anew, and says so:

    python tests/fed/test_digests.py
"""

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from fed.tiny import TINY, Run

pytestmark = pytest.mark.thorough

DIGITS = 10
STORED = Path(__file__).with_name("digests.json")
# Every default that a result depends on, so that another default is no other result.
LOCAL = {
    "optimizer": "sgd",
    "warmup_rounds": 0,
    "steps": 0,
    "lr": 0.03,
    "momentum": 0.9,
    "weight_decay": 1e-5,
    "clip_norm": 10.0,
    "epochs": 2,
    "batch_size": 16,
    "prox_mu": 0.0,
    "scaffold": False,
}
SERVER = {
    "optimizer": "fedavg",
    "momentum": 0.9,
    "beta2": 0.99,
    "tau": 1e-3,
    "average": 0.0,
    "lr": 0.0,
    "rule": "mean",
    "bad_frac": 0.2,
    "max_norm": 0.0,
    "clip_norm": 0.0,
    "noise": 0.0,
}
FIXED = {
    "partition.kind": "dirichlet",
    "partition.alpha": 5.0,
    "partition.min_clips": 5,
    "partition.video_missing": 0.5,
    "partition.labelled": 1.0,
    "partition.label_noise": 0.0,
    "model.audio_pooling": "mean",
    "model.dropout": 0.1,
    "phase1.kind": "modality_wise",
    "phase1.rounds": 4,
    "phase1.fusion_frac": 0.25,
    "phase2.rounds": 3,
    "phase2.loss": "kd",
    "phase2.loss_weight": 0.5,
    "phase2.temperature": 4.0,
    "phase2.class_temperature": 0.0,
    "phase2.student_init": "phase1",
    "phase2.audio_clients": "idle",
    "clients.sample_frac": 0.7,
    "clients.dropout_frac": 0.0,
    "clients.deadline_s": 0.0,
    "clients.chunk_size": 2,
    "clients.vectorize": "off",
    **{f"{phase}.local.{name}": value for phase in ("phase1", "phase2") for name, value in LOCAL.items()},
    **{f"{phase}.server.{name}": value for phase in ("phase1", "phase2") for name, value in SERVER.items()},
}
METHODS = (
    "modality_mirror",
    "control",
    "control_all",
    "harmony",
    "unifl",
    "multifl",
    "fedcmi",
    "mfcpl",
    "central_audio",
    "central_av",
)


def both(name, value):
    return {f"{phase}.{name}": value for phase in ("phase1", "phase2")}


OPTIONS = {
    "joint": {"phase1.kind": "joint"},
    "scaffold": both("local.scaffold", True),
    "prox": both("local.prox_mu", 0.1),
    "median": both("server.rule", "median"),
    "trimmed_mean": both("server.rule", "trimmed_mean"),
    "krum": both("server.rule", "krum"),
    "clipped": both("server.clip_norm", 0.1) | both("server.max_norm", 1.0),
    "noise": both("server.noise", 0.5) | both("server.clip_norm", 1.0),
    "adam": both("server.optimizer", "adam"),
    "sgd": both("server.optimizer", "sgd"),
    "dropout": {"clients.dropout_frac": 0.4},
    "features": {"phase2.loss": "kd+fitnets", "phase2.class_temperature": 2.0},
    "audio_clients": {"phase2.audio_clients": "train", "phase2.loss": "kd+rkd", "phase2.student_init": "random"},
}
CASES = {
    **{method: {"method": method} for method in METHODS},
    **OPTIONS,
    "harmony, scaffold, adam": {"method": "harmony", **OPTIONS["scaffold"], **OPTIONS["adam"]},
    "average, unlabelled": {**both("server.average", 0.8), "partition.labelled": 0.4},
    "local adam": both("local.optimizer", "adam") | both("local.lr", 0.003) | both("local.steps", 5),
    "self_distil": {"method": "self_distil"},
    "mfcpl, average": {"method": "mfcpl", **both("server.average", 0.8)},
    "multifl, scaffold, average": {"method": "multifl", **both("local.scaffold", True), **both("server.average", 0.8)},
    "harmony, dropout": {"method": "harmony", **OPTIONS["dropout"]},
    "mfcpl, scaffold": {"method": "mfcpl", **OPTIONS["scaffold"]},
    "multifl, scaffold, sgd": {"method": "multifl", **OPTIONS["scaffold"], **OPTIONS["sgd"]},
    "unifl, krum": {"method": "unifl", **OPTIONS["krum"]},
}
TOGETHER = {f"{name}, vectorized": {**overrides, "clients.vectorize": "on"} for name, overrides in CASES.items()}


def this_machine():
    """Digest of a fixed computation without this project: other kinds of CPU and versions of torch sum in another order."""
    generator = torch.Generator().manual_seed(0)
    wave_N = torch.rand(8000, generator=generator)
    mel_TF = torchaudio.compliance.kaldi.fbank(wave_N[None], sample_frequency=16000.0, num_mel_bins=20, dither=0.0)
    x_BTF = torch.rand(3, 37, 20, generator=generator)
    weights = [torch.rand(shape, generator=generator, requires_grad=True) for shape in ((8, 20, 5), (24, 8), (24, 8), (4, 8))]
    h_BTC = torch.relu(torch.conv1d(x_BTF.transpose(1, 2), weights[0], padding=2)).transpose(1, 2)
    gru = (weights[1], weights[2], torch.zeros(24), torch.zeros(24))
    values_BTH, _ = torch.gru(h_BTC, torch.zeros(1, 3, 8), gru, True, 1, 0.0, False, False, True)
    loss = torch.nn.functional.cross_entropy(values_BTH.mean(1) @ weights[3].T, torch.tensor([0, 1, 2]))
    gradients = torch.autograd.grad(loss, weights)
    grouped = torch.conv2d(torch.rand(2, 8, 1, 30, generator=generator), torch.rand(6, 4, 1, 5, generator=generator), groups=2)
    digest = hashlib.sha256(torch.__version__.encode())
    for tensor in (mel_TF, loss, *gradients, grouped):
        digest.update(tensor.detach().numpy().tobytes())
    return digest.hexdigest()


def arrays_of(state):
    """A state's arrays, whatever they are called."""
    return list(state.flat().values())


def digests(overrides):
    """Of the student's (or teacher's) parameters, and of the arrays of each phase's last state."""
    with tempfile.TemporaryDirectory() as root:
        run = Run(root, TINY | FIXED | overrides)
        last = [(outcome.key, outcome.reports[-1].round) for outcome in run.finished.outcomes.values()]
        return " ".join([run.digest[:DIGITS], *(content_digest(arrays_of(run.store.load(*where))) for where in last)])


def content_digest(arrays):
    each = [f"{a.dtype} {a.shape} {hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()}" for a in arrays]
    return hashlib.sha256("\n".join(sorted(each)).encode()).hexdigest()[:DIGITS]


@pytest.mark.parametrize("name", [*CASES, *TOGETHER])
def test_the_bits_are_those_that_were_stored(name):
    stored = json.loads(STORED.read_text())
    if stored["machine"] != this_machine():
        pytest.skip("another kind of CPU or version of torch than that of digests.json: its sums have other last bits")
    assert digests((CASES | TOGETHER)[name]) == stored["digests"][name]


if __name__ == "__main__":
    torch.set_num_threads(1)
    written = {name: digests(overrides) for name, overrides in (CASES | TOGETHER).items()}
    STORED.write_text(json.dumps({"machine": this_machine(), "digests": written}, indent=1) + "\n")
