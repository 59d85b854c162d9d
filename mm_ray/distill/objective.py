"""The student's weighted objective on a batch."""

from functools import reduce
from operator import add

from torch import Tensor
from torch.nn import functional

from mm_ray.config import Phase2Config
from mm_ray.distill.loss_spec import parse_loss
from mm_ray.distill.teacher_output import TeacherOutput
from mm_ray.models.layers import Output
from mm_ray.types import UNLABELLED


def cross_entropy(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """The mean over the labelled clips of the batch (scalar, nats); 0 without any."""
    total = functional.cross_entropy(logits_BC, labels_B, ignore_index=UNLABELLED, reduction="sum")
    return total / (labels_B != UNLABELLED).sum().clamp_min(1)


def objective(student: Output, target: TeacherOutput | None, labels_B: Tensor, settings: Phase2Config) -> Tensor:
    """(1 - a) * cross-entropy over the labelled clips + a * distillation loss over all clips of the batch (scalar, nats).

    The distillation loss is the weighted sum of the terms of `phase2.loss`; one that reads labels gets the teacher's class for
    a clip without one. Without a target (an audio-only client, or the
    control) the objective is the cross-entropy alone.
    """
    weight = settings.loss_weight
    supervised = cross_entropy(student.logits_BC, labels_B)
    if target is None or weight == 0:
        return supervised
    classes_B = labels_B.where(labels_B != UNLABELLED, target.logits_BC.argmax(1))
    terms = [term.weight * term.loss(student, target, classes_B, settings) for term in parse_loss(settings.loss)]
    return (1 - weight) * supervised + weight * reduce(add, terms)
