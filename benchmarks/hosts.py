"""Rounds on 1, 2, 4 and 8 worker hosts, beside the prediction of the model that `benchmarks.growth` fitted.

    python -m benchmarks.hosts [--workers 1,2,4,8] [--rounds N] [--add]

The hosts are namespaces of this machine (`tests/cluster/hosts.py`; needs root on Linux): each has its own network, processes
and Ray. The head drives the rounds and has no client actor, each worker host has one. The hosts share this machine's cores, so
each chunk of clients trains and then sleeps until `benchmarks.sleepy.CHUNK_S` are over: the table shows what the platform adds,
not how fast clients train.
"""

import argparse
import json
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.growth import CORES, POOL, RoundTime, table_of
from benchmarks.hosts_rounds import CHUNKS, POINT, parameters, serial_digest
from benchmarks.memory import pss_mb, tree
from benchmarks.results import FOLDER, write_result
from benchmarks.sleepy import CHUNK_S
from tests.cluster.hosts import ROOT, Hosts, NoHosts, addresses_of, missing

HEAD_PORT = 6379
STORE_BYTES = 200_000_000
LONGEST_S = 240
IDLE_S = 5.0


class Traffic(NamedTuple):
    """Bytes that a host has received and sent over its network interface."""

    received: float
    sent: float

    def since(self, before: "Traffic") -> "Traffic":
        return Traffic(self.received - before.received, self.sent - before.sent)


def traffic_of(net_dev: str) -> Traffic:
    """The counters of `eth0` in the text of a process's `net/dev`."""
    line = next(line for line in net_dev.splitlines() if line.strip().startswith("eth0:"))
    values = line.partition(":")[2].split()
    return Traffic(int(values[0]), int(values[8]))


def start_ray(hosts: Hosts, names: Sequence[str], flags: str, environment: dict[str, str]) -> None:
    """Start Ray on some hosts, as docs/cluster.md does on one."""
    command = f"ulimit -Sn hard; ray start {flags} --object-store-memory {STORE_BYTES} --disable-usage-stats"
    for first in range(0, len(names), CORES):  # if all start at once, they exceed the 30 s that Ray gives each
        starting = {name: hosts.start(name, command, **environment) for name in names[first : first + CORES]}
        for name, process in starting.items():
            output, _ = process.communicate(timeout=LONGEST_S)
            assert process.returncode == 0, f"{name}: {output[-2000:]}"


def measured(hosts: Hosts, workers: Sequence[str], rounds: int, environment: dict[str, str]) -> dict[str, Any]:
    """Medians over rounds on these worker hosts; the first round, which brings the clips to the hosts, is apart."""

    def counters() -> dict[str, Traffic]:
        return {name: traffic_of(Path(f"/proc/{hosts.init(name)}/net/dev").read_text()) for name in ("head", *workers)}

    before, started = counters(), time.monotonic()
    time.sleep(IDLE_S)
    idle = mean_of([counters()[name].since(before[name]) for name in workers])
    waited = time.monotonic() - started
    command = f"exec timeout {LONGEST_S} python -m benchmarks.hosts_rounds {len(workers)} {rounds + 1}"
    driver = hosts.start("head", command, **environment)
    reports, seen, other = [], [counters()], list[str]()
    digest, memory = "", 0.0
    assert driver.stdout is not None
    for line in driver.stdout:
        if not line.startswith("{"):
            other.append(line)
            continue
        found = json.loads(line)
        if "digest" in found:
            digest = found["digest"]
            continue
        seen.append(counters())
        reports.append(found)
        if len(reports) == rounds + 1:
            memory = statistics.mean(sum(map(pss_mb, tree(hosts.init(name)))) for name in workers)
    assert driver.wait() == 0, "".join(other)[-4000:]
    per_round = [{name: now[name].since(last[name]) for name in now} for last, now in pairwise(seen[1:])]
    worker = [mean_of([found[name] for name in workers]) for found in per_round]
    seconds = [report["seconds"] for report in reports[1:]]
    return {
        "workers": len(workers),
        "seconds": statistics.median(seconds),
        "least_seconds": min(seconds),
        "most_seconds": max(seconds),
        "all_seconds": seconds,
        "first_round_s": reports[0]["seconds"],
        "busy_frac": statistics.median(report["busy_frac"] for report in reports[1:]),
        "actor_s": statistics.median(report["busy_frac"] * report["seconds"] for report in reports[1:]),
        "moved_bytes": reports[-1]["moved_bytes"],
        "worker_traffic": median_of(worker)._asdict(),
        "head_traffic": median_of([found["head"] for found in per_round])._asdict(),
        "idle_bytes_per_s": {name: value / waited for name, value in idle._asdict().items()},
        "first_round_worker_traffic": mean_of([seen[1][name].since(seen[0][name]) for name in workers])._asdict(),
        "memory_mb_per_worker_host": memory,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "load": round(os.getloadavg()[0], 1),
        "digest": digest,
    }


