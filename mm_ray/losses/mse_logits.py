"""Matching the logits themselves (Ba and Caruana 2014, arXiv 1312.6184; Kim et al. 2021, arXiv 2105.08919)."""

from torch import Tensor
from torch.nn import functional

from mm_ray.config import Phase2Config
from mm_ray.distill.teacher_output import TeacherOutput
from mm_ray.models.layers import Output

USES = ()
ROWWISE = True


def loss(student: Output, target: TeacherOutput, labels_B: Tensor, settings: Phase2Config) -> Tensor:
    """The squared difference of the raw logits, the mean over batch and classes (scalar)."""
    return functional.mse_loss(student.logits_BC, target.logits_BC)
