"""Bare loop and preparation in turn, on a Ray that is up: `python -m benchmarks.prepare_speed ROOT WARM STORE PAIRS WAIT_S`.

A pair is all clips, once by the bare loop and once prepared. Before each pair it waits for a quiet moment of the machine;
what others used while it ran is measured too. The time of a preparation holds all that grows with the number of clips:
listing, looking for duplicates, decoding, features, shards.
"""

import io
import json
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch

from benchmarks.prepare_bare import bare_features
from benchmarks.prepare_machine import busy_s, cpu_s, wait_until_idle
from mm_ray.config import DataConfig
from mm_ray.prepare.run import PrepareRequest, prepare_store
from mm_ray.runtime.cluster import connect


def prepare_once(root: str, store: str) -> int:
    """As the command does it; returns the number of clips stored."""
    with redirect_stdout(io.StringIO()):
        kept = prepare_store(PrepareRequest(DataConfig(name="folder", root=root), store, serial=False, shard_clips=64)).num_kept
    shutil.rmtree(store)
    return kept


def bare_once(root: str) -> int:
    """The bare loop over the same files."""
    return len([bare_features(path) for path in sorted(Path(root).glob("*/[0-9]*"))])


def measured(work: Callable[[], int]) -> dict[str, Any]:
    """Wall and CPU seconds per clip, and how many cores others used meanwhile."""
    start, own, busy = time.perf_counter(), cpu_s(), busy_s()
    clips = work()
    seconds, own, busy = time.perf_counter() - start, cpu_s() - own, busy_s() - busy
    return {"clips": clips, "seconds": seconds, "cpu_s": own, "cores_of_others": max(busy - own, 0) / seconds}


def main(root: str, warm: str, store: str, num_pairs: str, wait_s: str) -> None:
    connect("")
    torch.set_num_threads(1)  # the bare loop is faster so, for clips as short as these, than with torch's default of all cores
    for _ in range(2):
        prepare_once(warm, store)
    bare_once(warm)
    for _ in range(int(num_pairs)):
        idle = wait_until_idle(float(wait_s))
        bare = measured(lambda: bare_once(root))
        ours = measured(lambda: prepare_once(root, store))
        print(json.dumps({"idle_before": idle, "bare": bare, "prepare": ours}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