def mean_of(found: Sequence[Traffic]) -> Traffic:
    """The mean of each direction."""
    return Traffic(*(statistics.mean(values) for values in zip(*found, strict=True)))


def median_of(found: Sequence[Traffic]) -> Traffic:
    """The median of each direction."""
    return Traffic(*(statistics.median(values) for values in zip(*found, strict=True)))


def predicted_row(model: RoundTime, workers: int, size: int) -> dict[str, float]:
    """What the model says of a round: seconds, and bytes that each worker host receives and sends.

    Args:
        model: The coefficients, fitted on one machine.
        workers: Client actors, each on a host of its own.
        size: Bytes of the network's parameters: each host gets them once, and each chunk's sum comes back.

    """
    moved = size * (CHUNKS + workers)
    row = {"cohort": POINT.cohort, "clients": POINT.clients, "moved_bytes": moved, "compute_s": CHUNKS * CHUNK_S}
    return {"seconds": model.seconds(row, workers), "received": size, "sent": size * CHUNKS / workers}


def with_speed_up(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with their speed-up over the fewest workers and the efficiency, measured and predicted."""
    first = rows[0]

    def gained(base: float, now: float, workers: int) -> dict[str, float]:
        return {"speed_up": base / now, "efficiency": base * first["workers"] / (now * workers)}

    found = []
    for row in rows:
        workers, predicted = row["workers"], row["predicted"]
        predicted = predicted | gained(first["predicted"]["seconds"], predicted["seconds"], workers)
        found.append(row | gained(first["seconds"], row["seconds"], workers) | {"predicted": predicted})
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown; predictions in brackets."""
    lines = [
        "| worker hosts | s per round | least to most | of it an actor works, s | speed-up | efficiency "
        "| MB received per worker host | MB sent |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        predicted, moved = row["predicted"], row["worker_traffic"]
        cells = (
            f"{row['workers']}",
            f"{row['seconds']:.3f} ({predicted['seconds']:.3f})",
            f"{row['least_seconds']:.3f} to {row['most_seconds']:.3f}",
            f"{row['actor_s']:.3f} ({CHUNKS * CHUNK_S / row['workers']:.3f})",
            f"{row['speed_up']:.2f} ({predicted['speed_up']:.2f})",
            f"{row['efficiency']:.2f} ({predicted['efficiency']:.2f})",
            f"{moved['received'] / 1e6:.2f} ({predicted['received'] / 1e6:.2f})",
            f"{moved['sent'] / 1e6:.2f} ({predicted['sent'] / 1e6:.2f})",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Start hosts, measure on more and more of them, print, write."""
    parser = argparse.ArgumentParser("benchmarks.hosts")
    parser.add_argument("--workers", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--add", action="store_true", help="keep the stored rows of other numbers of workers")
    parser.add_argument("--write", default="hosts")
    flags = parser.parse_args()
    if missing():
        sys.exit(f"benchmarks.hosts {missing()}")
    names = [f"worker{number}" for number in range(1, max(flags.workers) + 1)]
    model = RoundTime(**json.loads((FOLDER / "growth.json").read_text())["model"])
    size, rows, running = 4 * parameters(table_of()), [], 0
    address = f"{addresses_of(['client', 'head', *names])['head']}:{HEAD_PORT}"
    environment = {"RAY_AUTH_TOKEN": secrets.token_hex(32), "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        hosts = Hosts(Path(folder), ["client", "head", *names])
        try:
            hosts.up()
            start_ray(hosts, ["head"], f"--head --port={HEAD_PORT} --num-cpus 0 --include-dashboard=false", environment)
            for workers in sorted(flags.workers):
                start_ray(hosts, names[running:workers], f"--address={address} --num-cpus 1", environment)
                running = workers
                row = measured(hosts, names[:workers], flags.rounds, environment)
                rows.append(row | {"predicted": predicted_row(model, workers, size)})
                print(json.dumps(rows[-1]), flush=True)
        except NoHosts as error:
            sys.exit(f"benchmarks.hosts: {error}")
        finally:
            hosts.down()
    if flags.add:
        stored = json.loads((FOLDER / f"{flags.write}.json").read_text())["rows"]
        rows = sorted([*rows, *(row for row in stored if row["workers"] not in flags.workers)], key=itemgetter("workers"))
    digests = {row["digest"] for row in rows} | {serial_digest(flags.rounds + 1)}
    content = {
        "clients": POINT.clients, "cohort": POINT.cohort, "chunks": CHUNKS, "chunk_s": CHUNK_S, "clips": POOL,
        "parameters": size // 4, "rounds": flags.rounds, "rows": with_speed_up(rows), "model": vars(model),
        "equal_bits": len(digests) == 1,
    }  # fmt: skip
    print(table(content["rows"]))
    print(f"the same bits on every number of hosts and serially: {'yes' if content['equal_bits'] else 'NO'}")
    if flags.write:
        print(write_result(flags.write, content))


if __name__ == "__main__":
    main()
