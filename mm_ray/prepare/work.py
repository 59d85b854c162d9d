"""The work itself, free of Ray: clips in, one shard and a stream of outcomes out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mm_ray.config import DataConfig
from mm_ray.data.feature_row import Row, extract, one_torch_thread, rejected
from mm_ray.data.feature_store import Settings, write_shard
from mm_ray.data.file_stamps import origin_of
from mm_ray.data.manifest import Rejected, find_manifest, own_load
from mm_ray.data.media.errors import MediaError
from mm_ray.data.precomputed import array_file
from mm_ray.prepare.plan import Numbered, PreparePlan


@dataclass(frozen=True)
class ClipResult:
    """The result of a clip."""

    clip_id: str
    seconds: float = 0.0
    flags: tuple[str, ...] = ()
    rejected: Rejected | None = None


_FEWEST = 4
"""Clips of the last shards, where there are that many."""

Tick = Callable[[int], None]
"""Called with the number of clips done; negative if they must be done again."""


@dataclass(frozen=True)
class Task:
    """Clips for one shard, with everything that a worker needs."""

    data: DataConfig
    store: str
    settings: Settings
    clips: tuple[Numbered, ...]


def tasks_of(plan: PreparePlan, shard_clips: int, num_workers: int) -> list[Task]:
    """The missing clips cut into shards: of `shard_clips`, and towards the end ever fewer, so that all workers end together."""
    tasks, rest = [], plan.missing
    while rest:
        size = max(min(shard_clips, len(rest) // (2 * num_workers)), min(shard_clips, _FEWEST))
        tasks.append(Task(plan.data, plan.store, plan.settings, rest[:size]))
        rest = rest[size:]
    return tasks


def extracted(task: Task) -> Iterator[Row | Rejected]:
    """The clips of a task one by one, each with its features or with the reason why not."""
    module = find_manifest(task.data.name)
    with one_torch_thread():
        for number, clip in task.clips:
            try:
                yield extract(module, number, clip, task.data)
            except MediaError as error:
                yield rejected(task.settings.class_names, clip, error)


def run_task(task: Task) -> Iterator[ClipResult]:
    """Prepare the clips of a task one by one, then write their shard; it holds one shard of features in memory.

    Outcomes count only when the iterator has ended: the shard is written last.
    """
    rows = []
    for result in extracted(task):
        if isinstance(result, Rejected):
            yield ClipResult(result.clip_id, rejected=result)
        else:
            rows.append(result)
            yield ClipResult(result.clip.id, result.seconds, result.flags)
    if rows:
        names = (array_file(name) for row in rows for name in (row.clip.source, row.clip.video_source) if name)
        origin = origin_of(names, task.data) if own_load(find_manifest(task.data.name)) is None else None
        write_shard(task.store, task.settings, rows, origin)


def run_here(tasks: Sequence[Task], tick: Tick) -> Iterator[list[ClipResult]]:
    """All tasks in this process, one after the other; yields the outcomes of a task when its shard is written."""
    for task in tasks:
        outcomes = []
        for outcome in run_task(task):
            outcomes.append(outcome)
            tick(1)
        yield outcomes
