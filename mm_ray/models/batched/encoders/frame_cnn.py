"""`mm_ray.models.encoders.frame_cnn` for K clients.

Shapes: K clients, B batch, T frames, F numbers per frame, C channels or colours, Y rows, X columns, Z pooled values, H hidden,
N = T * B pictures of each client.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from mm_ray.config import ModelConfig
from mm_ray.models.batched.encoder import ClientFrames, Weights, step_mask
from mm_ray.models.batched.gru import stacked_gru
from mm_ray.models.batched.layers import StackedSequence
from mm_ray.models.dropout import StackedDropout
from mm_ray.models.encoders.frame_cnn import picture_of


def inputs(frames: ClientFrames, model: ModelConfig, dropout: StackedDropout) -> dict[str, Tensor | None]:
    """The frames, dropout's factors for the pooled values, and the mask of real steps."""
    x_KTBF = frames.values_KTBF
    _, steps, rows, features = x_KTBF.shape
    pooled = model.frame_cnn.channels[-1] * (picture_of(features)[0] // 4) ** 2
    kept_KBTZ = dropout.mask(frames.steps_K, (rows, steps, pooled))
    return {
        "frames_KTBF": x_KTBF.contiguous(),
        "kept_KTBZ": None if kept_KBTZ is None else kept_KBTZ.transpose(1, 2),
        "mask_TKB": step_mask(frames.lengths_KB, steps, x_KTBF.device),
    }


def encode(weights: Weights, given: Mapping[str, Tensor]) -> StackedSequence:
    """Grouped convolutions, then the stacked GRU."""
    x_KTBF = given["frames_KTBF"]
    clients, steps, rows, features = x_KTBF.shape
    side, colours = picture_of(features)
    x_KNYXC = x_KTBF.view(clients, steps * rows, side, side, colours)
    x_NCYX = x_KNYXC.permute(1, 0, 4, 2, 3).reshape(steps * rows, clients * colours, side, side)
    index = 0
    while weights.has(f"convs.{index}"):
        weight_KCC33, bias_KC = weights.of(f"convs.{index}")
        x_NCYX = functional.conv2d(x_NCYX, weight_KCC33.flatten(0, 1), bias_KC.flatten(), padding=1, groups=clients)
        x_NCYX = functional.max_pool2d(torch.relu(x_NCYX), 2)
        index += 1
    seen_KTBZ = x_NCYX.view(steps, rows, clients, -1).permute(2, 0, 1, 3)
    if "kept_KTBZ" in given:
        seen_KTBZ = seen_KTBZ * given["kept_KTBZ"]
    return StackedSequence(stacked_gru(seen_KTBZ.contiguous(), weights.gru("gru")), given["mask_TKB"])
