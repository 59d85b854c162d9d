"""The tasks on a Ray cluster: as many at once as it has CPUs, and a decoder that dies takes one clip with it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from mm_ray.data.feature_row import rejected
from mm_ray.data.media.errors import MediaError
from mm_ray.data.prepare import ClipResult, Task, Tick, run_task
from mm_ray.errors import UserError
from mm_ray.runtime.device import use_gpu

QUEUED = 1
"""Tasks that wait beside the running ones, so that no CPU waits for the driver."""
MOST_DEATHS = 2
"""A clip that crashed this number of processes, the last time alone in its task, is rejected."""


@dataclass(eq=False)
class _Running:
    task: Task
    deaths: int
    stream: Any
    outcomes: list[ClipResult] = field(default_factory=list)


def run_on_ray(tasks: Sequence[Task], num_workers: int, tick: Tick, num_gpus: float = 0) -> Iterator[list[ClipResult]]:
    """All tasks on the connected cluster; yields the outcomes of a task when its shard is written.

    Features go from the worker to the store and never through the driver or the object store, so the memory needed is
    that of one shard per worker, for any number of clips.

    Args:
        tasks: In the order in which they are started.
        num_workers: How many run at once.
        tick: Called for each clip.
        num_gpus: GPUs of each worker.

    """
    waiting = [(task, 0) for task in reversed(tasks)]
    running: dict[Any, _Running] = {}
    while waiting or running:
        while waiting and len(running) < num_workers + QUEUED:
            task, deaths = waiting.pop()
            stream = _stream.options(num_gpus=num_gpus).remote(task)
            running[stream] = _Running(task, deaths, stream)
        (ready,), _ = ray.wait(list(running), num_returns=1)
        current = running[ready]
        try:
            current.outcomes.append(ray.get(next(current.stream)))
            tick(1)
        except StopIteration:
            del running[ready]
            yield current.outcomes
        except RayError as error:
            if isinstance(error, RayTaskError) and not isinstance(error, OutOfMemoryError):
                raise _mistake(error) from error  # ours or of the user's own code, not a process that died
            del running[ready]
            tick(-len(current.outcomes))
            if len(current.task.clips) == 1 and current.deaths + 1 >= MOST_DEATHS:
                tick(1)
                yield [_crashed(current.task)]
            else:
                waiting += _around_the_death(current)


@ray.remote(num_cpus=1, num_returns="streaming", max_retries=0, scheduling_strategy="SPREAD")
def _stream(task: Task) -> Iterator[ClipResult]:
    if task.settings.device == "cuda":
        use_gpu("a worker a GPU", "leave out --num_gpus")
    yield from run_task(task)


def _mistake(error: RayTaskError) -> BaseException:
    """A user's mistake as the worker raised it, one line; anything else with the worker's traceback."""
    return error.cause if isinstance(error.cause, UserError) else error


def _around_the_death(dead: _Running) -> list[tuple[Task, int]]:
    """The task in three: what was done before, the clip at which the process died, what comes after. The last goes first."""
    at, clips = min(len(dead.outcomes), len(dead.task.clips) - 1), dead.task.clips
    parts = [(clips[at + 1 :], 0), (clips[at : at + 1], dead.deaths + 1), (clips[:at], 0)]
    return [(replace(dead.task, clips=part), deaths) for part, deaths in parts if part]


def _crashed(task: Task) -> ClipResult:
    clip = task.clips[0][1]
    error = MediaError("crashed", clip.source, f"crashed the process that decoded it, {MOST_DEATHS} times; convert it")
    return ClipResult(clip.id, rejected=rejected(task.settings.class_names, clip, error))
