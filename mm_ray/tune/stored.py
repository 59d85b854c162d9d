"""An experiment from stored rounds only: read, tested, replayed, never computed."""

from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np

from mm_ray.config import ModelConfig
from mm_ray.fed.executor import Chunk, ExecutorStats
from mm_ray.fed.experiment import Experiment, RunResult, run_rounds
from mm_ray.fed.federation import Federation
from mm_ray.fed.phase import Phase
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import drive
from mm_ray.types import Arrays, ClientUpdate


class NotStored(Exception):
    """A round is not in the store."""


class StoredOnly:
    """An executor that computes nothing: where a round is missing it raises `NotStored`.

    A study's driver reads with it what client actors computed. It trains nothing itself: its CPU may give other bits.

    Args:
        device: What the client actors train on, `cpu` or `cuda`.

    """

    def __init__(self, device: str) -> None:
        self.device = device

    def open(self, phase: Phase, shared_inputs: Arrays, federation: Federation) -> None:
        """The loop opens a phase when it has to compute."""
        raise NotStored(phase.name)

    def run_round(
        self, params: Arrays, round_number: int, chunks: Sequence[Chunk], clients: Mapping[int, Arrays]
    ) -> list[ClientUpdate]:
        """Never called: no phase opens."""
        self._refuse()

    def close(self) -> None:
        """It has no actors."""

    def confusions(self, split: str, networks: Sequence[str], params: Arrays, model: ModelConfig) -> list[np.ndarray]:
        """Never called: no phase opens."""
        self._refuse()

    def spent(self) -> ExecutorStats:
        """Nothing."""
        return ExecutorStats(0.0, 0)

    def _refuse(self) -> NoReturn:
        raise NotStored


def stored_run(plan: Experiment, store: PhaseStore, device: str) -> RunResult:
    """A plan's rounds from the store.

    Raises:
        NotStored: A round is missing; it names the phase.

    """
    return drive(run_rounds(plan, store, StoredOnly(device)))
