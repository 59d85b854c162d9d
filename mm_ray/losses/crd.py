"""Contrastive representation distillation (Tian et al., ICLR 2020, arXiv 1910.10699), the variant with in-batch negatives.

The paper contrasts with a memory of thousands of earlier features, by learned embeddings and a noise-contrastive estimate.
Here (our choice) a clip is contrasted with the clips of other classes in its batch, by InfoNCE on cosines, since a client is
too small for a memory; the teacher's features go through a fixed projection (`mm_ray.distill.teacher_output`).
"""

import torch
from torch import Tensor
from torch.nn import functional

from mm_ray.config import Phase2Config
from mm_ray.distill.teacher_output import PROJECTION_USES, TeacherOutput, projected
from mm_ray.models.layers import Output

FEATURES = True
USES = (*PROJECTION_USES, "losses.crd_weight", "losses.crd_tau")


def loss(student: Output, target: TeacherOutput, labels_B: Tensor, settings: Phase2Config) -> Tensor:
    """weight * cross-entropy of finding each clip's own teacher features, the mean over the batch (scalar, nats).

    A clip without others of another class in its batch gives 0.
    """
    student_BH = functional.normalize(student.features_BH, dim=1)
    teacher_BH = functional.normalize(projected(target, student_BH.shape[1], settings), dim=1)
    scores_BB = student_BH @ teacher_BH.T / settings.losses.crd_tau
    own_BB = torch.eye(len(labels_B), dtype=torch.bool, device=labels_B.device)
    no_negative_BB = (labels_B[:, None] == labels_B[None]) & ~own_BB
    scores_BB = scores_BB.masked_fill(no_negative_BB, -torch.inf)
    return settings.losses.crd_weight * functional.cross_entropy(scores_BB, own_BB.float().argmax(1))
