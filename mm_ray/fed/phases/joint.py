"""Phase 1, joint: the whole fusion model on audiovisual clients, the audio part on audio-only clients."""

from dataclasses import dataclass
from typing import ClassVar

from mm_ray.fed.fedavg import TrainingPhase
from mm_ray.types import ClientData


@dataclass(frozen=True)
class Joint(TrainingPhase):
    """The audio encoder is averaged over all, the rest over its holders."""

    name: ClassVar[str] = "phase1/joint"
    stream: ClassVar[str] = "phase1"
    networks: ClassVar[tuple[str, ...]] = ("audio", "av")

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """The audiovisual network with video, the audio network without."""
        return ("av",) if "video" in client.modalities else ("audio",)
