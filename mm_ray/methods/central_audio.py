"""Upper reference: the audio network trained with the clips of all clients in one place, without a federation.

As many rounds as both phases of a federated method, each with `phase1.local.epochs` epochs over all training clips: more
gradient steps than a round of sampled clients. It is a reference for accuracy, not a fair competitor.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mm_ray.config import MODALITIES, ExperimentConfig
from mm_ray.fed.fedavg import TrainingPhase
from mm_ray.fed.federation import Federation
from mm_ray.fed.method import Method, phase1_rate, total_rounds, training
from mm_ray.fed.phase import NetworkRef
from mm_ray.types import ClientData, Cost


@dataclass(frozen=True)
class Central(TrainingPhase):
    """One client that holds the clips of all; a subclass defines which network it trains."""

    stream: ClassVar[str] = "central"
    sends_parts_only: ClassVar[bool] = False
    full_participation: ClassVar[bool] = True

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """The one network."""
        return self.networks

    def cohort(self, federation: Federation, round_number: int) -> tuple[ClientData, ...]:
        """One client with the clips of all clients, those that have what the network reads."""
        rows = np.concatenate([client.indices for client in federation.clients])
        labels, order = np.concatenate([client.labels for client in federation.clients]), np.argsort(rows)
        if "av" in self.networks:
            order = order[federation.table.has_video(rows[order])]
        return (ClientData(0, MODALITIES, rows[order], labels[order]),)

    def cost(self, federation: Federation, client: ClientData) -> Cost:
        """No parameters travel; what it would cost to bring the recordings together is not counted."""
        return Cost(0, 0, super().cost(federation, client).flops)


@dataclass(frozen=True)
class CentralAudio(Central):
    """The audio network."""

    name: ClassVar[str] = "central/audio"
    networks: ClassVar[tuple[str, ...]] = ("audio",)


def build(config: ExperimentConfig) -> Method:
    """Central training of the audio network."""
    central = CentralAudio(total_rounds(config), **training(config, config.phase1))
    return Method((central,), student=NetworkRef(central.name, "audio"))


space = phase1_rate
"""What `compare --tune` searches: the learning rate."""
