"""MFCPL (Le et al. 2024, arXiv 2401.13898): joint training with complete prototypes of both modalities.

MultiFL's joint training with the terms of `fed/phases/mfcpl.py`. The source fills a missing video with zeros; here audio-only
clients train the audio network (our choice, as in `multifl`), and without any of these one line says so. `phase2.loss_weight`
is the weight of the terms (our choice); local training and server are phase 1's.
"""

from typing import Any

from mm_ray.config import ExperimentConfig
from mm_ray.fed.method import Method, Trial, loss_weight, phase1_rate, total_rounds, training
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phases.mfcpl import CrossPrototypes


def build(config: ExperimentConfig) -> Method:
    """Joint training with prototypes from the first round to the last."""
    joint = CrossPrototypes(total_rounds(config), **training(config, config.phase1), weight=config.phase2.loss_weight)
    return Method((joint,), student=NetworkRef(joint.name, "audio"), teacher=NetworkRef(joint.name, "av"))


def space(trial: Trial) -> dict[str, Any]:
    """What `compare --tune` searches: the learning rate and the weight of the prototypes' terms."""
    return phase1_rate(trial) | loss_weight(trial)
