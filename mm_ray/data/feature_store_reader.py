"""Reading the feature store as the feature table of one fold.

Shape suffixes: X frames of all clips (of the one modality), N clips, N1 = N + 1.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mm_ray.config import FeatureConfig
from mm_ray.data.feature_store import FORMAT_VERSION, OTHER_WIDTHS, REJECTED, SCHEMA, Settings, add_fingerprints, digest, shards
from mm_ray.data.feature_table import SPLITS, FeatureTable
from mm_ray.data.file_stamps import Origin, Stamp
from mm_ray.errors import UserError, bad_value, in_one_line
from mm_ray.storage import is_folder, locate, names_in
from mm_ray.types import UNLABELLED

_NOT_FINITE = np.uint16(0x7C00)
"""The exponent bits of a float16 that is infinite or no number; a quicker look than `np.isfinite`."""
LIGHT = ("row", "clip_id", "label", "group", "splits", "audio_frames", "video_frames")
"""Columns of the table that are not features."""


@dataclass(frozen=True)
class Header:
    """The metadata of a store's shards."""

    settings: Settings
    audio_features: int
    """F."""
    video_features: int
    """D; 0 if no clip has video."""
    fingerprint: str
    """Digest of all clips and features."""


def is_finished(store: str | Path) -> bool:
    """Whether a store is there and complete."""
    return is_folder(store) and REJECTED in names_in(store)


def read_store(store: str | Path, fold: int) -> FeatureTable:
    """Read a store as the feature table of one fold, its clips in the order of their manifest.

    Args:
        store: The folder of shards, a path or URI.
        fold: Which of the train/dev/test splits.

    Raises:
        UserError: There is no store, it is not finished, was written by another version, or has no such fold.

    """
    places = _finished_shards(store)
    header = read_header(places)
    if not 0 <= fold < header.settings.num_folds:
        raise bad_value("data.fold", fold, f"{store} has {header.settings.num_folds} fold(s), counted from 0")
    widths = header.audio_features, header.video_features
    parts = [read_clips(place, LIGHT, header.settings) for place in places]
    for place, clips in zip(places, parts, strict=True):
        _check_number_of_features(place, clips, widths)
    light = pa.concat_tables(parts)
    _refuse_twice(store, light)
    order_N = np.lexsort((_strings(light["clip_id"]), light["row"].to_numpy()))
    ordered = light.take(pa.array(order_N))
    audio_offsets_N1, video_offsets_N1 = _offsets(ordered["audio_frames"]), _offsets(ordered["video_frames"])
    place_of_N = np.argsort(order_N)
    audio, video = _features(places, place_of_N, (audio_offsets_N1, video_offsets_N1), widths)
    group_names, groups_N = np.unique(_strings(ordered["group"]), return_inverse=True)
    return FeatureTable(
        audio_flat_XF=audio,
        audio_offsets_N1=audio_offsets_N1,
        video_flat_XD=video if header.video_features else None,
        video_offsets_N1=video_offsets_N1,
        labels_N=ordered["label"].to_numpy(),
        groups_N=groups_N.astype(np.int64),
        group_names=tuple(map(str, group_names)),
        splits_N=_split_codes(ordered["splits"], fold),
        clip_ids_N=_strings(ordered["clip_id"]),
        class_names=header.settings.class_names,
        features=header.settings.features,
        fingerprint=digest([f"{header.fingerprint}/{fold}".encode()]),
        num_folds=header.settings.num_folds,
    )


def read_header(places: Sequence[str]) -> Header:
    """The common metadata of all shards.

    Raises:
        UserError: A shard of another version of the format, or of other settings.

    """
    described = [_metadata(place) for place in places]
    for place, content in zip(places, described, strict=True):
        if content["format"] != FORMAT_VERSION:
            raise UserError(f"{place}: has format {content['format']}, this version reads {FORMAT_VERSION}; prepare it again")
    read = [_settings(place, content) for place, content in zip(places, described, strict=True)]
    settings = read[0]
    for place, other in zip(places, read, strict=True):
        if other != settings:
            raise UserError(f"{place}: has other settings than the other shards; prepare the store again in an empty folder")
    parts = add_fingerprints(content["fingerprint"] for content in described)
    whole = digest([json.dumps(settings.to_json()).encode(), parts.encode()])
    return Header(settings, _width("audio", described), _width("video", described), whole)


