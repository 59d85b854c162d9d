"""From recordings to a feature store, without Ray: the clips that a store lacks, cut into tasks of one shard each.

`mm_ray.prepare` and `load_data` both use it. A shard is written whole or not at all, so a store that was stopped and is resumed
computes at most one shard again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa

from mm_ray.config import DataConfig
from mm_ray.data.duplicates import duplicates
from mm_ray.data.feature_row import Row, extract, extract_windows, one_torch_thread, rejected
from mm_ray.data.feature_store import Settings, settings_of, shards, write_shard
from mm_ray.data.feature_store_reader import read_columns, read_header, read_origin
from mm_ray.data.file_stamps import changed, origin_of
from mm_ray.data.manifest import Clip, Manifest, Rejected, find_manifest, label_name, own_load, read_manifest
from mm_ray.data.media.errors import MediaError
from mm_ray.data.precomputed import array_file, with_precomputed
from mm_ray.devices import encoders_on
from mm_ray.errors import UserError, bad_value
from mm_ray.storage import names_in

SHARD_CLIPS = 64
"""Clips of a shard, if nobody says otherwise."""
_FEWEST = 4
"""Clips of the last shards, where there are that many."""
Numbered = tuple[int, Clip]
"""A clip and its position in the manifest."""
Tick = Callable[[int], None]
"""Called with the number of clips done; negative if they must be done again."""


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
    stored: frozenset[str]
    """Ids of the clips that the store had before."""


@dataclass(frozen=True)
class Task:
    """Clips for one shard, with everything that a worker needs."""

    data: DataConfig
    store: str
    settings: Settings
    clips: tuple[Numbered, ...]
    strict: bool = False
    """A clip that cannot be used ends the work with its error; otherwise it is rejected."""


@dataclass(frozen=True)
class ClipResult:
    """The result of a clip."""

    clip_id: str
    seconds: float = 0.0
    flags: tuple[str, ...] = ()
    rejected: Rejected | None = None


def make_plan(data: DataConfig, store: str, device: str = "cpu") -> PreparePlan:
    """List the data set and look into the store; clips that are the same recording as another one are rejected.

    Raises:
        UserError: The data set is not there, or as `plan_store`.

    """
    if data.features.normalize != "none":
        remedy = "is applied when a store is read; give it to mm_ray.train, not here"
        raise bad_value("data.features.normalize", data.features.normalize, remedy)
    manifest, data = with_precomputed(find_manifest(data.name), read_manifest(data), data)
    plan = plan_store(manifest, data, store, device)
    clips = sorted(manifest.clips, key=lambda clip: clip.id not in plan.stored)  # of equals a stored one is kept
    twice = {clips[again].id: clips[first] for again, first in duplicates(clips, data).items()}
    again = (_duplicate(manifest, clip, twice[clip.id]) for _, clip in plan.missing if clip.id in twice)
    fresh = tuple((number, clip) for number, clip in plan.missing if clip.id not in twice)
    return replace(plan, missing=fresh, rejected=(*plan.rejected, *again))


def plan_store(manifest: Manifest, data: DataConfig, store: str | Path, device: str = "cpu") -> PreparePlan:
    """Look into a store for the clips that it has.

    Args:
        manifest: What it is to hold.
        data: The settings, `precomputed` where the manifest names arrays.
        store: A new folder, or one to resume.
        device: The kind of device that pretrained encoders compute on.

    Raises:
        UserError: The store holds another data set or other settings, its recordings have changed, or it is no store.

    """
    settings, place = settings_of(manifest, data, device), str(store)
    stored = _stored_clips(place, settings)
    known = {clip.id: clip for clip in manifest.clips}
    for clip_id, fields in stored.items():
        _check_same(place, clip_id, fields, known.get(clip_id))
    origins = filter(None, map(read_origin, shards(place)))
    if others := sorted(name for origin in origins for name in changed(origin, data)):
        problem = f"{len(others):,} recordings differ from those that it was prepared from, such as {others[0]}"
        raise UserError(f"{place}: {problem}; prepare a new store, the data set has changed")
    missing = tuple((number, clip) for number, clip in enumerate(manifest.clips) if clip.id not in stored)
    return PreparePlan(data, place, manifest, settings, missing, manifest.rejected, frozenset(stored))


def _duplicate(manifest: Manifest, clip: Clip, same: Clip) -> Rejected:
    label, other = (label_name(one.label, manifest.class_names) for one in (clip, same))
    detail = f"the same bytes as {same.id}, whose class is {other}"
    return Rejected(clip.id, clip.source, label, clip.group, "duplicate", detail)


def tasks_of(plan: PreparePlan, shard_clips: int, num_workers: int, strict: bool = False) -> list[Task]:
    """The missing clips cut into shards: of `shard_clips`, and towards the end ever fewer, so that all workers end together."""
    tasks, rest = [], plan.missing
    while rest:
        size = max(min(shard_clips, len(rest) // (2 * num_workers)), min(shard_clips, _FEWEST))
        tasks.append(Task(plan.data, plan.store, plan.settings, rest[:size], strict))
        rest = rest[size:]
    return tasks


def extracted(task: Task) -> Iterator[list[Row] | Rejected]:
    """The clips of a task one by one, each with its features (or those of its windows), or with the reason why not."""
    module, has_windows = find_manifest(task.data.name), task.data.features.window_hop_s > 0
    with one_torch_thread(), encoders_on(task.settings.device):
        for number, clip in task.clips:
            try:
                windows = extract_windows(module, number, clip, task.data) if has_windows else None
                yield windows or [extract(module, number, clip, task.data)]
            except MediaError as error:
                if task.strict:
                    raise
                yield rejected(task.settings.class_names, clip, error)


def run_task(task: Task) -> Iterator[ClipResult]:
    """Prepare the clips of a task one by one, then write their shard; it holds one shard of features in memory.

    Results count only when the iterator has ended: the shard is written last.
    """
    rows: list[Row] = []
    for result in extracted(task):
        if isinstance(result, Rejected):
            yield ClipResult(result.clip_id, rejected=result)
        else:
            rows += result
            yield ClipResult(result[0].clip.id, _length_s(result), result[0].flags)
    if rows:
        names = (array_file(name) for row in rows for name in (row.clip.source, row.clip.video_source) if name)
        origin = origin_of(names, task.data) if own_load(find_manifest(task.data.name)) is None else None
        write_shard(task.store, task.settings, rows, origin)


def _length_s(rows: Sequence[Row]) -> float:
    """Seconds of the recording that some rows are the windows of, or the only clip."""
    return rows[0].seconds if len(rows) == 1 else (rows[-1].clip.end_s or 0.0) - (rows[0].clip.start_s or 0.0)


def run_here(tasks: Sequence[Task], tick: Tick) -> Iterator[list[ClipResult]]:
    """All tasks in this process, one after the other; yields the results of a task when its shard is written."""
    for task in tasks:
        results = []
        for result in run_task(task):
            results.append(result)
            tick(1)
        yield results


def _stored_clips(store: str, settings: Settings) -> dict[str, Mapping[str, object]]:
    places = shards(store)
    if not places:
        if strangers := names_in(store):
            raise bad_value("out", store, f"holds other files ({strangers[0]}, ...); give a new or empty folder")
        return {}
    _check_settings(store, read_header(places).settings, settings)
    name = "recording" if settings.features.window_hop_s else "clip_id"
    table = pa.concat_tables([read_columns(place, (name, "label", "group", "splits", "source")) for place in places])
    return {fields[name]: fields for fields in table.to_pylist()}


FLAGS = {
    "name": "SOURCE",
    "class_names": "classes",
    "video_identity": "data.features.video",
    "audio_identity": "data.features.audio",
    "num_folds": "SOURCE",
}
"""The flags that decide settings of other names."""


def _check_settings(store: str, stored: Settings, wanted: Settings) -> None:
    old, new = _flat(stored), _flat(wanted)
    for name, value in new.items():
        if name == "device" and stored.device != wanted.device:
            remedy = "leave it out" if stored.device == "cpu" else "give it again"
            problem = f"{store} was prepared on {stored.device}, this would be {wanted.device}, which differs in bits"
            raise UserError(f"--num_gpus: {problem}; {remedy}, or give another --out")
        if old.get(name) != value:
            problem = f"{store} was prepared with {_short(old.get(name, 'none'))}, and a store has one setting"
            raise bad_value(FLAGS.get(name, name), _short(value), f"{problem}; give another --out, or the same setting")


def _flat(settings: Settings) -> dict[str, object]:
    content = asdict(settings)
    features = {f"data.features.{name}": value for name, value in content.pop("features").items()}
    return {**features, **content}  # an identity differs also where the setting itself does


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
