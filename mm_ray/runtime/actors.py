"""Ray actors that play the clients."""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from mm_ray.config import ModelConfig
from mm_ray.data.clients import ClientList
from mm_ray.fed.evaluation import confusion_of
from mm_ray.fed.executor import run_chunk
from mm_ray.fed.measured_cost import peak_memory_bytes
from mm_ray.fed.phase import Phase
from mm_ray.runtime.device import select_device
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
    """Plays any client: it keeps the node's shared feature table, and nothing of a round."""

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
            refs: The references of the feature table and of the phase's `PhaseBroadcast`, in a list so that Ray passes them on
                and does not resolve them. They come with each call: an actor that is started again knows nothing.
            params: What the server sends to all.
            own: What each client of the chunk alone gets.
            round_number: The round.
            chunk: Ids of clients of the federation; a client that is not one of them as itself.
            lists_clients: Whether the loss and the norm of single clients are reported.

        """
        started, table, now = time.perf_counter(), self._table_of(refs[0]), self._taken(refs[1])
        context = RoundContext(
            now.seed, round_number, params, now.shared_inputs, table, now.shapes, self._device, own, lists_clients
        )
        clients = tuple(now.clients[who] if isinstance(who, int) else who for who in chunk)
        return run_chunk(now.phase, context, clients), time.perf_counter() - started, peak_memory_bytes()

    def score(
        self, table: list[Any], network: str, params: Arrays, model: ModelConfig, batches: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, float, int]:
        """Confusion matrix (C, C) of a network on some batches, the seconds that it took, and the peak memory in bytes."""
        started = time.perf_counter()
        matrix = confusion_of(network, params, model, self._table_of(table[0]), batches, self._device)
        return matrix, time.perf_counter() - started, peak_memory_bytes()

    @property
    def _device(self) -> str:
        # No functools.cached_property: it has a lock in Python 3.11, and Ray pickles the class.
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
        """Host and process id; an actor that died answers when Ray has started it again."""
        assert self._device  # an error of `__init__` would reach the driver as the actor's death, without its words
        return socket.gethostname(), os.getpid()
