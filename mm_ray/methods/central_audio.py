"""Upper reference: the audio network trained with the clips of all clients in one place.

As many rounds as both phases of a federated method, each with `phase1.local.epochs` epochs over all training clips: more
gradient steps than a round of sampled clients. It is a reference for accuracy, not a fair competitor.
"""

from typing import Any

from mm_ray.config import ExperimentConfig
from mm_ray.fed.method import Method, Trial, phase1_rate, total_rounds, training
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phases.central import CentralAudio


def build(config: ExperimentConfig) -> Method:
    """Central training of the audio network."""
    central = CentralAudio(total_rounds(config), **training(config, config.phase1))
    return Method((central,), student=NetworkRef(central.name, "audio"))


def space(trial: Trial) -> dict[str, Any]:
    """What `compare --tune` searches: the learning rate."""
    return phase1_rate(trial)
