"""The control: ModalityMirror's phase 1, then cross-entropy only, on the audiovisual clients for as many rounds.

Without it, a gain could come from the extra training alone. Where audio-only clients train the student too, `control_all` is
the stricter control, since it trains the same clients.
"""

from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.fed.method import Method, learning_rates
from mm_ray.methods import modality_mirror


def build(config: ExperimentConfig) -> Method:
    """ModalityMirror with loss weight 0, on audiovisual clients; it shares phase 1 and its random streams."""
    return modality_mirror.build(with_overrides(config, {"phase2.loss_weight": 0.0, "phase2.audio_clients": "idle"}))


space = learning_rates
"""What `compare --tune` searches: both learning rates."""
