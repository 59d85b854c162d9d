"""Phase 1, fusion step: the audiovisual teacher, from the unimodal encoders (our choice, see docs/method.md)."""

from dataclasses import dataclass
from typing import ClassVar

from mm_ray.fed.fedavg import TrainingPhase
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phases.unimodal import Unimodal
from mm_ray.types import ClientData


@dataclass(frozen=True)
class Fusion(TrainingPhase):
    """The audiovisual clients train the fusion head and go on with the encoders, all of it averaged."""

    name: ClassVar[str] = "phase1/fusion"
    stream: ClassVar[str] = "phase1-fusion"
    networks: ClassVar[tuple[str, ...]] = ("av",)

    @property
    def sources(self) -> tuple[NetworkRef, ...]:
        """The unimodal encoders."""
        return NetworkRef(Unimodal.name, "audio"), NetworkRef(Unimodal.name, "video")

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """The audiovisual network, on audiovisual clients only."""
        return ("av",) if "video" in client.modalities else ()
