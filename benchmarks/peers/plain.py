"""What the peers share: the inputs on disk, the plain model, a client's plain training, and the gate between rounds.

The model is the audio network of mm_ray in ordinary PyTorch, with its parameters in the same order, so that one flat vector
starts all systems and what they end with is compared by one yardstick. B batch, T frames, F bins, C classes.
"""

import hashlib
import itertools
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Settings:
    """The model and the local training; written by the harness (`inputs.json`)."""

    audio_bins: int
    channels: tuple[int, int, int]
    hidden: int
    classifier_hidden: int
    num_classes: int
    dropout: float
    lr: float
    momentum: float
    weight_decay: float
    clip_norm: float
    batch_size: int
    clips: int
    """Clips of each client, which lie one after the other."""
    clients: int
    processes: int


class Inputs:
    """A folder of inputs: clips, labels, the first parameters, and the cohort of each round."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        values: dict[str, Any] = json.loads((self.folder / "inputs.json").read_text())
        self.settings = Settings(**{**values, "channels": tuple(values["channels"])})
        self.clips_NTF = torch.from_numpy(np.load(self.folder / "clips_f32.npy", mmap_mode="r+"))
        self.labels_N = torch.from_numpy(np.load(self.folder / "labels.npy"))
        self.start_P = torch.from_numpy(np.load(self.folder / "start.npy"))
        self.cohorts_RK = np.load(self.folder / "cohorts.npy")

    def client(self, number: int, round_number: int) -> tuple[Tensor, Tensor]:
        """A client's clips and labels, shuffled by the stream of mm_ray: all systems see the same batches."""
        size = self.settings.clips
        own = slice(number * size, (number + 1) * size)
        name = f"0/batches/phase1/{round_number}/{number}"
        seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1
        order = torch.from_numpy(np.random.default_rng(seed).permutation(size))
        return self.clips_NTF[own][order], self.labels_N[own][order]


@lru_cache(maxsize=1)
def inputs_of(folder: str) -> Inputs:
    """This process's inputs."""
    return Inputs(folder)


class PlainNet(nn.Module):
    """Three times Conv1d(5)-ReLU-MaxPool(2)-dropout, a GRU, the mean over time, Linear-ReLU-dropout-Linear."""

    def __init__(self, s: Settings) -> None:
        super().__init__()
        widths = (s.audio_bins, *s.channels)
        self.convs = nn.ModuleList(nn.Conv1d(a, b, 5, padding=2) for a, b in itertools.pairwise(widths))
        self.gru = nn.GRU(s.channels[-1], s.hidden, batch_first=True)
        self.hidden_layer = nn.Linear(s.hidden, s.classifier_hidden)
        self.classes = nn.Linear(s.classifier_hidden, s.num_classes)
        self.drop = nn.Dropout(s.dropout)

    def forward(self, x_BTF: Tensor) -> Tensor:
        """Logits (B, C)."""
        x_BFT = x_BTF.transpose(1, 2)
        for conv in self.convs:
            x_BFT = self.drop(functional.max_pool1d(torch.relu(conv(x_BFT)), 2))
        values_BTH, _ = self.gru(x_BFT.transpose(1, 2))
        return self.classes(self.drop(torch.relu(self.hidden_layer(values_BTH.mean(1)))))


def put(model: nn.Module, flat_P: Tensor) -> None:
    """Copy a flat vector into the model's parameters."""
    with torch.no_grad():
        for parameter, piece in zip(model.parameters(), flat_P.split([p.numel() for p in model.parameters()]), strict=True):
            parameter.copy_(piece.view_as(parameter))


def flat(model: nn.Module) -> Tensor:
    """The model's parameters as one flat vector (a copy)."""
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


def new_optimizer(parameters: Any, s: Settings) -> torch.optim.Optimizer:
    """The clients' optimiser."""
    return torch.optim.SGD(parameters, lr=s.lr, momentum=s.momentum, weight_decay=s.weight_decay)


def train(model: nn.Module, x_NTF: Tensor, labels_N: Tensor, s: Settings) -> None:
    """One local epoch."""
    model.train()
    optimizer = new_optimizer(model.parameters(), s)
    for batch, labels in zip(x_NTF.split(s.batch_size), labels_N.split(s.batch_size), strict=True):
        optimizer.zero_grad()
        functional.cross_entropy(model(batch), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), s.clip_norm)
        optimizer.step()


class Gate:
    """Between two rounds a system waits here until the harness says what comes next.

    The harness listens at the socket that BENCH_GATE names; so it can hold all systems but the one that is measured.
    """

    def __init__(self) -> None:
        self._line: Connection = Client(os.environ["BENCH_GATE"], "AF_UNIX")

    def wait(self, flat_P: Any) -> bool:
        """Tell that a round is over and wait; `flat_P()` gives the global parameters. False: end."""
        self._line.send("here")
        while (word := self._line.recv()) == "params":
            self._line.send(np.asarray(flat_P(), dtype=np.float32))
        return bool(word == "go")
