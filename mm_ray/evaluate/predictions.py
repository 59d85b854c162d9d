"""A network's outputs over rows of the feature table."""

from collections.abc import Callable, Sequence

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
    return over_batches(lambda batch: (network(batch).logits_BC,), gather, lengths_N)[0]


def outputs_of(
    network: Callable[[Batch], Output], gather: Callable[[np.ndarray], Batch], lengths_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C) and pooled features (N, H), float32, of N clips in evaluation mode; arguments as for `logits_of`."""
    logits_NC, features_NH = over_batches(lambda batch: network(batch)[:2], gather, lengths_N)
    return logits_NC, features_NH


def over_batches(
    network: Callable[[Batch], Sequence[torch.Tensor]], gather: Callable[[np.ndarray], Batch], lengths_N: np.ndarray
) -> list[np.ndarray]:
    """Each of the tensors that the network gives, for N clips; arguments as for `logits_of`."""
    order_N = np.argsort(lengths_N, kind="stable")
    pieces = []
    with torch.inference_mode():
        for start in range(0, len(order_N), EVALUATION_BATCH):
            outputs = network(gather(order_N[start : start + EVALUATION_BATCH]))
            pieces.append([values.cpu().numpy() for values in outputs])
    return [_unsorted(np.concatenate(values), order_N) for values in zip(*pieces, strict=True)]


def _unsorted(sorted_NX: np.ndarray, order_N: np.ndarray) -> np.ndarray:
    values_NX = np.empty_like(sorted_NX)
    values_NX[order_N] = sorted_NX
    return values_NX
