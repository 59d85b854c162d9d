"""The Ray executor: client actors pull chunks; one that dies is started again and its chunk is run again."""

from collections.abc import Sequence
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from mm_ray.fed.executor import Chunk
from mm_ray.fed.federation import Federation
from mm_ray.fed.phase import Phase
from mm_ray.runtime.actors import ClientActor
from mm_ray.runtime.placement import Placement
from mm_ray.types import Arrays, ClientUpdate

QUEUED_PER_ACTOR = 2
"""One chunk runs, the next one waits beside it, so that an actor never waits for the driver."""
RETRIES = 5
"""A chunk that kills its actor so many times ends the run."""


class RayExecutor:
    """Plays the clients on actors in bundles of a placement group.

    Args:
        table_ref: The feature table in the object store.
        placement: How many actors, of which size.
        group: The placement group.
        first_bundle: The group's bundle of the first actor; the others follow.

    """

    def __init__(self, table_ref: Any, placement: Placement, group: PlacementGroup, first_bundle: int) -> None:
        self.actors = [
            ClientActor.options(  # type: ignore[attr-defined]
                num_cpus=placement.num_cpus,
                num_gpus=placement.num_gpus,
                max_restarts=-1,
                max_task_retries=RETRIES,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, first_bundle + i),
            ).remote(table_ref)
            for i in range(placement.num_actors)
        ]

    def open(self, phase: Phase, material: Arrays, federation: Federation) -> None:
        """Put once what every chunk of the phase needs."""
        self._shared = (ray.put(phase), ray.put(federation.shapes), federation.seed, ray.put(dict(material)))

    def run_round(self, params: Arrays, round_number: int, chunks: Sequence[Chunk]) -> list[ClientUpdate]:
        """Hand chunks to whichever actor has room; results in the order of the chunks."""
        params_ref = ray.put(dict(params))
        waiting = list(range(len(chunks)))[::-1]
        running: dict[Any, tuple[int, Any]] = {}
        results: dict[int, ClientUpdate] = {}
        free = [actor for _ in range(QUEUED_PER_ACTOR) for actor in self.actors]
        while waiting or running:
            while waiting and free:
                index, actor = waiting.pop(), free.pop(0)
                ref = actor.run_chunk.remote(*self._shared, params_ref, round_number, chunks[index])
                running[ref] = (index, actor)
            (done,), _ = ray.wait(list(running), num_returns=1)
            index, actor = running.pop(done)
            results[index] = ray.get(done)
            free.append(actor)
        return [results[index] for index in range(len(chunks))]

    def close(self) -> None:
        """End the actors."""
        for actor in self.actors:
            ray.kill(actor)
