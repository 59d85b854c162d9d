"""All GPU figures in at most six minutes: chunks of W1 and of features of UCF101's sizes, actors that share a card, a study.

    python -m benchmarks.gpu [--parts chunks,actors,study] [--minutes 6]

- `chunks`: clients trained together against one by one, in float32 and bfloat16, chunks of 10 and 50 clients; peak memory, and
  the share of the card's own limit (a large product in float32 and bfloat16, a large copy, measured in the same run).
- `actors`: a round of the same work on Ray with 1 and 4 client actors that share the card, in chunks of 10 of 50 clients.
- `study`: 4 trials on the card as a command, with `--clients.num_gpus auto`, and the line in which it says what it chose.

What would start after the time is over is left out. Without a CUDA device the same code runs on the CPU with
few clients, to see that it works: its figures are marked as not measured on a GPU, and nothing is written unless --write names
a file.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.results import write_result
from benchmarks.together import start_of, table_of
from benchmarks.workloads import WORKLOADS, Workload, clients_of, phase_of
from mm_ray.data.feature_table import FeatureTable
from mm_ray.devices import make_deterministic
from mm_ray.fed.executor import sum_updates
from mm_ray.fed.federation import Federation
from mm_ray.methods.unifl import UniFLAudio
from mm_ray.models.precision import Precision
from mm_ray.types import ClientData, RoundContext

GOAL = 10.0
REPEATS = 5
ROUNDS = 5
UCF101 = replace(WORKLOADS["w1"], name="ucf101", clips=69, frames=500)
"""The audio network on clips of 10 s, as many per client as UCF101 has for 100 clients."""
WORKS = {"w1": WORKLOADS["w1"], "ucf101": UCF101}
CHUNKS, ACTORS = (10, 50), (1, 4)
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
STUDY_FLAGS = {
    "trials": 4,
    "phase1.rounds": 16,
    "phase2.rounds": 4,
    "partition.num_clients": 20,
    "clients.chunk_size": 3,
    "clients.num_gpus": "auto",
    "tracker": "none",
    "test-seeds": 0,
}
"""Of the embedded data; 20 clients, so that a cohort of 6 makes two chunks."""


def step_flops(work: Workload) -> float:
    """Floating-point operations of one clip, forward and backward: twice the multiply-adds, three times for the gradients."""
    model, steps = work.model, float(work.frames)
    total, width = 0.0, work.bins
    for channels in model.conv_channels:
        total += steps * 5 * width * channels
        steps, width = steps / 2, channels
    total += steps * 3 * model.hidden * (width + model.hidden)
    total += model.hidden * model.classifier_hidden + model.classifier_hidden * work.classes
    return 6 * total


def step_bytes(work: Workload, parameters: int) -> float:
    """Least bytes of one client's step: its batch in half precision; parameters, gradients, momentum in and out."""
    return 2 * work.local.batch_size * work.frames * work.bins + 4 * 6 * parameters


def card_limits(device: str) -> dict[str, float]:
    """FLOP/s of a large product in each precision and bytes/s of a large copy, measured on the device."""
    size, count = (8192, 2**28) if device == "cuda" else (1024, 2**24)
    a, big = torch.randn(size, size, device=device), torch.empty(count, device=device)
    half, copy_s = a.bfloat16(), seconds_of(lambda: big.clone(), device)
    products = {"float32": seconds_of(lambda: a @ a, device), "bfloat16": seconds_of(lambda: half @ half, device)}
    return {**{name: 2 * size**3 / seconds for name, seconds in products.items()}, "bytes_per_s": 2 * 4 * count / copy_s}


def seconds_of(work: Callable[[], object], device: str, repeats: int = REPEATS) -> float:
    """Median seconds; the device has finished before the clock is read."""
    work()
    times = []
    for _ in range(repeats):
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def inputs_of(work: Workload, num_clients: int) -> tuple[FeatureTable, tuple[ClientData, ...]]:
    """Random clips and the clients that hold them."""
    table = table_of(num_clients * work.clips, work.frames)
    return table, clients_of(num_clients, work.clips, table.labels_N)


