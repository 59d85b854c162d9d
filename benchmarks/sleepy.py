"""Real rounds of a known length on any machine: ModalityMirror whose every training round takes `ROUND_S` longer, and FedAvg
of the audio network whose every chunk of clients takes `CHUNK_S`. Sleeping changes no bit of a result."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from mm_ray.config import ExperimentConfig
from mm_ray.fed.method import Method
from mm_ray.methods import modality_mirror
from mm_ray.methods.modality_mirror import Distill, Fusion, Unimodal
from mm_ray.methods.unifl import UniFLAudio
from mm_ray.types import ClientData, ClientUpdate, RoundContext, ServerState

ROUND_S = 0.8
CHUNK_S = 0.4


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


@dataclass(frozen=True)
class SleepyAudio(UniFLAudio):
    def client_updates(self, context: RoundContext, clients: Sequence[ClientData]) -> list[ClientUpdate]:
        started = time.perf_counter()
        updates = super().client_updates(context, clients)
        time.sleep(max(started + CHUNK_S - time.perf_counter(), 0.0))
        return updates


SLEEPY: Mapping[type, type] = {
    Unimodal: SleepyUnimodal,
    Fusion: SleepyFusion,
    Distill: SleepyDistill,
    UniFLAudio: SleepyAudio,
}


def build(config: ExperimentConfig) -> Method:
    """The method; phase keys and results are ModalityMirror's."""
    method = modality_mirror.build(config)
    return replace(method, phases=tuple(sleepy(phase) for phase in method.phases))


def sleepy(phase: Any) -> Any:
    """The phase with sleep, if it trains."""
    kind = SLEEPY.get(type(phase))
    return kind(**{field.name: getattr(phase, field.name) for field in fields(phase)}) if kind else phase
