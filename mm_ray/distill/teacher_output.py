"""The teacher's output for a batch: the target of every distillation loss."""

from typing import NamedTuple

from torch import Tensor


class TeacherOutput(NamedTuple):
    """The frozen teacher's output for a batch of B clips."""

    logits_BC: Tensor
    features_BP: Tensor | None = None
    """The teacher's pooled features (P), where a loss reads them."""
    temperature_B1: Tensor | None = None
    """Each clip's temperature, where temperatures are class-wise."""
