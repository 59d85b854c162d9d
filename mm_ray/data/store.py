"""The Parquet store of features: one row a clip, all folds in one file (schema in docs/data.md).

Shape suffixes: T audio frames, F audio bins, S video frames, D video features, N clips, K folds.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mm_ray.config import FeatureConfig
from mm_ray.data.manifest import Manifest
from mm_ray.data.table import SPLITS, FeatureTable

FORMAT_VERSION = 1
"""Of the schema and of the feature code; a new number makes every store be computed anew."""


def write_store(
    path: str | Path,
    manifest: Manifest,
    features: FeatureConfig,
    audio: Sequence[np.ndarray],
    video: Sequence[np.ndarray | None],
) -> None:
    """Write the features of all clips; the file appears whole or not at all.

    Args:
        path: The file; its folder is made.
        manifest: The clips, in the order of the rows.
        features: The settings that the features were computed with.
        audio: A (T, F) float16 array a clip.
        video: A (S, D) float16 array a clip, or `None` for a clip without video.

    """
    columns = {
        "clip_id": [clip.id for clip in manifest.clips],
        "label": pa.array([clip.label for clip in manifest.clips], pa.int64()),
        "group": [clip.group for clip in manifest.clips],
        "splits": pa.array([list(clip.splits) for clip in manifest.clips], pa.list_(pa.string())),
        "audio": _as_lists(audio),
        "audio_frames": pa.array([len(clip) for clip in audio], pa.int32()),
        "video": _as_lists(video),
        "video_frames": pa.array([None if clip is None else len(clip) for clip in video], pa.int32()),
        "source": [clip.source for clip in manifest.clips],
    }
    described = {"name": manifest.name, "class_names": manifest.class_names, "features": asdict(features)}
    fingerprint = _fingerprint(described, manifest, [*audio, *video])
    metadata = {"mm_ray": json.dumps({**described, "fingerprint": fingerprint, "format": FORMAT_VERSION})}
    _write_whole(pa.table(columns, metadata=metadata), Path(path))


def read_store(path: str | Path, fold: int) -> FeatureTable:
    """Read a store as the feature table of one fold."""
    stored = pq.read_table(path, memory_map=True)
    described = json.loads(stored.schema.metadata[b"mm_ray"])
    features = FeatureConfig(**described["features"])
    group_names, groups_N = np.unique(_strings(stored["group"]), return_inverse=True)
    has_video = stored["video"].null_count < len(stored)
    return FeatureTable(
        audio_flat_XF=_flat(stored["audio"], features.num_mels),
        audio_offsets_N1=_offsets(stored["audio_frames"]),
        video_flat_XD=_flat(stored["video"], features.video_size**2) if has_video else None,
        video_offsets_N1=_offsets(stored["video_frames"]),
        labels_N=stored["label"].to_numpy(),
        groups_N=groups_N.astype(np.int64),
        group_names=tuple(map(str, group_names)),
        splits_N=_split_codes(stored["splits"], fold),
        clip_ids_N=_strings(stored["clip_id"]),
        class_names=tuple(described["class_names"]),
        features=features,
        fingerprint=_digest([f"{described['fingerprint']}/{fold}".encode()]),
    )


def _as_lists(clips: Sequence[np.ndarray | None]) -> pa.Array:
    sizes = [0 if clip is None else clip.size for clip in clips]
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int64())
    present = [np.ascontiguousarray(clip, np.float16).ravel() for clip in clips if clip is not None]
    values = pa.array(np.concatenate([np.empty(0, np.float16), *present]), pa.float16())
    absent = pa.array([clip is None for clip in clips], pa.bool_())
    return pa.LargeListArray.from_arrays(offsets, values, mask=absent)


def _write_whole(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    pq.write_table(table, unfinished, compression="zstd", use_dictionary=["group"], row_group_size=4096)
    os.replace(unfinished, path)


def _flat(lists: pa.ChunkedArray, width: int) -> np.ndarray:
    pieces = [chunk.flatten().to_numpy() for chunk in lists.chunks]
    return (pieces[0] if len(pieces) == 1 else np.concatenate(pieces)).reshape(-1, width)


def _offsets(frames: pa.ChunkedArray) -> np.ndarray:
    lengths_N = frames.fill_null(0).to_numpy()
    return np.concatenate([[0], np.cumsum(lengths_N, dtype=np.int64)]).astype(np.int64)


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy().astype(np.str_)


def _split_codes(splits: pa.ChunkedArray, fold: int) -> np.ndarray:
    codes = pc.index_in(pc.list_element(splits, fold), value_set=pa.array(SPLITS))
    return codes.to_numpy().astype(np.int8)


def _fingerprint(described: dict, manifest: Manifest, arrays: Iterable[np.ndarray | None]) -> str:
    clips = [(clip.id, clip.label, clip.group, clip.splits) for clip in manifest.clips]
    pieces = (b"None" if a is None else str(a.shape).encode() + np.ascontiguousarray(a, np.float16).tobytes() for a in arrays)
    return _digest([json.dumps([FORMAT_VERSION, described, clips]).encode(), *pieces])


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
