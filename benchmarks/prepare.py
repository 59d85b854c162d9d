"""`python -m benchmarks.prepare`: speed of `mm_ray.prepare` beside a bare loop, memory of a clip, loading a large store.

Everything is measured in processes of its own, bare loop and preparation in turn, so that what else the machine does
meets both. Writes `results/prepare.json` and `results/prepare.md`.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.prepare_set import write_set
from benchmarks.prepare_text import text_of
from benchmarks.results import FOLDER, write_result

LENGTHS_S = (10, 60, 300, 1200)
Found = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", default="/tmp/mm_ray-bench-prepare", help="Folder for the generated films and the store")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--load_clips", type=int, default=7000)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--wait_s", type=float, default=60, help="Before each repeat, wait so long for a machine that is idle")
    flags = parser.parse_args()
    work = Path(flags.work)
    root, warm = write_set(work / "set", flags.clips), write_set(work / "warm", 12)
    found = {
        "speed": [speed(root, warm, work, flags.wait_s) for _ in range(flags.repeats)],
        "memory": [module("prepare_memory", work / "films", seconds) for seconds in LENGTHS_S],
        "loading": load(work / f"load-{flags.load_clips}", flags.load_clips, flags.actors),
    }
    path = write_result("prepare", {"clips": flags.clips, "medians": medians(found["speed"]), **found})
    (FOLDER / "prepare.md").write_text(text_of(json.loads(path.read_text())))
    print(text_of(json.loads(path.read_text())))


def speed(root: Path, warm: Path, work: Path, wait_s: float) -> Found:
    """One bare loop and one preparation after the other, and each as a whole command."""
    idle = wait_until_idle(wait_s)
    bare, bare_s = timed("-m", "benchmarks.prepare_bare", root)
    steady, _ = timed("-m", "benchmarks.prepare_steady", root, warm, work / "store")
    shutil.rmtree(work / "whole", ignore_errors=True)
    _, whole_s = timed("-m", "mm_ray.prepare", "folder", root, "--out", work / "whole")
    shutil.rmtree(work / "whole")
    return {"idle_before": idle, "bare": json.loads(bare), "bare_command_s": bare_s} | {
        "prepare": json.loads(steady),
        "prepare_command_s": whole_s,
    }


def medians(runs: list[Found]) -> Found:
    """Medians over the repeats; the ratio is the median of the pairs' ratios."""
    pairs = [run["prepare"]["clips_per_s"] / run["bare"]["clips_per_s"] for run in runs]
    return {
        "bare_clips_per_s": median(run["bare"]["clips_per_s"] for run in runs),
        "prepare_clips_per_s": median(run["prepare"]["clips_per_s"] for run in runs),
        "ratio": median(pairs),
        "ratios": pairs,
        "bare_cpu_s_per_clip": median(run["bare"]["cpu_s"] / run["bare"]["clips"] for run in runs),
        "prepare_cpu_s_per_clip": median(run["prepare"]["cpu_s"] / run["prepare"]["clips"] for run in runs),
        "bare_command_s": median(run["bare_command_s"] for run in runs),
        "prepare_command_s": median(run["prepare_command_s"] for run in runs),
    }


def load(store: Path, num_clips: int, num_actors: int) -> list[Found]:
    """Three times; the first call also writes the store."""
    return [module("prepare_load", store, num_clips, num_actors) for _ in range(3)]


def module(name: str, *arguments: object) -> Found:
    found: Found = json.loads(timed("-m", f"benchmarks.{name}", *arguments)[0])
    return found


def timed(*arguments: object) -> tuple[str, float]:
    """The last line that a Python process prints, and its seconds."""
    start = time.perf_counter()
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.stdout.strip().splitlines()[-1], time.perf_counter() - start


def wait_until_idle(wait_s: float) -> float:
    """Returns how idle the machine is, at the latest after `wait_s`."""
    end = time.monotonic() + wait_s
    while (idle := idle_frac()) < 0.8 and time.monotonic() < end:
        pass
    return idle


def idle_frac(seconds: float = 2.0) -> float:
    """How idle the machine is now: what others leave."""

    def ticks() -> tuple[int, int]:
        numbers = [int(part) for part in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return numbers[3] + numbers[4], sum(numbers)

    idle, total = ticks()
    time.sleep(seconds)
    idle_after, total_after = ticks()
    return (idle_after - idle) / max(total_after - total, 1)


if __name__ == "__main__":
    main()
