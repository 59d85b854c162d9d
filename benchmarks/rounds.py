"""Seconds per round: mm_ray against a bare PyTorch loop (the floor), pfl-research, Flower's simulation and BlazeFL.

    python -m benchmarks.rounds [--workloads w1,w2,tiny] [--systems ours,floor,pfl,flower,blazefl] [--cycles N] [--write]

All systems run at once and wait at a gate; a cycle lets each play one round, one after the other, in an order that turns. So
whatever else the machine does meets all of them alike, and ratios are taken within a cycle. Before anything is timed all must
have reached the same loss on common clips. All have the same model, first parameters, clips, cohorts and local SGD.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.bars import judged
from benchmarks.results import table_text, write_result
from benchmarks.systems import NAMES, System, missing_peers, start
from benchmarks.workloads import WORKLOADS, Workload, phase_of, read_table, write_inputs, write_settings
from mm_ray.data.batching import gather
from mm_ray.models.flat_params import flat_network
from mm_ray.models.network import PARTS, part_size

PROCESSES = 2
LOSS_ROUNDS = 4
WARM_UP = 2
CYCLES = {"w1": 21, "w2": 7, "w2-1000": 10, "tiny": 40}
STARTS = 2
SAMPLE_S = 0.05
NOISE = 0.02
"""Losses are the same if they differ by less than this part of what training has taken off the first loss."""


def main() -> None:
    """Parse the flags, measure, print, write."""
    parser = argparse.ArgumentParser("benchmarks.rounds")
    parser.add_argument("--workloads", default="tiny,w1,w2,w2-1000")
    parser.add_argument("--systems", default="", help=f"of {','.join(NAMES)}; empty: all that are installed")
    parser.add_argument("--cycles", type=int, default=0, help="timed cycles; 0: as many as the workload has by default")
    parser.add_argument("--starts", type=int, default=STARTS, help="how often each system is started for its time to round 1")
    parser.add_argument("--write", default="rounds", help="name of the file in benchmarks/results; empty: print only")
    flags = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the systems are ended
    torch.set_num_threads(1)
    names = flags.systems.split(",") if flags.systems else [name for name in NAMES if name not in missing_peers()]
    if missing := set(missing_peers()) & set(names):
        raise SystemExit(
            f"{', '.join(sorted(missing))}: not installed here; `make bench` does it, or leave them out: --systems ours,floor"
        )
    if left_out := set(NAMES) - set(names):
        print(f"left out: {', '.join(sorted(left_out))}", flush=True)
    found: dict[str, Any] = {}
    for name in flags.workloads.split(","):
        found[name] = measure(WORKLOADS[name], names, flags.cycles or CYCLES[name], flags.starts)
        print(table_text(name, found[name]), flush=True)
        if flags.write:  # after each, so that a run that is cut off leaves what it has
            write_result(flags.write, {"processes": PROCESSES, "workloads": found, "bars": judged(found)})
    for bar in judged(found):
        print(f"{'met    ' if bar['met'] else 'NOT MET'} {bar['text']}: {bar['value']:.3f}, bar {bar['limit']}")


def measure(work: Workload, names: Sequence[str], cycles: int, starts: int) -> dict[str, Any]:
    """All systems on one workload: times, processor seconds, memory, losses."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        folder = Path(place)
        write_inputs(work, folder, PROCESSES)
        losses = same_losses(work, folder, names)
        first = {name: [first_round(name, work, folder) for _ in range(starts)] for name in names}
        systems = [start(name, work.name, folder, PROCESSES) for name in names]
        try:
            for cycle in range(WARM_UP + cycles):
                for offset in range(len(systems)):
                    systems[(cycle + offset) % len(systems)].play()
            for system in systems:
                del system.rounds[:WARM_UP]
            memory = {system.name: peak_memory(system) for system in systems}
        finally:
            for system in systems:
                system.end()
    return {
        "load": [round(value, 1) for value in os.getloadavg()],
        "parameters": sum(part_size(part, work.model, work.shapes) for part in PARTS["audio"]),
        "clients": work.clients,
        "cohort": work.cohort,
        "losses": losses,
        "systems": {s.name: summary(s, systems[0], memory[s.name], first.get(s.name, [])) for s in systems},
    }


def first_round(name: str, work: Workload, folder: Path) -> tuple[float, float]:
    """Seconds from the start of the process to the end of round 1, and of round 1."""
    system = start(name, work.name, folder, PROCESSES)
    try:
        played = system.play()
        return system.seconds_since_start(), played.wall_s
    finally:
        system.end()


def summary(system: System, ours: System, peak_mb: float, first: list[tuple[float, float]]) -> dict[str, Any]:
    """What is stored of a system; ratios are ours over its own, within a cycle."""
    walls = [played.wall_s for played in system.rounds]
    pairs = [mine.wall_s / other.wall_s for mine, other in zip(ours.rounds, system.rounds, strict=True)]
    quartiles = statistics.quantiles(pairs, n=4)
    return {
        "median_s": statistics.median(walls),
        "least_s": min(walls),
        "cpu_s": statistics.median(played.cpu_s for played in system.rounds),
        "ours_of_it": statistics.median(pairs),
        "ours_of_it_quartiles": [quartiles[0], quartiles[2]],
        "cpu_ours_of_it": statistics.median(p.cpu_s for p in ours.rounds) / statistics.median(p.cpu_s for p in system.rounds),
        "peak_mb": peak_mb,
        "start_to_round_1_s": statistics.median(seconds for seconds, _ in first) if first else None,
        "rounds": len(walls),
    }


def same_losses(work: Workload, folder: Path, names: Sequence[str]) -> dict[str, float]:
    """Every system's loss on common clips after the same rounds, without dropout: all else is the same to the last batch.

    Raises:
        SystemExit: They differ, or nothing was learnt.

    """
    write_settings(work.with_dropout(0.0), folder, PROCESSES)
    losses = {"start": loss_of(work, folder, np.load(folder / "start.npy"))}
    for name in names:
        system = start(name, work.name, folder, PROCESSES)
        try:
            for _ in range(LOSS_ROUNDS):
                system.play()
            losses[name] = loss_of(work, folder, system.params())
        finally:
            system.end()
    write_settings(work, folder, PROCESSES)
    ends = [losses[name] for name in names]
    learnt = losses["start"] - statistics.median(ends)
    if learnt <= 0 or max(ends) - min(ends) > NOISE * learnt:
        raise SystemExit(f"{work.name}: the systems do not reach the same loss: {losses}")
    return losses


def loss_of(work: Workload, folder: Path, flat_P: np.ndarray) -> float:
    """Mean cross-entropy on the common clips, which nobody trains on."""
    from benchmarks.workloads import DEV_CLIPS

    table = read_table(work, folder, DEV_CLIPS)
    net = flat_network("audio", phase_of(work).model, table.shapes)
    net.params.copy_(torch.from_numpy(flat_P))
    batch = gather(table, table.rows("dev"), ("audio",))
    with torch.no_grad():
        return float(functional.cross_entropy(net.network(batch).logits_BC, batch.labels_B))


def peak_memory(system: System) -> float:
    """The most memory of all its processes in two rounds, MB (proportional set size)."""
    with sampled(system) as samples:
        for _ in range(2):
            system.play()
    del system.rounds[-2:]
    return max(samples)


@contextmanager
def sampled(system: System) -> Iterator[list[float]]:
    """Samples of a system's memory while the block runs."""
    samples, over = [system.pss_mb()], threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_S):
            samples.append(system.pss_mb())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main()
