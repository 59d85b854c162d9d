"""`python -m benchmarks.prepare`: speed of `mm_ray.prepare` beside a bare loop, memory of a clip, loading a large store.

Writes `results/prepare.json` and `results/prepare.md`.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
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
    parser.add_argument("--pairs", type=int, default=9, help="How many pairs of the bare loop and a preparation")
    parser.add_argument("--load_clips", type=int, default=7000)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--wait_s", type=float, default=60, help="Before each pair, wait at most this long for an idle machine")
    flags = parser.parse_args()
    work = Path(flags.work)
    root, warm = write_set(work / "set", flags.clips), write_set(work / "warm", 12)
    found = {
        "speed": speed(root, warm, work, flags.pairs, flags.wait_s),
        "whole_commands": whole_commands(root, work),
        "memory": [module("prepare_memory", work / "films", seconds) for seconds in LENGTHS_S],
        "loading": load(work / f"load-{flags.load_clips}", flags.load_clips, flags.actors),
    }
    path = write_result("prepare", {"clips": flags.clips, **found})
    (FOLDER / "prepare.md").write_text(text_of(json.loads(path.read_text())))
    print(text_of(json.loads(path.read_text())))


def speed(root: Path, warm: Path, work: Path, num_pairs: int, wait_s: float) -> list[Found]:
    """Bare loop and preparation in turn."""
    lines = timed("-m", "benchmarks.prepare_speed", root, warm, work / "store", num_pairs, wait_s)[0]
    return [json.loads(line) for line in lines.splitlines() if line.startswith("{")]


def whole_commands(root: Path, work: Path) -> Found:
    """Seconds of each as a whole command, with the start of Python, of Ray and of its workers."""
    _, bare_s = timed("-m", "benchmarks.prepare_bare", root)
    shutil.rmtree(work / "whole", ignore_errors=True)
    _, prepare_s = timed("-m", "mm_ray.prepare", "folder", root, "--out", work / "whole")
    shutil.rmtree(work / "whole")
    return {"bare_s": bare_s, "prepare_s": prepare_s}


def load(store: Path, num_clips: int, num_actors: int) -> list[Found]:
    """Three times; the first call also writes the store."""
    return [module("prepare_load", store, num_clips, num_actors) for _ in range(3)]


def module(name: str, *arguments: object) -> Found:
    found: Found = json.loads(timed("-m", f"benchmarks.{name}", *arguments)[0].strip().splitlines()[-1])
    return found


def timed(*arguments: object) -> tuple[str, float]:
    """What a Python process prints, and its seconds."""
    start = time.perf_counter()
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.stdout, time.perf_counter() - start


if __name__ == "__main__":
    main()
