"""Ray actors that play the clients."""

import os
from typing import Any

import ray
import torch

from mm_ray.fed.executor import Chunk, run_chunk
from mm_ray.fed.phase import Phase
from mm_ray.types import Arrays, ClientUpdate, RoundContext, Shapes


@ray.remote
class ClientActor:
    """Plays whichever client comes: it keeps the node's shared feature table, and nothing of a round."""

    def __init__(self, table: Any) -> None:
        torch.set_num_threads(1)
        self._table = table  # read-only arrays in the node's object store: no copy
        self._device = "cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu"

    def run_chunk(
        self, phase: Phase, shapes: Shapes, seed: int, material: Arrays, params: Arrays, round_number: int, chunk: Chunk
    ) -> ClientUpdate:
        """The sum of a chunk's updates."""
        context = RoundContext(seed, round_number, params, material, self._table, shapes, self._device)
        return run_chunk(phase, context, chunk)

    @ray.method(max_task_retries=-1)
    def pid(self) -> int:
        """The actor's process id; asked of an actor that died, it answers when Ray has started it again."""
        return os.getpid()
