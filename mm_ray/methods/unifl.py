"""UniFL: clients train only with clients of the same modality set; a baseline of ModalityMirror and Harmony.

Two federations run side by side, each for as many rounds as both phases of ModalityMirror have: the audio-only clients train
the audio network, which is the student, and the audiovisual clients the audiovisual network, with an audio encoder of their
own. The sources give only this rule: networks, sampling and training are those of phase 1 here (our choice). Without missing
video there are no audio-only clients, and a line of output says so.
"""

from dataclasses import dataclass
from typing import ClassVar

from mm_ray.config import ExperimentConfig
from mm_ray.fed.fedavg import TrainingPhase
from mm_ray.fed.method import Method, phase1_rate, total_rounds, training
from mm_ray.fed.phase import NetworkRef
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


def build(config: ExperimentConfig) -> Method:
    """The two federations, one after the other; nothing passes between them."""
    rounds, common = total_rounds(config), training(config, config.phase1)
    audio, audiovisual = UniFLAudio(rounds, **common), UniFLAudiovisual(rounds, **common)
    return Method((audio, audiovisual), student=NetworkRef(audio.name, "audio"), teacher=NetworkRef(audiovisual.name, "av"))


space = phase1_rate
"""What `compare --tune` searches: the learning rate."""
