"""A folder of recordings: `ROOT/CLASS/...` or, with the splits given, `ROOT/train|dev|test/CLASS/...`, `ROOT/CLASS/train|...`.

A subfolder of the class (`ROOT/CLASS/SPEAKER/a.mp4`), or what `--data.group_pattern` finds in the path, is the clip's group,
which never spans two splits; without one each clip is its own group. If no splits are given, a fifth of each class's groups is
for test and a fifth for dev, by a digest of their names.

A tree of Hugging Face's AudioFolder or VideoFolder is read by its metadata: `metadata.csv`, `.jsonl` or `.parquet` with a
column `file_name`, in ROOT or in each of `ROOT/train|dev|test`. `--data.label_column` names the label's column; the columns
`group`, `split`, `start` and `end` are those of `csv`.
"""

import posixpath
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from mm_ray.config import DataConfig
from mm_ray.data.clip_table import ClipTable, manifest_of, read_table
from mm_ray.data.dataset_helpers import (
    alone_warnings,
    empty_folders,
    files_below,
    group_finder,
    hold_out,
    split_of,
    splits_of,
    tidy,
    wanted_classes,
)
from mm_ray.data.manifest import Clip, Manifest, Rejected
from mm_ray.errors import bad_value
from mm_ray.storage import exists, join, leaves_root

READS = ("root", "classes", "group_pattern", "label_column")

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
Folders = tuple[str, ...]
"""The names of the folders in which a file lies, from ROOT on."""


def read(data: DataConfig) -> Manifest:
    """List the files under `data.root` by their folders.

    Raises:
        UserError: No such folder, no file in a subfolder, or folders some of which are named like splits.

    """
    names = files_below(data.root)
    if table := _metadata(data, names):
        manifest = manifest_of("folder", table, data)
        listed = {row["path"] for row in table.rows}
        if unlisted := [name for name in names if name not in listed]:
            note = f"{len(unlisted):,} recordings that the metadata do not list are left out, such as {unlisted[0]}"
            return replace(manifest, notes=(*manifest.notes, note))
        return manifest
    if data.label_column != DataConfig().label_column:
        problem = f"{data.root} has no metadata file with a column file_name, so folders are the labels; leave it out"
        raise bad_value("data.label_column", data.label_column, problem)
    level = _level_of_splits(data, [tuple(name.split("/")[:-1]) for name in names if "/" in name])
    placed: dict[str, Folders] = {}
    for name in names:
        folders = tuple(map(tidy, name.split("/")[:-1]))
        if own := folders if level is None else folders[:level] + folders[level + 1 :]:
            placed[name] = own
    if not placed:
        problem = f"holds {len(names)} recordings, none in a folder of its class"
        raise bad_value("data.root", data.root, f"{problem}; expected ROOT/CLASS/*.mp4|wav|..., or list them in a CSV")
    notes: tuple[str, ...] = ()
    class_names = wanted_classes(data, (folders[0] for folders in placed.values()))
    used = {name: folders for name, folders in placed.items() if folders[0] in class_names}
    found = _groups(data, used)
    groups = {name: group or _alone(name) for name, group in found.items()}
    if level is None:
        splits = _held_out(used, groups)
    else:
        called = splits_of(sorted({name.split("/")[level] for name in used}))
        splits = {name: called[name.split("/")[level]] for name in used}
        notes = (f"splits as given: {', '.join(f'{split} from {name}/' for name, split in called.items())}",)
    clips = [Clip(name, class_names.index(used[name][0]), groups[name], (splits[name],), name) for name in used]
    rejected = [_stray(data, name) for name in names if name not in placed]
    num_alone = sum(not group for group in found.values()) if level is None else 0
    warnings = (
        *(f"{folder}/ holds no recordings, so it is not a class" for folder in empty_folders(data.root, names)),
        *alone_warnings(num_alone, len(used), data, "folders, ROOT/CLASS/SPEAKER/FILE"),
    )
    return Manifest("folder", class_names, tuple(clips), tuple(rejected), notes, warnings)


