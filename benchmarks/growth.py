"""How a round's cost grows with actors, clients, cohort and model; and a model of the round's time fitted to it.

    python -m benchmarks.growth [--rounds N] [--quick] [--scale | --writing]

One quantity is varied at a time around a base. Clients have 10 clips of 16x80 out of a common pool, so that 100,000 of them
need no more data than 100. More actors than processors are simulated with fractions of a CPU.

The model: seconds = fixed + per_client_of_cohort * cohort + per_client_of_federation * clients + compute / min(actors, cores)
                     + bytes / bandwidth
where compute is what the actors worked in all and bytes what moved; the four coefficients are fitted (not negative, least
squares of relative errors). It is then asked for a cluster of 64 nodes; the assumptions stand in the result.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from scipy.optimize import nnls

from benchmarks.memory import tree_pss_mb
from benchmarks.results import write_result
from benchmarks.workloads import SMALL_NET, cpu_s, table_from
from mm_ray.config import LocalConfig, ModelConfig, ServerConfig
from mm_ray.data.clients import ClientList, Shares
from mm_ray.data.feature_table import FeatureTable
from mm_ray.fed.cohort import chunks_of
from mm_ray.fed.federation import Federation
from mm_ray.fed.method import Method
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import KEEP_EVERY, plan_round, run
from mm_ray.methods.unifl import UniFLAudio
from mm_ray.models.network import PARTS, part_size
from mm_ray.runtime.cluster import connect
from mm_ray.runtime.cpus import usable_cpus
from mm_ray.runtime.executor import RayExecutor
from mm_ray.runtime.placement import Placement

POOL, CLIPS, FRAMES, BINS, CLASSES = 20_000, 10, 16, 80, 10
CORES = usable_cpus()
MODELS = {
    "20k": SMALL_NET,
    "170k": ModelConfig(),
    "2M": ModelConfig(conv_channels=(64, 128, 256), hidden=600),
    "20M": ModelConfig(conv_channels=(128, 256, 512), hidden=2_200),
}


@dataclass(frozen=True)
class Point:
    """One setting."""

    varied: str
    actors: int = 2
    clients: int = 1_000
    cohort: int = 200
    model: str = "20k"
    chunk_size: int = 25


def points(quick: bool) -> list[Point]:
    """All settings; with `quick` only those that take a second or two."""
    most = 1_000 if quick else 100_000
    models = ["20k"] if quick else list(MODELS)
    small = {"cohort": 8, "chunk_size": 2}
    return [
        *(Point("actors", actors=n) for n in (1, 2, 4, 8)),
        *(Point("clients", clients=n, cohort=100) for n in (100, 1_000, 10_000, 100_000) if n <= most),
        *(scale_points() if not quick else ()),
        *(Point("cohort", clients=10_000, cohort=n) for n in (50, 400, 1_600) if not quick),
        *(Point("model", model=name, **small) for name in models),  # type: ignore[arg-type]
    ]


def scale_points() -> list[Point]:
    """A cohort of 1,000 in federations of up to 1,000,000 clients."""
    return [Point("scale", clients=n, cohort=1_000, chunk_size=50) for n in (1_000, 100_000, 1_000_000)]


def driver_s_per_client(point: Point, federation: Federation, rounds: int = 5) -> float:
    """Processor seconds of the driver for each client of the cohort, in what a round does for single clients: drawing the
    cohort, costs, who reports back, chunks."""
    phase = phase_of(point)

    def one_round(number: int) -> None:
        cohort = phase.cohort(federation, number)
        chunks_of(plan_round(phase, federation, number, cohort).in_time, point.chunk_size)

    one_round(1)
    return min(cpu_s(lambda number=number: one_round(number)) for number in range(2, rounds + 2)) / point.cohort  # type: ignore[misc]


def writing(name: str, table: FeatureTable, repeats: int = 5) -> dict[str, Any]:
    """What storing a state costs, as the round loop does it: every fifth round, and each that brings a new best on dev."""
    point = Point("model", model=name, cohort=8, chunk_size=2)
    federation = Federation(clients_of(point, table.labels_N), table, table.shapes, 0, {"point": repr(point)})
    state, walls, cpus = phase_of(point).init(federation, {}), list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        store = PhaseStore(folder)
        for number in range(1, repeats + 1):
            started = time.perf_counter()
            cpus.append(cpu_s(lambda number=number: store.save("key", number, state, [])))  # type: ignore[misc]
            walls.append(time.perf_counter() - started)
    size = sum(array.nbytes for array in state.flat().values())
    return {"model": name, "bytes": size, "cpu_s": min(cpus), "least_s": min(walls), "per_round_cpu_s": min(cpus) / KEEP_EVERY}


def table_of() -> FeatureTable:
    """A pool of random clips."""
    frames_XF = np.random.default_rng(0).standard_normal((POOL * FRAMES, BINS), np.float32).astype(np.float16)
    splits_N = np.zeros(POOL, np.int8)
    splits_N[-1] = 1
    return table_from(frames_XF, FRAMES, np.arange(POOL) % CLASSES, splits_N, CLASSES, "growth")


def measure(point: Point, table: FeatureTable, table_ref: Any, rounds: int) -> dict[str, Any]:
    """Medians over some rounds of a setting."""
    started = time.perf_counter()
    federation = Federation(clients_of(point, table.labels_N), table, table.shapes, 0, {"point": repr(point)})
    federation_s, phase = time.perf_counter() - started, phase_of(point)
    executor = RayExecutor(table_ref, Placement(point.actors, CORES / max(point.actors, CORES), 0.0))
    with tempfile.TemporaryDirectory() as store:
        loop = run(Method((phase,), NetworkRef(phase.name, "audio")), federation, PhaseStore(store), executor, point.chunk_size)
        started = time.perf_counter()
        next(loop)
        first = time.perf_counter() - started
        reports = [next(loop) for _ in range(rounds)]
        memory = tree_pss_mb()
        loop.close()
    executor.close()
    seconds, busy = (statistics.median(getattr(r, name) for r in reports) for name in ("seconds", "busy_frac"))
    return {
        "varied": point.varied,
        "actors": point.actors,
        "clients": point.clients,
        "cohort": point.cohort,
        "parameters": sum(part_size(part, phase.model, table.shapes) for part in PARTS["audio"]),
        "chunks": -(-point.cohort // point.chunk_size),
        "seconds": seconds,
        "least_seconds": min(report.seconds for report in reports),
        "first_round_s": first,
        "busy_frac": busy,
        "compute_s": min(r.busy_frac * r.seconds for r in reports) * min(point.actors, CORES),
        "moved_bytes": reports[-1].moved_bytes,
        "memory_mb": memory,
        "federation_s": federation_s,
        "driver_us_per_client": 1e6 * driver_s_per_client(point, federation),
    }


def phase_of(point: Point) -> UniFLAudio:
    """FedAvg of the audio network."""
    return UniFLAudio(
        10**9,
        model=MODELS[point.model],
        local=LocalConfig(lr=0.05, epochs=1, batch_size=16),
        server=ServerConfig(),
        sample_frac=point.cohort / point.clients,
        chunk_size=point.chunk_size,
        vectorize=True,
    )


def clients_of(point: Point, labels_N: np.ndarray) -> ClientList:
    """Each client's clips, out of the pool."""
    starts_K = (np.arange(point.clients) * CLIPS) % (POOL - 2 * CLIPS)
    rows_R = (starts_K[:, None] + np.arange(CLIPS)).ravel()
    shares = Shares(rows_R, np.arange(point.clients + 1) * CLIPS)
    return ClientList(shares, labels_N[rows_R], (("audio",),), np.zeros(point.clients, np.int8))


