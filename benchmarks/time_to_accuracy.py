"""Simulated time to accuracy: ModalityMirror, Harmony and FedCMI on unequal devices (`clients.profile`).

    python -m benchmarks.time_to_accuracy [--cells 3] [--methods a,b]

The cells are those of the regime `headline` of `benchmarks.evidence`, each with a data set of its own. After each round the
audio network that clients would use by then has a dev accuracy; the time to an accuracy is the simulated time after which the
best one so far first reaches it. Devices change no result, so one training gives the times under every profile of `PROFILES`:
the later ones reuse its stored rounds. A finished run is kept in `results/time_to_accuracy.json`; start it again to continue.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.evidence import REGIMES, TUNED
from benchmarks.results import FOLDER, write_result
from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.data.load import load_data
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import plan_experiment, run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import drive
from mm_ray.fed.virtual_time import SIM_SECONDS
from mm_ray.types import RoundReport

NAME, REGIME, STUDENT = "time_to_accuracy", "headline", "dev/audio_top1"
METHODS = ("modality_mirror", "harmony", "fedcmi")
PROFILES = {"mixed": "phone:0.7,laptop:0.2,server:0.1", "laptops": "laptop"}
LEVELS = (0.40, 0.45, 0.50, 0.55, 0.60)
Curve = list[tuple[float, float]]


def curve_of(reports: Sequence[RoundReport]) -> Curve:
    """Simulated seconds since the start, and the audio network's dev accuracy, at each round that brought a new best."""
    curve, now, best = Curve(), 0.0, 0.0
    for report in reports:
        now += report.metrics[SIM_SECONDS]
        if report.metrics.get(STUDENT, 0.0) > best:
            best = report.metrics[STUDENT]
            curve.append((round(now, 3), best))
    return curve


def time_to(curve: Sequence[Sequence[float]], level: float) -> float | None:
    """Simulated seconds after which an accuracy is reached first; None: never."""
    return next((seconds for seconds, accuracy in curve if accuracy >= level), None)


def run_cell(number: int, methods: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each method: its curve and total time under each profile, and its student's test accuracy."""
    rows = []
    with tempfile.TemporaryDirectory() as work:
        base = with_overrides(ExperimentConfig(), REGIMES[REGIME].cell(number))
        table, store = load_data(base.data, Path(work) / "features"), PhaseStore(f"{work}/phases")
        for method in methods:
            row: dict[str, Any] = {"cell": number, "seed": base.seed, "method": method, "curves": {}, "sim_s": {}}
            started = time.process_time()
            for name, profile in PROFILES.items():
                config = with_overrides(base, {**TUNED.get(method, {}), "method": method, "clients.profile": profile})
                reports: list[RoundReport] = []
                rounds = run_experiment(plan_experiment(config, table), store, SerialExecutor(), control=False)
                result = drive(rounds, reports.append).result
                row["curves"][name] = curve_of(reports)
                row["sim_s"][name] = result[SIM_SECONDS]
            row |= {
                "test_top1": result["test"]["student"]["top1"],
                "rounds": len(reports),
                "cpu_s": time.process_time() - started,
            }
            rows.append(row)
    return rows


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The tables as Markdown."""
    methods, cells = [m for m in METHODS if any(row["method"] == m for row in rows)], {row["cell"] for row in rows}
    lines = [
        "# Simulated time to accuracy",
        f"Made by `python -m benchmarks.time_to_accuracy`; the curves are in [{NAME}.json]({NAME}.json).",
        f"The regime `{REGIME}` of `benchmarks.evidence`: embedded data, a quarter of the training clips labelled, a fifth",
        f"of these labels wrong, half of the clients without video; n = {len(cells)} data sets with 240 dev and 720 test",
        "clips each.",
        "",
        "The tables show simulated minutes until the audio network that clients would use by then first reaches a dev",
        "accuracy: mean ± standard deviation over the data sets that reach it, and how many do. Speeds of the devices are in",
        "`mm_ray.fed.virtual_time`; simulated time is a formula, so the spread is that between data sets. Where fewer data",
        "sets reach an accuracy, the mean is over the easier ones: compare methods only where all of them do.",
    ]
    for name, profile in PROFILES.items():
        lines += ["", f"## {name}: `--clients.profile {profile}`", ""]
        lines += ["| method | " + " | ".join(f"{level:.2f}" for level in LEVELS) + " | all rounds | test top-1 |"]
        lines += ["|---" * (len(LEVELS) + 3) + "|"]
        for method in methods:
            own = [row for row in rows if row["method"] == method]
            every = [[time_to(row["curves"][name], level) for row in own] for level in LEVELS]
            reached = [[seconds for seconds in times if seconds is not None] for times in every]
            shown = [
                f"{spread([s / 60 for s in level])} ({len(level)} of {len(own)})" if level else "never" for level in reached
            ]
            total = spread([row["sim_s"][name] / 60 for row in own])
            lines.append(f"| `{method}` | {' | '.join(shown)} | {total} | {spread([row['test_top1'] for row in own], 3)} |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean ± standard deviation; of one value the value alone."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def stored() -> list[dict[str, Any]]:
    """The rows that are there."""
    path = FOLDER / f"{NAME}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []
    return rows


def main() -> None:
    """Run what is missing, cell by cell, and write the page."""
    parser = argparse.ArgumentParser("benchmarks.time_to_accuracy")
    parser.add_argument("--cells", type=int, default=3)
    parser.add_argument("--methods", default=",".join(METHODS))
    flags = parser.parse_args()
    torch.set_num_threads(1)
    rows = stored()
    for cell in range(flags.cells):
        missing = [m for m in flags.methods.split(",") if (cell, m) not in {(row["cell"], row["method"]) for row in rows}]
        if missing:
            rows += run_cell(cell, missing)
            write_result(NAME, {"regime": REGIME, "profiles": PROFILES, "rows": rows})
            print(f"{cell + 1} of {flags.cells} cells", flush=True)
    (FOLDER / f"{NAME}.md").write_text(page(rows))
    print(page(rows))


if __name__ == "__main__":
    main()