def _width(modality: str, described: Sequence[dict[str, Any]]) -> int:
    """Numbers per frame, the same in all shards that have the modality."""
    widths = {content[f"{modality}_features"] for content in described} - {0}
    if len(widths) > 1:
        raise UserError(f"--data.features.{modality}: {OTHER_WIDTHS}, {sorted(widths)}; prepare an empty store")
    return int(max(widths, default=0))


def read_origin(place: str) -> Origin | None:
    """The recordings that a shard was prepared from, if it says.

    Raises:
        UserError: Its metadata are damaged.

    """
    with names_broken(place):
        if (origin := _metadata(place).get("origin")) is None:
            return None
        root, files = origin
        stamps = {str(name): Stamp(int(size), time_ns, str(text)) for name, (size, time_ns, text) in files.items()}
        return Origin(str(root), stamps)


def read_columns(place: str, columns: Sequence[str]) -> pa.Table:
    """Columns of a shard.

    Raises:
        UserError: It is cut off, was changed since it was written, lacks a column or has another one of that name.

    """
    filesystem, path = locate(place)
    with names_broken(place):
        file = pq.ParquetFile(path, filesystem=filesystem, pre_buffer=True, page_checksum_verification=True)
        table = file.read(list(columns)).select(list(columns)).replace_schema_metadata(None)
        for name in columns:
            if table[name].type != SCHEMA.field(name).type:
                raise ValueError(f"{name} is a column of {table[name].type}")
        return table


def read_clips(place: str, columns: Sequence[str], settings: Settings) -> pa.Table:
    """Columns of a shard, `label` and `splits` among them, that mean what the settings say.

    Raises:
        UserError: As `read_columns`; or a value is missing, or points nowhere.

    """
    table = read_columns(place, columns)
    with names_broken(place):
        if empty := [name for name in columns if name != "video_frames" and table[name].null_count]:
            raise ValueError(f"{empty[0]} is empty in a row")
        labels_N, splits = table["label"].to_numpy(), table["splits"].to_pylist()
        if not ((labels_N >= UNLABELLED) & (labels_N < len(settings.class_names))).all():
            raise ValueError(f"a label is not one of the {len(settings.class_names)} classes")
        bounds = {"audio_frames": settings.features.max_frames, "video_frames": settings.features.max_video_frames}
        for name, most in bounds.items():
            counts_N = table[name].fill_null(0).to_numpy() if name in columns else np.zeros(1)
            if counts_N.min(initial=0) < 0 or counts_N.max(initial=0) > most:
                raise ValueError(f"a clip has {name} outside 0 to {most:,}, which its settings allow")
        train_only = np.array([set(folds) == {"train"} for folds in splits], bool)
        if (labels_N[~train_only] == UNLABELLED).any():
            raise ValueError("a clip of dev or test has no label")
        if any(len(folds) != settings.num_folds or not set(folds) <= set(SPLITS) for folds in splits):
            raise ValueError(f"a clip's splits are not {settings.num_folds} of {', '.join(SPLITS)}")
    return table


def _refuse_twice(store: str | Path, light: pa.Table) -> None:
    counts = light["clip_id"].value_counts()
    if len(counts) < len(light):
        twice = next(entry["values"].as_py() for entry in counts if entry["counts"].as_py() > 1)
        raise UserError(f"{store}: holds clip {twice} twice; was a shard copied? remove the copy")


@contextmanager
def names_broken(place: str) -> Iterator[None]:
    """Name the shard that something inside cannot be read from.

    Raises:
        UserError: Whatever a damaged or a foreign file raises; sizes that no memory holds among them.

    """
    try:
        yield
    except UserError:
        raise
    except (
        pa.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, MemoryError
    ) as error:  # fmt: skip
        problem = f"is not a shard of a feature store, or damaged ({in_one_line(error)[:200]})"
        raise UserError(f"{place}: {problem}; delete it and prepare again") from error


def _finished_shards(store: str | Path) -> list[str]:
    if not is_folder(store):
        raise bad_value("data.name", store, "no such store; python -m mm_ray.prepare writes one")
    if not is_finished(store):
        raise bad_value("data.name", store, "is not a finished store; python -m mm_ray.prepare with the same arguments resumes")
    places = shards(store)
    if not places:
        raise bad_value("data.name", store, f"holds no clips, all were rejected; see {REJECTED} there")
    return places


