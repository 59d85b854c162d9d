"""Phase 1, modality-wise: one network (encoder and head) per modality, averaged over the clients that hold it."""

from dataclasses import dataclass
from typing import ClassVar

from mm_ray.fed.fedavg import TrainingPhase
from mm_ray.types import ClientData


@dataclass(frozen=True)
class Unimodal(TrainingPhase):
    """Every client trains one network per modality that it holds; ModalityMirror and Harmony share this phase."""

    name: ClassVar[str] = "phase1/unimodal"
    stream: ClassVar[str] = "phase1"
    networks: ClassVar[tuple[str, ...]] = ("audio", "video")

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """One network per modality."""
        return client.modalities
