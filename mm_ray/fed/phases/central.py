"""All data in one place: no federation, the upper reference for what one can do."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mm_ray.config import MODALITIES
from mm_ray.fed.fedavg import TrainingPhase
from mm_ray.fed.federation import Federation
from mm_ray.types import ClientData


@dataclass(frozen=True)
class Central(TrainingPhase):
    """One client that holds the clips of all; a subclass says which network it trains."""

    stream: ClassVar[str] = "central"
    sends_parts_only: ClassVar[bool] = False

    def settings(self) -> dict[str, Any]:
        """The model, the local training and the server's step: there is nobody to sample, and nothing to chunk."""
        sampling = ("sample_frac", "chunk_size", "dropout_frac", "deadline_s")
        return {name: value for name, value in super().settings().items() if name not in sampling}

    def check(self, federation: Federation) -> None:
        """Refuse rules for several clients (UserError)."""
        self._check_server()

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """The one network."""
        return self.networks

    def plan(self, federation: Federation, round_number: int) -> tuple[ClientData, ...]:
        """One client with the clips of all clients, as far as they have what the network reads."""
        rows = np.concatenate([client.indices for client in federation.clients])
        labels, order = np.concatenate([client.labels for client in federation.clients]), np.argsort(rows)
        if "av" in self.networks:
            order = order[federation.table.has_video(rows[order])]
        return (ClientData(0, MODALITIES, rows[order], labels[order]),)

    def answers(self, federation: Federation, round_number: int, client: ClientData) -> bool:
        """It does."""
        return True

    def traffic(self, federation: Federation, client: ClientData) -> tuple[int, int]:
        """No parameters travel; what it would cost to bring the recordings together is not counted."""
        return 0, 0


@dataclass(frozen=True)
class CentralAudio(Central):
    """The audio network."""

    name: ClassVar[str] = "central/audio"
    networks: ClassVar[tuple[str, ...]] = ("audio",)


@dataclass(frozen=True)
class CentralAudiovisual(Central):
    """The audiovisual network, on every clip that has video, also those of clients that lack it in the federation."""

    name: ClassVar[str] = "central/audiovisual"
    networks: ClassVar[tuple[str, ...]] = ("av",)
