"""`--inspect STORE`: what is in a store, counted and as tables; `page` shows a few of its clips beside them."""

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
from mm_ray.prepare.summary import MORE
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


@dataclass(frozen=True)
class StoreFacts:
    """What a store holds, counted."""

    title: str
    classes: list[list[str]]
    """By class, and last of all clips: its name and the counts of `HEADS`."""
    groups: Counter[str]
    """Clips by group."""
    seconds: np.ndarray
    """Duration of each clip."""
    flags: Counter[str]
    reasons: Counter[str]
    """Rejected clips by reason."""
    warnings: list[str]
    """What is likely to be a mistake."""

    @property
    def durations(self) -> str:
        """In one line."""
        seconds = self.seconds
        return f"{seconds.min():.2f} to {seconds.max():.2f} s, median {np.median(seconds):.2f} s"


HEADS = ("class", *SPLITS, "clips", "groups", "hours", "with video")


def count_contents(contents: Contents, fold: int) -> StoreFacts:
    """Count what is there.

    Raises:
        UserError: The store has no such fold.

    """
    settings, clips = contents.settings, contents.clips.to_pylist()
    if not 0 <= fold < settings.num_folds:
        raise bad_value("data.fold", fold, f"{contents.place} has {settings.num_folds} fold(s), counted from 0")
    by_label: dict[int, list[dict[str, Any]]] = {}
    for clip in clips:
        by_label.setdefault(clip["label"], []).append(clip)
    classes = [[name, *_counts(by_label.get(label, []), fold)] for label, name in enumerate(settings.class_names)]
    classes += [[NO_LABEL, *_counts(by_label[UNLABELLED], fold)]] if UNLABELLED in by_label else []
    state = "" if contents.finished else ", NOT FINISHED: the same prepare command resumes it"
    return StoreFacts(
        title=f"{contents.place}: {settings.name}, fold {fold} of {settings.num_folds}{state}",
        classes=[*classes, ["all", *_counts(clips, fold)]],
        groups=Counter(clip["group"] for clip in clips),
        seconds=contents.clips["seconds"].to_numpy(),
        flags=Counter(flag for clip in clips for flag in clip["flags"]),
        reasons=contents.reasons,
        warnings=list(_warnings(contents, clips, fold)),
    )


def _counts(rows: Sequence[dict[str, Any]], fold: int) -> list[str]:
    splits = Counter(row["splits"][fold] for row in rows)
    numbers = [*(splits[split] for split in SPLITS), len(rows), len({row["group"] for row in rows})]
    hours = sum(row["seconds"] for row in rows) / 3600
    return [*(f"{n:,}" for n in numbers), f"{hours:.2f}", f"{sum(row['video_frames'] is not None for row in rows):,}"]


def _warnings(contents: Contents, clips: Sequence[dict[str, Any]], fold: int) -> Iterable[str]:
    homes: dict[str, set[str]] = {}
    for clip in clips:
        homes.setdefault(clip["group"], set()).add(clip["splits"][fold])
    if empty := [split for split in SPLITS if not any(clip["splits"][fold] == split for clip in clips)]:
        yield f"no {' and no '.join(empty)} clips"
    if crossing := sorted(group for group, splits in homes.items() if len(splits) > 1):
        yield f"{len(crossing)} groups lie in more than one split, such as {crossing[0]}"
    if len(homes) == len(clips) > 1:
        yield "each clip is a group of its own: recordings of one speaker or place may lie in several splits"
    features = contents.settings.features
    longer = sum(clip["seconds"] > features.audio_s for clip in clips) if features.audio == "log_mel" else 0
    if longer:
        used = f"only the first {features.audio_s:g} s are used"
        yield f"{longer:,} of {len(clips):,} clips are longer: {used} ({MORE})"


def print_facts(facts: StoreFacts, console: Console) -> None:
    """Classes by split, groups, durations, flags and rejects, as tables."""
    console.print(facts.title, soft_wrap=True)
    table = Table(*HEADS, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, *counts in facts.classes:
        table.add_row(printable(name), *counts)
    console.print(table)
    lines = [f"durations: {facts.durations}", f"flags: {_listed(facts.flags, FLAGS)}"]
    lines += [f"rejected: {_listed(facts.reasons, REASONS)}", *(f"WARNING: {line}" for line in facts.warnings)]
    for line in lines:
        console.print(line, soft_wrap=True)


def _listed(counts: Counter[str], meaning: dict[str, str]) -> str:
    listed = [f"{count:,} {name} ({meaning.get(name, 'unknown')})" for name, count in counts.most_common()]
    return ", ".join(listed) or "none"
