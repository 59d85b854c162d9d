"""The third control: the same distillation with phase 1's *audio* network as the teacher. Is it the video that helps?

A student can gain from any soft labels: they smooth wrong labels and reach clips without one. What ModalityMirror gains beyond
this method comes from the audiovisual teacher.
"""

from typing import Any

from mm_ray.config import ExperimentConfig
from mm_ray.fed.method import Method, Trial, learning_rates, loss_weight, with_phase2


def build(config: ExperimentConfig) -> Method:
    """ModalityMirror taught by its own audio network; it shares phase 1 and its random streams."""
    return with_phase2(config, teacher="audio")


def space(trial: Trial) -> dict[str, Any]:
    """What `compare --tune` searches: learning rates, loss weight, temperature, whether audio-only clients train."""
    return {
        **learning_rates(trial),
        **loss_weight(trial),
        "phase2.temperature": trial.suggest_float("phase2.temperature", 1.0, 20.0, log=True),
        "phase2.audio_clients": trial.suggest_categorical("phase2.audio_clients", ("idle", "train")),
    }
