"""ModalityMirror whose every training round takes `ROUND_S` longer: real rounds of a known length on any machine."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from mm_ray.config import ExperimentConfig
from mm_ray.fed.method import Method
from mm_ray.methods import modality_mirror
from mm_ray.methods.modality_mirror import Distill, Fusion, Unimodal
from mm_ray.types import ClientUpdate, ServerState

ROUND_S = 0.8


@dataclass(frozen=True)
class SleepyUnimodal(Unimodal):
    def server_update(self, state: ServerState, total: ClientUpdate) -> ServerState:
        time.sleep(ROUND_S)
        return super().server_update(state, total)


@dataclass(frozen=True)
class SleepyFusion(Fusion):
    def server_update(self, state: ServerState, total: ClientUpdate) -> ServerState:
        time.sleep(ROUND_S)
        return super().server_update(state, total)


@dataclass(frozen=True)
class SleepyDistill(Distill):
    def server_update(self, state: ServerState, total: ClientUpdate) -> ServerState:
        time.sleep(ROUND_S)
        return super().server_update(state, total)


SLEEPY: Mapping[type, type] = {Unimodal: SleepyUnimodal, Fusion: SleepyFusion, Distill: SleepyDistill}


def build(config: ExperimentConfig) -> Method:
    """The method; phase keys and results are ModalityMirror's."""
    method = modality_mirror.build(config)
    return replace(method, phases=tuple(_sleepy(phase) for phase in method.phases))


def _sleepy(phase: Any) -> Any:
    kind = SLEEPY.get(type(phase))
    return kind(**{field.name: getattr(phase, field.name) for field in fields(phase)}) if kind else phase
