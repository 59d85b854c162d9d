"""The rounds that `benchmarks.hosts` measures, on the Ray cluster of the host on which this is started.

    python -m benchmarks.hosts_rounds ACTORS ROUNDS [--alone]

With `--alone` the same rounds run on this machine, without a network: what is left of a round's cost is not the hosts'. Each
round is one line of JSON, and so is the digest of the parameters at the end. After each line nothing is computed for
`PAUSE_S`, so that whoever reads the lines can read the network's counters between two rounds.
"""

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator

import ray
import torch

from benchmarks.growth import CORES, Point, clients_of, phase_of, table_of
from benchmarks.sleepy import sleepy
from mm_ray.data.feature_table import FeatureTable
from mm_ray.fed.executor import Executor, SerialExecutor
from mm_ray.fed.federation import Federation
from mm_ray.fed.method import Method
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import run
from mm_ray.methods.unifl import UniFLAudio
from mm_ray.models.network import PARTS, part_size
from mm_ray.runtime.cluster import connect
from mm_ray.runtime.executor import RayExecutor
from mm_ray.runtime.placement import Placement
from mm_ray.types import RoundReport

POINT = Point("hosts", clients=1_000, cohort=64, model="170k", chunk_size=4)
CHUNKS = POINT.cohort // POINT.chunk_size
PAUSE_S = 0.5


def parameters(table: FeatureTable) -> int:
    """Parameters of the network."""
    return sum(part_size(part, phase_of(POINT).model, table.shapes) for part in PARTS["audio"])


def played(phase: UniFLAudio, table: FeatureTable, executor: Executor, rounds: int) -> Iterator[RoundReport | str]:
    """The reports of some rounds, and at last the digest of the state after them."""
    federation = Federation(clients_of(POINT, table.labels_N), table, table.shapes, 0, {"point": repr(POINT)})
    with tempfile.TemporaryDirectory() as folder:
        store = PhaseStore(folder)
        loop = run(Method((phase,), NetworkRef(phase.name, "audio")), federation, store, executor, POINT.chunk_size)
        for _ in range(rounds):
            report = next(loop)
            yield report
        loop.close()
        digest = hashlib.sha256()
        for name, array in sorted(store.load(report.key, rounds).flat().items()):
            digest.update(repr(name).encode() + array.tobytes())
        yield digest.hexdigest()


def serial_digest(rounds: int) -> str:
    """The digest after the same rounds in this process, in which no client sleeps."""
    *_, digest = played(phase_of(POINT), table_of(), SerialExecutor(), rounds)
    return str(digest)


def main(actors: int, rounds: int, alone: bool) -> None:
    """Play the rounds on one client actor per worker host, or on all of them here."""
    torch.set_num_threads(1)
    connect("" if alone else "auto")
    table = table_of()
    executor = RayExecutor(ray.put(table), Placement(actors, min(CORES / actors, 1.0) if alone else 1.0, 0.0))
    places = {host for host, _ in ray.get([actor.place.remote() for actor in executor.actors])}
    assert len(places) == (1 if alone else actors), f"{actors} actors on {sorted(places)}"
    for found in played(sleepy(phase_of(POINT)), table, executor, rounds):
        line = {"digest": found} if isinstance(found, str) else found.to_json()
        print(json.dumps(line), flush=True)
        time.sleep(PAUSE_S)
    executor.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), "--alone" in sys.argv)
