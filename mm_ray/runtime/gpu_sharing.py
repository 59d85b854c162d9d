"""`clients.num_gpus auto`: how many client actors share a GPU, from one chunk's measured memory.

A client actor measures, `actors_per_gpu` decides, and the command prints one line. Nothing of it enters a phase's key, because
nothing of it changes a bit: the chunks are those of `clients.chunk_size` on every GPU, and the number of actors never matters.
So a chunk size that does not fit is refused with one that does, and is not replaced silently.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import ray

from mm_ray.config import ClientsConfig
from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import bad_value
from mm_ray.fed.experiment import Experiment
from mm_ray.fed.measured_cost import ChunkCost, chunks_to_measure
from mm_ray.runtime.actors import ClientActor
from mm_ray.runtime.cluster import Cluster
from mm_ray.runtime.device import DeviceMemory

AUTO = "auto"
MOST_ACTORS_PER_GPU = 4
"""More were not measured; each costs a process of its own."""
USABLE_FRAC = 0.8
"""Of a GPU's free memory: other chunks may have longer clips, and the allocator leaves gaps."""
CONTEXT_BYTES = 600 * 2**20
"""What each further process takes on a GPU besides its tensors: CUDA's context and its kernels (0.4 to 0.6 GiB)."""
GIB = 2**30


class GpuShare(NamedTuple):
    """How a GPU is shared."""

    actors: int
    chunk_size: int
    used_bytes: int
    total_bytes: int
    step_s: float

    @property
    def num_gpus(self) -> float:
        """GPUs of each actor, as Ray counts them."""
        return math.floor(10_000 / self.actors) / 10_000

    def line(self) -> str:
        """For people."""
        actors = f"{self.actors} client actor{'s' * (self.actors > 1)} per GPU"
        clients = f"chunks of {self.chunk_size} client{'s' * (self.chunk_size > 1)}"
        memory = f"{self.used_bytes / GIB:.1f} of {self.total_bytes / GIB:.0f} GiB"
        return f"GPU: {actors}, {clients}, {memory}; a training step of a chunk takes {1e3 * self.step_s:.3g} ms"


def actors_per_gpu(costs: Sequence[ChunkCost], memory: DeviceMemory, most: int, wanted: int = 0) -> GpuShare:
    """As many actors as fit into a GPU's memory at once.

    Args:
        costs: Of the chunk, and then of smaller ones, each half of the one before, down to one that fits or to a single client.
        memory: The GPU's.
        most: No more actors than this.
        wanted: The number that the user asked for; 0: as many as fit.

    Raises:
        UserError: The chunk does not fit, a single client does not, or not as many actors as the user asked for.

    """
    usable, first = USABLE_FRAC * memory.free_bytes, costs[0]
    more = "" if first.fits else "more than "
    need = f"needs {more}{first.peak_bytes / GIB:.1f} GiB, and of the GPU's memory {usable / GIB:.1f} GiB are free for it"
    if not fits(first, memory):
        smaller = next((cost.num_clients for cost in costs if fits(cost, memory)), 0)
        if smaller:
            raise bad_value("clients.chunk_size", first.num_clients, f"a chunk {need}; use {smaller}")
        remedy = "use 0 to train on the CPU, or a smaller model or local.batch_size"
        raise bad_value("clients.num_gpus", AUTO, f"a chunk {need}, and a single client does not fit; {remedy}")
    fitting = 1 + int((usable - first.peak_bytes) / (first.peak_bytes + CONTEXT_BYTES))
    if wanted > fitting:
        remedy = f"use {fitting} per GPU, or 0 for as many as fit"
        raise bad_value("clients.num_actors", wanted, f"each client actor {need}; {remedy}")
    actors = wanted or max(min(most, fitting), 1)
    used = actors * first.peak_bytes + (actors - 1) * CONTEXT_BYTES
    return GpuShare(actors, first.num_clients, used, memory.total_bytes, first.step_s)


def fits(cost: ChunkCost, memory: DeviceMemory) -> bool:
    """Whether a chunk fits into a GPU with some room to spare."""
    return cost.fits and cost.peak_bytes <= USABLE_FRAC * memory.free_bytes


def before_measuring(clients: ClientsConfig, cluster: Cluster) -> ClientsConfig:
    """`auto` as what it takes at most: a whole GPU per actor, or none where the cluster has none."""
    return replace(clients, num_gpus=1.0 if cluster.num_gpus else 0.0) if clients.num_gpus == AUTO else clients


def share_gpus(plans: Sequence[Experiment], table: FeatureTable, cluster: Cluster, per_trial: bool = True) -> ClientsConfig:
    """The settings of the clients with a number of GPUs in place of `auto`; prints what was chosen.

    Args:
        plans: The experiments, with the same settings of the clients; of a study its base.
        table: The features.
        cluster: The connected cluster, whose GPUs are taken to be of one kind.
        per_trial: Whether the actors of several trials share a GPU.

    Raises:
        UserError: See `actors_per_gpu`.

    """
    clients = plans[0].config.clients
    if clients.num_gpus != AUTO:
        return clients
    if not cluster.num_gpus:
        print("--clients.num_gpus auto: no GPU here, so the clients train on the CPU", flush=True)
        return replace(clients, num_gpus=0.0)
    costs, memory = measure(plans, table, before_measuring(clients, cluster))
    most, wanted = MOST_ACTORS_PER_GPU, 0
    if not per_trial:
        cohorts = [len(phase.cohort(plan.federation, 1)) for plan in plans for phase in plan.method.phases]
        most = min(most, math.ceil(max(cohorts) / clients.chunk_size / cluster.num_gpus))
        wanted = math.ceil(clients.num_actors / cluster.num_gpus)
    cpus = min(int(node.num_cpus / clients.num_cpus / node.num_gpus) for node in cluster.nodes if node.num_gpus)
    share = actors_per_gpu(costs, memory, min(most, cpus), wanted)
    print(share.line(), flush=True)
    return replace(clients, num_gpus=share.num_gpus)


def measure(plans: Sequence[Experiment], table: FeatureTable, clients: ClientsConfig) -> tuple[list[ChunkCost], DeviceMemory]:
    """The cost of the most expensive chunk, and of smaller ones until one is cheap enough, on an actor of its own."""
    actor = ClientActor.options(num_cpus=clients.num_cpus, num_gpus=clients.num_gpus).remote()  # type: ignore[attr-defined]
    table_ref, costs, size = ray.put(table), list[ChunkCost](), clients.chunk_size
    try:
        while True:
            jobs = [job for plan in plans for job in chunks_to_measure(plan.method.phases, plan.federation, size)]
            found, memory = ray.get(actor.measure.remote([table_ref], jobs, plans[0].config.seed))
            costs.append(max(found, key=lambda cost: (not cost.fits, cost.peak_bytes)))
            if fits(costs[-1], memory) or size == 1:
                return costs, memory
            size = -(-size // 2)
    finally:
        ray.kill(actor)
