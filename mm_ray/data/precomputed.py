"""Features computed elsewhere (OpenFace, openSMILE, wav2vec, I3D): arrays in place of recordings (docs/data.md).

The source of a clip's audio or video is then
- `clip.npy`: an array of that clip, (frames, numbers),
- `set.npz#KEY`: the array of that name, (frames, numbers), or
- `set.npy#ROW`: a row of one array for the whole set, (clips, numbers) or (clips, frames, numbers), counted from 0.
Shape suffixes: X frames, D numbers per frame.
"""

import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from mm_ray.config import PRECOMPUTED, DataConfig
from mm_ray.data.manifest import Clip, Manifest, ManifestModule, Rejected, label_name, own_load
from mm_ray.data.media.errors import MediaError
from mm_ray.errors import UserError, bad_value, in_one_line
from mm_ray.storage import is_uri, join, leaves_root, locate, open_binary, size_of

_SUFFIXES = (".npy", ".npz")
_MOST_NUMBERS = 100_000_000
"""Of a clip; a damaged or hostile header may claim any shape."""
_LARGEST = float(np.finfo(np.float16).max)


def is_array(source: str) -> bool:
    """Whether a source names an array and not a recording."""
    return array_file(source).endswith(_SUFFIXES)


def array_file(source: str) -> str:
    """The file of a source, without the row or key of an array in it; the name of a recording may hold a `#`."""
    file, mark, _ = source.rpartition("#")
    return file if mark and file.endswith(_SUFFIXES) else source


def with_precomputed(module: ManifestModule, manifest: Manifest, data: DataConfig) -> tuple[Manifest, DataConfig]:
    """A manifest without the arrays that cannot be features, and the settings with `precomputed` where it names arrays.

    Only the headers of the arrays are read.

    Raises:
        UserError: Some clips of a modality name arrays and some recordings, no array can be used, or the settings say
            otherwise.

    """
    if own_load(module) is not None:  # its sources mean what it likes
        return manifest, data
    given = data.features
    named = {"audio": [clip.source for clip in manifest.clips], "video": [c.video_source for c in manifest.clips]}
    found = {modality: _are_arrays(modality, sources) for modality, sources in named.items()}
    for modality, default in (("audio", "log_mel"), ("video", "pixels")):
        asked = getattr(given, modality)
        if found[modality] and asked not in (default, PRECOMPUTED):
            raise bad_value(f"data.features.{modality}", asked, f"{manifest.name} names arrays (.npy, .npz); leave it out")
        if asked == PRECOMPUTED and not found[modality]:
            raise bad_value(f"data.features.{modality}", asked, f"{manifest.name} names no array; name .npy or .npz files")
    if not any(found.values()):
        return manifest, data
    if found["audio"] and given.window_hop_s:
        problem = f"{manifest.name} names arrays of audio features, whose frames have no length in seconds; leave it out"
        raise bad_value("data.features.window_hop_s", given.window_hop_s, problem)
    features = given
    if found["audio"]:
        features = replace(features, audio="precomputed")
    if found["video"]:
        features = replace(features, video=PRECOMPUTED)
    return _without_bad(manifest, data, found), replace(data, features=features)


def _are_arrays(modality: str, sources: list[str]) -> bool:
    named = [source for source in sources if source]
    arrays = [source for source in named if is_array(source)]
    if arrays and len(arrays) < len(named):
        other = next(source for source in named if not is_array(source))
        raise UserError(f"{modality}: {arrays[0]} is an array, {other} is not; name arrays for all clips or for none")
    return bool(arrays)


def _without_bad(manifest: Manifest, data: DataConfig, found: Mapping[str, bool]) -> Manifest:
    """Arrays that cannot be features go to the rejects: by shape, type, and a number of features that most others lack."""
    problems: dict[str, MediaError] = {}
    for modality in (modality for modality, are in found.items() if are):
        sizes: dict[str, int] = {}
        for clip in manifest.clips:
            if source := clip.source if modality == "audio" else clip.video_source:
                try:
                    sizes[clip.id] = _numbers_a_frame(source, data)
                except MediaError as error:
                    problems.setdefault(clip.id, error)
        common = Counter(sizes.values()).most_common(1)[0][0] if sizes else 0
        for clip_id, size in sizes.items():
            if size != common:
                detail = f"its {modality} has {size} numbers per frame, most clips have {common}"
                problems.setdefault(clip_id, MediaError("bad_array", clip_id, detail))
    good = tuple(clip for clip in manifest.clips if clip.id not in problems)
    if not good:
        raise UserError(str(next(iter(problems.values()))))
    bad = [_rejected(manifest, clip, problems[clip.id]) for clip in manifest.clips if clip.id in problems]
    return replace(manifest, clips=good, rejected=(*manifest.rejected, *bad))


def _rejected(manifest: Manifest, clip: Clip, error: MediaError) -> Rejected:
    label = label_name(clip.label, manifest.class_names)
    return Rejected(clip.id, clip.source, label, clip.group, error.reason, error.detail)


