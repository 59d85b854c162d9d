"""The Ray executor: client actors pull chunks; what a lost one held is played by the others."""

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
from mm_ray.runtime.pool import ActorPool
from mm_ray.types import Arrays, ClientUpdate


class RayExecutor:
    """Plays the clients on actors.

    Args:
        table_ref: The feature table in the object store.
        placement: How many actors, of which size.
        group: A placement group in which each has its bundle; None: wherever there is room.

    """

    def __init__(self, table_ref: Any, placement: Placement, group: PlacementGroup | None = None) -> None:
        actors = [
            ClientActor.options(  # type: ignore[attr-defined]
                num_cpus=placement.num_cpus,
                num_gpus=placement.num_gpus,
                max_restarts=-1,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, i) if group else "DEFAULT",
            ).remote(table_ref)
            for i in range(placement.num_actors)
        ]
        self._pool = ActorPool(actors)

    @property
    def actors(self) -> list[Any]:
        """The client actors."""
        return self._pool.actors

    def open(self, phase: Phase, material: Arrays, federation: Federation) -> None:
        """Put once what every chunk of the phase needs."""
        self._shared = (ray.put(phase), ray.put(federation.shapes), federation.seed, ray.put(dict(material)))

    def run_round(self, params: Arrays, round_number: int, chunks: Sequence[Chunk]) -> list[ClientUpdate]:
        """Hand chunks to whichever actor has room; results in the order of the chunks."""
        params_ref = ray.put(dict(params))

        def submit(actor: Any, number: int) -> Any:
            return actor.run_chunk.remote(*self._shared, params_ref, round_number, chunks[number])

        results = self._pool.run(submit, len(chunks))
        return [results[number] for number in range(len(chunks))]

    def close(self) -> None:
        """End the actors."""
        self._pool.close()
