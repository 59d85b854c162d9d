"""Which clips are the same recording: equal bytes, and the same segment."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

from mm_ray.config import DataConfig
from mm_ray.data.file_stamps import file_sizes_and_times, sample
from mm_ray.data.manifest import Clip
from mm_ray.storage import join, leaves_root, open_binary


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
    stamps = file_sizes_and_times([name for name in names if name.isprintable() and not leaves_root(data.root, name)], data)
    keys: dict[str, object] = {name: stamp.size for name, stamp in stamps.items()}
    for refine in (partial(sample, data=data), partial(_digest, data)):
        shared = Counter(keys.values())
        keys = {name: (key, refine(name)) if shared[key] > 1 else name for name, key in keys.items()}
    return {name: keys.get(name, name) for name in names}


def _digest(data: DataConfig, name: str) -> bytes:
    state = hashlib.blake2b(digest_size=16)
    with open_binary(join(data.root, name)) as file:
        while piece := file.read(1 << 20):
            state.update(piece)
    return state.digest()
