"""The second control: ModalityMirror's phase 1, then cross-entropy only, on all clients for as many rounds.

It shows whether simply continuing phase 1 on all clients would have been better. It has as many SGD steps, but cannot use clips
without a label.
"""

from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.fed.method import Method, learning_rates
from mm_ray.methods import modality_mirror


def build(config: ExperimentConfig) -> Method:
    """ModalityMirror with loss weight 0 and audio-only clients that train."""
    return modality_mirror.build(with_overrides(config, {"phase2.loss_weight": 0.0, "phase2.audio_clients": "train"}))


space = learning_rates
"""What `compare --tune` searches: both learning rates."""
