"""How many client actors run, and whether they fit."""

import math
from dataclasses import dataclass, replace

from mm_ray.config import ClientsConfig
from mm_ray.errors import bad_value
from mm_ray.runtime.cluster import Cluster

DRIVER_CPUS = 0.001
"""The driver of a Train job needs a share, however small; the client actors, for whom it waits, lend it theirs."""


@dataclass(frozen=True)
class Placement:
    """Client actors of a run or a trial, one bundle each."""

    num_actors: int
    num_cpus: float
    num_gpus: float

    def bundles(self) -> list[dict[str, float]]:
        """A placement group's bundles."""
        bundle = {"CPU": self.num_cpus} | ({"GPU": self.num_gpus} if self.num_gpus else {})
        return [dict(bundle) for _ in range(self.num_actors)]


def place_run(clients: ClientsConfig, cluster: Cluster) -> Placement:
    """Actors of a single run: `clients.num_actors`, or as many as fit beside the job's driver.

    Raises:
        UserError: They do not fit; the message says what is missing.

    """
    fitting = _checked(clients, cluster, clients.num_actors or max(_most(clients, cluster), 1))
    return replace(fitting, num_cpus=fitting.num_cpus - DRIVER_CPUS)


def place_trial(clients: ClientsConfig, cluster: Cluster, host: str) -> Placement:
    """Actors of one trial of a study: `clients.num_actors`, or one; beside a job's driver if the host is `train`.

    Raises:
        UserError: They do not fit; the message says what is missing.

    """
    fitting = _checked(clients, cluster, clients.num_actors or 1)
    return replace(fitting, num_cpus=fitting.num_cpus - DRIVER_CPUS) if host == "train" else fitting


def most_trials(placement: Placement, clients: ClientsConfig, cluster: Cluster) -> int:
    """How many trials fit at once."""
    return max(_most(clients, cluster) // placement.num_actors, 1)


def _most(clients: ClientsConfig, cluster: Cluster) -> int:
    by_cpu = math.floor(cluster.num_cpus / clients.num_cpus + 1e-9)
    return min(by_cpu, _most_by_gpu(clients, cluster)) if clients.num_gpus else by_cpu


def _most_by_gpu(clients: ClientsConfig, cluster: Cluster) -> int:
    """A fraction of a GPU cannot be put together from two cards."""
    if clients.num_gpus >= 1:
        return sum(math.floor(gpus / clients.num_gpus) for gpus in cluster.gpus_per_node)
    return int(cluster.num_gpus) * math.floor(1 / clients.num_gpus + 1e-9)


def _checked(clients: ClientsConfig, cluster: Cluster, count: int) -> Placement:
    if clients.num_gpus and count > _most_by_gpu(clients, cluster):
        need = f"{count} client actors need {count * clients.num_gpus:g} GPUs, the cluster has {cluster.num_gpus:g}"
        raise bad_value("clients.num_gpus", clients.num_gpus, f"{need}; {_gpu_remedy(count, cluster)}")
    if count * clients.num_cpus > cluster.num_cpus + 1e-9:
        need = f"{count} client actors need {count * clients.num_cpus:g} CPUs, the cluster has {cluster.num_cpus:g}"
        fits = math.floor(cluster.num_cpus / count * 100) / 100
        raise bad_value("clients.num_cpus", clients.num_cpus, f"{need}; use {fits:g}, or fewer clients.num_actors")
    return Placement(count, clients.num_cpus, clients.num_gpus)


def _gpu_remedy(count: int, cluster: Cluster) -> str:
    if not cluster.num_gpus:
        return "use 0 to train on the CPU"
    per_gpu = math.ceil(count / cluster.num_gpus)
    return f"use {math.floor(100 / per_gpu) / 100:g}, or fewer clients.num_actors"
