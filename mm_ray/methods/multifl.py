"""MultiFL: all clients in one system, encoders averaged across audio-only and audiovisual ones; a baseline.

Audiovisual clients train the whole fusion model, audio-only clients the audio network; the audio encoder is averaged over all,
the rest over its holders. That is ModalityMirror's phase 1 of kind `joint`, for the rounds of both phases. The sources name the
rule and no more; that the audio head is trained by audio-only clients alone is our choice (Harmony's published MultiFL is not
specified on this point), and without any of these there is no audio network, and one line says so.
"""

from typing import Any

from mm_ray.config import ExperimentConfig
from mm_ray.fed.method import Method, Trial, phase1_rate, total_rounds, training
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phases.joint import Joint


def build(config: ExperimentConfig) -> Method:
    """Joint training from the first round to the last."""
    joint = Joint(total_rounds(config), **training(config, config.phase1))
    return Method((joint,), student=NetworkRef(joint.name, "audio"), teacher=NetworkRef(joint.name, "av"))


def space(trial: Trial) -> dict[str, Any]:
    """What `compare --tune` searches: the learning rate."""
    return phase1_rate(trial)
