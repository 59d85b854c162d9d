"""The student's weighted objective on a batch."""

from torch import Tensor
from torch.nn import functional

from mm_ray.config import Phase2Config
from mm_ray.distill.target import Target
from mm_ray.models.layers import Output
from mm_ray.names import resolve


def objective(student: Output, target: Target | None, labels_B: Tensor, settings: Phase2Config) -> Tensor:
    """(1 - a) * cross-entropy + a * distillation loss, the mean over the batch (scalar, nats).

    Without a target (an audio-only client, or the control) it is the cross-entropy alone.
    """
    weight = settings.loss_weight
    cross_entropy = functional.cross_entropy(student.logits_BC, labels_B)
    if target is None or weight == 0:
        return cross_entropy
    distillation = resolve("phase2.loss", settings.loss, "mm_ray.distill.losses").loss
    return (1 - weight) * cross_entropy + weight * distillation(student, target, labels_B, settings)
