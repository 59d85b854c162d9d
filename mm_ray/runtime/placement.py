"""How many client actors run, and whether they fit."""

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace

from mm_ray.config import ClientsConfig
from mm_ray.errors import bad_value
from mm_ray.runtime.cluster import Cluster, Node

DRIVER_CPUS = 0.001
"""The driver of a trial that is a Train job needs some share of a CPU; it takes it from its client actors."""
ROUNDING = 1e-9


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
    """Actors of a single run: `clients.num_actors`, or as many as fit.

    Raises:
        UserError: They do not fit; the message says what is missing.

    """
    return _checked(clients, cluster, clients.num_actors or max(num_fitting(clients, cluster.nodes), 1))


def place_trial(clients: ClientsConfig, cluster: Cluster, host: str) -> Placement:
    """Actors of one trial of a study: `clients.num_actors`, or one; plus a job's driver if the host is `train`.

    Raises:
        UserError: They do not fit; the message says what is missing.

    """
    fitting = _checked(clients, cluster, clients.num_actors or 1)
    return replace(fitting, num_cpus=fitting.num_cpus - DRIVER_CPUS) if host == "train" else fitting


def most_trials(placement: Placement, clients: ClientsConfig, cluster: Cluster) -> int:
    """How many trials fit at once."""
    return max(num_fitting(clients, cluster.nodes) // placement.num_actors, 1)


def num_fitting(clients: ClientsConfig, nodes: Iterable[Node]) -> int:
    """How many actors fit: each on one node, and a fraction of a GPU on one card."""
    return sum(min(math.floor(node.num_cpus / clients.num_cpus + ROUNDING), _by_gpu(clients, node)) for node in nodes)


def _by_gpu(clients: ClientsConfig, node: Node) -> int:
    gpus = _gpus(clients)
    if not gpus:
        return sys.maxsize
    if gpus >= 1:
        return math.floor(node.num_gpus / gpus)
    return int(node.num_gpus) * math.floor(1 / gpus + ROUNDING)


def _gpus(clients: ClientsConfig) -> float:
    assert clients.num_gpus != "auto", "it is a number once actors are placed (mm_ray.runtime.gpu_sharing)"
    return clients.num_gpus


def _checked(clients: ClientsConfig, cluster: Cluster, count: int) -> Placement:
    fitting = num_fitting(clients, cluster.nodes)
    if fitting >= count:
        return Placement(count, clients.num_cpus, _gpus(clients))
    field = "num_gpus" if sum(_by_gpu(clients, node) for node in cluster.nodes) < count else "num_cpus"
    value, has = getattr(clients, field), sum(getattr(node, field) for node in cluster.nodes)
    unit, where = ("GPUs" if field == "num_gpus" else "CPUs"), f"; on its {len(cluster.nodes)} nodes {fitting} fit"
    actors = "a client actor needs" if count == 1 else f"{count} client actors need"
    problem = f"{actors} {count * value:g} {unit}, the cluster has {has:g}{where if len(cluster.nodes) > 1 else ''}"
    remedies = [_remedy(clients, cluster, count, field), "fewer --clients.num_actors" if count > 1 else ""]
    raise bad_value(f"clients.{field}", value, f"{problem}; use {', or '.join(filter(None, remedies))}")


def _remedy(clients: ClientsConfig, cluster: Cluster, count: int, field: str) -> str:
    """The largest share of a resource with which this number of actors fits."""
    amounts = {getattr(node, field) for node in cluster.nodes}
    shares = {amount / actors for amount in amounts for actors in range(1, count + 1)}
    if field == "num_gpus":  # whole cards, or a fraction of one
        shares = {math.floor(share) for share in shares} | {1 / actors for actors in range(1, count + 1)}
    rounded = {math.floor(share * 100 + ROUNDING) / 100 for share in shares}
    for share in sorted(rounded - {0.0}, reverse=True):
        if num_fitting(replace(clients, **{field: share}), cluster.nodes) >= count:
            return f"{share:g}"
    return "0 to train on the CPU" if field == "num_gpus" else ""
