"""UniFL: clients with the same modality set train together and with nobody else; a baseline of ModalityMirror and Harmony.

Two federations run side by side, each for as many rounds as both phases of ModalityMirror have: the audio-only clients train
the audio network, which is the student, and the audiovisual clients the audiovisual network, with an audio encoder of their
own. The sources name the rule and no more: networks, sampling and training are those of phase 1 here (our choice). Without
missing video there are no audio-only clients, and one line says so.
"""

from typing import Any

from mm_ray.config import ExperimentConfig
from mm_ray.fed.method import Method, Trial, phase1_rate, total_rounds, training
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phases.unifl import UniFLAudio, UniFLAudiovisual


def build(config: ExperimentConfig) -> Method:
    """The two federations, one after the other; nothing passes between them."""
    rounds, common = total_rounds(config), training(config, config.phase1)
    audio, audiovisual = UniFLAudio(rounds, **common), UniFLAudiovisual(rounds, **common)
    return Method((audio, audiovisual), student=NetworkRef(audio.name, "audio"), teacher=NetworkRef(audiovisual.name, "av"))


def space(trial: Trial) -> dict[str, Any]:
    """What `compare --tune` searches: the learning rate."""
    return phase1_rate(trial)
