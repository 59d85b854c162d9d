"""Which clips are the same recording: equal bytes, and the same span."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

from mm_ray.config import DataConfig
from mm_ray.data.manifest import Clip
from mm_ray.storage import is_uri, join, leaves_root, locate, open_binary

_PIECE_BYTES = 1 << 16
_AT_ONCE = 1000
"""Files whose sizes are asked for in one call of the file system."""


def duplicates(clips: Sequence[Clip], data: DataConfig) -> dict[int, int]:
    """By position of a clip, the position of the first one that is the same recording.

    Only files of equal size are read, and of these only a few pieces unless the pieces are equal too.

    Args:
        clips: In order of preference: the first of equals is kept.
        data: Where their files are.

    """
    names = dict.fromkeys(name for clip in clips for name in (clip.source, clip.video_source) if name)
    contents = _contents(names, data)
    first: dict[object, int] = {}
    found = {}
    for position, clip in enumerate(clips):
        key = (contents[clip.source], contents.get(clip.video_source), clip.start_s, clip.end_s)
        if first.setdefault(key, position) != position:
            found[position] = first[key]
    return found


def _contents(names: Iterable[str], data: DataConfig) -> dict[str, object]:
    """By name, something that is equal for equal contents: the name itself where no other file has that size."""
    keys: dict[str, object] = dict(_sizes([name for name in names if _is_readable(name, data)], data))
    for refine in (partial(_sample, data), partial(_digest, data)):
        shared = Counter(keys.values())
        keys = {name: (key, refine(name)) if shared[key] > 1 else name for name, key in keys.items()}
    return {name: keys.get(name, name) for name in names}


def _is_readable(name: str, data: DataConfig) -> bool:
    return name.isprintable() and not leaves_root(data.root, name)


def _sizes(names: Sequence[str], data: DataConfig) -> dict[str, int]:
    if not is_uri(data.root):
        files = {name: join(os.path.expanduser(data.root), name) for name in names}
        return {name: os.path.getsize(file) for name, file in files.items() if os.path.isfile(file)}
    sizes: dict[str, int] = {}
    for first in range(0, len(names), _AT_ONCE):
        some = names[first : first + _AT_ONCE]
        located = [locate(join(data.root, name)) for name in some]
        infos = located[0][0].get_file_info([path for _, path in located])
        sizes |= {name: int(info.size) for name, info in zip(some, infos, strict=True) if info.is_file}
    return sizes


def _sample(data: DataConfig, name: str) -> bytes:
    """Begin, middle and end of a file."""
    with open_binary(join(data.root, name)) as file:
        size = file.seek(0, os.SEEK_END)
        pieces = []
        for begin in (0, size // 2, max(size - _PIECE_BYTES, 0)):
            file.seek(begin)
            pieces.append(file.read(_PIECE_BYTES))
    return hashlib.blake2b(b"".join(pieces), digest_size=16).digest()


def _digest(data: DataConfig, name: str) -> bytes:
    state = hashlib.blake2b(digest_size=16)
    with open_binary(join(data.root, name)) as file:
        while piece := file.read(1 << 20):
            state.update(piece)
    return state.digest()
