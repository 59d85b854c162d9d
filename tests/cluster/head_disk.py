"""A process of its own, since it has its own Ray: a run whose folder lies on the head's disk, and the work on another host.

python head_disk.py FOLDER, with tests/ on PYTHONPATH. The second node is started with an empty file system over FOLDER.
"""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import ray
from fed.tiny import tiny_flags
from ray.cluster_utils import Cluster

from mm_ray import train
from mm_ray.runtime.cluster import connect

ACTORS = {"clients.num_actors": 2, "clients.num_cpus": 0.5, "phase1.rounds": 2, "phase2.rounds": 1}


def main(folder: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    start = [Path(sys.prefix) / "bin" / "ray", "start", f"--address={cluster.address}", "--num-cpus=1", "--block"]
    hidden = f"mount -t tmpfs none {shlex.quote(str(folder))} && exec {shlex.join(map(str, start))}"
    worker = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--mount-proc", "--kill-child", "bash", "-c", hidden], stdout=subprocess.DEVNULL
    )
    try:
        while connect(cluster.address).num_cpus < 1:
            time.sleep(0.2)
        train.main(["--address", cluster.address, "--runs", str(folder), "--name", "run", *tiny_flags(ACTORS)])
    finally:
        ray.shutdown()
        worker.kill()  # of the first process of its process namespace all others are children
        worker.wait(60)
        cluster.shutdown()


if __name__ == "__main__":
    os.environ.pop("RAY_ADDRESS", None)
    main(Path(sys.argv[1]))
