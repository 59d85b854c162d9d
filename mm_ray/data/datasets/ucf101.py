"""UCF101 (Soomro et al. 2012): the classes that have audio, in the three official splits as folds.

ROOT holds `UCF-101/CLASS/v_CLASS_gXX_cYY.avi` and `ucfTrainTestlist/trainlist0K.txt`, `testlist0K.txt`, as unpacked. 51 of
the 101 classes have audio; they are found by looking into a few files of each, and compared with the list. Groups (`gXX`: one
person, one place) stay together: a fifth of each class's training groups is for dev. `--data.folds fedmultimodal` takes a fifth
of the training clips for dev as FedMultimodal drew them, so a group may be in train and dev.
"""

import re
from collections import defaultdict

from mm_ray.config import DataConfig
from mm_ray.data.dataset_helpers import annotation, hold_out, wanted_classes
from mm_ray.data.fedmultimodal import split_train_dev
from mm_ray.data.manifest import Clip, Manifest
from mm_ray.data.media.container import open_media
from mm_ray.data.media.errors import MediaError
from mm_ray.errors import bad_value
from mm_ray.storage import is_folder, join, read_text

READS = ("root", "annotations", "classes")

FOLDS = ("official", "fedmultimodal")
NUM_FOLDS, NUM_CLASSES, CLIPS_WITH_SOUND = 3, 101, 6837
_WITH_SOUND = """
    ApplyEyeMakeup ApplyLipstick Archery BabyCrawling BalanceBeam BandMarching BasketballDunk BlowDryHair
    BlowingCandles BodyWeightSquats Bowling BoxingPunchingBag BoxingSpeedBag BrushingTeeth CliffDiving
    CricketBowling CricketShot CuttingInKitchen FieldHockeyPenalty FloorGymnastics FrisbeeCatch FrontCrawl
    Haircut HammerThrow Hammering HandstandPushups HandstandWalking HeadMassage IceDancing Knitting LongJump
    MoppingFloor ParallelBars PlayingCello PlayingDaf PlayingDhol PlayingFlute PlayingSitar Rafting
    ShavingBeard Shotput SkyDiving SoccerPenalty StillRings SumoWrestling Surfing TableTennisShot Typing
    UnevenBars WallPushups WritingOnBoard
"""
CLASSES_WITH_SOUND = tuple(_WITH_SOUND.split())
"""The classes that UCF101 added to UCF50: their clips have audio, those of UCF50's 50 classes have none (Soomro, Zamir, Shah:
UCF101, CRCV-TR-12-01, 2012). FedMultimodal takes the classes with audio, and counts 51 as well."""
_LOOKS = 5
"""Files of a class, each of another group, that are opened to see whether the class has audio."""
_NAME = re.compile(r"(?P<label>\w+)/v_\w+_(?P<group>g\d+)_c\d+\.avi", re.IGNORECASE)


def read(data: DataConfig) -> Manifest:
    """List the clips of the official splits, of classes that have audio.

    Raises:
        UserError: The lists are not there, or no class has audio.

    """
    lists = annotation(data, "ucfTrainTestlist", "../ucfTrainTestlist")
    folds = [{"train": _names(lists, "train", k), "test": _names(lists, "test", k)} for k in range(1, NUM_FOLDS + 1)]
    names = sorted({name for fold in folds for split in fold.values() for name in split})
    prefix = "UCF-101/" if is_folder(join(data.root, "UCF-101")) else ""
    asked = wanted_classes(data, (name.split("/")[0] for name in names))
    by_class = {label: [name for name in names if name.startswith(f"{label}/")] for label in asked}
    class_names = tuple(label for label in asked if _has_sound(data.root, prefix, by_class[label]))
    if not class_names:
        raise bad_value("data.root", data.root, "no class has audio; expected UCF-101/CLASS/v_CLASS_gXX_cYY.avi there")
    used = [name for label in class_names for name in by_class[label]]
    split = _fedmultimodal_splits if data.folds == "fedmultimodal" else _splits
    splits = [split(fold, used) for fold in folds]
    clips = tuple(_clip(name, prefix, class_names, tuple(fold[name] for fold in splits)) for name in used)
    return Manifest("ucf101", class_names, clips, notes=_notes(asked, class_names, len(clips)))


def _clip(name: str, prefix: str, class_names: tuple[str, ...], splits: tuple[str, ...]) -> Clip:
    return Clip(name[: -len(".avi")], class_names.index(name.split("/")[0]), _group(name), splits, prefix + name)


def _names(lists: str, split: str, fold: int) -> set[str]:
    lines = read_text(join(lists, f"{split}list{fold:02d}.txt")).splitlines()
    return {line.split()[0] for line in lines if _NAME.match(line)}


def _group(name: str) -> str:
    found = _NAME.match(name)
    return f"{found['label']}_{found['group']}" if found else name


def _has_sound(root: str, prefix: str, names: list[str]) -> bool:
    one_a_group = {_group(name): name for name in reversed(names)}
    return any(_opens_with_sound(join(root, prefix + name)) for name in sorted(one_a_group.values())[:_LOOKS])


def _opens_with_sound(place: str) -> bool:
    try:
        with open_media(place) as container:
            return bool(container.streams.audio)
    except MediaError:
        return False


def _splits(fold: dict[str, set[str]], names: list[str]) -> dict[str, str]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        if name not in fold["test"]:
            groups[name.split("/")[0]].append(_group(name))
    held_out = hold_out(groups, dev=0.2, test=0.0)
    return {name: "test" if name in fold["test"] else held_out[_group(name)] for name in names}


def _fedmultimodal_splits(fold: dict[str, set[str]], names: list[str]) -> dict[str, str]:
    files = {name[: -len(".avi")]: name for name in names}  # they sort names without the ending
    dev = {files[clip] for clip in split_train_dev([clip for clip, name in files.items() if name not in fold["test"]])[1]}
    return {name: "test" if name in fold["test"] else "dev" if name in dev else "train" for name in names}


def _notes(asked: tuple[str, ...], class_names: tuple[str, ...], num_clips: int) -> tuple[str, ...]:
    notes = [f"{len(class_names)} of {len(asked)} classes have audio: {num_clips:,} clips"]
    if len(asked) == NUM_CLASSES and num_clips != CLIPS_WITH_SOUND:
        notes.append(f"UCF101 as published has {CLIPS_WITH_SOUND:,} clips in {len(CLASSES_WITH_SOUND)} classes with audio")
    if missing := [label for label in CLASSES_WITH_SOUND if label in asked and label not in class_names]:
        notes.append(f"without audio here, with audio as published: {', '.join(missing)}")
    if extra := [label for label in class_names if label not in CLASSES_WITH_SOUND]:
        notes.append(f"with audio here, without as published: {', '.join(extra)}")
    return tuple(notes)
