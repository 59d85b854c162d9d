"""mm_ray in the comparison: the round loop with client actors on Ray, as the Train worker of `mm_ray.train` runs it.

python -m benchmarks.ours WORKLOAD FOLDER PROCESSES [DEV_CLIPS]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.peers.plain import Gate
from benchmarks.workloads import WORKLOADS, dropout_of, federation_of, phase_of, read_table
from mm_ray.fed.method import Method
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import run
from mm_ray.models.network import PARTS


class Watched:
    """A phase that keeps the server's last state for the harness to see; clients get the phase itself."""

    def __init__(self, phase, start) -> None:
        self.phase, self.params = phase, {"audio.encoder": start, "audio.head": start[:0]}

    def __getattr__(self, name):
        return getattr(self.phase, name)

    def server_update(self, state, total):
        state = self.phase.server_update(state, total)
        self.params = state.params
        return state

    @property
    def flat(self):
        return np.concatenate([self.params[part] for part in PARTS["audio"]])


class Unwrapping:
    """The executor, which is given the phase itself."""

    def __init__(self, executor) -> None:
        self._executor, self.device, self.run_round = executor, executor.device, executor.run_round
        self.confusions, self.spent = executor.confusions, executor.spent

    def open(self, phase, *rest) -> None:
        self._executor.open(phase.phase, *rest)


def rounds_of(work, table, start, executor, store):
    """The phase as the harness sees it, and its rounds."""
    federation, watched = federation_of(work, table), Watched(phase_of(work), start)
    method = Method((watched,), NetworkRef(watched.name, "audio"))
    return watched, run(method, federation, PhaseStore(store), Unwrapping(executor), work.chunk_size)


def main(name, folder, processes, dev_clips=1) -> None:
    import ray

    from mm_ray.runtime.cluster import connect
    from mm_ray.runtime.executor import RayExecutor
    from mm_ray.runtime.placement import Placement

    torch.set_num_threads(1)
    gate, work = Gate(), WORKLOADS[name].with_dropout(dropout_of(Path(folder)))
    connect("")
    placement = Placement(processes, 1.0, 0.0)
    table_ref = ray.put(read_table(work, Path(folder), dev_clips))
    table, executor = ray.get(table_ref), RayExecutor(table_ref, placement)
    with tempfile.TemporaryDirectory() as store:
        watched, rounds = rounds_of(work, table, np.load(Path(folder) / "start.npy"), executor, store)
        while gate.wait(lambda: watched.flat):
            next(rounds)
    executor.close()


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
