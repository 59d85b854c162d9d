"""A run on a Ray whose object store is too small: Ray writes objects to disk and takes them back.

The store is half full of objects of somebody else, and a round's parameters and sums are more than the other half.
"""

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray._private.internal_api import memory_summary
from ray.cluster_utils import Cluster

from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.data.load import load_data
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import plan_experiment, run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import drive
from mm_ray.runtime.cluster import connect
from mm_ray.runtime.executor import RayExecutor
from mm_ray.runtime.placement import Placement

STORE_MB, OTHERS, OTHER_MB = 80, 4, 10
"""Ray takes no less than 75."""
SETTINGS = {
    "data.synthetic.clips_per_class": 40,
    "model.hidden": 1_200,
    "phase1.rounds": 2,
    "phase1.local.epochs": 1,
    "phase2.rounds": 2,
    "phase2.local.epochs": 1,
    "clients.sample_frac": 1.0,
    "clients.chunk_size": 1,
}


def spill(folder: Path) -> dict[str, Any]:
    """The same experiment serially and in the small store: digests, and how much went to disk."""
    torch.set_num_threads(1)
    config = with_overrides(ExperimentConfig(), SETTINGS)
    plan = plan_experiment(config, load_data(config.data, str(folder / "features")))
    serial = drive(run_experiment(plan, PhaseStore(str(folder / "serial")), SerialExecutor(), control=False))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": STORE_MB * 2**20})
    connect(cluster.address)
    others = [ray.put(np.full(OTHER_MB * 2**17, i, np.float64)) for i in range(OTHERS)]
    executor, reports = RayExecutor(ray.put(plan.federation.table), Placement(2, 1.0, 0.0)), []
    started = time.monotonic()
    rounds = run_experiment(plan, PhaseStore(str(folder / "small")), executor, control=False)
    small = drive(rounds, reports.append)
    seconds, told = time.monotonic() - started, memory_summary(cluster.address, stats_only=True)
    kept = all(bool((ray.get(ref) == i).all()) for i, ref in enumerate(others))
    executor.close()
    ray.shutdown()
    cluster.shutdown()
    return {
        "store_mb": STORE_MB,
        "moved_mb_in_a_round": max(report.moved_bytes for report in reports) / 2**20,
        "spilled_mb": spilled_mb(told),
        "seconds": seconds,
        "same_digest": small.result["params_digest"] == serial.result["params_digest"],
        "others_kept": kept,
    }


def spilled_mb(summary: str) -> int:
    """Out of Ray's summary: `Spilled 123 MiB, 4 objects, ...`; 0 where it says nothing of it."""
    found = re.search(r"Spilled (\d+) MiB", summary)
    return int(found[1]) if found else 0
