"""A network's logits over rows of the feature table."""

from collections.abc import Callable

import numpy as np
import torch

from mm_ray.models.layers import Output
from mm_ray.types import Batch

EVALUATION_BATCH = 128


def logits_of(network: Callable[[Batch], Output], gather: Callable[[np.ndarray], Batch], lengths_N: np.ndarray) -> np.ndarray:
    """Logits (N, C) float32 of N clips in evaluation mode.

    Args:
        network: Called with batches, gives logits.
        gather: Makes the batch of some of the N clips, by position.
        lengths_N: Length of each clip; clips of like length share a batch, so that little is padded.

    """
    order_N = np.argsort(lengths_N, kind="stable")
    pieces = []
    with torch.inference_mode():
        for start in range(0, len(order_N), EVALUATION_BATCH):
            pieces.append(network(gather(order_N[start : start + EVALUATION_BATCH])).logits_BC.cpu().numpy())
    logits_NC = np.concatenate(pieces)
    result_NC = np.empty_like(logits_NC)
    result_NC[order_N] = logits_NC
    return result_NC