def _numbers_a_frame(source: str, data: DataConfig) -> int:
    if leaves_root(data.root, array_file(source)):
        raise MediaError("outside_root", source, "a link or path that leaves ROOT; copy the array there")
    return _checked_shape(join(data.root, source))[-1]


def read_frames(place: str) -> np.ndarray:
    """The features of a clip, (X, D) float16.

    Args:
        place: A path or URI as above, with its row or key.

    Raises:
        MediaError: There is no such array, or it is not one of finite floating point numbers, (frames, numbers).

    """
    _checked_shape(place)
    file, key = array_file(place), place[len(array_file(place)) + 1 :]
    with names_bad_array(file):
        if file.endswith(".npz"):
            with open_binary(file) as opened, np.load(opened, allow_pickle=False) as arrays:
                values = np.asarray(arrays[key])
        elif key:
            values = np.asarray(_whole_set(file, _stamp(file))[int(key)])
        else:
            with open_binary(file) as opened:
                values = np.load(opened, allow_pickle=False)
    return as_float16(np.atleast_2d(values), place)


def as_float16(values_XD: np.ndarray, place: str) -> np.ndarray:
    """Features as the store holds them.

    Raises:
        MediaError: Numbers that are not finite, or too large for float16.

    """
    if not np.isfinite(values_XD).all():
        raise MediaError("bad_array", place, "holds NaN or infinite numbers; replace them, or leave these frames out")
    if np.abs(values_XD).max() > _LARGEST:
        raise MediaError("bad_array", place, f"holds numbers beyond {_LARGEST:,.0f}, too large for float16; scale the features")
    return values_XD.astype(np.float16)


def _checked_shape(place: str) -> tuple[int, ...]:
    """Frames and numbers per frame, from the header alone."""
    file, key = array_file(place), place[len(array_file(place)) + 1 :]
    if size_of(file) is None:
        raise MediaError("missing", file, "no such file; check the path")
    with names_bad_array(file):
        shape, dtype = _npz_header(file, key) if file.endswith(".npz") else _npy_header(file)
    if key and file.endswith(".npy"):
        if not key.isdecimal() or not shape or int(key) >= shape[0]:
            raise MediaError("bad_array", place, f"row {key!r} is not one of its {shape[0] if shape else 0:,}, counted from 0")
        shape = (1, *shape[1:]) if len(shape) == 2 else shape[1:]
    if not np.issubdtype(dtype, np.floating):
        raise MediaError("bad_array", place, f"holds {dtype}; save floating point numbers")
    if len(shape) != 2 or not all(shape):
        raise MediaError("bad_array", place, f"has shape {shape} for a clip; save (frames, numbers), of one frame at least")
    if shape[0] * shape[1] > _MOST_NUMBERS:
        raise MediaError("bad_array", place, f"has {shape[0]:,} x {shape[1]:,} numbers for a clip; cut it")
    return shape


def _npy_header(file: str) -> tuple[tuple[int, ...], Any]:
    with open_binary(file) as opened:
        return _header(opened)


def _npz_header(file: str, key: str) -> tuple[tuple[int, ...], Any]:
    with open_binary(file) as opened, zipfile.ZipFile(opened) as archive:
        if f"{key}.npy" not in archive.namelist():
            raise MediaError("bad_array", file, f"has no array {key!r}; name one of its arrays after a #")
        with archive.open(f"{key}.npy") as member:
            return _header(member)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], Any]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return tuple(shape), dtype


def npy_rows(file: str) -> int:
    """The length of the first axis of an array in a file of its own; only its header is read.

    Raises:
        MediaError: It is not one.

    """
    with names_bad_array(file):
        return _npy_header(file)[0][0]


@contextmanager
def names_bad_array(file: str | Path, expected: str = "an array that NumPy reads without pickle") -> Iterator[None]:
    """Name the file, and what was expected, of whatever reading an array raises.

    Raises:
        MediaError: `bad_array`.

    """
    try:
        yield
    except MediaError:
        raise
    except Exception as error:  # numpy reads a header as Python; its errors, zipfile's and zlib's have no common parent
        raise MediaError("bad_array", file, f"is not {expected} ({in_one_line(error)[:120]})") from error


@lru_cache(maxsize=4)
def _whole_set(file: str, stamp: tuple[int, int]) -> np.ndarray:
    """The array of a whole set; of a local one only the rows that are used are read."""
    if not is_uri(file):
        array: np.ndarray = np.load(locate(file)[1], mmap_mode="r", allow_pickle=False)
        return array
    with open_binary(file) as opened:
        return np.asarray(np.load(opened, allow_pickle=False))


def _stamp(file: str) -> tuple[int, int]:
    filesystem, path = locate(file)
    info = filesystem.get_file_info(path)
    return int(info.size or 0), int(info.mtime_ns or 0)
