"""Who plays the clients. The loop asks an executor for a round's chunks; the serial one plays them in this process."""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Protocol

from mm_ray.fed.federation import Federation
from mm_ray.fed.phase import Phase
from mm_ray.types import Arrays, ClientData, ClientUpdate, RoundContext

Chunk = tuple[ClientData, ...]


class Executor(Protocol):
    """Plays the clients of a round."""

    def open(self, phase: Phase, material: Arrays, federation: Federation) -> None:
        """A phase begins: what its clients get once."""
        ...

    def run_round(self, params: Arrays, round_number: int, chunks: Sequence[Chunk]) -> list[ClientUpdate]:
        """The sum of each chunk, in the order of the chunks."""
        ...


def run_chunk(phase: Phase, context: RoundContext, chunk: Chunk) -> ClientUpdate:
    """Play a chunk's clients in their order and sum their updates: the unit of work of every executor."""
    return reduce(add, (phase.client_update(context, client) for client in chunk))


class SerialExecutor:
    """Plays every chunk in this process; the reference for all others."""

    def open(self, phase: Phase, material: Arrays, federation: Federation) -> None:
        """Remember the phase."""
        self._phase, self._material, self._federation = phase, material, federation

    def run_round(self, params: Arrays, round_number: int, chunks: Sequence[Chunk]) -> list[ClientUpdate]:
        """One chunk after the other."""
        federation = self._federation
        context = RoundContext(federation.seed, round_number, params, self._material, federation.table, federation.shapes)
        return [run_chunk(self._phase, context, chunk) for chunk in chunks]