def _metadata(place: str) -> dict[str, Any]:
    filesystem, path = locate(place)
    with names_broken(place):
        schema = pq.read_schema(path, filesystem=filesystem)
        if b"mm_ray" not in (schema.metadata or {}):
            raise UserError(f"{place}: is not a shard of a feature store; python -m mm_ray.prepare writes them")
        content: dict[str, Any] = json.loads(schema.metadata[b"mm_ray"])
        content["format"], int(content["fingerprint"], 16)
        content.setdefault("audio_features", content["features"]["num_mels"])  # not in stores of older versions
        for modality in ("audio", "video"):
            if not int(content[f"{modality}_features"]) >= 0:
                raise ValueError(f"{content[f'{modality}_features']} {modality} features")
        features = content["features"]
        if features.get("audio", "log_mel") == "log_mel" and content["audio_features"] not in (0, features["num_mels"]):
            raise ValueError(f"{content['audio_features']} audio features of {features['num_mels']} mel bins")
        return content


def _settings(place: str, content: dict[str, Any]) -> Settings:
    with names_broken(place):
        return Settings.from_json(content)


def _features(
    places: Sequence[str], place_of_N: np.ndarray, offsets: tuple[np.ndarray, np.ndarray], widths: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Audio and video of all clips, each copied once to where it belongs; one shard is in memory at a time."""
    with names_broken(places[0]):
        flats = [np.empty((int(ends[-1]), width), np.float16) for ends, width in zip(offsets, widths, strict=True)]
    first = 0
    for place in places:
        shard = read_columns(place, ("audio", "video"))
        numbers = place_of_N[first : first + len(shard)]
        first += len(shard)
        with names_broken(place):
            for column, flat, ends in zip(("audio", "video"), flats, offsets, strict=True):
                _scatter(shard[column].combine_chunks(), numbers, flat, ends)
    return flats[0], flats[1]


def _check_number_of_features(place: str, clips: pa.Table, widths: tuple[int, int]) -> None:
    """Refuse a shard that holds more or fewer features than its clips have, before they fill the memory."""
    filesystem, path = locate(place)
    with names_broken(place):
        groups = pq.read_metadata(path, filesystem=filesystem)
        columns = [groups.row_group(g).column(c) for g in range(groups.num_row_groups) for c in range(groups.num_columns)]
        for name, width in zip(("audio", "video"), widths, strict=True):
            frames_N = clips[f"{name}_frames"].fill_null(0).to_numpy()
            expected = int(frames_N.sum(dtype=np.int64)) * width
            stored = sum(column.num_values for column in columns if column.path_in_schema.startswith(f"{name}."))
            stored -= int((frames_N == 0).sum())  # Parquet counts a value for each list without any
            if stored != expected:
                raise ValueError(f"{stored:,} {name} features where its clips have {expected:,}")


def _scatter(lists: pa.Array, numbers: np.ndarray, flat: np.ndarray, ends: np.ndarray) -> None:
    values = lists.flatten().to_numpy()
    if ((values.view(np.uint16) & _NOT_FINITE) == _NOT_FINITE).any():
        raise ValueError("features that are not finite")
    taken = 0
    for number in numbers:
        target = flat[ends[number] : ends[number + 1]]
        target[:] = values[taken : taken + target.size].reshape(target.shape)
        taken += target.size
    if taken != len(values):
        raise ValueError(f"{len(values):,} features where its clips have {taken:,}")


def _offsets(frames: pa.ChunkedArray) -> np.ndarray:
    lengths_N = frames.fill_null(0).to_numpy()
    return np.concatenate([[0], np.cumsum(lengths_N, dtype=np.int64)]).astype(np.int64)


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy().astype(np.str_)


def _split_codes(splits: pa.ChunkedArray, fold: int) -> np.ndarray:
    codes = pc.index_in(pc.list_element(splits, fold), value_set=pa.array(SPLITS))
    return codes.to_numpy().astype(np.int8)


def refuse_other_features(store: str | Path, stored: FeatureConfig, asked: FeatureConfig) -> None:
    """Refuse feature settings that were asked for, where the store was prepared with others; defaults are no question.

    Raises:
        UserError: It names the first setting that differs.

    """
    for name, default in vars(FeatureConfig()).items():
        want, have = getattr(asked, name), getattr(stored, name)
        if want not in (default, have):
            raise bad_value(f"data.features.{name}", want, f"{store} was prepared with {have}; prepare another store")
