"""Matching pooled features (Romero et al. 2015, arXiv 1412.6550), with a fixed projection (`mm_ray.distill.teacher_output`)."""

from torch import Tensor
from torch.nn import functional

from mm_ray.config import Phase2Config
from mm_ray.distill.teacher_output import PROJECTION_USES, TeacherOutput, projected
from mm_ray.models.layers import Output

FEATURES = True
ROWWISE = True
USES = PROJECTION_USES


def loss(student: Output, target: TeacherOutput, labels_B: Tensor, settings: Phase2Config) -> Tensor:
    """The squared difference of student's and projected teacher's features, the mean over batch and features (scalar)."""
    features_BH = student.features_BH
    return functional.mse_loss(features_BH, projected(target, features_BH.shape[1], settings))
