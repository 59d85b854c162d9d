"""Detects changed recordings on every file system: by size, time and, for small files, contents."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from mm_ray.config import DataConfig
from mm_ray.storage import join, local_path, locate, look, open_binary

SMALL_BYTES = 1 << 16
"""Files up to this size are small: their contents count."""
MOST_READ = 2_000
"""Of more small files the contents are not read, each of which may be a request to an object store."""
_PIECE_BYTES = SMALL_BYTES
_AT_ONCE = 1000
"""Files that are asked for in one call of the file system."""
_READERS = 8


class Stamp(NamedTuple):
    """A state of a file."""

    size: int
    time_ns: int | None
    """When it was last written; `None` where the file system does not say."""
    digest: str = ""
    """Of begin, middle and end, which is all of a small file; empty where it was not read."""

    @property
    def shows_changes(self) -> bool:
        """Whether a change that leaves the size as it was would show."""
        return self.time_ns is not None or bool(self.digest)


class Origin(NamedTuple):
    """What features were computed from."""

    root: str
    """A digest of the root's path; the path itself is private."""
    files: Mapping[str, Stamp]
    """By source; with their digests."""


def origin_of(names: Iterable[str], data: DataConfig) -> Origin:
    """The origin of features that were computed from these files."""
    return Origin(_root_digest(data.root), sampled(file_sizes_and_times(list(dict.fromkeys(names)), data), data))


def changed(origin: Origin, data: DataConfig) -> list[str]:
    """Names of the files that are not what they were; one that is gone, or was only copied or touched, is not among them.

    Where the root is another one, or the time differs, the contents are compared.
    """
    now, elsewhere = file_sizes_and_times(list(origin.files), data), origin.root != _root_digest(data.root)
    old = origin.files
    resized = [name for name, stamp in now.items() if stamp.size != old[name].size]
    doubtful = {
        name: stamp
        for name, stamp in now.items()
        if stamp.size == old[name].size and (elsewhere or stamp.time_ns is None or stamp.time_ns != old[name].time_ns)
    }
    return resized + [name for name, stamp in sampled(doubtful, data).items() if stamp.digest != old[name].digest]


def _root_digest(root: str) -> str:
    return hashlib.blake2b(root_identity(root).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def file_stamps(names: Iterable[str], data: DataConfig) -> dict[str, Stamp]:
    """By name, the stamp of each file below `data.root` that is there; an array in it (`digits.npz#image=3`) has the same.

    Args:
        names: Sources of clips, which need not be files.
        data: Where they are.

    """
    wanted = list(dict.fromkeys(filter(None, names)))
    whole = {name: name.rpartition("#")[0] for name in wanted if "#" in name}
    found = file_sizes_and_times([*wanted, *dict.fromkeys(filter(None, whole.values()))], data)
    small = {name: stamp for name, stamp in found.items() if stamp.size <= SMALL_BYTES}
    found |= sampled(small, data) if len(small) <= MOST_READ else {}
    return {name: found[file] for name in wanted if (file := name if name in found else whole.get(name, name)) in found}


def file_sizes_and_times(names: Sequence[str], data: DataConfig) -> dict[str, Stamp]:
    """By name, size and time of each file below `data.root` that is there."""
    possible = [name for name in names if _can_be_a_file(name)]
    stamps = {}
    for first in range(0, len(possible), _AT_ONCE):
        some = possible[first : first + _AT_ONCE]
        for name, info in zip(some, _infos([join(data.root, name) for name in some]), strict=True):
            if info is not None and info.is_file:
                stamps[name] = Stamp(int(info.size), info.mtime_ns)
    return stamps


def sampled(stamps: Mapping[str, Stamp], data: DataConfig) -> dict[str, Stamp]:
    """The stamps with a digest of each file, of whatever size; eight files are read at once."""
    with ThreadPoolExecutor(_READERS) as pool:
        digests = pool.map(lambda name: _sample_or_none(name, data), stamps)
        return {name: stamp._replace(digest=digest) for (name, stamp), digest in zip(stamps.items(), digests, strict=True)}


def root_identity(root: str) -> str:
    """A root's file system and path there: the same for `~/x`, `file:///home/me/x`, a link to it, and a relative path."""
    if not root:
        return ""
    local = local_path(root)
    return f"{locate(root)[0].type_name}:{locate(root)[1] if local is None else os.path.realpath(local)}"


def sample(name: str, data: DataConfig) -> str:
    """Digest of begin, middle and end of a file."""
    with open_binary(join(data.root, name)) as file:
        size = file.seek(0, os.SEEK_END)
        state = hashlib.blake2b(digest_size=16)
        for begin in (0, size // 2, max(size - _PIECE_BYTES, 0)):
            file.seek(begin)
            state.update(file.read(_PIECE_BYTES))
    return state.hexdigest()


def _sample_or_none(name: str, data: DataConfig) -> str:
    try:
        return sample(name, data)
    except OSError:  # it may not be read, which is said when it is decoded
        return ""


def _can_be_a_file(name: str) -> bool:
    try:
        return b"\0" not in name.encode()
    except UnicodeEncodeError:
        return False


def _infos(places: Sequence[str]) -> list[Any]:
    located = [locate(place) for place in places]
    try:
        return list(located[0][0].get_file_info([path for _, path in located]))
    except OSError:  # one of them has a name that is too long, or may not be looked at
        return [_info_or_none(place) for place in places]


def _info_or_none(place: str) -> Any:
    try:
        return look(place)
    except OSError:
        return None
