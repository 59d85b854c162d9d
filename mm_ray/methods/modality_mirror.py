"""ModalityMirror (arXiv 2408.15803): modality-wise FL, then federated distillation of the audiovisual teacher."""

from typing import Any

from mm_ray.config import ExperimentConfig
from mm_ray.fed.method import Method, Trial, learning_rates, loss_weight, with_phase2


def build(config: ExperimentConfig) -> Method:
    """Phase 1 (unimodal networks and fusion, or joint), the teacher's logits, distillation into the audio student."""
    return with_phase2(config)


def space(trial: Trial) -> dict[str, Any]:
    """What `compare --tune` searches: learning rates, loss weight, temperature, whether audio-only clients train."""
    return {
        **learning_rates(trial),
        **loss_weight(trial),
        "phase2.temperature": trial.suggest_float("phase2.temperature", 1.0, 20.0, log=True),
        "phase2.audio_clients": trial.suggest_categorical("phase2.audio_clients", ("idle", "train")),
    }
