"""ModalityMirror (arXiv 2408.15803): modality-wise FL, then federated distillation of the audiovisual teacher."""

from mm_ray.config import ExperimentConfig
from mm_ray.fed.method import Method, with_phase2


def build(config: ExperimentConfig) -> Method:
    """Phase 1 (unimodal networks and fusion, or joint), the teacher's logits, distillation into the audio student."""
    return with_phase2(config)
