"""Writing the feature store: a folder of Parquet shards, one row per clip (schema in docs/data.md).

Shape suffixes: T audio frames, F audio bins, S video frames, D video features, N clips.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mm_ray.config import DataConfig, FeatureConfig, read_names
from mm_ray.data.audio_features import audio_identity
from mm_ray.data.feature_row import Row
from mm_ray.data.file_stamps import Origin
from mm_ray.data.manifest import Manifest, Rejected
from mm_ray.data.video_features import video_identity
from mm_ray.errors import UserError, bad_value, in_one_line
from mm_ray.storage import join, names_in, remove, write_bytes, write_whole

FORMAT_VERSION = 4
"""Version of the schema and of the feature code; with a new number every store is computed again."""
REJECTED = "rejected.parquet"
"""Written last: a store without it is not finished."""
CARD = "README.md"
"""The data card that `mm_ray.prepare` writes beside the shards."""
OTHER_WIDTHS = "gives clips different numbers of features per frame"
_PREFIX, _SUFFIX = "part-", ".parquet"
SCHEMA = pa.schema(
    {
        "row": pa.int64(),
        "clip_id": pa.string(),
        "recording": pa.string(),
        "label": pa.int64(),
        "group": pa.string(),
        "splits": pa.list_(pa.string()),
        "audio": pa.large_list(pa.float16()),
        "audio_frames": pa.int32(),
        "video": pa.large_list(pa.float16()),
        "video_frames": pa.int32(),
        "seconds": pa.float64(),
        "flags": pa.list_(pa.string()),
        "source": pa.string(),
        "video_source": pa.string(),
        "start_s": pa.float64(),
        "end_s": pa.float64(),
    }
)
"""The columns of a shard; docs/data.md describes them."""


@dataclass(frozen=True)
class Settings:
    """What all shards of a store share; the metadata of each holds it."""

    name: str
    class_names: tuple[str, ...]
    num_folds: int
    features: FeatureConfig
    video_identity: str = ""
    """What the video features depend on besides the settings: weights, the user's own code."""
    audio_identity: str = ""
    """The same of the audio features."""
    format: int = FORMAT_VERSION
    device: str = "cpu"
    """`cpu` or `cuda`: the kind of device that pretrained encoders computed on. Kinds differ in bits."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary with the same keys. What is not used is left out: with it the fingerprints of all data, and so
        all phase keys, would be others than before there was such a setting.
        """
        content = asdict(self)
        if not self.audio_identity:
            del content["audio_identity"]
        if self.device == "cpu":
            del content["device"]
        if not self.features.window_hop_s:
            del content["features"]["window_hop_s"]
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Settings":
        """The settings in a shard's metadata."""
        features, names, folds = FeatureConfig(**content["features"]), read_names(content["class_names"]), content["num_folds"]
        identities = content["video_identity"], content.get("audio_identity", "")
        return cls(content["name"], names, int(folds), features, *identities, content["format"], content.get("device", "cpu"))


def settings_of(manifest: Manifest, data: DataConfig, device: str = "cpu") -> Settings:
    """The settings of a store of this manifest.

    Raises:
        UserError: The features lack what they need.

    """
    identities = video_identity(data), audio_identity(data.features)
    return Settings(manifest.name, manifest.class_names, manifest.num_folds, data.features, *identities, device=device)


def write_shard(store: str | Path, settings: Settings, rows: Sequence[Row], origin: Origin | None = None) -> str:
    """Write rows as one shard, whole or not at all; returns its name, which is made of the clips' ids.

    Args:
        store: The folder, a path or URI; it is made.
        settings: What the store's shards share.
        rows: At least one.
        origin: The recordings, by which a changed one is found when the store is gone on with.

    """
    columns = {
        "row": [row.number for row in rows],
        "clip_id": [row.clip.id for row in rows],
        "recording": [row.recording or row.clip.id for row in rows],
        "label": [row.clip.label for row in rows],
        "group": [row.clip.group for row in rows],
        "splits": [list(row.clip.splits) for row in rows],
        "audio": _as_lists([row.audio_TF for row in rows]),
        "audio_frames": [len(row.audio_TF) for row in rows],
        "video": _as_lists([row.video_SD for row in rows]),
        "video_frames": [None if row.video_SD is None else len(row.video_SD) for row in rows],
        "seconds": [row.seconds for row in rows],
        "flags": [list(row.flags) for row in rows],
        "source": [row.clip.source for row in rows],
        "video_source": [row.clip.video_source or None for row in rows],
        "start_s": [row.clip.start_s for row in rows],
        "end_s": [row.clip.end_s for row in rows],
    }
    widths = {
        "audio_features": _width("audio", [row.audio_TF for row in rows]),
        "video_features": _width("video", [row.video_SD for row in rows if row.video_SD is not None]),
    }
    described = {**settings.to_json(), **widths, "fingerprint": fingerprint(rows), "origin": origin}
    table = pa.table(columns, SCHEMA.with_metadata({"mm_ray": json.dumps(described)}))
    name = _PREFIX + digest(row.clip.id.encode() + b"\0" for row in rows)[:16] + _SUFFIX
    write_table(join(store, name), table)
    return name


