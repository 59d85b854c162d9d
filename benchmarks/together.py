"""A prototype: trials that differ only in scalars, trained together as one stacked population.

    python -m benchmarks.together

Four trials with parameters and learning rates of their own train the same six clients: once trial by trial, each a stack of
six, and once as one stack of 24. It is kept if it brings 1.5 times on a CPU (or 4 times on a GPU) at equal results.
"""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from benchmarks.results import write_result
from benchmarks.workloads import NET, SMALL_NET, clients_of, cpu_s, table_from
from mm_ray.config import LocalConfig, ModelConfig
from mm_ray.data.feature_table import FeatureTable
from mm_ray.fed.batched_training import BatchedLocalTrainer
from mm_ray.models.network import PARTS, init_part
from mm_ray.seeding import torch_stream
from mm_ray.types import Arrays, ClientData, ClientUpdate, RoundContext

TRIALS, CLIENTS, CLASSES = 4, 6, 10
LOCAL = LocalConfig(epochs=1)
NEEDED = 1.5
CASES = {
    "170k, 30 clips of 50x80": (NET, 30, 50),
    "170k, 40 clips of 200x80": (NET, 40, 200),
    "20k, 10 clips of 16x80": (SMALL_NET, 10, 16),
}


class Population(BatchedLocalTrainer):
    """A stack whose rows belong to several trials: parameters and learning rate differ by trial."""

    def __init__(
        self, contexts: Sequence[RoundContext], model: ModelConfig, clients: Sequence[ClientData], lrs: Sequence[float]
    ):
        everyone = [client for _ in contexts for client in clients]
        super().__init__("audio", model, contexts[0], everyone, LOCAL, "s")
        trials = np.repeat(np.arange(len(contexts)), len(clients))[self._order]
        for row, trial in enumerate(trials):
            self._net.copy(row).load(contexts[trial].params)
        self._start.copy_(self._params)
        # Moving by lr is moving by 1 along gradients, decay and momentum that were scaled by it.
        self._lrs_K1 = torch.tensor([[lrs[trial]] for trial in trials])

    @torch.no_grad()
    def _move(self, active: int) -> None:
        params, grads, momentum = self._params[:active], self._grads[:active], self._momentum[:active]
        norm = torch.linalg.vector_norm(grads, dim=-1, keepdim=True)
        grads.mul_((LOCAL.clip_norm / (norm + 1e-6)).clamp(max=1.0)).add_(params, alpha=LOCAL.weight_decay)
        torch.add(grads, momentum, alpha=LOCAL.momentum, out=momentum)
        params.addcmul_(momentum, self._lrs_K1[:active], value=-1)
        grads.zero_()


def table_of(clips: int, frames: int, bins: int = 80) -> FeatureTable:
    """Random clips."""
    rng = np.random.default_rng(0)
    audio_XF = rng.standard_normal((clips * frames, bins), np.float32).astype(np.float16)
    return table_from(audio_XF, frames, rng.integers(0, CLASSES, clips), np.zeros(clips, np.int8), CLASSES, "together")


def loss(output: object, batch: object, client: ClientData) -> torch.Tensor:
    """Cross-entropy; a temperature per row would add two products to it."""
    return functional.cross_entropy(output.logits_BC, batch.labels_B)  # type: ignore[attr-defined]


def compare(model: ModelConfig, clips: int, frames: int, repeats: int) -> dict[str, float]:
    """Processor seconds of both ways, and how far their updates are apart."""
    table = table_of(CLIENTS * clips, frames)
    clients = clients_of(CLIENTS, clips, table.labels_N)
    lrs = [0.01 * (trial + 1) for trial in range(TRIALS)]
    contexts = [RoundContext(0, 1, start_of(trial, model, table), {}, table, table.shapes) for trial in range(TRIALS)]

    def apart() -> list[ClientUpdate]:
        each = zip(contexts, lrs, strict=True)
        return [
            u
            for c, lr in each
            for u in BatchedLocalTrainer("audio", model, c, clients, replace(LOCAL, lr=lr), "s").train(loss, True)
        ]

    def together() -> list[ClientUpdate]:
        return Population(contexts, model, clients, lrs).train(loss, True)

    distance = max(
        float(np.linalg.norm(a.sums[part] - b.sums[part]) / np.linalg.norm(a.sums[part]))
        for a, b in zip(apart(), together(), strict=True)
        for part in a.sums
    )
    assert np.isfinite(distance)
    seconds = [(cpu_s(apart), cpu_s(together)) for _ in range(repeats)]
    return {
        "apart_s": statistics.median(a for a, _ in seconds),
        "together_s": statistics.median(b for _, b in seconds),
        "times": statistics.median(a / b for a, b in seconds),
        "largest_distance": distance,
    }


def start_of(trial: int, model: ModelConfig, table: FeatureTable) -> Arrays:
    """A trial's parameters."""
    return {part: init_part(part, model, table.shapes, torch_stream(trial, part)) for part in PARTS["audio"]}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser("benchmarks.together")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--write", default="together")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: compare(*case, flags.repeats) for name, case in CASES.items()}
    for name, row in found.items():
        print(f"{name:<28}{row['times']:.2f} times, updates within {row['largest_distance']:.1e}")
    if flags.write:
        print(write_result(flags.write, {"trials": TRIALS, "clients": CLIENTS, "cases": found, "needed": NEEDED}))


if __name__ == "__main__":
    main()
