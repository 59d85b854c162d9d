"""One preparation on a Ray that is up and whose workers are warm: `python -m benchmarks.prepare_steady ROOT WARM STORE`.

What is timed is all that grows with the number of clips: listing, looking for duplicates, decoding, features, shards.
"""

import io
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from mm_ray.config import DataConfig
from mm_ray.prepare.__main__ import prepare
from mm_ray.prepare.on_ray import run_on_ray
from mm_ray.prepare.plan import make_plan
from mm_ray.prepare.work import Outcome, Tick, tasks_of
from mm_ray.runtime.cluster import connect


def prepare_once(root: str, store: str, num_workers: int) -> int:
    """As the command does it; returns the number of clips stored."""
    plan = make_plan(DataConfig(name="folder", root=root), store)

    def run(tick: Tick) -> Iterator[list[Outcome]]:
        return run_on_ray(tasks_of(plan, 64, num_workers), num_workers, tick)

    return prepare(plan, run, Console(file=io.StringIO())).num_kept


def cpu_s() -> float:
    """CPU seconds of this process, Ray and its workers, all of which are its descendants."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)], ticks[int(path.parent.name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    mine, found = {os.getpid()}, 0
    while len(mine) > found:
        found = len(mine)
        mine |= {pid for pid, parent in parents.items() if parent in mine}
    return sum(ticks.get(pid, 0) for pid in mine) / os.sysconf("SC_CLK_TCK")


def main(root: str, warm: str, store: str) -> None:
    num_workers = int(connect("").num_cpus)
    for name in ("warm", "again"):
        prepare_once(warm, f"{store}-{name}", num_workers)
        shutil.rmtree(f"{store}-{name}")
    start, start_cpu = time.perf_counter(), cpu_s()
    clips = prepare_once(root, store, num_workers)
    seconds, used_s = time.perf_counter() - start, cpu_s() - start_cpu
    size = sum(path.stat().st_size for path in Path(store).iterdir())
    shutil.rmtree(store)
    speed = {"clips": clips, "seconds": seconds, "clips_per_s": clips / seconds, "cpu_s": used_s}
    print(json.dumps(speed | {"store_bytes": size}))


if __name__ == "__main__":
    main(*sys.argv[1:])
