"""Helpers for data sets: list files, select classes, find groups, hold groups out."""

import hashlib
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from shlex import quote

from pyarrow import fs

from mm_ray.config import DataConfig
from mm_ray.errors import bad_value, in_one_line, unknown_name
from mm_ray.storage import exists, local_path, locate, read_text, size_of

_TEXTS = ".txt .md .rst .pdf .log .csv .tsv .json .jsonl .xml .html .yaml .yml .ini .srt .vtt .ass .lrc .m3u .m3u8 .md5 .sha256"
_TRANSCRIPTS = ".textgrid .lab .phn .wrd .trn .stm .ctm .eaf .trs .cha .mlf .pitch"
_OTHERS = ".db .lnk .url .doc .docx .xls .xlsx .npy .npz .parquet .zip .gz .py .sh"
_EVALS = ("eval", "evaluation")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "val", "valid", "validate", "validation"), "dev"),
    **dict.fromkeys(("test", "testing", *_EVALS), "test"),
}
"""Common names of splits, in lower case, and ours; see `split_of`."""
NO_MEDIA = frozenset(f"{_TEXTS} {_TRANSCRIPTS} {_OTHERS}".split())
"""Files with these names or endings often lie beside recordings; they are ignored."""


def files_below(root: str) -> list[str]:
    """Names of all files below a root, relative to it, sorted; hidden ones and those of `NO_MEDIA` are left out.

    A link is listed and not followed, also one to a folder.

    Raises:
        UserError: There is no such folder.

    """
    local = local_path(root) if root else None
    names = _remote_names(root) if root and local is None else _local_names(local)
    if names is None:
        raise bad_value("data.root", root, "no such folder; give the folder of the recordings")
    return sorted(name for name in names if not _is_passed_over(name))


def _local_names(base: str | None) -> list[str] | None:
    if base is None or not os.path.isdir(base):
        return None
    names = []
    for folder, subfolders, files in os.walk(base):
        links = [name for name in subfolders if os.path.islink(os.path.join(folder, name))]
        names += [os.path.relpath(os.path.join(folder, name), base) for name in [*files, *links]]
    return [name.replace(os.sep, "/") for name in names]


def _remote_names(root: str) -> list[str] | None:
    filesystem, base = locate(root)
    try:
        infos = filesystem.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
    except OSError as error:
        reason = in_one_line(error)
        raise bad_value("data.root", root, f"cannot be listed ({reason}); check the name and its permissions") from error
    names = [posixpath.relpath(info.path, base) for info in infos if info.type == fs.FileType.File]
    return names or None


def empty_folders(root: str, names: Iterable[str]) -> list[str]:
    """Folders directly below a root that hold none of the files of `files_below`, sorted; hidden ones are left out."""
    filesystem, base = locate(root)
    infos = filesystem.get_file_info(fs.FileSelector(base))
    folders = {info.base_name for info in infos if info.type == fs.FileType.Directory and not info.base_name.startswith(".")}
    return sorted(folders - {name.split("/")[0] for name in names})


