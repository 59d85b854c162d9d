"""Class prototypes: the mean of an encoder's features over the clips of a class, and what training does with them.

A table of prototypes is (C, H+1): the prototypes, and in the last column 1 where the class has one. A client's share of it has
sums of features and in the last column the number of clips, so that clients are summed with `+`.

Shape suffixes: B batch, N clips of a client, C classes, H features, P = H+1.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

CONTRAST_TEMPERATURE = 0.5
"""Of the cosines in `contrast` (our choice)."""


def class_sums(features_NH: np.ndarray, labels_N: np.ndarray, num_classes: int) -> np.ndarray:
    """A client's share (C, P), float32."""
    sums_CP = np.zeros((num_classes, features_NH.shape[1] + 1), np.float32)
    np.add.at(sums_CP, labels_N, np.concatenate([features_NH, np.ones((len(labels_N), 1), np.float32)], axis=1))
    return sums_CP


def renewed(table_CP: np.ndarray, sums_CP: np.ndarray) -> np.ndarray:
    """The table after a round: the mean over all clips of the round; a class that nobody had keeps what it has."""
    counts_C1 = sums_CP[:, -1:]
    return np.where(counts_C1 > 0, sums_CP / np.maximum(counts_C1, 1), table_CP)


def contrast(features_BH: Tensor, labels_B: Tensor, table_CP: Tensor) -> Tensor:
    """InfoNCE of cosines to the prototypes: the clip's own class against the others (scalar, mean over clips whose has one)."""
    known_C, prototypes_CH = table_CP[:, -1] > 0, table_CP[:, :-1]
    cosines_BC = functional.normalize(features_BH, dim=1) @ functional.normalize(prototypes_CH, dim=1).T
    logits_BC = (cosines_BC / CONTRAST_TEMPERATURE).masked_fill(~known_C, -torch.inf)
    has_B = known_C[labels_B]
    return functional.cross_entropy(logits_BC[has_B], labels_B[has_B], reduction="sum") / max(int(has_B.sum()), 1)


def shared_distance(features: Sequence[Tensor], labels_B: Tensor, tables: Mapping[str, Tensor]) -> Tensor:
    """Mean squared distance of a clip's mean over modalities to its class's complete prototype, the mean over modalities.

    A modality whose prototype of the class is not known is left out, and a clip for which none is.
    """
    stacked_MBP = torch.stack([table_CP[labels_B] for table_CP in tables.values()])
    known_MB1 = stacked_MBP[:, :, -1:]
    complete_BH = (stacked_MBP[:, :, :-1] * known_MB1).sum(0) / known_MB1.sum(0).clamp_min(1)
    has_B = known_MB1.sum(0)[:, 0] > 0
    squares_BH = (torch.stack(list(features)).mean(0) - complete_BH).square()
    return squares_BH[has_B].mean(1).sum() / max(int(has_B.sum()), 1)
