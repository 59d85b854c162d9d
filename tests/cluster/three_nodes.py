"""A process of its own, since it has its own Ray: a run as a Train job on a head and two workers, one of which may die.

python three_nodes.py FOLDER (calm | client | driver), with tests/ on PYTHONPATH
"""

import sys
import threading
import time
from pathlib import Path

import ray
from fed.tiny import table_of, tiny_config
from ray.cluster_utils import Cluster

from mm_ray.runtime.cluster import connect
from mm_ray.runtime.placement import place_run
from mm_ray.runtime.train_job import Job, run_job

ROUNDS = {"phase1.rounds": 24, "phase2.rounds": 8, "clients.num_actors": 2, "clients.chunk_size": 1}


def main(folder: Path, kind: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    config = tiny_config(ROUNDS)
    place = connect(cluster.address)
    assert place.num_cpus == 2
    # Two actors of a CPU each: one on each worker, and no room to start a lost one again.
    killer = threading.Thread(target=kill, args=(cluster, workers, kind, folder / "rounds.jsonl"))
    if kind != "calm":
        killer.start()
    run_job(Job(config, False, str(folder), str(folder / "phases"), place_run(config.clients, place)), table_of(config.data))
    if kind != "calm":
        killer.join()
    ray.shutdown()
    cluster.shutdown()


def kill(cluster: Cluster, workers: list, kind: str, rounds: Path) -> None:
    """Kill the node that holds the job's driver beside a client actor, or the other one, which holds a client actor only."""
    while not (rounds.exists() and rounds.read_text().count("\n") >= 8):
        time.sleep(0.05)
    (victim,) = [node for node in workers if holds_driver(node) == (kind == "driver")]
    cluster.remove_node(victim, allow_graceful=False)
    print("killed at round", rounds.read_text().count("\n"))


def holds_driver(node: object) -> bool:
    """Whether the Train worker is a child of the node's raylet."""
    (raylet,) = node.all_processes["raylet"]
    tasks = Path(f"/proc/{raylet.process.pid}/task").glob("*/children")
    children = [pid for task in tasks for pid in task.read_text().split()]
    return any(Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::RayTrainWorker") for pid in children)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
