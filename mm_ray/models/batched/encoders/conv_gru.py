"""`mm_ray.models.encoders.conv_gru` for K clients.

Shapes: K clients, B batch, T frames, F features, C channels, P pooled steps, H hidden.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mm_ray.config import ModelConfig
from mm_ray.models.batched.encoder import ClientFrames, Weights, step_mask
from mm_ray.models.batched.gru import stacked_gru
from mm_ray.models.batched.layers import StackedSequence, conv5, relu_pool_dropout
from mm_ray.models.dropout import StackedDropout


def inputs(frames: ClientFrames, model: ModelConfig, dropout: StackedDropout) -> dict[str, Tensor | None]:
    """The frames, and for each convolution the mask of real steps and dropout's factors."""
    x_BTKF, lengths_KB, steps_K = frames.values_KTBF.permute(2, 1, 0, 3).contiguous(), frames.lengths_KB, frames.steps_K
    given: dict[str, Tensor | None] = {"frames_BTKF": x_BTKF}
    steps = x_BTKF.shape[1]
    for index, channels in enumerate(model.conv_channels):
        given[f"real_BTK1.{index}"] = _real(lengths_KB, steps, x_BTKF.device)
        lengths_KB, steps, steps_K = (lengths_KB + 1) // 2, (steps + 1) // 2, [(own + 1) // 2 for own in steps_K]
        kept_KBPC = dropout.mask(steps_K, (len(x_BTKF), steps, channels))
        given[f"kept_BPKC.{index}"] = None if kept_KBPC is None else kept_KBPC.permute(1, 2, 0, 3)
    return given | {"mask_TKB": step_mask(lengths_KB, steps, x_BTKF.device)}


def encode(weights: Weights, given: Mapping[str, Tensor]) -> StackedSequence:
    """Grouped convolutions, then the stacked GRU."""
    x_BTKF, index = given["frames_BTKF"], 0
    while weights.has(f"convs.{index}"):
        x_BTKC = conv5(x_BTKF, *weights.of(f"convs.{index}"))
        x_BTKF = relu_pool_dropout(x_BTKC, given.get(f"real_BTK1.{index}"), given.get(f"kept_BPKC.{index}"))
        index += 1
    values_TKBH = stacked_gru(x_BTKF.permute(2, 1, 0, 3).contiguous(), weights.gru("gru"))
    return StackedSequence(values_TKBH, given["mask_TKB"])


def _real(lengths_KB: np.ndarray, steps: int, device: torch.device) -> Tensor | None:
    """(B, T, K, 1), 1.0 where a step is real; None if all are."""
    return None if lengths_KB.min() >= steps else step_mask(lengths_KB, steps, device).permute(2, 0, 1)[..., None]
