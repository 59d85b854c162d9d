"""The second control: ModalityMirror's phase 1, then cross-entropy only, on all clients for as many rounds.

It answers whether everybody had better gone on as before. Clips without a label are of no use to it, at equal SGD steps.
"""

from typing import Any

from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.fed.method import Method, Trial, learning_rates, with_phase2


def build(config: ExperimentConfig) -> Method:
    """ModalityMirror with loss weight 0 and audio-only clients that train."""
    return with_phase2(with_overrides(config, {"phase2.loss_weight": 0.0, "phase2.audio_clients": "train"}))


def space(trial: Trial) -> dict[str, Any]:
    """What `compare --tune` searches: both learning rates."""
    return learning_rates(trial)
