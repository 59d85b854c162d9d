"""What is measured of a run's cost: peak memory, energy where RAPL can be read, and a chunk's memory and time on its device.

A chunk is measured with a few steps. Where a phase trains its clients one after the other, its chunk costs what the client with
the most clips does.
"""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from mm_ray.fed.batched_training import OUT_OF_MEMORY, train_batched
from mm_ray.fed.cohort import chunks_of
from mm_ray.fed.fedavg import TrainingPhase
from mm_ray.fed.federation import Federation
from mm_ray.fed.local_training import train_local
from mm_ray.fed.phase import Phase
from mm_ray.models.flat_params import flat_network
from mm_ray.models.layers import Output
from mm_ray.models.network import PARTS, init_part
from mm_ray.seeding import torch_stream
from mm_ray.types import Batch, ClientData, ClientUpdate, RoundContext

POWERCAP = Path("/sys/class/powercap")


def peak_memory_bytes() -> int:
    """Peak resident memory of this process so far, including memory shared with other processes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


class EnergyMeter:
    """Joules of this machine's processor packages since its creation, other processes' included (RAPL, Linux).

    A counter starts over after some 260 kJ, so `read` must be called more often than that: once per round.

    Args:
        root: Where the counters are, which many systems show to root only; None: `POWERCAP`.

    """

    def __init__(self, root: Path | None = None) -> None:
        packages = (root or POWERCAP).glob("intel-rapl:*")
        self._packages = sorted(path for path in packages if path.name.count(":") == 1)
        self._last = self._counters()
        self._joules = 0.0

    def read(self) -> float | None:
        """Joules so far; None where they cannot be measured."""
        now = self._counters()
        if now is None or self._last is None:
            return None
        for package, before, after in zip(self._packages, self._last, now, strict=True):
            if after < before:
                after += int((package / "max_energy_range_uj").read_text())
            self._joules += (after - before) / 1e6
        self._last = now
        return self._joules

    def _counters(self) -> list[int] | None:
        try:
            return [int((package / "energy_uj").read_text()) for package in self._packages] or None
        except (OSError, ValueError):
            return None


STEPS = 4
"""Steps that are measured: a GPU records a step's graph when its shapes have come twice, which needs memory of its own."""
Chunk = tuple[ClientData, ...]


class ChunkCost(NamedTuple):
    """The cost of a chunk on the device that measured it."""

    num_clients: int
    peak_bytes: int
    """The most memory that was allocated at once."""
    step_s: float
    """Seconds of one training step of all its clients, the mean over the measured steps."""
    fits: bool = True
    """Whether all its clients could be trained together, as their phase wants it."""


class ChunkToMeasure(NamedTuple):
    """A phase's most expensive chunk of its first round."""

    phase: TrainingPhase
    clients: Chunk


def chunks_to_measure(phases: Sequence[Phase], federation: Federation, chunk_size: int) -> list[ChunkToMeasure]:
    """Of each training phase the chunk of round 1 whose batches hold the most frames."""

    lengths = federation.table.audio_lengths

    def most_expensive(phase: TrainingPhase) -> Chunk:
        def frames(chunk: Chunk) -> int:
            return sum(int(lengths(c.indices).max()) * min(c.num_clips, phase.local.batch_size) for c in chunk)

        return max(chunks_of(phase.cohort(federation, 1), chunk_size), key=frames)

    return [ChunkToMeasure(phase, most_expensive(phase)) for phase in phases if isinstance(phase, TrainingPhase)]


def measure_chunk(
    job: ChunkToMeasure, table: Any, seed: int, device: str, peak_bytes: Callable[[], int] | None = None
) -> ChunkCost:
    """Train each network of a phase on a chunk for a few steps, with cross-entropy, from fresh parameters.

    Args:
        job: The phase and the chunk.
        table: The feature table.
        seed: The experiment's.
        device: `cpu` or `cuda`.
        peak_bytes: Gives the peak so far; None: torch's own measure of a GPU, or this process's peak resident memory.

    """
    phase, clients = job.phase, [job.phase.usable(client) for client in job.clients]
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started, fits = time.perf_counter(), True
    for network in sorted({name for client in clients for name in phase.trains(client)}):
        members = [client for client in clients if network in phase.trains(client)]
        fits = fits and _fits(phase, network, members, table, seed, device)
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - started) / STEPS
    peak = peak_bytes or (torch.cuda.max_memory_allocated if device == "cuda" else peak_memory_bytes)
    return ChunkCost(len(clients), peak(), seconds, fits)


def _fits(phase: TrainingPhase, network: str, clients: list[ClientData], table: Any, seed: int, device: str) -> bool:
    """Train a network for some steps; whether memory sufficed."""
    try:
        updates = _trained(phase, network, clients, table, seed, device)
    except torch.OutOfMemoryError:
        return False
    return not any(OUT_OF_MEMORY in update.metrics for update in updates)


def _trained(
    phase: TrainingPhase, network: str, clients: list[ClientData], table: Any, seed: int, device: str
) -> list[ClientUpdate]:
    model, local, shapes = phase.model, replace(phase.local, epochs=1, steps=STEPS), table.shapes
    params = {part: init_part(part, model, shapes, torch_stream(seed, "init", phase.stream, part)) for part in PARTS[network]}
    context = RoundContext(seed, 1, params, {}, table, shapes, device)

    def loss(output: Output, batch: Batch, *client: ClientData) -> torch.Tensor:
        return functional.cross_entropy(output.logits_BC, batch.labels_B)

    if phase.trains_together:
        return train_batched(network, model, context, clients, local, loss, True, phase.stream, phase.precision)
    net, largest = flat_network(network, model, shapes, device), max(clients, key=lambda client: client.num_clips)
    return [train_local(net, context, largest, local, loss, phase.stream, phase.precision)]
