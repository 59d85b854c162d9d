"""`mm_ray.models.encoders.gru` for K clients.

Shapes: K clients, B batch, T frames, F features, H hidden.
"""

from collections.abc import Mapping

from torch import Tensor

from mm_ray.config import ModelConfig
from mm_ray.models.batched.encoder import ClientFrames, Weights, step_mask
from mm_ray.models.batched.gru import stacked_gru
from mm_ray.models.batched.layers import StackedSequence
from mm_ray.models.dropout import StackedDropout


def inputs(frames: ClientFrames, model: ModelConfig, dropout: StackedDropout) -> dict[str, Tensor | None]:
    """The frames after dropout, and the mask of real steps."""
    x_KTBF = frames.values_KTBF
    _, steps, rows, features = x_KTBF.shape
    kept_KBTF = dropout.mask(frames.steps_K, (rows, steps, features))
    x_KTBF = x_KTBF if kept_KBTF is None else x_KTBF * kept_KBTF.transpose(1, 2)
    return {"frames_KTBF": x_KTBF.contiguous(), "mask_TKB": step_mask(frames.lengths_KB, steps, x_KTBF.device)}


def encode(weights: Weights, given: Mapping[str, Tensor]) -> StackedSequence:
    """The stacked GRU."""
    return StackedSequence(stacked_gru(given["frames_KTBF"], weights.gru("gru")), given["mask_TKB"])
