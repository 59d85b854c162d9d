"""Upper reference: the audiovisual network trained with the clips of all clients in one place.

It sees the video of every clip that has one, also at clients that lack video in the federation (our choice), so it does not
depend on the fraction of missing video. It has no student: its accuracy is what a teacher could reach. Rounds and epochs are as
in `central_audio`.
"""

from typing import Any

from mm_ray.config import ExperimentConfig
from mm_ray.fed.method import Method, Trial, phase1_rate, total_rounds, training
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phases.central import CentralAudiovisual


def build(config: ExperimentConfig) -> Method:
    """Central training of the audiovisual network."""
    central = CentralAudiovisual(total_rounds(config), **training(config, config.phase1))
    return Method((central,), student=None, teacher=NetworkRef(central.name, "av"))


def space(trial: Trial) -> dict[str, Any]:
    """What `compare --tune` searches: the learning rate."""
    return phase1_rate(trial)
