"""The Ray executor: client actors pull chunks; the others take over the chunks of a lost actor."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray
from ray._private.utils import push_error_to_driver
from ray._private.worker import global_worker
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from mm_ray.config import ModelConfig
from mm_ray.data.clients import ClientList
from mm_ray.fed.evaluation import batches_of, confusion_on
from mm_ray.fed.executor import Chunk, ExecutorStats, lists_clients, moved_bytes, num_bytes, own_of
from mm_ray.fed.federation import Federation
from mm_ray.fed.phase import Phase
from mm_ray.models.network import PARTS
from mm_ray.runtime.actors import ClientActor, PhaseBroadcast
from mm_ray.runtime.placement import Placement
from mm_ray.runtime.pool import ActorPool, Submit
from mm_ray.types import Arrays, ClientData, ClientUpdate


class RayExecutor:
    """Simulates the clients on actors.

    Args:
        table_ref: The feature table in the object store.
        placement: How many actors, of which size.
        group: A placement group with a bundle for each; None: wherever there is room.

    """

    def __init__(self, table_ref: Any, placement: Placement, group: PlacementGroup | None = None) -> None:
        self._table = [table_ref]
        actors = [
            ClientActor.options(  # type: ignore[attr-defined]
                num_cpus=placement.num_cpus,
                num_gpus=placement.num_gpus,
                max_restarts=-1,
                enable_task_events=False,  # the head would keep 3 kB for each of the last 100,000 calls
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, i) if group else "DEFAULT",
            ).remote()
            for i in range(placement.num_actors)
        ]
        self._pool = ActorPool(actors, tell_driver)
        self._has_gpus = placement.num_gpus > 0
        self._busy_s, self._moved_bytes, self._peak_bytes = 0.0, 0, 0

    @property
    def device(self) -> str:
        """What the actors train on."""
        return "cuda" if self._has_gpus else "cpu"

    @property
    def actors(self) -> list[Any]:
        """The client actors."""
        return self._pool.actors

    def open(self, phase: Phase, shared_inputs: Arrays, federation: Federation) -> None:
        """Put what every chunk of the phase needs into the object store, once."""
        self._phase, self._federation = phase, federation
        clients = federation.clients
        self._clients = clients if isinstance(clients, ClientList) else {client.id: client for client in clients}
        opened = PhaseBroadcast(phase, federation.shapes, federation.seed, dict(shared_inputs), self._clients)
        self._refs = [*self._table, ray.put(opened)]

    def run_round(
        self, params: Arrays, round_number: int, chunks: Sequence[Chunk], clients: Mapping[int, Arrays]
    ) -> list[ClientUpdate | None]:
        """Hand chunks to whichever actor has room, the largest first; results in the order of the chunks."""
        params_ref, owned = ray.put(dict(params)), [own_of(chunk, clients) for chunk in chunks]
        lists = lists_clients(chunks)
        order = sorted(range(len(chunks)), key=lambda number: -sum(client.num_clips for client in chunks[number]))

        def submit(actor: Any, place: int) -> Any:
            chunk = order[place]
            named = self._named(chunks[chunk])
            return actor.run_chunk.remote(self._refs, params_ref, owned[chunk], round_number, named, lists)

        at_least = len(chunks) if self._phase.full_participation else 1
        arrived = {order[place]: update for place, update in self._run(submit, len(chunks), at_least).items()}
        self._moved_bytes += moved_bytes(params, owned, arrived.values())
        return [arrived.get(number) for number in range(len(chunks))]

    def confusions(self, split: str, networks: Sequence[str], params: Arrays, model: ModelConfig) -> list[np.ndarray]:
        """Evaluate batches of the split on all actors, or in this process where actors would not help."""
        jobs = [(name, batches_of(split, name, self._federation.table)) for name in networks]
        alone = len(self.actors) == 1 and not self._has_gpus
        if alone or all(len(batches) <= 1 for _, batches in jobs):
            started = time.perf_counter()
            matrices = [confusion_on(split, name, params, model, self._federation) for name in networks]
            self._busy_s += time.perf_counter() - started
            return matrices
        return self._scored(jobs, params, model)

    def _scored(self, jobs: list[tuple[str, list[np.ndarray]]], params: Arrays, model: ModelConfig) -> list[np.ndarray]:
        sent = {part: params[part] for name, _ in jobs for part in PARTS[name]}
        params_ref, shares = ray.put(sent), len(self.actors)
        calls = [(name, batches[i::shares]) for name, batches in jobs for i in range(min(shares, len(batches)))]

        def submit(actor: Any, number: int) -> Any:
            name, batches = calls[number]
            return actor.score.remote(self._table, name, params_ref, model, batches)

        found = self._run(submit, len(calls), at_least=len(calls))
        matrices = [found[number] for number in range(len(calls))]
        self._moved_bytes += num_bytes(sent) + sum(matrix.nbytes for matrix in matrices)
        totals = {name: np.zeros((self._federation.shapes.num_classes,) * 2, np.int64) for name, _ in jobs}
        for (name, _), matrix in zip(calls, matrices, strict=True):
            totals[name] += matrix
        return list(totals.values())

    def _run(self, submit: Submit, count: int, at_least: int) -> dict[int, Any]:
        results = self._pool.run(submit, count, self._phase.deadline_s, at_least)
        self._busy_s += sum(seconds for _, seconds, _ in results.values()) / len(self.actors)
        self._peak_bytes = max([self._peak_bytes, *(peak for _, _, peak in results.values())])
        return {number: result for number, (result, _, _) in results.items()}

    def _named(self, chunk: Chunk) -> list[int | ClientData]:
        """Clients by their id; a client that is not in the federation is sent as an object."""
        return [client.id if self._is_known(client) else client for client in chunk]

    def _is_known(self, client: ClientData) -> bool:
        try:
            return self._clients[client.id] is client
        except LookupError:
            return False

    def spent(self) -> ExecutorStats:
        """The cost since the last call."""
        spent = ExecutorStats(self._busy_s, self._moved_bytes, self._peak_bytes)
        self._busy_s, self._moved_bytes = 0.0, 0
        return spent

    def close(self) -> None:
        """End the actors."""
        self._pool.close()


def tell_driver(text: str) -> None:
    """Print a line in the driver, as Ray does with its own warnings, because workers' output stays in their logs."""
    job_id = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    push_error_to_driver(global_worker, "mm_ray", text, job_id)  # type: ignore[arg-type]  # it asserts a JobID