@dataclass(frozen=True)
class RoundTime:
    """The fitted coefficients, in seconds each."""

    fixed: float
    per_client_of_cohort: float
    per_client_of_federation: float
    per_byte: float

    def seconds(self, row: dict[str, Any], workers: int) -> float:
        """A round's time where `workers` actors compute at once."""
        rest = (self.fixed, self.per_client_of_cohort, self.per_client_of_federation, self.per_byte)
        return float(np.dot(rest, _features(row))) + float(row["compute_s"]) / workers


def _features(row: dict[str, Any]) -> list[float]:
    return [1.0, row["cohort"], row["clients"], row["moved_bytes"]]


def fitted(rows: list[dict[str, Any]]) -> RoundTime:
    """The coefficients that fit best, each at least 0."""
    seconds = np.array([row["least_seconds"] for row in rows])  # the least: other work on the machine only adds
    rest = np.array([row["least_seconds"] - row["compute_s"] / min(row["actors"], CORES) for row in rows])
    solution, _ = nnls(np.array([_features(row) for row in rows]) / seconds[:, None], rest / seconds)
    return RoundTime(*map(float, solution))


def predicted(model: RoundTime, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A round of 10,240 clients of the 20k network on 64 nodes of 16 cores, and what it assumes."""
    base = next(row for row in rows if row["varied"] == "actors" and row["actors"] == min(CORES, 2))
    actors, cohort, chunk = 64 * 16, 10_240, 10
    chunks = cohort // chunk
    size = 4 * base["parameters"]
    row = {"cohort": cohort, "clients": 100_000, "moved_bytes": size * (chunks + 64)}
    row["compute_s"] = base["compute_s"] / base["cohort"] * cohort
    network_s = size * (chunks + 64) / 1.25e9
    seconds = model.seconds(row, min(actors, chunks)) + network_s
    return {
        "nodes": 64, "actors": actors, "cohort": cohort, "chunk_size": chunk, "parameters": base["parameters"],
        "seconds": seconds, "compute_s": row["compute_s"] / actors, "network_s": network_s, "driver_s": seconds - network_s
        - row["compute_s"] / actors,
        "assumptions": [
            "one chunk an actor and all chunks of equal length; no stragglers",
            "a core of the cluster is as fast as one here, and actors do not disturb each other",
            "the driver's costs per client and per byte are those fitted here, on one machine",
            "every node gets the parameters once, one after the other over the driver's 10 Gbit/s line, and every chunk's sum "
            "comes back over the same line",
            "not measured: no such cluster was at hand",
        ],
    }  # fmt: skip


def main() -> None:
    """Measure, fit, predict, print, write."""
    parser = argparse.ArgumentParser("benchmarks.growth")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scale", action="store_true", help="only the federations of up to 1,000,000 clients")
    parser.add_argument("--writing", action="store_true", help="only what storing the states of the models costs")
    parser.add_argument("--write", default="growth")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    if flags.writing:
        written = [writing(name, table_of()) for name in MODELS]
        print(*written, sep="\n")
        print(write_result("writing", {"rows": written}))
        return
    connect("")
    table = table_of()
    table_ref, rows = ray.put(table), []
    for point in scale_points() if flags.scale else points(flags.quick):
        few = 3 if point.model in ("2M", "20M") or point.cohort > 1_000 else flags.rounds
        rows.append(measure(point, table, table_ref, few))
        print(line_of(rows[-1]), flush=True)
    if flags.scale:
        print(write_result("scale", {"rows": rows}))
        return
    model = fitted(rows)
    for row in rows:
        row["fitted_s"] = model.seconds(row, min(row["actors"], CORES))
    errors = [abs(row["fitted_s"] / row["least_seconds"] - 1) for row in rows]
    content = {"rows": rows, "model": vars(model), "median_error": statistics.median(errors), "largest_error": max(errors)}
    content["predicted"] = predicted(model, rows)
    print(f"fitted: {vars(model)}; median error {content['median_error']:.2f}, largest {content['largest_error']:.2f}")
    print(f"64 nodes: {content['predicted']['seconds']:.2f} s a round")
    if flags.write:
        print(write_result(flags.write, content))


def line_of(row: dict[str, Any]) -> str:
    """A row for people."""
    return (
        f"{row['varied']:<8} actors {row['actors']}  clients {row['clients']:>7}  cohort {row['cohort']:>5}  parameters "
        f"{row['parameters']:>9}  {row['seconds']:>8.4f} s  busy {row['busy_frac']:.2f}  {row['memory_mb']:>6.0f} MB  "
        f"{row['moved_bytes'] / 1e6:>8.2f} MB moved  "
        f"driver {row['driver_us_per_client']:.1f} us a client"
    )


if __name__ == "__main__":
    main()
