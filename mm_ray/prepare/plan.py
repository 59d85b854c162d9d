"""The plan of a preparation: the manifest's clips without those that the store already has."""

from collections.abc import Container, Mapping
from dataclasses import dataclass

import pyarrow as pa

from mm_ray.config import DataConfig
from mm_ray.data.duplicates import duplicates
from mm_ray.data.feature_store import Settings, settings_of, shards
from mm_ray.data.feature_store_reader import read_columns, read_header, read_origin
from mm_ray.data.file_stamps import changed
from mm_ray.data.manifest import Clip, Manifest, Rejected, find_manifest, label_name, read_manifest
from mm_ray.data.precomputed import with_precomputed
from mm_ray.errors import UserError, bad_value
from mm_ray.storage import names_in

Numbered = tuple[int, Clip]
"""A clip and its position in the manifest."""


@dataclass(frozen=True)
class PreparePlan:
    """A preparation: the clips of the data set, and those that the store lacks."""

    data: DataConfig
    store: str
    manifest: Manifest
    settings: Settings
    missing: tuple[Numbered, ...]
    rejected: tuple[Rejected, ...]
    """Known before anything is decoded."""
    num_stored: int
    """Clips that the store had before."""


def make_plan(data: DataConfig, store: str) -> PreparePlan:
    """List the data set and look into the store.

    Raises:
        UserError: The data set is not there, the store holds another data set or other settings, or `store` is no store.

    """
    if data.features.normalize != "none":
        remedy = "is applied when a store is read; give it to mm_ray.train, not here"
        raise bad_value("data.features.normalize", data.features.normalize, remedy)
    manifest, data = with_precomputed(find_manifest(data.name), read_manifest(data), data)
    settings = settings_of(manifest, data)
    stored = _stored_clips(store, settings)
    known = {clip.id: clip for clip in manifest.clips}
    for clip_id, fields in stored.items():
        _check_same(store, clip_id, fields, known.get(clip_id))
    origins = filter(None, map(read_origin, shards(store)))
    if others := sorted(name for origin in origins for name in changed(origin, data)):
        problem = f"{len(others):,} recordings differ from those that it was prepared from, such as {others[0]}"
        raise UserError(f"{store}: {problem}; prepare a new store, the data set has changed")
    missing = [(number, clip) for number, clip in enumerate(manifest.clips) if clip.id not in stored]
    twice = _duplicates(manifest, stored, data)
    again = [_rejected(manifest, clip, twice[clip.id]) for _, clip in missing if clip.id in twice]
    fresh = tuple((number, clip) for number, clip in missing if clip.id not in twice)
    return PreparePlan(data, store, manifest, settings, fresh, (*manifest.rejected, *again), len(stored))


def _duplicates(manifest: Manifest, stored: Container[str], data: DataConfig) -> dict[str, Clip]:
    """By clip id, the clip that is the same recording; a stored one goes before."""
    clips = sorted(manifest.clips, key=lambda clip: clip.id not in stored)
    return {clips[again].id: clips[first] for again, first in duplicates(clips, data).items()}


def _rejected(manifest: Manifest, clip: Clip, same: Clip) -> Rejected:
    label, other = (label_name(one.label, manifest.class_names) for one in (clip, same))
    detail = f"the same bytes as {same.id}, whose class is {other}"
    return Rejected(clip.id, clip.source, label, clip.group, "duplicate", detail)


def _stored_clips(store: str, settings: Settings) -> dict[str, Mapping[str, object]]:
    places = shards(store)
    if not places:
        if strangers := names_in(store):
            raise bad_value("out", store, f"holds other files ({strangers[0]}, ...); give a new or empty folder")
        return {}
    _check_settings(store, read_header(places).settings, settings)
    columns = ("clip_id", "label", "group", "splits", "source")
    table = pa.concat_tables([read_columns(place, columns) for place in places])
    return {fields["clip_id"]: fields for fields in table.to_pylist()}


FLAGS = {"name": "SOURCE", "class_names": "classes", "video_identity": "data.features.video", "num_folds": "SOURCE"}
"""The flags that decide settings of other names."""


def _check_settings(store: str, stored: Settings, wanted: Settings) -> None:
    old, new = _flat(stored), _flat(wanted)
    for name, value in new.items():
        if old[name] != value:
            problem = f"{store} was prepared with {_short(old[name])}, and a store has one setting"
            raise bad_value(FLAGS.get(name, name), _short(value), f"{problem}; give another --out, or the same setting")


def _flat(settings: Settings) -> dict[str, object]:
    content = settings.to_json()
    features = {f"data.features.{name}": value for name, value in content.pop("features").items()}
    return {**content, **features}


def _short(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_same(store: str, clip_id: str, stored: Mapping[str, object], now: Clip | None) -> None:
    if now is None:
        raise UserError(f"{store}: holds clip {clip_id}, which the data set no longer lists; prepare a new store")
    listed = {"label": now.label, "group": now.group, "splits": list(now.splits), "source": now.source}
    for name, value in listed.items():
        if stored[name] != value:
            change = f"{name} of clip {clip_id} was {stored[name]} and is now {value}"
            raise UserError(f"{store}: {change}; prepare a new store, the data set has changed")
