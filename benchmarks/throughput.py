"""Trials per hour of a distillation study: `mm_ray.tune` against plain Ray Tune functions that train both phases in each trial.

    python -m benchmarks.throughput [--trials 24]

The plain side trains the very configurations that the study tried, each from nothing, on as many trials at once as there are
processors; every student must have the same digest as one trained from the study's phase store. Each side is a command, timed
from its start to its exit.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import write_result
from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.data.load import load_data
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import plan_experiment, run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import drive

GOAL = 4.0
SETTINGS = {
    "data.synthetic.clips_per_class": 160,
    "phase1.rounds": 30,
    "phase1.local.epochs": 1,
    "phase2.local.epochs": 1,
    "clients.chunk_size": 6,
}
SPACE = '''"""The benchmark's space: temperature and weight of a short phase 2."""

OBJECTIVES = {"dev/audio_top1": "max"}


def space(trial):
    return {
        "phase2.temperature": trial.suggest_float("phase2.temperature", 1.0, 20.0, log=True),
        "phase2.loss_weight": trial.suggest_float("phase2.loss_weight", 0.1, 1.0),
        "phase2.rounds": trial.suggest_int("phase2.rounds", 5, 10),
    }
'''


def digest_of(overrides: dict[str, Any], features: str, phases: str) -> str:
    """Train one configuration, or read it from the phase store; the digest of its student."""
    torch.set_num_threads(1)
    config = with_overrides(ExperimentConfig(), overrides)
    plan = plan_experiment(config, load_data(config.data, features))
    result = drive(run_experiment(plan, PhaseStore(phases), SerialExecutor(), control=False)).result
    return str(result["params_digest"])


def plain_function(config: dict[str, Any]) -> None:
    """A trial as one would write it: both phases, from nothing."""
    from ray import tune

    given = config["given"]
    with tempfile.TemporaryDirectory() as phases:
        digest = digest_of(given["overrides"], given["features"], phases)
    tune.report({"number": given["number"], "digest": digest})


def run_study(folder: Path, trials: int) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of the study from start to end, its final test and report included, and its trials."""
    (folder / "space.py").write_text(SPACE)
    flags = [f"--{name}={value}" for name, value in SETTINGS.items()]
    command = [sys.executable, "-m", "mm_ray.tune", f"--space={folder / 'space.py'}", f"--trials={trials}", "--name=study"]
    started = time.perf_counter()
    subprocess.run([*command, f"--runs={folder}", *flags], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    lines = (folder / "study" / "trials.jsonl").read_text().splitlines()
    rows = {row["number"]: row for row in map(json.loads, lines)}
    return seconds, [rows[number] for number in sorted(rows)]


def run_plain(folder: Path, rows: list[dict[str, Any]], features: str) -> tuple[float, dict[int, str]]:
    """Seconds of the same trials as plain functions, and their digests."""
    given = [{"number": r["number"], "overrides": SETTINGS | r["overrides"], "features": features} for r in rows]
    path = folder / "plain.json"
    path.write_text(json.dumps(given))
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "benchmarks.throughput", "--plain", str(path)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started, dict(json.loads(path.read_text()))


def play_plain(path: Path) -> None:
    """Run the trials of a file as plain functions, and write their digests into it."""
    import ray
    from ray import tune

    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    tuner = tune.Tuner(
        tune.with_resources(plain_function, {"cpu": 1}),
        param_space={"given": tune.grid_search(json.loads(path.read_text()))},
    )
    path.write_text(json.dumps([[result.metrics["number"], result.metrics["digest"]] for result in tuner.fit()]))


def main() -> None:
    """Measure both, compare the digests, print, write."""
    parser = argparse.ArgumentParser("benchmarks.throughput")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--write", default="throughput")
    parser.add_argument("--plain", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.plain:
        play_plain(Path(flags.plain))
        return
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        folder, features = Path(place), str(Path(place) / "features")
        digest_of(SETTINGS | {"phase1.rounds": 2, "phase2.rounds": 1}, features, str(folder / "warm"))  # makes the features
        ours, rows = run_study(folder, flags.trials)
        plain, digests = run_plain(folder, rows, features)
        same = sum(
            digests[row["number"]] == digest_of(SETTINGS | row["overrides"], features, str(folder / "phases")) for row in rows
        )
    content = {
        "trials": len(rows),
        "ours_s": ours,
        "plain_s": plain,
        "times": plain / ours,
        "goal": GOAL,
        "met": plain / ours >= GOAL,
        "trials_per_hour": {"ours": 3600 * len(rows) / ours, "plain": 3600 * len(rows) / plain},
        "same_digests": same,
        "load": os.getloadavg(),
    }
    print(json.dumps(content, indent=1))
    if same != len(rows):
        raise SystemExit(f"only {same} of {len(rows)} students are the same")
    if flags.write:
        print(write_result(flags.write, content))


if __name__ == "__main__":
    main()
