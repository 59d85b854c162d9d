"""RAVDESS (Livingstone & Russo 2018): 24 actors speak two sentences in eight emotions; actors are held out, in six folds.

ROOT holds the official archives as unpacked, in any folders: `Actor_01/03-01-06-01-02-01-12.wav` and the like. The parts of a
name are modality (01 audio and video, 02 video only, 03 audio only), channel (01 speech, 02 song), emotion, intensity,
statement, repetition, actor. The audio comes from the audio-only file, or else from the audiovisual one; the video from the
audiovisual file, or else from the video-only one. Songs are left out: they have six of the emotions, and not all actors.

Instead of videos, ROOT may hold facial action units computed elsewhere: `au35.npy` (clips, numbers), and `meta.csv` with a row
for each of its rows, whose column `clip` has the recording's name. Where both are there, `--data.features.video precomputed`
selects the action units.

The group is the actor, so `--partition.kind natural` makes each a client. Fold k tests on actors 4k + 1 to 4k + 4, two women
and two men, uses the next four for dev (actors 1 to 4 after the last), and trains on the other 16.
"""

import csv
import io
import re
from collections import defaultdict
from pathlib import Path

from mm_ray.config import PRECOMPUTED, DataConfig
from mm_ray.data.dataset_helpers import annotation, files_below, splits_in_turn, wanted_classes
from mm_ray.data.manifest import Clip, Manifest, Rejected
from mm_ray.data.precomputed import npy_rows
from mm_ray.errors import UserError, bad_value
from mm_ray.storage import exists, join, read_text

READS = ("root", "annotations", "classes")

NUM_FOLDS, NUM_ACTORS = 6, 24
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""In the order of their codes, 01 to 08."""
ACTION_UNITS, ROWS = "au35.npy", "meta.csv"
_NAME = re.compile(r"0[123]-0[12]-0[1-8]-0[12]-0[12]-0[12]-(0[1-9]|1\d|2[0-4])")
_AUDIOVISUAL, _VIDEO, _AUDIO = "01", "02", "03"
_SPEECH = "01"


def read(data: DataConfig) -> Manifest:
    """List the recordings of speech; those with a name of another form, or without audio, are rejected.

    Raises:
        UserError: They are not there, a split of the fold has no actors, or the action units do not fit their list.

    """
    names = files_below(data.root)
    known = [name for name in names if _NAME.fullmatch(Path(name).stem)]
    speech = [name for name in known if Path(name).stem.split("-")[1] == _SPEECH]
    by_recording: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name in speech:  # the archive is spread with each file in two folders: the first is taken
        modality, _, recording = Path(name).stem.partition("-")
        by_recording[recording].setdefault(modality, name)
    _check_actors(data, {recording[-2:] for recording in by_recording})
    class_names, rows = wanted_classes(data, EMOTIONS), _action_units(data, names)
    used = {r: files for r, files in sorted(by_recording.items()) if _emotion(r) in class_names}
    audible = {r: files for r, files in used.items() if _AUDIO in files or _AUDIOVISUAL in files}
    clips = tuple(_clip(recording, files, class_names, rows) for recording, files in audible.items())
    rejected = [Rejected(n, n, "", "", "bad_name", "expected MM-CC-EE-II-SS-RR-AA") for n in names if n not in set(known)]
    rejected += [_mute(recording, files[_VIDEO]) for recording, files in used.items() if recording not in audible]
    notes = _notes(len(audible), len(known) - len(speech), len(speech) - sum(map(len, by_recording.values())))
    if rows and (without := sum(not clip.video_source for clip in clips)):
        notes += (f"{without:,} recordings have no row in {ROWS}: audio only",)
    return Manifest("ravdess", class_names, clips, tuple(rejected), notes)


def _clip(recording: str, files: dict[str, str], class_names: tuple[str, ...], rows: dict[str, int]) -> Clip:
    source = files.get(_AUDIO) or files[_AUDIOVISUAL]
    film = files.get(_AUDIOVISUAL) or files.get(_VIDEO, "")
    video = film if film != source else ""
    if rows:
        video = f"{ACTION_UNITS}#{rows[recording]}" if recording in rows else ""
    actor = int(recording[-2:])
    splits = tuple(_split(actor, fold) for fold in range(NUM_FOLDS))
    return Clip(recording, class_names.index(_emotion(recording)), _group(recording), splits, source, video)


def _emotion(recording: str) -> str:
    return EMOTIONS[int(recording.split("-")[1]) - 1]


def _group(recording: str) -> str:
    return f"Actor_{recording[-2:]}"


def _split(actor: int, fold: int) -> str:
    return splits_in_turn((actor - 1) // (NUM_ACTORS // NUM_FOLDS), NUM_FOLDS)[fold]


def _mute(recording: str, film: str) -> Rejected:
    detail = "video only; its audio is in Audio_Speech_Actors_01-24.zip, or in the audiovisual file"
    return Rejected(recording, film, _emotion(recording), _group(recording), "not_downloaded", detail)


def _check_actors(data: DataConfig, actors: set[str]) -> None:
    fold = data.fold if 0 <= data.fold < NUM_FOLDS else 0
    for split in ("train", "dev", "test"):
        wanted = [f"{actor:02d}" for actor in range(1, NUM_ACTORS + 1) if _split(actor, fold) == split]
        if not actors & set(wanted):
            lacking = f"fold {fold} has no {split}: none of the actors {', '.join(wanted)} is there"
            raise bad_value("data.root", data.root, f"{lacking}; expected Actor_01/03-01-06-01-02-01-01.wav and so on")


def _action_units(data: DataConfig, names: list[str]) -> dict[str, int]:
    """The row of each recording's action units; empty if videos are used."""
    stems = [Path(name).stem for name in names]
    has_films = any(stem.split("-")[0] in (_AUDIOVISUAL, _VIDEO) for stem in stems if _NAME.fullmatch(stem))
    place = join(data.root, ACTION_UNITS)
    if not exists(place) or (has_films and data.features.video != PRECOMPUTED):
        return {}
    listed = annotation(data, ROWS)
    table = csv.DictReader(io.StringIO(read_text(listed), newline=""))
    try:
        clips = [row.get("clip") or "" for row in table]
    except csv.Error as error:
        raise UserError(f"{listed}: is not CSV ({error}); correct it") from error
    if "clip" not in (table.fieldnames or ()):
        raise UserError(f"{listed}: has no column clip, which names the recording of each row of {ACTION_UNITS}")
    num_rows = npy_rows(place)
    if len(clips) != num_rows:
        raise UserError(f"{listed}: has {len(clips):,} rows, {ACTION_UNITS} has {num_rows:,}; give a row for each")
    return {clip.partition("-")[2]: row for row, clip in enumerate(clips)}


def _notes(num_clips: int, num_songs: int, num_again: int) -> tuple[str, ...]:
    songs = f"; {num_songs:,} song files are left out" if num_songs else ""
    again = f"; {num_again:,} files appear more than once, the first is used" if num_again else ""
    return (f"{num_clips:,} of 1,440 recordings of speech{songs}{again}",)
