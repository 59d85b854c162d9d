"""The sample filter of C2KD (Huo et al., CVPR 2024) before knowledge distillation.

A clip whose teacher and student order the classes differently is dropped, since what a teacher of another modality says of
it may mislead. Of C2KD this is the filter alone: its proxy networks, which teach each other in both directions, and its
divergence over the non-target classes are left out, and the loss of what remains is `kd`. Tau has no correction for ties
here; its sign, and so the default, is the same with one.
"""

import torch
from torch import Tensor

from mm_ray.config import Phase2Config
from mm_ray.distill.teacher_output import TeacherOutput
from mm_ray.losses import kd
from mm_ray.models.layers import Output

USES = (*kd.USES, "losses.c2kd_min_tau")
ROWWISE = True


def loss(student: Output, target: TeacherOutput, labels_B: Tensor, settings: Phase2Config) -> Tensor:
    """`kd` of the clips whose Kendall's tau is above `c2kd_min_tau`; the mean counts dropped clips as 0 (scalar, nats)."""
    keep_B = kendall_tau(student.logits_BC.detach(), target.logits_BC) > settings.losses.c2kd_min_tau
    kept = Output(student.logits_BC[keep_B], student.features_BH[keep_B])
    if not len(kept.logits_BC):
        return student.logits_BC.sum() * 0
    teacher = TeacherOutput(*(None if values is None else values[keep_B] for values in target))  # type: ignore[arg-type]
    share = len(kept.logits_BC) / len(labels_B)
    return share * kd.loss(kept, teacher, labels_B[keep_B], settings)


def kendall_tau(one_BC: Tensor, other_BC: Tensor) -> Tensor:
    """Kendall's tau-a of each row: (concordant - discordant pairs of classes) / all pairs, (B,)."""
    num_classes = one_BC.shape[1]
    i, j = torch.triu_indices(num_classes, num_classes, offset=1, device=one_BC.device)
    return (torch.sign(one_BC[:, i] - one_BC[:, j]) * torch.sign(other_BC[:, i] - other_BC[:, j])).mean(1)
