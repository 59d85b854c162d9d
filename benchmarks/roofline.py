"""Where a training step of a chunk spends its time, beside what the machine can do.

    python -m benchmarks.roofline [--runs N]

For the shapes of W1, W2 and tiny, in float32 and bfloat16, on one core: each operation of a step's forward and backward pass,
its time, GFLOP/s, bytes/s, and its share of the machine's limit. The limit is the time that its FLOPs take at the speed of a
large product, or its bytes at that of a large copy, whichever is longer; both are measured in the same run. FLOPs are counted
by torch's formulas, bytes are those of an operation's inputs and outputs, so what stays in a cache may exceed the copy's speed.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.results import write_result
from benchmarks.workloads import SEED, WORKLOADS, Workload
from mm_ray.models.batched.network import StackedNetwork
from mm_ray.models.dropout import StackedDropout
from mm_ray.models.network import PARTS, init_part
from mm_ray.models.precision import Precision, forward_precision, full_precision
from mm_ray.seeding import torch_stream
from mm_ray.types import StackedBatch

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
PRODUCT, COPY_BYTES = 2_048, 256_000_000
SHOWN = 10
"""Operations of a step that are shown by themselves; the others are summed up."""
Step = Callable[[], None]


class OperationTimer(TorchDispatchMode):
    """Notes each operation that runs inside of it: name and shapes, seconds, FLOPs and bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[float]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run and note one operation."""
        kwargs = kwargs or {}
        started = time.perf_counter()
        result = func(*args, **kwargs)
        seconds = time.perf_counter() - started
        inputs = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        if not func.is_view:
            outputs = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
            moved = sum(value.nbytes for value in {id(value): value for value in (*inputs, *outputs)}.values())
            shapes = ", ".join("x".join(map(str, value.shape)) for value in inputs[:2])
            row = self.found.setdefault(f"{func._overloadpacket.__name__} ({shapes})", [0.0, 0.0, 0.0, 0.0])
            row[:] = [row[0] + seconds, row[1] + flops_of(func, args, kwargs, result), row[2] + moved, row[3] + 1]
        return result


def flops_of(func: Any, args: Any, kwargs: Any, result: Any) -> float:
    """FLOPs of one operation; of a grouped convolution's backward pass by hand, where torch's formula leaves out the groups."""
    name = func._overloadpacket.__name__
    if name in ("convolution", "convolution_backward"):
        backward = name.endswith("backward")
        outputs, weight = (args[0], args[2]) if backward else (result, args[1])
        return 2.0 * outputs.numel() * weight[0].numel() * (sum(args[-1][:2]) if backward else 1)
    formula = flop_registry.get(func._overloadpacket)
    return float(formula(*args, **kwargs, out_val=result)) if formula else 0.0


def step_of(work: Workload, precision: Precision) -> tuple[Step, int]:
    """One training step of a chunk without the optimiser, and its number of clients."""
    clients, batch_size = work.chunk_size, min(work.clips, work.local.batch_size)
    net = StackedNetwork("audio", work.model, work.shapes, clients, "cpu")
    net.load({part: init_part(part, work.model, work.shapes, torch_stream(SEED, "init", "p", part)) for part in PARTS["audio"]})
    rng = np.random.default_rng(SEED)
    audio = torch.from_numpy(rng.standard_normal((batch_size, work.frames, clients, work.bins), np.float32))
    labels = torch.from_numpy(rng.integers(0, work.classes, (clients, batch_size)))
    lengths = np.full((clients, batch_size), work.frames)
    rows = (batch_size,) * clients
    batch = StackedBatch(rows, audio, lengths, None, None, labels, np.zeros((clients, batch_size), np.int64))
    generators = [torch.Generator().manual_seed(k) for k in range(clients)]

    def step() -> None:
        with forward_precision(precision, "cpu"):
            output = net.forward(batch, StackedDropout(generators, work.model.dropout, rows))
        logits_BC = full_precision(output).logits_BC.flatten(0, 1)
        net.backward(functional.cross_entropy(logits_BC, labels.flatten()), clients)

    return step, clients


def limits(runs: int) -> dict[str, Any]:
    """GFLOP/s of a large product by precision, and GB/s (read and written) of a large copy."""
    found: dict[str, Any] = {"gflops": {}}
    for name in PRECISIONS:
        a = torch.ones(PRODUCT, PRODUCT, dtype=getattr(torch, name))
        found["gflops"][name] = 2 * PRODUCT**3 / least(lambda a=a: a @ a, runs) / 1e9  # type: ignore[misc]
    source = torch.ones(COPY_BYTES // 4)
    target = torch.empty_like(source)
    found["gb_per_s"] = 2 * COPY_BYTES / least(lambda: target.copy_(source), runs) / 1e9
    return found


def least(work: Callable[[], object], runs: int) -> float:
    """The shortest of some runs, in seconds, after one that is not counted: other work on the machine only adds."""
    work()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def measure(work: Workload, precision: Precision, limit: dict[str, Any], runs: int) -> dict[str, Any]:
    """A workload's step by its operations, the slowest first; the least of the runs."""
    step, clients = step_of(work, precision)
    whole = least(step, runs)
    timers = []
    for _ in range(runs):
        with OperationTimer() as timer:
            step()
        timers.append(timer.found)
    flop_s, byte_s = limit["gflops"][precision] * 1e9, limit["gb_per_s"] * 1e9
    rows = []
    for name, (_, flops, moved, calls) in timers[0].items():
        seconds = min(found[name][0] for found in timers)
        ideal = max(flops / flop_s, moved / byte_s)
        rates = {"gflops": flops / seconds / 1e9, "gb_per_s": moved / seconds / 1e9, "share_of_limit": ideal / seconds}
        rows.append({"operation": name, "calls": int(calls), "ms": 1e3 * seconds, **rates, "flops": flops})
    rows.sort(key=lambda row: -row["ms"])
    flops, products = sum(row["flops"] for row in rows), [row for row in rows if row["flops"]]
    products_ms, rest = sum(row["ms"] for row in products), rows[SHOWN:]
    return {
        "workload": work.name,
        "precision": precision,
        "clients": clients,
        "step_ms": 1e3 * whole,
        "flops": flops,
        "gflops": flops / whole / 1e9,
        "operations_ms": sum(row["ms"] for row in rows),
        "products_ms": products_ms,
        "products_share_of_limit": flops / flop_s * 1e3 / products_ms,
        "operations": rows[:SHOWN],
        "others": {"kinds": len(rest), "calls": sum(row["calls"] for row in rest), "ms": sum(row["ms"] for row in rest)},
    }


