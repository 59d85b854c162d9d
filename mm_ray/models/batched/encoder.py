"""Encoders of K clients at once: a module of `mm_ray.models.batched.encoders` has `inputs` and `encode`.

`inputs` prepares what does not depend on the weights: it draws dropout masks, in the order in which the plain encoder draws its
own, and moves tensors to the device. `encode` is a pure function of tensors, so that a GPU can replay it.

Shapes: K clients, T frames or steps, B batch, F features, H hidden.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from mm_ray.config import ModelConfig
from mm_ray.models.batched.gru import GRUWeights
from mm_ray.models.batched.layers import StackedSequence
from mm_ray.models.dropout import StackedDropout
from mm_ray.models.encoder import batched_encoder


class ClientFrames(NamedTuple):
    """A batch of one modality from each of K clients."""

    values_KTBF: Tensor
    """A view; zeros behind a clip's length."""
    lengths_KB: np.ndarray
    rows_K: Sequence[int]
    """Clips in each client's batch; what lies behind them is there for the shape only."""

    @property
    def steps_K(self) -> list[int]:
        """Frames of each client's own batch, as it would be padded without the others."""
        return [int(lengths[:rows].max()) for lengths, rows in zip(self.lengths_KB, self.rows_K, strict=True)]


class Weights(NamedTuple):
    """The parameters of K copies by name (`audio.encoder.gru.weight_ih_l0`), as views, or those of one module of them."""

    by_name: Mapping[str, Tensor]
    prefix: str = ""

    def within(self, module: str) -> "Weights":
        """Those of a module."""
        return Weights(self.by_name, f"{self.prefix}{module}.")

    def has(self, module: str) -> bool:
        """Whether there is a module of that name with a weight."""
        return f"{self.prefix}{module}.weight" in self.by_name

    def of(self, module: str) -> tuple[Tensor, Tensor]:
        """Weight and bias of a module."""
        return self.by_name[f"{self.prefix}{module}.weight"], self.by_name[f"{self.prefix}{module}.bias"]

    def gru(self, module: str) -> GRUWeights:
        """The weights of a GRU."""
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        return GRUWeights(*(self.by_name[f"{self.prefix}{module}.{name}"] for name in names))


class BatchedEncoder(Protocol):
    """What a module of `mm_ray.models.batched.encoders` has."""

    def inputs(self, frames: ClientFrames, model: ModelConfig, dropout: StackedDropout) -> dict[str, Tensor | None]:
        """All that is computed with besides the weights; None: not needed this time."""

    def encode(self, weights: Weights, given: Mapping[str, Tensor]) -> StackedSequence:
        """What the plain encoder gives for each client, up to the order in which floats are summed."""


def find_batched(name: str) -> BatchedEncoder:
    """The form for K clients of an encoder, which must have one (`mm_ray.models.encoder.batched_encoder`)."""
    return cast(BatchedEncoder, importlib.import_module(batched_encoder(name)))


def step_mask(lengths_KB: np.ndarray, steps: int, device: torch.device) -> Tensor:
    """(T, K, B), 1.0 where a step is real."""
    return torch.from_numpy((np.arange(steps)[:, None, None] < lengths_KB).astype(np.float32)).to(device)