def write_rejected(store: str | Path, rejected: Iterable[Rejected]) -> None:
    """Write `rejected.parquet`, which also says that the store is finished."""
    lines = list(rejected)
    columns = {f.name: pa.array([_printable(getattr(line, f.name)) for line in lines], pa.string()) for f in fields(Rejected)}
    write_table(join(store, REJECTED), pa.table(columns))


def reopen(store: str | Path) -> None:
    """Say that a store is being worked on: it is not finished until `write_rejected`."""
    remove(join(store, REJECTED))


def check_writable(store: str | Path) -> None:
    """Make the folder of a store, and refuse one that cannot be written before any work starts.

    Raises:
        UserError: The place is a file, has no room, or may not be written.

    """
    place = join(store, f".{uuid.uuid4().hex}")
    try:
        write_bytes(place, b"")
        remove(place)
    except OSError as error:
        raise bad_value("out", store, f"cannot be written ({in_one_line(error)}); give a writable folder") from error


def shards(store: str | Path) -> list[str]:
    """Paths of a store's shards, sorted."""
    return [join(store, name) for name in names_in(store) if name.startswith(_PREFIX) and name.endswith(_SUFFIX)]


def fingerprint(rows: Iterable[Row]) -> str:
    """Digest of clips and features: the sum of the rows' digests, so that the shards they lie in do not matter."""
    return add_fingerprints(_row_digest(row) for row in rows)


def add_fingerprints(parts: Iterable[str]) -> str:
    """The fingerprint of clips together, from those of their shards."""
    return f"{sum(int(part, 16) for part in parts) % (1 << 128):032x}"


def digest(pieces: Iterable[bytes]) -> str:
    """blake2b of pieces of bytes, 32 hexadecimal digits."""
    state = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        state.update(piece)
    return state.hexdigest()


def _row_digest(row: Row) -> str:
    clip = [row.number, row.clip.id, row.clip.label, row.clip.group, row.clip.splits]
    arrays = [row.audio_TF, np.zeros(0, np.float16) if row.video_SD is None else row.video_SD]
    shapes = [array.shape for array in arrays]
    return digest([json.dumps([clip, shapes]).encode(), *(np.ascontiguousarray(a, np.float16).tobytes() for a in arrays)])


def _width(modality: str, clips: Sequence[np.ndarray]) -> int:
    widths = {clip.shape[1] for clip in clips}
    if len(widths) > 1:
        raise UserError(f"--data.features.{modality}: {OTHER_WIDTHS}, {sorted(widths)}; all clips need the same number")
    return max(widths, default=0)


def _as_lists(clips: Sequence[np.ndarray | None]) -> pa.Array:
    sizes = [0 if clip is None else clip.size for clip in clips]
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int64())
    present = [np.ascontiguousarray(clip, np.float16).ravel() for clip in clips if clip is not None]
    values = pa.array(np.concatenate([np.empty(0, np.float16), *present]), pa.float16())
    absent = pa.array([clip is None for clip in clips], pa.bool_())
    return pa.LargeListArray.from_arrays(offsets, values, mask=absent)


def write_table(place: str, table: pa.Table) -> None:
    """Write a Parquet file, whole or not at all."""

    def write(path: str, filesystem: Any) -> None:
        options = {"compression": "zstd", "use_dictionary": ["group", "label"], "write_page_checksum": True}
        pq.write_table(table, path, filesystem=filesystem, **options)

    write_whole(place, write)


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
