"""The precision of a training step's large products: float32, or bfloat16 by autocast.

With bfloat16 convolutions and matrix products read 8 bits of mantissa and add up in float32, which processors with AMX and
GPUs do several times as fast. Parameters, gradients, the recurrence of the batched GRU, losses and updates stay float32.
"""

from typing import Literal

import torch
from torch import Tensor

from mm_ray.models.layers import Output, Sequence

Precision = Literal["float32", "bfloat16"]


def forward_precision(precision: Precision, device: str) -> torch.autocast:
    """The context in which a forward pass runs; its backward pass, outside of it, has the same precision."""
    # No cache of cast weights: each weight is used once a step, and a CUDA graph must not hold one from outside.
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False)


def reduced(values: Tensor) -> Tensor:
    """The values in the precision of the products around."""
    device = values.device.type
    return values.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else values


def full_precision(output: Output) -> Output:
    """What a network gives, in float32: losses are not taken in less."""
    heads, sequences = output.heads, output.sequences
    return Output(
        output.logits_BC.float(),
        output.features_BH.float(),
        None if heads is None else {part: logits_BC.float() for part, logits_BC in heads.items()},
        None if sequences is None else {m: Sequence(s.values_BTH.float(), s.mask_BT) for m, s in sequences.items()},
    )
