"""UniFL: only clients with the same modality set train together, so there are two federations side by side."""

from dataclasses import dataclass
from typing import ClassVar

from mm_ray.fed.fedavg import TrainingPhase
from mm_ray.types import ClientData


@dataclass(frozen=True)
class UniFLAudio(TrainingPhase):
    """The audio-only clients train the audio network."""

    name: ClassVar[str] = "unifl/audio"
    stream: ClassVar[str] = "phase1"
    networks: ClassVar[tuple[str, ...]] = ("audio",)

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """The audio network, without video."""
        return () if "video" in client.modalities else ("audio",)


@dataclass(frozen=True)
class UniFLAudiovisual(TrainingPhase):
    """The audiovisual clients train the audiovisual network, with an audio encoder of their own."""

    name: ClassVar[str] = "unifl/audiovisual"
    stream: ClassVar[str] = "phase1"
    networks: ClassVar[tuple[str, ...]] = ("av",)

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """The audiovisual network, with video."""
        return ("av",) if "video" in client.modalities else ()
