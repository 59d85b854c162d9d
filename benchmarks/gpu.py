"""All GPU figures: clients of W1 trained together against one by one, and the distance from the card's limit.

    python -m benchmarks.gpu

Without a CUDA device the same code runs on the CPU with few clients, to see that it works; its figures are then marked as not
measured on a GPU, and nothing is written unless --write names a file.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.results import write_result
from benchmarks.together import start_of, table_of
from benchmarks.workloads import WORKLOADS, Workload, clients_of, phase_of
from mm_ray.fed.executor import sum_updates
from mm_ray.runtime.device import make_deterministic
from mm_ray.types import RoundContext

GOAL = 10.0
REPEATS = 5
CLIENTS = (10, 50)
"""Of a chunk: W1's cohort, and five of them."""


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


def card_limits(device: str) -> dict[str, float] | None:
    """Float32 FLOP/s of a large product and bytes/s of a large copy, measured on the card."""
    if device != "cuda":
        return None
    a, big = torch.randn(8192, 8192, device=device), torch.empty(2**28, device=device)
    product, copy = seconds_of(lambda: a @ a, device), seconds_of(lambda: big.clone(), device)
    return {"flops_per_s": 2 * 8192**3 / product, "bytes_per_s": 2 * 4 * 2**28 / copy}


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Median seconds; the device has finished before the clock is read."""
    work()
    times = []
    for _ in range(REPEATS):
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


def compare(work: Workload, clients: int, device: str) -> dict[str, Any]:
    """One by one against together."""
    table = table_of(clients * work.clips, work.frames)
    some = clients_of(clients, work.clips, table.labels_N)
    context = RoundContext(0, 1, start_of(0, work.model, table), {}, table, table.shapes, device)
    alone, together = (phase_of(work, vectorize=on) for on in (False, True))
    one, many = (sum_updates(phase.client_updates(context, some)) for phase in (alone, together))
    apart = max(float(np.linalg.norm(one.sums[p] - many.sums[p]) / np.linalg.norm(one.sums[p])) for p in one.sums)
    seconds = [seconds_of(lambda phase=phase: phase.client_updates(context, some), device) for phase in (alone, together)]
    clips, steps = clients * work.clips, clients * -(-work.clips // work.local.batch_size)
    parameters = sum(array.size for array in context.params.values())
    return {
        "clients": clients,
        "one_by_one_s": seconds[0],
        "together_s": seconds[1],
        "times": seconds[0] / seconds[1],
        "largest_distance_of_sums": apart,
        "flops": clips * step_flops(work),
        "bytes": steps * step_bytes(work, parameters),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser("benchmarks.gpu")
    parser.add_argument("--write", default="")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    on_gpu = device == "cuda"
    make_deterministic()  # as client actors do
    found = [compare(WORKLOADS["w1"], clients, device) for clients in (CLIENTS if on_gpu else (3,))]
    limits = card_limits(device)
    for line in found:
        if limits:
            least = max(line["flops"] / limits["flops_per_s"], line["bytes"] / limits["bytes_per_s"])
            line |= {"least_s": least, "of_the_limit": least / line["together_s"]}
    content = {"measured_on_a_gpu": on_gpu, "device": device, "limits": limits, "w1": found, "goal": GOAL}
    print(content)
    if not on_gpu:
        print("no CUDA device: the code ran on the CPU; GPU figures: NOT MEASURED")
    if flags.write or on_gpu:
        print(write_result(flags.write or "gpu", content))


if __name__ == "__main__":
    main()
