"""What a round costs a client: bytes, and floating point operations (FLOPs) by formula.

A network's operations are counted by torch's own formulas (a product or a convolution is two FLOPs per multiplication and
addition) for a clip of the training data's mean length; everything else is small beside these. The backward pass takes twice
the forward pass: one product for the gradient of the weights, one for that of the inputs.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from mm_ray.config import LocalConfig, ModelConfig
from mm_ray.fed.federation import Federation
from mm_ray.models.flat_params import FlatNetwork
from mm_ray.models.network import READS
from mm_ray.types import Batch, ClientData, Shapes

TRAINING_PASSES = 3
"""Cost of a forward and a backward pass, in forward passes."""


def forward_flops(network: str, model: ModelConfig, federation: Federation) -> int:
    """FLOPs of a forward pass over one clip of the mean length of the training clips."""
    return _counted(network, model, federation.shapes, *federation.mean_frames)


def training_flops(network: str, model: ModelConfig, federation: Federation) -> int:
    """FLOPs of a training step for each of its clips."""
    return TRAINING_PASSES * forward_flops(network, model, federation)


def clips_seen(local: LocalConfig, client: ClientData) -> int:
    """Clips in the batches of a client's round; a clip that is used again counts again."""
    if not client.num_clips:
        return 0
    per_pass = math.ceil(client.num_clips / local.batch_size)
    passes, rest = divmod(num_steps(local, client), per_pass)
    return passes * client.num_clips + rest * local.batch_size


def num_steps(local: LocalConfig, client: ClientData) -> int:
    """Steps of a client's round: `local.steps`, or `local.epochs` epochs of its clips."""
    return local.steps or local.epochs * math.ceil((client.epoch_clips or client.num_clips) / local.batch_size)


@lru_cache(maxsize=64)
def _counted(network: str, model: ModelConfig, shapes: Shapes, audio_frames: int, video_frames: int) -> int:
    audio, video = (modality in READS[network] for modality in ("audio", "video"))
    batch = Batch(
        torch.zeros(1, audio_frames, shapes.audio_bins) if audio else None,
        torch.tensor([audio_frames]) if audio else None,
        torch.zeros(1, video_frames, shapes.video_features) if video else None,
        torch.tensor([video_frames]) if video else None,
        torch.zeros(1, dtype=torch.int64),
        np.zeros(1, np.int64),
    )
    with _FlopCounter() as counter, torch.no_grad():
        FlatNetwork(network, model, shapes, "cpu").network(batch)
    return counter.total


class _FlopCounter(TorchDispatchMode):
    """Adds up torch's FLOP formulas. Torch's own `FlopCounterMode` counts the same, but its first operation imports the
    compiler: 1.8 s and 150 MB in each process.
    """

    total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func.overloadpacket):
            self.total += int(formula(*args, **(kwargs or {}), out_val=output))
        return output
