"""FedCMI (Fan et al. 2023, arXiv 2401.00894): one joint training in which the dominant modality infiltrates the weak one.

The rule is in `fed/phases/fedcmi.py`. The student is the audio network with its own head, of the architecture that every method
here ends with. `phase2.loss_weight` is the weight of the infiltration (our choice); local training and server are phase 1's.
"""

from typing import Any

from mm_ray.config import ExperimentConfig
from mm_ray.fed.method import Method, Trial, loss_weight, phase1_rate, total_rounds, training
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phases.fedcmi import CrossModalInfiltration


def build(config: ExperimentConfig) -> Method:
    """Joint training with infiltration from the first round to the last."""
    common = training(config, config.phase1)
    joint = CrossModalInfiltration(total_rounds(config), **common, weight=config.phase2.loss_weight)
    return Method((joint,), student=NetworkRef(joint.name, "audio"), teacher=NetworkRef(joint.name, "av"))


def space(trial: Trial) -> dict[str, Any]:
    """What `compare --tune` searches: the learning rate and the weight of the infiltration."""
    return phase1_rate(trial) | loss_weight(trial)
