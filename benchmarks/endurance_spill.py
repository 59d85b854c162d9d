"""A run on a Ray whose object store is smaller than what a round needs: Ray writes objects to disk and takes them back."""

import re
import time
from pathlib import Path
from typing import Any

import ray
from ray._private.internal_api import memory_summary
from ray.cluster_utils import Cluster

from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.data.load import load_data
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import plan_experiment, run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.runtime.cluster import connect
from mm_ray.runtime.drive import drive
from mm_ray.runtime.executor import RayExecutor
from mm_ray.runtime.placement import Placement

STORE_MB = 80
"""Ray takes no less than 75."""
SETTINGS = {
    "data.synthetic.clips_per_class": 40,
    "model.hidden": 1_200,
    "phase1.rounds": 2,
    "phase1.local.epochs": 1,
    "phase2.rounds": 2,
    "phase2.local.epochs": 1,
    "clients.chunk_size": 1,
}


def spill(folder: Path) -> dict[str, Any]:
    """The same experiment serially and in the small store: digests, and how much went to disk."""
    config = with_overrides(ExperimentConfig(), SETTINGS)
    plan = plan_experiment(config, load_data(config.data, str(folder / "features")))
    _, serial = drive(run_experiment(plan, PhaseStore(str(folder / "serial")), SerialExecutor(), control=False))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": STORE_MB * 2**20})
    connect(cluster.address)
    executor = RayExecutor(ray.put(plan.federation.table), Placement(2, 1.0, 0.0))
    started = time.monotonic()
    _, small = drive(run_experiment(plan, PhaseStore(str(folder / "small")), executor, control=False))
    seconds, told = time.monotonic() - started, memory_summary(cluster.address, stats_only=True)
    executor.close()
    ray.shutdown()
    cluster.shutdown()
    return {
        "store_mb": STORE_MB,
        "spilled_mb": spilled_mb(told),
        "seconds": seconds,
        "same_digest": small["params_digest"] == serial["params_digest"],
    }


def spilled_mb(summary: str) -> int:
    """Out of Ray's summary: `Spilled 123 MiB, 4 objects, ...`; 0 where it says nothing of it."""
    found = re.search(r"Spilled (\d+) MiB", summary)
    return int(found[1]) if found else 0
