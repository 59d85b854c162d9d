"""MultiFL: all clients in one system, encoders averaged across audio-only and audiovisual ones; a baseline.

Audiovisual clients train the whole fusion model, audio-only clients the audio network; the audio encoder is averaged over all,
the rest over its holders. ModalityMirror's phase 1 of kind `joint` is the same training; here it has the rounds of both phases.
The sources give only this rule. That audio-only clients alone train the audio head is our choice (Harmony does not specify its
published MultiFL on this point); without such clients there is no audio network, and a line of output says so.
"""

from dataclasses import dataclass
from typing import ClassVar

from mm_ray.config import ExperimentConfig
from mm_ray.fed.fedavg import TrainingPhase
from mm_ray.fed.method import Method, phase1_rate, total_rounds, training
from mm_ray.fed.phase import NetworkRef
from mm_ray.types import ClientData


@dataclass(frozen=True)
class Joint(TrainingPhase):
    """The whole fusion model on audiovisual clients, the audio network on audio-only clients."""

    name: ClassVar[str] = "phase1/joint"
    stream: ClassVar[str] = "phase1"
    networks: ClassVar[tuple[str, ...]] = ("audio", "av")

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """The audiovisual network with video, the audio network without."""
        return ("av",) if "video" in client.modalities else ("audio",)


def build(config: ExperimentConfig) -> Method:
    """Joint training from the first round to the last."""
    joint = Joint(total_rounds(config), **training(config, config.phase1))
    return Method((joint,), student=NetworkRef(joint.name, "audio"), teacher=NetworkRef(joint.name, "av"))


space = phase1_rate
"""What `compare --tune` searches: the learning rate."""