def compare(work: Workload, clients: int, precision: Precision, device: str, limits: dict[str, float]) -> dict[str, Any]:
    """A chunk together against one by one."""
    table, some = inputs_of(work, clients)
    context = RoundContext(0, 1, start_of(0, work.model, table), {}, table, table.shapes, device)
    alone, together = (replace(phase_of(work, vectorize=on), precision=precision) for on in (False, True))
    few = some[:5]  # one by one takes long, and as long for each
    one, many = (sum_updates(phase.client_updates(context, few)) for phase in (alone, together))
    apart = max(float(np.linalg.norm(one.sums[p] - many.sums[p]) / np.linalg.norm(one.sums[p])) for p in one.sums)
    alone_s = seconds_of(partial(alone.client_updates, context, few), device, 1) / len(few) * clients
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    together_s = seconds_of(partial(together.client_updates, context, some), device)
    clips, steps = clients * work.clips, clients * -(-work.clips // work.local.batch_size)
    parameters = sum(array.size for array in context.params.values())
    flops, moved = clips * step_flops(work), steps * step_bytes(work, parameters)
    least_s = max(flops / limits[precision], moved / limits["bytes_per_s"])
    return {
        "work": work.name,
        "clients": clients,
        "precision": precision,
        "one_by_one_s": alone_s,
        "together_s": together_s,
        "times": alone_s / together_s,
        "largest_distance_of_sums": apart,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None,
        "least_s": least_s,
        "of_the_limit": least_s / together_s,
    }


def rounds_on(work: Workload, precision: Precision, actors: int, cohort: int, device: str) -> dict[str, Any]:
    """Seconds of a round on client actors that share the card, in chunks of a fifth of the cohort."""
    import ray

    from mm_ray.runtime.executor import RayExecutor
    from mm_ray.runtime.placement import Placement

    table, clients = inputs_of(work, cohort)
    phase: UniFLAudio = replace(phase_of(work), precision=precision, sample_frac=1.0, chunk_size=cohort // 5)
    federation = Federation(clients, table, table.shapes, 0, {"data": work.name})
    executor = RayExecutor(ray.put(table), Placement(actors, 0.5, 1 / actors if device == "cuda" else 0.0))
    try:
        executor.open(phase, {}, federation)
        chunks = [clients[i : i + phase.chunk_size] for i in range(0, cohort, phase.chunk_size)]
        params, times = start_of(0, work.model, table), list[float]()
        for number in range(1, ROUNDS + 3):  # actors start and record graphs in the first ones
            started = time.perf_counter()
            executor.run_round(params, number, chunks, {})
            times.append(time.perf_counter() - started)
    finally:
        executor.close()
    return {
        "work": work.name,
        "precision": precision,
        "actors": actors,
        "cohort": cohort,
        "round_s": statistics.median(times[2:]),
    }


def study_on(device: str) -> dict[str, Any]:
    """Seconds of a study as a command, and what it says about the GPU."""
    with tempfile.TemporaryDirectory(prefix="gpu-") as runs:
        flags = [f"--{name}={value}" for name, value in {**STUDY_FLAGS, "runs": runs}.items()]
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "mm_ray.tune", *flags], capture_output=True, text=True, timeout=240)
        seconds = time.perf_counter() - started
    said = next((line for line in done.stdout.splitlines() if line.startswith(("GPU:", "--clients.num_gpus"))), "")
    return {
        "seconds": seconds,
        "exit_code": done.returncode,
        "said": said,
        "error": done.stderr[-500:] if done.returncode else "",
    }


def on_actors(
    works: Sequence[Workload], actors: Sequence[int], cohort: int, device: str, in_time: Callable[[], bool]
) -> list[Any]:
    """The rounds of each work, precision and number of actors, on a Ray of its own."""
    import ray

    from mm_ray.runtime.cluster import connect

    connect("")
    cases = [(work, precision, count) for work in works for precision in PRECISIONS for count in actors]
    found = [rounds_on(work, precision, count, cohort, device) for work, precision, count in cases if in_time()]
    ray.shutdown()
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser("benchmarks.gpu")
    parser.add_argument("--write", default="")
    parser.add_argument("--parts", default="chunks,actors,study")
    parser.add_argument("--minutes", type=float, default=6.0)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    started, parts = time.perf_counter(), flags.parts.split(",")
    on_gpu = torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    make_deterministic()  # as client actors do
    works = list(WORKS.values()) if on_gpu else [replace(work, clips=8, frames=work.frames // 4) for work in WORKS.values()]
    chunks, actors, cohort = (CHUNKS, ACTORS, 50) if on_gpu else ((3,), (1, 2), 5)

    def in_time(minutes: float = flags.minutes) -> bool:
        return time.perf_counter() - started < 60 * minutes

    limits = card_limits(device)
    content: dict[str, Any] = {"measured_on_a_gpu": on_gpu, "device": device, "limits": limits, "goal": GOAL}
    if "study" in parts:  # first, while this process holds no memory of the card but the limits' own
        if on_gpu:
            torch.cuda.empty_cache()
        content["study"] = study_on(device)
    if "chunks" in parts:
        cases = [(work, clients, precision) for work in works for clients in chunks for precision in PRECISIONS]
        content["chunks"] = [compare(work, n, kind, device, limits) for work, n, kind in cases if in_time(0.6 * flags.minutes)]
    if "actors" in parts:
        content["actors"] = on_actors(works, actors, cohort, device, in_time)
    content["seconds"] = time.perf_counter() - started
    print(content)
    if not on_gpu:
        print("no CUDA device: the code ran on the CPU; GPU figures: NOT MEASURED")
    if flags.write or on_gpu:
        print(write_result(flags.write or "gpu", content))


if __name__ == "__main__":
    main()
