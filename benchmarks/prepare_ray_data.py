"""Ray tasks, as `mm_ray.prepare` has them, beside Ray Data over the same shards.

`python -m benchmarks.prepare_ray_data ROOT WORK` prints JSON.
Both run in one Ray with warm workers, one after the other in turn, so ratios of neighbours hold on a busy machine too.
"""

import io
import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import ray

from mm_ray.config import DataConfig
from mm_ray.data.prepare import ClipResult, Task, Tick, run_task
from mm_ray.prepare.on_ray import run_on_ray
from mm_ray.prepare.run import PrepareRequest, prepare_store
from mm_ray.runtime.cluster import connect

REPEATS = 5


def run_on_ray_data(tasks: list[Task], num_workers: int, tick: Tick, num_gpus: float) -> Iterator[list[ClipResult]]:
    """The same work in a Ray Data pipeline: a row a shard, as many blocks as rows."""
    shards = ray.data.from_items([{"task": task} for task in tasks], override_num_blocks=len(tasks))
    for row in shards.map(_run_row, concurrency=num_workers).iter_rows():
        tick(len(row["outcomes"]))
        yield row["outcomes"]


def _run_row(row: dict[str, Any]) -> dict[str, Any]:
    return {"outcomes": list(run_task(row["task"]))}


def once(root: str, store: Path, how: Any) -> float:
    request = PrepareRequest(DataConfig(name="folder", root=root), str(store), serial=False, shard_clips=64)
    start = time.perf_counter()
    with patch("mm_ray.prepare.on_ray.run_on_ray", how), redirect_stdout(io.StringIO()):
        kept = prepare_store(request).num_kept
    seconds = time.perf_counter() - start
    shutil.rmtree(store)
    return kept / seconds


def main(root: str, work: str) -> None:
    connect("")
    ray.data.DataContext.get_current().enable_progress_bars = False
    ways = {"tasks": run_on_ray, "ray_data": run_on_ray_data}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(REPEATS + 1):
        for name, how in ways.items():
            speed = once(root, Path(work) / f"store-{name}", how)
            found[name] += [speed] if repeat else []  # the first time starts workers
    ratios = [mine / theirs for mine, theirs in zip(found["tasks"], found["ray_data"], strict=True)]
    print(json.dumps({"clips_per_s": found, "ratios": ratios, "ratio": median(ratios)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
