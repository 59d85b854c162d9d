"""Relational knowledge distillation (Park et al., CVPR 2019, arXiv 1904.05068).

The student is to have the teacher's distances between clips and angles at clips; so the sizes of the features may differ.
"""

import torch
from torch import Tensor
from torch.nn import functional

from mm_ray.config import Phase2Config
from mm_ray.distill.teacher_output import TeacherOutput
from mm_ray.models.layers import Output

FEATURES = True
USES = ("losses.rkd_distance", "losses.rkd_angle")
TINY = 1e-6


def loss(student: Output, target: TeacherOutput, labels_B: Tensor, settings: Phase2Config) -> Tensor:
    """Huber loss of distances and of angles over all pairs and triples of the batch, weighted (scalar).

    Distances are divided by the mean distance of the batch. The means run over all B^2 pairs and B^3 triples, as in the
    authors' code; a batch of one clip has no relations and gives 0.
    """
    features_BP = target.features_BP
    assert features_BP is not None
    losses = settings.losses
    distance = functional.smooth_l1_loss(relative_distances(student.features_BH), relative_distances(features_BP))
    angle = functional.smooth_l1_loss(angles(student.features_BH), angles(features_BP))
    return losses.rkd_distance * distance + losses.rkd_angle * angle


def relative_distances(features_BZ: Tensor) -> Tensor:
    """Euclidean distances (B, B), divided by their mean over the pairs of different clips."""
    difference_BBZ = features_BZ[None] - features_BZ[:, None]
    # Clamped before the root, whose slope at 0 is infinite.
    distance_BB = difference_BBZ.square().sum(2).clamp_min(TINY**2).sqrt()
    distance_BB = distance_BB * (1 - torch.eye(len(features_BZ), device=features_BZ.device))
    num_pairs = max(len(features_BZ) * (len(features_BZ) - 1), 1)
    return distance_BB / (distance_BB.sum() / num_pairs).clamp_min(TINY)


def angles(features_BZ: Tensor) -> Tensor:
    """Cosines (B, B, B): element (i, j, k) of the angle at clip i between the ways to clips j and k."""
    difference_BBZ = features_BZ[None] - features_BZ[:, None]
    direction_BBZ = functional.normalize(difference_BBZ, dim=2, eps=TINY)
    return direction_BBZ @ direction_BBZ.transpose(1, 2)
