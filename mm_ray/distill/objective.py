"""The student's weighted objective on a batch."""

from functools import reduce
from operator import add

from torch import Tensor
from torch.nn import functional

from mm_ray.config import Phase2Config
from mm_ray.distill.target import Target
from mm_ray.distill.terms import parse_loss
from mm_ray.models.layers import Output


def objective(student: Output, target: Target | None, labels_B: Tensor, settings: Phase2Config) -> Tensor:
    """(1 - a) * cross-entropy + a * distillation loss, the mean over the batch (scalar, nats).

    The distillation loss is the weighted sum of the terms of `phase2.loss`. Without a target (an audio-only client, or the
    control) the objective is the cross-entropy alone.
    """
    weight = settings.loss_weight
    cross_entropy = functional.cross_entropy(student.logits_BC, labels_B)
    if target is None or weight == 0:
        return cross_entropy
    terms = [term.weight * term.loss(student, target, labels_B, settings) for term in parse_loss(settings.loss)]
    return (1 - weight) * cross_entropy + weight * reduce(add, terms)
