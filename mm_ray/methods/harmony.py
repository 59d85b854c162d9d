"""Harmony (Ouyang et al., MobiSys 2023): modality-wise FL, then a fusion step that groups clients by encoder discrepancy.

Phase 1 is ModalityMirror's unimodal phase; the audio model is its audio network, at its best dev round. Phase 2 gives each
audiovisual client a fusion model of its own (`fed/phases/harmony.py`): it does not touch the audio model, and no audiovisual
network is the same for all clients, so there is no teacher to report. The unimodal phase has all `phase1.rounds`
(ModalityMirror leaves some to its fusion step) and phase 2 has `phase2.rounds`: as many together as every other method (our
choice).
"""

from typing import Any

from mm_ray.config import ExperimentConfig
from mm_ray.fed.method import Method, Trial, learning_rates, training
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phases.harmony import HarmonyFusion
from mm_ray.fed.phases.unimodal import Unimodal


def build(config: ExperimentConfig) -> Method:
    """The unimodal phase, and the discrepancy-aware fusion step."""
    unimodal = Unimodal(config.phase1.rounds, **training(config, config.phase1))
    fusion = HarmonyFusion(config.phase2.rounds, **training(config, config.phase2))
    return Method((unimodal, fusion), student=NetworkRef(unimodal.name, "audio"))


def space(trial: Trial) -> dict[str, Any]:
    """What `compare --tune` searches: both learning rates."""
    return learning_rates(trial)
