"""A data set that Hugging Face's `datasets` has saved: the local folder of `save_to_disk` (extra `mm-ray[datasets]`).

The first column of type Audio holds the recordings; the first of type Video or Image, if there is one, their pictures. Without
an Audio column both tracks come from the Video column. `--data.label_column` names the label's column: ClassLabel, text or
numbers; a training clip may lack a label (-1 or null). `id`, `group`, `split`, `start` and `end` are as for `csv`, and
the parts of a DatasetDict are the splits by their names (train, validation, test). Without splits a fifth of the groups of each
class is for test and a fifth for dev.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from mm_ray.config import DataConfig
from mm_ray.data.clip_table import ClipTable, manifest_of
from mm_ray.data.feature_row import read_clip
from mm_ray.data.manifest import Clip, Manifest
from mm_ray.data.media.decode import Media
from mm_ray.data.media.errors import MediaError
from mm_ray.errors import bad_value, in_one_line
from mm_ray.storage import local_path

READS = ("root", "classes", "group_pattern", "label_column")

_OPTIONAL = ("id", "group", "split", "start", "end")
_AUDIO, _PICTURES = ("Audio",), ("Video", "Image")
"""Types of columns, as `datasets` calls them."""


def read(data: DataConfig) -> Manifest:
    """List the rows; a clip's source is its file in the folder and its row in that.

    Raises:
        UserError: `datasets` is not installed, the folder holds no such data set, or it lacks a column for audio or label.

    """
    library, root = _library(), local_path(data.root) if data.root else None
    if root is None:
        raise bad_value("data.root", data.root, "give the local folder of save_to_disk")
    try:
        loaded = library.load_from_disk(root)
        parts = dict(loaded) if isinstance(loaded, library.DatasetDict) else {"": loaded}
        rows = [row for split, part in parts.items() for row in _rows(part, split if len(parts) > 1 else "", root, data)]
    except (OSError, ValueError, LookupError, TypeError, pa.ArrowException) as error:
        problem = f"is no data set on disk ({in_one_line(error)}); save_to_disk writes one"
        raise bad_value("data.root", data.root, problem) from error
    if not all(_source_columns(part.features)[0] for part in parts.values()):
        raise bad_value("data.root", data.root, "has no column of type Audio or Video; cast_column gives a column its type")
    columns = {name.casefold() for part in parts.values() for name in part.column_names} | {
        name for row in rows for name in row
    }
    return manifest_of("hf_dataset", ClipTable(data.root, frozenset(columns), tuple(rows), 0), data)


def load(clip: Clip, data: DataConfig) -> Media:
    """Decode a row's recording as if it were a file.

    Raises:
        MediaError: It cannot be used.

    """
    place, _, row = clip.source.rpartition("#")
    path = Path(data.root, place).expanduser()
    shard = _shard(path, path.stat().st_mtime_ns)
    columns = _source_columns(shard.features)
    values = shard[int(row)]
    with TemporaryDirectory() as folder:
        kinds = zip(("audio", "video"), columns, strict=True)
        names = ["" if column is None else _written(Path(folder, kind), values[column], clip) for kind, column in kinds]
        try:
            return read_clip(replace(clip, source=names[0], video_source=names[1]), replace(data, root=folder))
        except MediaError as error:
            raise MediaError(error.reason, clip.source, str(error).removeprefix(f"{error.place}: ")) from error


def _library() -> Any:
    try:
        import datasets  # an extra, and slow to import
    except ImportError as error:
        raise bad_value("data.name", "hf_dataset", "needs Hugging Face datasets; pip install 'mm-ray[datasets]'") from error
    return datasets


@lru_cache(maxsize=4)
def _shard(path: Path, time_ns: int) -> Any:
    """The rows of one file, memory-mapped, their recordings as bytes."""
    shard = _library().Dataset.from_file(str(path))
    for name in filter(None, _source_columns(shard.features)):
        shard = shard.cast_column(name, type(shard.features[name])(decode=False))
    return shard


def _source_columns(features: Any) -> tuple[str | None, str | None]:
    """The columns of the audio and of the pictures; that of the audio may be a video's, which then gives both."""
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    audio, pictures = (next((name for name, kind in kinds.items() if kind in some), None) for some in (_AUDIO, _PICTURES))
    if audio is None and pictures is not None and kinds[pictures] == "Video":
        return pictures, None
    return audio, pictures


def _rows(part: Any, split: str, root: str, data: DataConfig) -> Iterator[dict[str, str]]:
    for file in part.cache_files:
        path = Path(file["filename"])
        shard = _shard(path, path.stat().st_mtime_ns)
        names = {name.casefold(): name for name in shard.column_names}
        wanted = {key: names[key] for key in (*_OPTIONAL, data.label_column.strip().casefold()) if key in names}
        columns = shard.select_columns(list(wanted.values())).to_dict() if wanted else {}
        for number in range(len(shard)):
            cells = {key: _text(shard.features[name], columns[name][number]) for key, name in wanted.items()}
            yield {"path": f"{os.path.relpath(path, root)}#{number}", **cells, **({"split": split} if split else {})}


def _text(feature: Any, value: Any) -> str:
    names = getattr(feature, "names", None)
    if value is None or (names and value < 0):
        return ""
    return str(names[value] if names else value).strip()


def _written(path: Path, value: Any, clip: Clip) -> str:
    """Write a cell's recording to a file, with the ending that it once had; returns its name."""
    if value is None or value["bytes"] is None:
        raise MediaError("missing", clip.source, f"its {path.name} has no bytes; save_to_disk puts them in")
    path = path.with_suffix(Path(value["path"] or "").suffix)
    path.write_bytes(value["bytes"])
    return path.name
