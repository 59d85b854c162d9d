"""Executors simulate the clients. The loop gives them a round's chunks; the serial one runs these in this process."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from mm_ray.config import ModelConfig
from mm_ray.fed.aggregation import screen_update
from mm_ray.fed.evaluation import confusion_on
from mm_ray.fed.federation import Federation
from mm_ray.fed.phase import Phase
from mm_ray.types import Arrays, ClientData, ClientUpdate, RoundContext

Chunk = tuple[ClientData, ...]
MOST_LISTED = 256
"""Clients of a round that are reported one by one."""


class ExecutorStats(NamedTuple):
    """What an executor's work cost."""

    busy_s: float
    """Seconds of work per actor, the mean over the actors."""
    moved_bytes: int
    """Bytes of arrays that went between driver and actors; a put into the object store counts once."""
    peak_memory_bytes: int = 0
    """Peak memory of any actor since its start."""


class Executor(Protocol):
    """Simulates the clients of a round."""

    @property
    def device(self) -> str:
        """`cpu` or `cuda`: the kind of device that clients train on. Kinds differ in bits, so it is part of a phase's key."""
        ...

    def open(self, phase: Phase, shared_inputs: Arrays, federation: Federation) -> None:
        """A phase begins.

        Args:
            phase: The phase.
            shared_inputs: What its clients get once.
            federation: The clients and their data.

        """
        ...

    def run_round(
        self, params: Arrays, round_number: int, chunks: Sequence[Chunk], clients: Mapping[int, Arrays]
    ) -> Sequence[ClientUpdate | None]:
        """The sum of each chunk, in the order of the chunks; `None` for one that was late (`PhaseSettings.deadline_s`).

        Args:
            params: What every client gets.
            round_number: The round, from 1.
            chunks: The clients, in their fixed order.
            clients: What only one client gets, by client; a chunk gets the entries of its clients.

        """
        ...

    def confusions(self, split: str, networks: Sequence[str], params: Arrays, model: ModelConfig) -> list[np.ndarray]:
        """The confusion matrix (C, C) of each network on a split; the same on every executor."""
        ...

    def spent(self) -> ExecutorStats:
        """The cost since the last call."""
        ...

    def close(self) -> None:
        """End the actors, if there are any."""
        ...


@runtime_checkable
class SupportsBatchedClients(Protocol):
    """A phase that trains several clients faster together than one by one."""

    def client_updates(self, context: RoundContext, clients: Sequence[ClientData]) -> Iterable[ClientUpdate]:
        """The update of each client, in their order."""
        ...


def run_chunk(phase: Phase, context: RoundContext, chunk: Chunk) -> ClientUpdate:
    """Run a chunk's clients in their order and sum their updates: the unit of work of every executor."""
    one_by_one = (phase.client_update(context, client) for client in chunk)
    updates = phase.client_updates(context, chunk) if isinstance(phase, SupportsBatchedClients) else one_by_one
    return sum_updates(
        screen_update(
            phase.server,
            {**context.params, **context.own(client)},
            client.id,
            update,
            phase.compares_clients,
            context.lists_clients,
        )
        for client, update in zip(chunk, updates, strict=True)
    )


def lists_clients(chunks: Sequence[Chunk]) -> bool:
    """Whether a round reports its clients one by one: in large cohorts that would cost more than it is worth."""
    return sum(map(len, chunks)) <= MOST_LISTED


def sum_updates(updates: Iterable[ClientUpdate]) -> ClientUpdate:
    """The sum of the updates in their order: `+`, with one copy of the arrays for all of them."""
    total = ClientUpdate()
    for update in updates:
        added, new = total.sums, {}
        for name, array in update.sums.items():
            if name in added:
                np.add(added[name], array, out=added[name])
            else:
                new[name] = array.copy()
        scalars = replace(total, sums={}) + replace(update, sums={})
        total = replace(scalars, sums={**added, **new})
    return total


def own_of(chunk: Chunk, clients: Mapping[int, Arrays]) -> dict[int, Arrays]:
    """What the clients of a chunk alone get, by id."""
    return {client.id: clients[client.id] for client in chunk if client.id in clients}


def moved_bytes(params: Arrays, owned: Iterable[Mapping[int, Arrays]], updates: Iterable[ClientUpdate]) -> int:
    """Bytes of a round's arrays between processes: what all clients get (once), what only a chunk's clients get, the
    results."""
    alone = sum(num_bytes(arrays) for own in owned for arrays in own.values())
    return num_bytes(params) + alone + sum(update.num_bytes for update in updates)


def num_bytes(arrays: Arrays) -> int:
    """Bytes of some arrays."""
    return sum(array.nbytes for array in arrays.values())


class SerialExecutor:
    """Runs every chunk in this process; the reference for all other executors."""

    device = "cpu"
    _since = 0.0

    def open(self, phase: Phase, shared_inputs: Arrays, federation: Federation) -> None:
        """Remember the phase."""
        self._phase, self._shared_inputs, self._federation = phase, shared_inputs, federation

    def run_round(
        self, params: Arrays, round_number: int, chunks: Sequence[Chunk], clients: Mapping[int, Arrays]
    ) -> list[ClientUpdate]:
        """One chunk after the other; none is ever late."""
        federation = self._federation
        context = RoundContext(
            federation.seed,
            round_number,
            params,
            self._shared_inputs,
            federation.table,
            federation.shapes,
            lists_clients=lists_clients(chunks),
        )
        return [run_chunk(self._phase, replace(context, clients=own_of(chunk, clients)), chunk) for chunk in chunks]

    def confusions(self, split: str, networks: Sequence[str], params: Arrays, model: ModelConfig) -> list[np.ndarray]:
        """One network after the other."""
        return [confusion_on(split, name, params, model, self._federation) for name in networks]

    def spent(self) -> ExecutorStats:
        """It is always working, and no bytes move between processes."""
        before, self._since = self._since, time.perf_counter()
        return ExecutorStats(self._since - before, 0)

    def close(self) -> None:
        """It has no actors."""
