"""What encoders and networks share: masks, pooling over time, classifiers (sizes: FedMultimodal, KDD 2023).

Shapes: B batch, T steps, H hidden, A attention heads, C classes, X any size.

Padding never leaks: what lies behind a clip's length is set to zero before the first layer and after every layer, so a clip's
output does not depend on what it is batched with or padded with. A clip of length 0 is one step of zeros. Dropout
draws from the generator it is given; without one it is off (evaluation).
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mm_ray.models.dropout import dropout


class Sequence(NamedTuple):
    """An encoded modality and which of its steps are real."""

    values_BTH: Tensor
    mask_BT: Tensor


def length_mask(lengths_B: Tensor, num_steps: int) -> Tensor:
    """(B, num_steps), 1.0 where a step lies within the clip's length."""
    return (torch.arange(num_steps, device=lengths_B.device)[None] < lengths_B[:, None]).float()


def within(values_BTX: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
    """The values with zeros behind each clip's length, whatever lay there (NaN too), and the lengths, at least 1."""
    mask_BT = length_mask(lengths_B, values_BTX.shape[1])
    return values_BTX.masked_fill(mask_BT[..., None] == 0, 0.0), lengths_B.clamp_min(1)


class MeanPool(nn.Module):
    """The mean over a clip's real steps: (B, T, H) -> (B, H)."""

    def forward(self, sequence: Sequence) -> Tensor:
        """Pool."""
        total_BH = (sequence.values_BTH * sequence.mask_BT[..., None]).sum(1)
        return total_BH / sequence.mask_BT.sum(1, keepdim=True)


class AttentionPool(nn.Module):
    """Weighted sums over a clip's real steps, one per head: (B, T, H) -> (B, A*H)."""

    def __init__(self, hidden: int, size: int, heads: int) -> None:
        super().__init__()
        self.hidden_layer = nn.Linear(hidden, size)
        self.scores = nn.Linear(size, heads)

    def forward(self, sequence: Sequence) -> Tensor:
        """Pool; the softmax runs over time, with padding at minus infinity."""
        scores_BTA = self.scores(torch.tanh(self.hidden_layer(sequence.values_BTH)))
        scores_BTA = scores_BTA.masked_fill(sequence.mask_BT[..., None] == 0, -torch.inf)
        pooled_BAH = scores_BTA.softmax(1).transpose(1, 2) @ sequence.values_BTH
        return pooled_BAH.flatten(1)


class Output(NamedTuple):
    """What a network says of a batch."""

    logits_BC: Tensor
    features_BH: Tensor
    """The pooled representation that the classifier sees."""
    heads: Mapping[str, Tensor] | None = None
    """The logits (B, C) of each head by part, in a network that has several."""
    sequences: Mapping[str, Sequence] | None = None
    """What the encoders say, by modality."""


class Head(nn.Module):
    """Pooling, then Linear-ReLU-dropout-Linear to the classes."""

    def __init__(self, pool: nn.Module, pooled_size: int, hidden: int, num_classes: int, dropout_probability: float) -> None:
        super().__init__()
        self.pool = pool
        self.hidden_layer = nn.Linear(pooled_size, hidden)
        self.classes = nn.Linear(hidden, num_classes)
        self.dropout_probability = dropout_probability

    def forward(self, sequence: Sequence, generator: torch.Generator | None = None) -> Output:
        """Classify."""
        features_BH = self.pool(sequence)
        hidden_BH = dropout(torch.relu(self.hidden_layer(features_BH)), self.dropout_probability, generator)
        return Output(self.classes(hidden_BH), features_BH)
