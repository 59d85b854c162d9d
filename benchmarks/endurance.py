"""Long and large: a run of half an hour, a study of 300 trials, an object store that is too small, a straggler.

    python -m benchmarks.endurance soak [--minutes 30]
    python -m benchmarks.endurance trials [--trials 300]
    python -m benchmarks.endurance spill
    python -m benchmarks.endurance straggler

Each writes its part of `results/endurance.json`. Other work on the machine changes the times, not what is asked here: whether
memory stays, whether the last trials are as fast as the first ones, whether the bits are those of a serial run.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.endurance_spill import spill
from benchmarks.endurance_straggler import straggler
from benchmarks.memory import pss_mb, title, tree
from benchmarks.results import FOLDER, made

ROLES = {b"ray::RayTrainWorker": "round loop", b"ray::ClientActor": "client actors", b"ray::ResourceTrainable": "trials"}
"""Which of the command's processes are looked at, by the title that Ray gives them; the command's own is the `driver`."""
LOOK_S = 15.0
WARM_UP = 0.2
"""The first fifth of the samples is left out of a slope: caches and pools fill."""
SMALL = {
    "data.synthetic.clips_per_class": 40,
    "phase1.rounds": 5,
    "phase1.local.epochs": 1,
    "phase2.local.epochs": 1,
    "model.conv_channels": "[16,16,32]",
    "model.hidden": 32,
    "model.classifier_hidden": 32,
}
TRIALS_OF_A_PART = 50
SPACE = """
def space(trial):
    return {
        "phase2.temperature": trial.suggest_float("phase2.temperature", 1, 20, log=True),
        "phase2.local.lr": trial.suggest_float("phase2.local.lr", 1e-3, 0.3, log=True),
        "phase2.rounds": trial.suggest_int("phase2.rounds", 3, 6),
    }
"""

Samples = list[tuple[float, dict[str, float]]]


def soak(minutes: float, folder: Path) -> dict[str, Any]:
    """A run that never ends by itself, ended after this many minutes; memory and seconds per round from first to last."""
    flags = SMALL | {"phase2.rounds": 1_000_000, "clients.num_actors": 2}
    process, samples = started("mm_ray.train", flags, folder), Samples()
    rounds = folder / "runs/endurance/rounds.jsonl"
    wait_for(rounds, process)
    watch(process, samples, lambda: time.monotonic() - samples[0][0] > 60 * minutes if samples else False)
    process.send_signal(signal.SIGTERM)
    code = process.wait(120)
    times = [json.loads(line)["seconds"] for line in rounds.read_text().splitlines()][SMALL["phase1.rounds"] :]
    tenth = max(1, len(times) // 10)
    return {
        "minutes": minutes,
        "exit_code": code,
        "rounds": len(times),
        "seconds_a_round_first_tenth": float(np.median(times[:tenth])),
        "seconds_a_round_last_tenth": float(np.median(times[-tenth:])),
        "memory": slopes(samples),
    }


def trials(count: int, folder: Path) -> dict[str, Any]:
    """A study of many short trials: seconds for every 50 of them, and the memory of the driver."""
    (folder / "mine.py").write_text(SPACE)
    process, samples = started("mm_ray.tune", SMALL | {"space": "mine.py", "trials": count}, folder), Samples()
    log, ends, began = folder / "runs/endurance/trials.jsonl", list[float](), time.monotonic()
    wait_for(log, process)

    def ended() -> bool:
        ends.extend([time.monotonic()] * (log.read_text().count("\n") - len(ends)))
        return process.poll() is not None

    watch(process, samples, ended, every_s=0.5)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    marks = [began, *ends[TRIALS_OF_A_PART - 1 :: TRIALS_OF_A_PART]]
    return {
        "trials": count,
        "exit_code": process.returncode,
        "seconds": time.monotonic() - began,
        "distinct_trials": len({row["number"] for row in rows}),
        "rows": len(rows),
        "states": {state: sum(row["state"] == state for row in rows) for state in sorted({row["state"] for row in rows})},
        f"seconds_of_each_{TRIALS_OF_A_PART}": [round(b - a, 1) for a, b in pairwise(marks)],
        "memory": slopes(samples),
    }


def started(module: str, flags: Mapping[str, Any], folder: Path) -> subprocess.Popen[bytes]:
    """A command with a run of the name `endurance` in a folder, its output beside it."""
    words = [f"--{name}={value}" for name, value in flags.items()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}
    environment.pop("RAY_ADDRESS", None)
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", module, *words, "--name=endurance"]
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Until a file of the run has its first line."""
    while not (path.exists() and path.stat().st_size):
        if process.poll() is not None:
            raise RuntimeError(f"ended with {process.returncode}: {(path.parents[2] / 'log').read_text()[-2000:]}")
        time.sleep(0.2)


def watch(process: subprocess.Popen[bytes], samples: Samples, over: Callable[[], bool], every_s: float = LOOK_S) -> None:
    """Sample the memory by role until it is over."""
    looked = 0.0
    while not over() and process.poll() is None:
        if time.monotonic() - looked > LOOK_S:
            looked = time.monotonic()
            samples.append((looked, memory_by_role(process.pid)))
            print(f"{looked - samples[0][0]:7.0f} s  {text(samples[-1][1])}", flush=True)
        time.sleep(min(every_s, LOOK_S))


def memory_by_role(driver: int) -> dict[str, float]:
    """MB (PSS) of the driver and of each role's processes below it; `all` is all of the command's processes."""
    found: dict[str, float] = defaultdict(float)
    for pid in tree(driver):
        memory = pss_mb(pid)
        found["all"] += memory
        role = "driver" if pid == driver else next((role for name, role in ROLES.items() if title(pid).startswith(name)), None)
        if role:
            found[role] += memory
    return dict(found)


def slopes(samples: Samples) -> dict[str, dict[str, float]]:
    """By role: MB at the first and last sample after the warm-up, and the slope of a line through all of these, MB an hour."""
    steady = samples[int(len(samples) * WARM_UP) :]
    roles = sorted({role for _, memory in steady for role in memory})
    return {role: slope([(at, memory[role]) for at, memory in steady if role in memory]) for role in roles}


def slope(points: Sequence[tuple[float, float]]) -> dict[str, float]:
    """A line through (seconds, MB)."""
    hours, memory = np.array(points).T / np.array([[3600.0], [1.0]])
    per_hour = float(np.polyfit(hours - hours[0], memory, 1)[0]) if len(points) > 1 else float("nan")
    return {"first_mb": float(memory[0]), "last_mb": float(memory[-1]), "mb_an_hour": per_hour}


def text(memory: Mapping[str, float]) -> str:
    """For people."""
    return "  ".join(f"{role} {mb:.0f} MB" for role, mb in memory.items())


def main() -> None:
    """Run a part and put it into the result."""
    parser = argparse.ArgumentParser("benchmarks.endurance")
    parser.add_argument("part", choices=("soak", "trials", "spill", "straggler"))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--trials", type=int, default=300)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        match flags.part:
            case "soak":
                found = soak(flags.minutes, Path(folder))
            case "trials":
                found = trials(flags.trials, Path(folder))
            case "spill":
                found = spill(Path(folder))
            case _:
                found = straggler(Path(folder))
    print(json.dumps(found, indent=1))
    path = FOLDER / "endurance.json"
    parts = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(parts | {flags.part: {"made": made(), **found}}, indent=1) + "\n")


if __name__ == "__main__":
    main()
