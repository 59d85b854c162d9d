"""`mm_ray.models.encoders.mlp` for K clients.

Shapes: K clients, B batch, T frames, F features, H hidden, X = T * B rows.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mm_ray.config import ModelConfig
from mm_ray.models.batched.encoder import ClientFrames, Weights, step_mask
from mm_ray.models.batched.layers import StackedSequence, linear
from mm_ray.models.dropout import StackedDropout


def inputs(frames: ClientFrames, model: ModelConfig, dropout: StackedDropout) -> dict[str, Tensor | None]:
    """The frames, dropout's factors for each layer, and the mask of real steps."""
    x_KTBF = frames.values_KTBF.contiguous()
    _, steps, rows, _ = x_KTBF.shape
    given: dict[str, Tensor | None] = {"frames_KTBF": x_KTBF}
    for index in range(model.mlp.layers):
        kept_KBTH = dropout.mask(frames.steps_K, (rows, steps, model.hidden))
        given[f"kept_KXH.{index}"] = None if kept_KBTH is None else kept_KBTH.transpose(1, 2).flatten(1, 2)
    return given | {"mask_TKB": step_mask(frames.lengths_KB, steps, x_KTBF.device)}


def encode(weights: Weights, given: Mapping[str, Tensor]) -> StackedSequence:
    """Batched products, ReLU, dropout."""
    clients, steps, rows, _ = given["frames_KTBF"].shape
    x_KXH, index = given["frames_KTBF"].flatten(1, 2), 0
    while weights.has(f"layers.{index}"):
        x_KXH = torch.relu(linear(x_KXH, *weights.of(f"layers.{index}")))
        kept_KXH = given.get(f"kept_KXH.{index}")
        x_KXH = x_KXH if kept_KXH is None else x_KXH * kept_KXH
        index += 1
    return StackedSequence(x_KXH.view(clients, steps, rows, -1).transpose(0, 1), given["mask_TKB"])
