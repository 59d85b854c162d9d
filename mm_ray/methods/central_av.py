"""Upper reference: the audiovisual network trained with the clips of all clients in one place.

It sees the video of every clip that has one, also at clients that lack video in the federation (our choice), so it does not
depend on the fraction of missing video. It has no student: its accuracy is what a teacher could reach. Rounds and epochs are as
in `central_audio`.
"""

from dataclasses import dataclass
from typing import ClassVar

from mm_ray.config import ExperimentConfig
from mm_ray.fed.method import Method, phase1_rate, total_rounds, training
from mm_ray.fed.phase import NetworkRef
from mm_ray.methods.central_audio import Central


@dataclass(frozen=True)
class CentralAudiovisual(Central):
    """The audiovisual network, on every clip that has video."""

    name: ClassVar[str] = "central/audiovisual"
    networks: ClassVar[tuple[str, ...]] = ("av",)


def build(config: ExperimentConfig) -> Method:
    """Central training of the audiovisual network."""
    central = CentralAudiovisual(total_rounds(config), **training(config, config.phase1))
    return Method((central,), student=None, teacher=NetworkRef(central.name, "av"))


space = phase1_rate
"""What `compare --tune` searches: the learning rate."""
