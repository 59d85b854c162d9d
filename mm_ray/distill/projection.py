"""A fixed random projection of the teacher's features onto the student's size.

FitNets and CRD learn their projections. Here it is drawn once and kept (our choice): a learned one would be a further network
that is trained, sent and averaged, and the student alone could not tell it from the knowledge that it is to carry. The columns
are orthonormal, so that an element of the result has the variance of an element of the features, and where the sizes are equal
distances and angles stay as they are.

Shape suffixes: B batch, P features of the teacher, H features of the student.
"""

from functools import lru_cache

import torch
from torch import Tensor

from mm_ray.config import Phase2Config
from mm_ray.distill.teacher_output import TeacherOutput
from mm_ray.seeding import torch_stream

USES = ("losses.projection_seed",)


def projected(target: TeacherOutput, size: int, settings: Phase2Config) -> Tensor:
    """The teacher's features, (B, H = size)."""
    features_BP = target.features_BP
    assert features_BP is not None
    return features_BP @ projection(features_BP.shape[1], size, settings.losses.projection_seed).to(features_BP.device)


@lru_cache(maxsize=16)
def projection(num_in: int, num_out: int, seed: int) -> Tensor:
    """A matrix (num_in, num_out) of the named stream, with orthonormal columns, or rows where there are more columns."""
    wide, narrow = max(num_in, num_out), min(num_in, num_out)
    normal = torch.randn(wide, narrow, generator=torch_stream(seed, "projection", num_in, num_out))
    orthonormal, _ = torch.linalg.qr(normal)
    return orthonormal if num_in >= num_out else orthonormal.T.contiguous()
