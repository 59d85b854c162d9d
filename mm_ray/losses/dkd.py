"""Decoupled knowledge distillation (Zhao et al., CVPR 2022, arXiv 2203.08679).

With p the teacher's and q the student's softened probabilities and y the label, KD splits into KL of (p_y, 1 - p_y)
against (q_y, 1 - q_y), and (1 - p_y) times KL over the other classes, each side renormalised. DKD frees the second part of
the factor (1 - p_y), which hides it where the teacher is sure.
"""

import torch
from torch import Tensor
from torch.nn import functional

from mm_ray.config import Phase2Config
from mm_ray.distill.teacher_output import TeacherOutput, divergence, temperature_of
from mm_ray.models.layers import Output

USES = ("temperature", "losses.dkd_alpha", "losses.dkd_beta")
ROWWISE = True


def loss(student: Output, target: TeacherOutput, labels_B: Tensor, settings: Phase2Config) -> Tensor:
    """T^2 * (alpha * target-class part + beta * non-target part), the mean over the batch (scalar, nats)."""
    temperature = temperature_of(target, settings)
    is_label_BC = functional.one_hot(labels_B, student.logits_BC.shape[1]).bool()
    student_target, student_other = _decoupled(student.logits_BC / temperature, is_label_BC)
    teacher_target, teacher_other = _decoupled(target.logits_BC / temperature, is_label_BC)
    target_part = divergence(student_target, teacher_target, temperature)
    other_part = divergence(student_other, teacher_other, temperature)
    return settings.losses.dkd_alpha * target_part + settings.losses.dkd_beta * other_part


def _decoupled(logits_BC: Tensor, is_label_BC: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of label and rest (B, 2), and of the other classes among themselves (B, C - 1)."""
    label_B1 = logits_BC[is_label_BC][:, None]
    others_BD = logits_BC[~is_label_BC].view(len(logits_BC), -1)
    both_B2 = torch.cat([label_B1, others_BD.logsumexp(1, keepdim=True)], 1)
    return both_B2.log_softmax(1), others_BD.log_softmax(1)
