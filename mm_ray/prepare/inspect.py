"""`--inspect STORE`: what is in a store, as tables; `page` shows a few of its clips."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from mm_ray.data.feature_store import REJECTED, Settings, shards
from mm_ray.data.feature_store_reader import Header, is_finished, names_broken, read_clips, read_header
from mm_ray.data.feature_table import SPLITS
from mm_ray.data.manifest import NO_LABEL
from mm_ray.data.media.errors import FLAGS, REASONS
from mm_ray.errors import bad_value, printable
from mm_ray.storage import join, locate
from mm_ray.types import UNLABELLED

COLUMNS = ("clip_id", "label", "group", "splits", "seconds", "flags", "source", "audio_frames", "video_frames")


@dataclass(frozen=True, eq=False)
class Contents:
    """What a store holds, features left out."""

    place: str
    header: Header
    finished: bool
    clips: pa.Table
    """`COLUMNS`, and `shard` and `position`, where its features are."""
    reasons: Counter[str]
    """Rejected clips by reason."""

    @property
    def settings(self) -> Settings:
        """What the shards share."""
        return self.header.settings


def read_contents(store: str) -> Contents:
    """Look into a store; it need not be finished.

    Raises:
        UserError: There is no store, or a shard is damaged.

    """
    places = shards(store)
    if not places:
        raise bad_value("inspect", store, "no such store, or one without clips; python -m mm_ray.prepare writes one")
    header = read_header(places)
    pieces = [_located(read_clips(place, COLUMNS, header.settings), place) for place in places]
    return Contents(store, header, is_finished(store), pa.concat_tables(pieces), _reasons(store))


def _located(clips: pa.Table, place: str) -> pa.Table:
    clips = clips.append_column("shard", pa.array([place] * len(clips), pa.string()))
    return clips.append_column("position", pa.array(np.arange(len(clips))))


def _reasons(store: str) -> Counter[str]:
    if not is_finished(store):
        return Counter()
    place = join(store, REJECTED)
    filesystem, path = locate(place)
    with names_broken(place):
        return Counter(pq.read_table(path, columns=["reason"], filesystem=filesystem)["reason"].to_pylist())


def print_contents(contents: Contents, fold: int, console: Console) -> None:
    """Classes by split, groups, durations, flags and rejects, as tables."""
    settings, clips = contents.settings, contents.clips
    if not 0 <= fold < settings.num_folds:
        raise bad_value("data.fold", fold, f"{contents.place} has {settings.num_folds} fold(s), counted from 0")
    state = "" if contents.finished else ", NOT FINISHED: the same prepare command goes on"
    console.print(f"{contents.place}: {settings.name}, fold {fold} of {settings.num_folds}{state}", soft_wrap=True)
    console.print(_classes(settings, clips, fold))
    for line in _lines(contents, fold):
        console.print(line, soft_wrap=True)


def _classes(settings: Settings, clips: pa.Table, fold: int) -> Table:
    table = Table("class", *SPLITS, "clips", "groups", "hours", "with video", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    rows = clips.to_pylist()
    for label, name in enumerate(settings.class_names):
        table.add_row(printable(name), *_counts([row for row in rows if row["label"] == label], fold))
    if unlabelled := [row for row in rows if row["label"] == UNLABELLED]:
        table.add_row(NO_LABEL, *_counts(unlabelled, fold))
    table.add_row("all", *_counts(rows, fold))
    return table


def _counts(rows: Sequence[dict[str, Any]], fold: int) -> list[str]:
    splits = Counter(row["splits"][fold] for row in rows)
    numbers = [*(splits[split] for split in SPLITS), len(rows), len({row["group"] for row in rows})]
    hours = sum(row["seconds"] for row in rows) / 3600
    return [*(f"{n:,}" for n in numbers), f"{hours:.2f}", f"{sum(row['video_frames'] is not None for row in rows):,}"]


def _lines(contents: Contents, fold: int) -> Iterable[str]:
    seconds, clips = contents.clips["seconds"].to_numpy(), contents.clips.to_pylist()
    yield f"durations: {seconds.min():.2f} to {seconds.max():.2f} s, median {np.median(seconds):.2f} s"
    flags = Counter(flag for clip in clips for flag in clip["flags"])
    yield f"flags: {_listed(flags, FLAGS)}"
    yield f"rejected: {_listed(contents.reasons, REASONS)}"
    homes: dict[str, set[str]] = {}
    for clip in clips:
        homes.setdefault(clip["group"], set()).add(clip["splits"][fold])
    if empty := [split for split in SPLITS if not any(clip["splits"][fold] == split for clip in clips)]:
        yield f"WARNING: no {' and no '.join(empty)} clips"
    if crossing := sorted(group for group, splits in homes.items() if len(splits) > 1):
        yield f"WARNING: {len(crossing)} groups lie in more than one split, such as {crossing[0]}"


def _listed(counts: Counter[str], meaning: dict[str, str]) -> str:
    listed = [f"{count:,} {name} ({meaning.get(name, 'unknown')})" for name, count in counts.most_common()]
    return ", ".join(listed) or "none"
