"""CREMA-D (Cao et al. 2014): actors speak sentences in four emotions; actors are held out, in five folds.

ROOT holds `AudioWAV/ACTOR_SENTENCE_EMOTION_LEVEL.wav` and `VideoFlash/` with flv files of the same names, as its repository
does; where a wav is missing, the sound of the video is taken. The group is the actor: `--partition.kind natural` makes each a
client. Fold k tests on a fifth of the actors and chooses on the next fifth.
"""

import re

from mm_ray.config import DataConfig
from mm_ray.data.listing import by_digest, by_stem, ending, files_below, stem, wanted_classes
from mm_ray.data.manifest import Clip, Manifest
from mm_ray.errors import bad_value

NUM_FOLDS = 5
EMOTIONS = {"ANG": "anger", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}
_NAME = re.compile(r"(?P<actor>\d{4})_[A-Z]{3}_(?P<emotion>[A-Z]{3})_[A-Z0-9]{1,2}", re.IGNORECASE)


def read(data: DataConfig) -> Manifest:
    """List the recordings of the four emotions.

    Raises:
        UserError: They are not there, or fewer than five actors.

    """
    names = files_below(data.root)
    sounds = by_stem(name for name in names if ending(name) == ".wav" and _emotion(name))
    films = by_stem(name for name in names if ending(name) in (".flv", ".mp4") and _emotion(name))
    sources = sounds | {name: film for name, film in films.items() if name not in sounds}
    actors = by_digest({name.split("_")[0] for name in sources})
    if len(actors) < NUM_FOLDS:
        remedy = f"has {len(actors)} actors, {NUM_FOLDS} folds need as many; expected AudioWAV/ACTOR_SENTENCE_EMOTION_LEVEL.wav"
        raise bad_value("data.root", data.root or "''", remedy)
    class_names = wanted_classes(data, EMOTIONS.values())
    splits = {actor: tuple(_split(place, fold) for fold in range(NUM_FOLDS)) for place, actor in enumerate(actors)}
    clips = []
    for name, source in sources.items():
        if (emotion := _emotion(name)) in class_names:
            actor, film = name.split("_")[0], films.get(name, "") if name in sounds else ""
            clips.append(Clip(name, class_names.index(emotion), actor, splits[actor], source, film))
    return Manifest("crema_d", class_names, tuple(clips), notes=(f"{len(actors)} actors, {len(films):,} videos",))


def _emotion(name: str) -> str:
    found = _NAME.fullmatch(stem(name))
    return EMOTIONS.get(found["emotion"].upper(), "") if found else ""


def _split(place: int, fold: int) -> str:
    return {0: "test", 1: "dev"}.get((place - fold) % NUM_FOLDS, "train")