def _is_passed_over(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return hidden or ending(name) in NO_MEDIA


def tidy(text: str) -> str:
    """A name as people read it: composed Unicode (NFC), no spaces around it and single spaces within."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def split_of(name: str) -> str:
    """The split (`train`, `dev`, `test`) of a common name in any case (`Train`, `VALIDATION `, `eval`); empty for others."""
    return SPLIT_NAMES.get(tidy(name).casefold(), "")


def splits_of(names: Iterable[str]) -> dict[str, str]:
    """`split_of` of names that stand beside each other: `eval` is dev where another is called test and none dev."""
    found = {name: split_of(name) for name in names}
    evals = [name for name in found if tidy(name).casefold() in _EVALS]
    others = {split for name, split in found.items() if name not in evals}
    return found | (dict.fromkeys(evals, "dev") if "test" in others and "dev" not in others else {})


def group_finder(data: DataConfig) -> Callable[[str], str] | None:
    """The function that finds the group in a file's path by `data.group_pattern`; `None` without a pattern.

    It returns what `(?P<group>...)` matches, or else the first group, or else the whole match; empty if nothing matches.

    Raises:
        UserError: It is not a regular expression.

    """
    if not data.group_pattern:
        return None
    try:
        pattern = re.compile(data.group_pattern)
    except re.error as error:
        problem = f"is not a regular expression ({error}); try '([a-z]+)_' for the letters before an underscore"
        raise bad_value("data.group_pattern", data.group_pattern, problem) from error
    which: str | int = "group" if "group" in pattern.groupindex else min(pattern.groups, 1)

    def find(name: str) -> str:
        found = pattern.search(name)
        return tidy(found[which] or "") if found else ""

    return find


def alone_warnings(num_alone: int, num_clips: int, data: DataConfig, way: str) -> tuple[str, ...]:
    """The warning if recordings are each a group of their own although groups decide the splits.

    Args:
        num_alone: How many.
        num_clips: Of how many.
        data: Whether a pattern was given.
        way: How this data set names groups, beside the pattern.

    """
    if not num_alone:
        return ()
    which = "each recording" if num_alone == num_clips else f"each of {num_alone:,} of {num_clips:,} recordings"
    problem = f"{which} is a group of its own, so one speaker can be in train and in test"
    if data.group_pattern:
        return (f"{problem}: --data.group_pattern {quote(data.group_pattern)} finds no group in their paths",)
    return (f"{problem}; name the groups by {way}, or by --data.group_pattern REGEX",)


def wanted_classes(data: DataConfig, known: Iterable[str]) -> tuple[str, ...]:
    """The sorted class names that `data.classes` asks for, of those that are known.

    Raises:
        UserError: A name that is not known.

    """
    names = sorted(set(known))
    if not data.classes:
        return tuple(names)
    is_file = size_of(data.classes) is not None
    text = read_text(data.classes) if is_file else data.classes.replace(",", "\n")
    asked = sorted({tidy(line) for line in text.splitlines() if line.strip()})
    for name in asked:
        if name not in names:
            raise unknown_name("data.classes", name, names)
    return tuple(asked)


def annotation(data: DataConfig, *usual: str) -> str:
    """The path of a data set's lists: `data.annotations`, or the first of the usual names below `data.root`.

    Raises:
        UserError: None of them exists.

    """
    candidates = [data.annotations] if data.annotations else [posixpath.join(data.root, name) for name in usual]
    for place in candidates:
        if exists(place):
            return place
    remedy = f"not found; expected {' or '.join(usual)} below data.root, or its path in data.annotations"
    raise bad_value("data.annotations", data.annotations, remedy)


def hold_out(groups_by_class: Mapping[str, Sequence[str]], dev: float = 0.2, test: float = 0.2) -> dict[str, str]:
    """A split for each group, by a digest of its name: the same on every machine and for every order of groups.

    Args:
        groups_by_class: The groups of each class; a group that several classes have is settled by the first of them.
        dev: Fraction of a class's groups for `dev`: at least one where there are three or more.
        test: Likewise for `test`; 0 holds out none.

    """
    splits: dict[str, str] = {}
    for groups in groups_by_class.values():
        order = by_digest(set(groups) - set(splits))
        num_test, num_dev = (_share(len(order), fraction) for fraction in (test, dev))
        for place, group in enumerate(order):
            splits[group] = "test" if place < num_test else "dev" if place < num_test + num_dev else "train"
    return splits


def splits_in_turn(place: int, num_folds: int) -> tuple[str, ...]:
    """The split of the group at a place in each fold: each fold tests its own group, and the next one is `dev`."""
    return tuple({0: "test", 1: "dev"}.get((place - fold) % num_folds, "train") for fold in range(num_folds))


def by_digest(names: Iterable[str]) -> list[str]:
    """Names in the order of a digest: pseudo-random, and the same everywhere."""
    return sorted(names, key=lambda name: (_digest(name), name))


def _share(count: int, fraction: float) -> int:
    return max(round(count * fraction), 1) if fraction and count >= 3 else 0


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def by_stem(names: Iterable[str]) -> dict[str, str]:
    """The first name of each stem, by stem."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(Path(name).stem, name)
    return first


def ending(name: str) -> str:
    """A name's extension in lower case, with its dot."""
    return posixpath.splitext(name)[1].lower()
