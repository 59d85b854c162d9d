"""CREMA-D (Cao et al. 2014): actors speak sentences in six emotions.

ROOT holds `AudioWAV/ACTOR_SENTENCE_EMOTION_LEVEL.wav` and `VideoFlash/` with flv files of the same names, as its repository
does; if a wav is missing, the audio of the video is used. The group is the actor: `--partition.kind natural` makes each a
client.

`--data.folds actors` (the default) holds out actors: fold k of five tests on a fifth of them and uses the next for dev. It
takes the four emotions of FedMultimodal (Feng et al., KDD 2023), unless `--data.classes` names others of the six.
`ogm_ge` is the split by clip of most audiovisual work with six emotions (Peng et al., CVPR 2022: 6,698 and 744 clips): the
files `train.csv` and `test.csv` of github.com/GeWu-Lab/OGM-GE_CVPR2022, `data/CREMAD`, in ROOT or in `--annotations FOLDER`. A
tenth of its training clips, by a digest of their names, is for dev (our choice: it has none). Actors cross its splits.
"""

import csv
import io
import re
from pathlib import Path

from mm_ray.config import DataConfig
from mm_ray.data.dataset_helpers import by_digest, by_stem, ending, files_below, splits_in_turn, wanted_classes
from mm_ray.data.manifest import Clip, Manifest, Rejected
from mm_ray.errors import bad_value
from mm_ray.storage import exists, join, read_text

READS = ("root", "annotations", "classes")

FOLDS = ("actors", "ogm_ge")
NUM_FOLDS = 5
FOUR = {"ANG": "anger", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}
EMOTIONS = FOUR | {"DIS": "disgust", "FEA": "fear"}
_NAME = re.compile(r"(?P<actor>\d{4})_[A-Z]{3}_(?P<emotion>[A-Z]{3})_[A-Z0-9]{1,2}", re.IGNORECASE)


def read(data: DataConfig) -> Manifest:
    """List the recordings of the wanted emotions.

    Raises:
        UserError: They are not there, fewer than five actors, or no lists of the split by clip.

    """
    names = files_below(data.root)
    audio_files = by_stem(name for name in names if ending(name) == ".wav" and _emotion(name))
    films = by_stem(name for name in names if ending(name) in (".flv", ".mp4") and _emotion(name))
    recordings = audio_files | {name: film for name, film in films.items() if name not in audio_files}
    actors = by_digest({name.split("_")[0] for name in recordings})
    if len(actors) < NUM_FOLDS:
        few = f"has {len(actors)} actors, {NUM_FOLDS} folds need at least {NUM_FOLDS}"
        remedy = f"{few}; expected AudioWAV/ACTOR_SENTENCE_EMOTION_LEVEL.wav"
        raise bad_value("data.root", data.root, remedy)
    listed = _listed(data) if data.folds == "ogm_ge" else None
    four_only = data.folds != "ogm_ge" and not data.classes
    class_names = wanted_classes(data, (FOUR if four_only else EMOTIONS).values())
    note = f"{len(actors)} actors, {len(films):,} videos"
    clips, rejected = [], []
    for name, source in recordings.items():
        if (emotion := _emotion(name)) in class_names:
            actor, film = name.split("_")[0], films.get(name, "") if name in audio_files else ""
            in_turn = splits_in_turn(actors.index(actor), NUM_FOLDS)
            splits = listed.get(name.upper(), ()) if listed is not None else in_turn
            clips.append(Clip(name, class_names.index(emotion), actor, splits, source, film))
    if listed is not None:
        clips = [clip for clip in clips if clip.splits]
        absent = sorted(set(listed) - {name.upper() for name in recordings})
        absent = [name for name in absent if _emotion(name) in class_names]
        rejected = [Rejected(n, f"{n}.wav", _emotion(n), n[:4], "not_downloaded", "listed only") for n in absent]
        note += f"; {len(clips):,} of {len(clips) + len(absent):,} listed clips"
    return Manifest("crema_d", class_names, tuple(clips), tuple(rejected), (note,))


def _emotion(name: str) -> str:
    found = _NAME.fullmatch(Path(name).stem)
    return EMOTIONS.get(found["emotion"].upper(), "") if found else ""


def _listed(data: DataConfig) -> dict[str, tuple[str]]:
    """The split of each clip in the published lists, by its name in upper case."""
    names = {split: _names(data, f"{split}.csv") for split in ("train", "test")}
    order = by_digest(names["train"])
    splits = {name: ("dev" if place < len(order) // 10 else "train",) for place, name in enumerate(order)}
    return splits | {name: ("test",) for name in names["test"]}


def _names(data: DataConfig, file: str) -> list[str]:
    place = join(data.annotations or data.root, file)
    if not exists(place):
        remedy = f"{file} is not there; take it from github.com/GeWu-Lab/OGM-GE_CVPR2022, data/CREMAD"
        raise bad_value("data.annotations", data.annotations, remedy)
    rows = csv.reader(io.StringIO(read_text(place), newline=""))
    return [row[0].upper() for row in rows if row and _emotion(row[0])]