def _metadata(data: DataConfig, names: list[str]) -> ClipTable | None:
    """The rows of all metadata files as one table, with `path` below ROOT; `None` where there is none with `file_name`."""
    splits = sorted({top for name in names if split_of(top := name.partition("/")[0])})
    found = [
        (folder, table)
        for folder in ("", *splits)
        for name in METADATA
        if exists(place := join(data.root, posixpath.join(folder, name)))
        and "file_name" in (table := read_table(place)).columns
    ]
    if not found:
        return None
    called = splits_of(folder for folder, _ in found if folder)
    rows = [
        row | {"path": posixpath.join(folder, row["file_name"])} | ({"split": called[folder]} if folder else {})
        for folder, table in found
        for row in table.rows
    ]
    columns = frozenset.union(*(table.columns for _, table in found)) | {"path"} | ({"split"} if called else set())
    return ClipTable(found[0][1].place, columns, tuple(rows), found[0][1].first_line)


def _level_of_splits(data: DataConfig, places: list[Folders]) -> int | None:
    """Whether the first (0) or the second (1) folder of each place is a split; `None`: the splits are not given.

    Raises:
        UserError: Some folders are named like splits and others are not, or none is for training.

    """
    tops = {place[0] for place in places}
    if _are_splits(data, "", tops):
        return 0
    within = {top: {place[1] for place in places if place[0] == top and len(place) > 1} for top in sorted(tops)}
    given = [_are_splits(data, f"{top}/", names) for top, names in within.items()]
    direct = {place[0] for place in places if len(place) == 1}
    if any(given) and (direct or not all(given)):
        with_splits = next(top for top, is_given in zip(within, given, strict=True) if is_given)
        without = min(direct) if direct else next(top for top, is_given in zip(within, given, strict=True) if not is_given)
        problem = f"{with_splits}/ has a folder for each split, but recordings of {without}/ are in none"
        raise bad_value("data.root", data.root, f"{problem}; give every class train, dev and test folders, or none")
    return 1 if any(given) else None


def _are_splits(data: DataConfig, above: str, names: Iterable[str]) -> bool:
    """Whether folders beside each other are the splits; one of that name among others (a class `train`) is not one."""
    known = splits_of(sorted(names))
    others = [name for name, split in known.items() if not split]
    listed = ", ".join(f"{above}{name}" for name, split in known.items() if split)
    kinds = set(known.values()) - {""}
    if not kinds or (others and len(kinds) == 1):
        return False
    if others:
        problem = f"holds folders named like splits ({listed}) beside others ({above}{others[0]})"
        raise bad_value("data.root", data.root, f"{problem}; move or rename the others, or list the recordings in a CSV")
    if "train" not in kinds:
        problem = f"holds folders named like splits ({listed}) and none for training"
        raise bad_value("data.root", data.root, f"{problem}; expected train, dev and test, or rename them if they are classes")
    return True


def _groups(data: DataConfig, used: dict[str, Folders]) -> dict[str, str]:
    """By file the group that the pattern, or else its folder, gives it; empty where there is none."""
    find = group_finder(data)
    return {name: find(name) if find else "/".join(folders[1:]) for name, folders in used.items()}


def _alone(name: str) -> str:
    """A file's path without its ending, so that two files of one recording stay together."""
    return name.rpartition(".")[0] or name


def _stray(data: DataConfig, name: str) -> Rejected:
    if leaves_root(data.root, name):
        return Rejected(name, name, "", "", "outside_root", "a link that leaves ROOT")
    return Rejected(name, name, "", "", "no_class", "is not in a class folder")


def _held_out(used: dict[str, Folders], groups: dict[str, str]) -> dict[str, str]:
    by_class: defaultdict[str, list[str]] = defaultdict(list)
    for name, folders in used.items():
        by_class[folders[0]].append(groups[name])
    splits = hold_out(by_class)
    return {name: splits[groups[name]] for name in used}
