"""Ray actors that simulate the clients."""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch

from mm_ray.config import ModelConfig
from mm_ray.data.clients import ClientList
from mm_ray.fed.batched_training import does_not_fit
from mm_ray.fed.evaluation import confusion_of
from mm_ray.fed.executor import run_chunk
from mm_ray.fed.measured_cost import ChunkCost, ChunkToMeasure, measure_chunk, peak_memory_bytes
from mm_ray.fed.phase import Phase
from mm_ray.runtime.device import DeviceMemory, device_memory, select_device
from mm_ray.types import Arrays, ClientData, ClientUpdate, RoundContext, Shapes


@dataclass(frozen=True)
class PhaseBroadcast:
    """What every call of a phase needs; it is in the object store once per phase, and actors keep the last one."""

    phase: Phase
    shapes: Shapes
    seed: int
    shared_inputs: Arrays
    clients: ClientList | Mapping[int, ClientData]
    """By id."""


@ray.remote
class ClientActor:
    """Simulates any client. It keeps the node's shared feature table, but no state of a round."""

    def __init__(self) -> None:
        self._device_kind = ""
        self._opened_ref: Any = None
        self._table_ref: Any = None

    def run_chunk(
        self,
        refs: list[Any],
        params: Arrays,
        own: Mapping[int, Arrays],
        round_number: int,
        chunk: Sequence[int | ClientData],
        lists_clients: bool,
    ) -> tuple[ClientUpdate, float, int]:
        """The sum of a chunk's updates, the seconds that it took, and the actor's peak memory in bytes.

        Args:
            refs: The references of the feature table and of the phase's `PhaseBroadcast`, in a list so that Ray does not
                resolve them. They come with each call, because a restarted actor has lost them.
            params: What the server sends to all.
            own: What only one client gets, for the clients of the chunk.
            round_number: The round.
            chunk: Ids of clients of the federation; other clients as objects.
            lists_clients: Whether the loss and the norm of single clients are reported.

        """
        started, table, now = time.perf_counter(), self._table_of(refs[0]), self._taken(refs[1])
        context = RoundContext(
            now.seed, round_number, params, now.shared_inputs, table, now.shapes, self._device, own, lists_clients
        )
        clients = tuple(now.clients[who] if isinstance(who, int) else who for who in chunk)
        try:
            update = run_chunk(now.phase, context, clients)
        except torch.OutOfMemoryError as error:
            raise does_not_fit(error) from None
        return update, time.perf_counter() - started, peak_memory_bytes()

    def measure(self, table: list[Any], jobs: Sequence[ChunkToMeasure], seed: int) -> tuple[list[ChunkCost], DeviceMemory]:
        """The cost of each chunk on this actor's device, and the memory that the device has for it."""
        costs = [measure_chunk(job, self._table_of(table[0]), seed, self._device) for job in jobs]
        return costs, device_memory(self._device)

    def score(
        self, table: list[Any], network: str, params: Arrays, model: ModelConfig, batches: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, float, int]:
        """Confusion matrix (C, C) of a network on some batches, the seconds that it took, and the peak memory in bytes."""
        started = time.perf_counter()
        matrix = confusion_of(network, params, model, self._table_of(table[0]), batches, self._device)
        return matrix, time.perf_counter() - started, peak_memory_bytes()

    @property
    def _device(self) -> str:
        # Not functools.cached_property: in Python 3.11 it has a lock, which Ray cannot pickle.
        if not self._device_kind:
            self._device_kind = select_device()
        return self._device_kind

    def _taken(self, ref: Any) -> PhaseBroadcast:
        if ref != self._opened_ref:
            self._opened_ref, self._opened = ref, ray.get(ref)
        opened: PhaseBroadcast = self._opened
        return opened

    def _table_of(self, ref: Any) -> Any:
        if ref != self._table_ref:
            self._table_ref, self._table = ref, ray.get(ref)  # read-only arrays in the node's object store: no copy
        return self._table

    @ray.method(max_task_retries=-1)
    def place(self) -> tuple[str, int]:
        """Host and process id; an actor that died answers after Ray has restarted it."""
        assert self._device  # an error in `__init__` would reach the driver as the actor's death, without its message
        return socket.gethostname(), os.getpid()
