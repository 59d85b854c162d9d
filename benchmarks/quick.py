"""The regression check before a release (`make bench-quick`, under two minutes): ratios now against the stored ones.

    python -m benchmarks.quick [--store]

Ratios are of processor seconds, taken alternately in this process, so other work on the machine moves them little. A ratio
that is more than a quarter above the stored one fails. `--store` replaces the stored ones.
"""

import argparse
import json
import statistics
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.peers.plain import PlainNet, Settings, flat, put, train
from benchmarks.results import FOLDER, write_result
from benchmarks.together import start_of, table_of
from benchmarks.workloads import WORKLOADS, Workload, clients_of, cpu_s, phase_of, settings_of
from mm_ray.data.feature_table import FeatureTable
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.federation import Federation
from mm_ray.types import Arrays, ClientData, RoundContext

ALLOWED = 1.25
REPEATS = 5
CLIENTS = {"w1": 5, "w2": 50, "tiny": 10}
"""Few clients of each workload: one chunk."""


def ratios_of(work: Workload, num_clients: int) -> dict[str, float]:
    """Together and one by one, of a plain PyTorch loop over the same clients; and what the executor adds."""
    table = table_of(num_clients * work.clips, work.frames, work.bins)
    clients = clients_of(num_clients, work.clips, table.labels_N)
    params = start_of(0, work.model, table)
    context = RoundContext(0, 1, params, {}, table, table.shapes)
    together, alone = (phase_of(work, vectorize=on) for on in (True, False))
    executor = SerialExecutor()
    executor.open(together, {}, Federation(tuple(clients), table, table.shapes, 0, {}))
    ways: dict[str, Callable[[], object]] = {
        "plain": plain_loop(work, params, table, clients),
        "together": lambda: together.client_updates(context, clients),
        "one_by_one": lambda: alone.client_updates(context, clients),
        "round": lambda: executor.run_round(params, 1, [tuple(clients)], {}),
    }
    for way in ways.values():
        way()
    seconds = [{name: cpu_s(way) for name, way in ways.items()} for _ in range(REPEATS)]
    return {f"{name}_of_plain": statistics.median(s[name] / s["plain"] for s in seconds) for name in ways if name != "plain"}


def plain_loop(work: Workload, params: Arrays, table: FeatureTable, clients: list[ClientData]) -> Callable[[], object]:
    """The floor's inner loop in one process."""
    settings = Settings(**settings_of(work, 1))
    model, start_P = PlainNet(settings), torch.from_numpy(np.concatenate(list(params.values())))
    shape = (-1, work.frames, work.bins)
    clips_NTF = torch.from_numpy(table.audio_flat_XF.astype(np.float32)).view(shape)
    labels_N = torch.from_numpy(table.labels_N)

    def loop() -> None:
        total = torch.zeros_like(start_P)
        for client in clients:
            put(model, start_P)
            rows = torch.from_numpy(client.indices)
            train(model, clips_NTF[rows], labels_N[rows], settings)
            total += (flat(model) - start_P) * client.num_clips

    return loop


def main() -> None:
    """Measure, compare with what is stored, exit 1 if something became slower."""
    parser = argparse.ArgumentParser("benchmarks.quick")
    parser.add_argument("--store", action="store_true")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: ratios_of(WORKLOADS[name], clients) for name, clients in CLIENTS.items()}
    path = FOLDER / "quick.json"
    stored = json.loads(path.read_text())["ratios"] if path.exists() else {}
    slower = []
    for name, ratios in found.items():
        for ratio, value in ratios.items():
            before = stored.get(name, {}).get(ratio)
            print(f"{name:<6}{ratio:<24}{value:>7.3f}" + (f"   stored {before:.3f}" if before else ""))
            if before and value > ALLOWED * before:
                slower.append(f"{name} {ratio}: {value:.3f}, stored {before:.3f}")
    if flags.store:
        print(write_result("quick", {"ratios": found, "allowed": ALLOWED}))
    elif slower:
        raise SystemExit("slower than stored:\n" + "\n".join(slower))


if __name__ == "__main__":
    main()
