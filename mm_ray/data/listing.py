"""Helpers of manifests: what lies below a folder, which classes are wanted, and who is held out."""

import hashlib
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pyarrow import fs

from mm_ray.config import DataConfig
from mm_ray.errors import bad_value, in_one_line, unknown_name
from mm_ray.storage import exists, is_uri, locate, read_text, size_of

_TEXTS = ".txt .md .rst .pdf .log .csv .tsv .json .jsonl .xml .html .yaml .yml .ini .srt .vtt"
_OTHERS = ".npy .npz .parquet .zip .gz .py .sh"
SPLIT_NAMES = {"train": "train", "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev", "test": "test"}
"""What splits are called, and what we call them."""
NO_MEDIA = frozenset(f"{_TEXTS} {_OTHERS}".split())
"""Files of these names lie beside recordings and are passed over."""


def files_below(root: str) -> list[str]:
    """Names of all files below a root, relative to it, sorted; hidden ones and those of `NO_MEDIA` are left out.

    A link is listed and not followed, also one to a folder.

    Raises:
        UserError: There is no such folder.

    """
    names = _remote_names(root) if is_uri(root) else _local_names(root)
    if names is None:
        raise bad_value("data.root", root or "''", "no such folder; give the folder of the recordings")
    return sorted(name for name in names if not _is_passed_over(name))


def _local_names(root: str) -> list[str] | None:
    base = os.path.expanduser(root)
    if not root or not os.path.isdir(base):
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
        raise bad_value("data.root", root, f"cannot be listed ({reason}); check the name, and your rights") from error
    names = [posixpath.relpath(info.path, base) for info in infos if info.type == fs.FileType.File]
    return names or None


def _is_passed_over(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return hidden or posixpath.splitext(name)[1].lower() in NO_MEDIA


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
    asked = sorted({line.strip() for line in text.splitlines() if line.strip()})
    for name in asked:
        if name not in names:
            raise unknown_name("data.classes", name, names)
    return tuple(asked)


def annotation(data: DataConfig, *usual: str) -> str:
    """The place of a data set's lists: `data.annotations`, or the first of the usual names below `data.root`.

    Raises:
        UserError: It is nowhere.

    """
    candidates = [data.annotations] if data.annotations else [posixpath.join(data.root, name) for name in usual]
    for place in candidates:
        if exists(place):
            return place
    remedy = f"not there; expected {' or '.join(usual)} below data.root, or its place in data.annotations"
    raise bad_value("data.annotations", data.annotations or "''", remedy)


def hold_out(groups_by_class: Mapping[str, Sequence[str]], dev: float = 0.2, test: float = 0.2) -> dict[str, str]:
    """A split for each group, by a digest of its name: the same on every machine, and unmoved by other groups' order.

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


def by_digest(names: Iterable[str]) -> list[str]:
    """Names in the order of a digest: as good as random, and the same everywhere."""
    return sorted(names, key=lambda name: (_digest(name), name))


def _share(count: int, fraction: float) -> int:
    return max(round(count * fraction), 1) if fraction and count >= 3 else 0


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def stem(name: str) -> str:
    """The last part of a name without its ending."""
    return Path(name).stem
