"""The third control: the same distillation with phase 1's *audio* network as the teacher. Is it the video that helps?

A student can gain from any soft labels: they smooth wrong labels and reach clips without one. What ModalityMirror gains beyond
this method comes from the audiovisual teacher.
"""

from mm_ray.config import ExperimentConfig
from mm_ray.fed.method import Method
from mm_ray.methods import modality_mirror


def build(config: ExperimentConfig) -> Method:
    """ModalityMirror taught by its own audio network; it shares phase 1 and its random streams."""
    return modality_mirror.build(config, teacher="audio")


space = modality_mirror.space