def table(step: dict[str, Any]) -> str:
    """A step as a Markdown table."""
    head = f"{step['workload']}, {step['precision']}: {step['step_ms']:.2f} ms a step of {step['clients']} clients, "
    lines = [
        f"{head}{step['gflops']:.0f} GFLOP/s\n",
        "| operation (its first two inputs) | calls | ms | GFLOP/s | GB/s | of the limit |",
    ]
    lines.append("|---|---|---|---|---|---|")
    for row in step["operations"]:
        lines.append(
            f"| {row['operation']} | {row['calls']} | {row['ms']:.2f} | {row['gflops']:.0f} | {row['gb_per_s']:.1f} | "
            f"{row['share_of_limit']:.2f} |"
        )
    rest = step["others"]
    lines.append(f"| {rest['kinds']} others | {rest['calls']} | {rest['ms']:.2f} | | | |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser("benchmarks.roofline")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--write", default="roofline")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    limit = limits(flags.runs)
    print(f"limits: {limit}")
    steps = [measure(WORKLOADS[name], kind, limit, flags.runs) for name in ("w1", "w2", "tiny") for kind in PRECISIONS]
    print("\n\n".join(map(table, steps)))
    if flags.write:
        print(write_result(flags.write, {"limits": limit, "steps": steps}))


if __name__ == "__main__":
    main()
