"""A process of its own, since it has its own Ray: a run as a Train job on a head and two workers, one of which may die.

python three_nodes.py FOLDER (calm | killed), with tests/ on PYTHONPATH
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
from mm_ray.runtime.train_job import TrainJob, run_job

ROUNDS = {"phase1.rounds": 24, "phase2.rounds": 8, "clients.num_actors": 2, "clients.chunk_size": 1}


def main(folder: Path, kind: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    config = tiny_config(ROUNDS)
    place = connect(cluster.address)
    assert place.num_cpus == 2
    # Two actors of a CPU each: one on each worker, and no room to start a lost one again. The rounds are driven on the head.
    killer = threading.Thread(target=kill, args=(cluster, workers[0], folder / "rounds.jsonl"))
    if kind == "killed":
        killer.start()
    run_job(
        TrainJob(config, False, str(folder), str(folder / "phases"), place_run(config.clients, place)), table_of(config.data)
    )
    if kind == "killed":
        killer.join()
    ray.shutdown()
    cluster.shutdown()


def kill(cluster: Cluster, worker: object, rounds: Path) -> None:
    """Kill a node in the middle of the run."""
    while not (rounds.exists() and rounds.read_text().count("\n") >= 8):
        time.sleep(0.05)
    cluster.remove_node(worker, allow_graceful=False)
    print("killed at round", rounds.read_text().count("\n"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
