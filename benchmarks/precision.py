"""bfloat16 students beside float32 ones: test accuracy, paired by seed.

    python -m benchmarks.precision [--seeds 10] [--rounds 48,24]

The regime `wrong-20` of `benchmarks.evidence` with the half-width model and half of the clips. A seed is one data set and one
partition; both precisions have the same clients, cohorts, batches and first parameters. The spread of seeds is the standard
deviation of the float32 students: the 95 % interval of the mean difference should lie within it. A finished seed is kept in
`results/precision.json`; start it again to continue.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from scipy.stats import t as student_t

from benchmarks.evidence import HALF_WIDTH, REGIMES
from benchmarks.results import FOLDER, write_result
from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.data.load import load_data
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import plan_experiment, run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import drive

NAME, PRECISIONS = "precision", ("float32", "bfloat16")
ROLES = ("student", "teacher", "phase1_audio")


def run_seed(number: int, rounds: tuple[int, int]) -> dict[str, Any]:
    """Test top-1 of each role, and processor seconds, in both precisions."""
    row: dict[str, Any] = {"seed": number, "rounds": rounds}
    smaller = {"data.synthetic.clips_per_class": 84, "phase1.rounds": rounds[0], "phase2.rounds": rounds[1], **HALF_WIDTH}
    with tempfile.TemporaryDirectory() as work:
        base = with_overrides(ExperimentConfig(), {**REGIMES["wrong-20"].cell(number), **smaller})
        table = load_data(base.data, Path(work) / "features")
        for precision in PRECISIONS:
            config = with_overrides(base, {"clients.precision": precision})
            started = time.process_time()
            plan, store = plan_experiment(config, table), PhaseStore(f"{work}/phases")
            result = drive(run_experiment(plan, store, SerialExecutor(), control=False)).result
            row[precision] = {role: result["test"][role]["top1"] for role in ROLES}
            row[precision]["cpu_s"] = time.process_time() - started
    return row


def paired(rows: Sequence[Mapping[str, Any]], role: str) -> dict[str, float]:
    """A role's accuracy in both precisions, and the difference (bfloat16 minus float32) with its 95 % interval."""
    exact, fast = ([row[precision][role] for row in rows] for precision in PRECISIONS)
    differences = [b - a for a, b in zip(exact, fast, strict=True)]
    half = float(student_t.ppf(0.975, len(rows) - 1)) * statistics.stdev(differences) / math.sqrt(len(rows))
    mean = statistics.fmean(differences)
    return {
        "float32": statistics.fmean(exact),
        "bfloat16": statistics.fmean(fast),
        "spread_of_seeds": statistics.stdev(exact),
        "spread_of_differences": statistics.stdev(differences),
        "difference": mean,
        "low": mean - half,
        "high": mean + half,
    }


def main() -> None:
    """Run the seeds that are missing and print the paired differences."""
    parser = argparse.ArgumentParser("benchmarks.precision")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", default="48,24", help="of phase 1 and phase 2")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    first, second = map(int, flags.rounds.split(","))
    path = FOLDER / f"{NAME}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []
    for seed in sorted(set(range(flags.seeds)) - {row["seed"] for row in rows}):
        rows.append(run_seed(seed, (first, second)))
        found = {role: paired(rows, role) for role in ROLES} if len(rows) > 1 else {}
        write_result(NAME, {"rows": rows, "paired": found})
        print(json.dumps(rows[-1]), flush=True)
    for role in ROLES:
        print(role, json.dumps(paired(rows, role)))


if __name__ == "__main__":
    main()
