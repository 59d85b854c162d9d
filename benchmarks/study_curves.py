"""Learning curves of a grid of distillation settings on `synthetic`, which benchmarks.study replays.

    python -m benchmarks.study_curves

Phase 1 is computed once; each setting then distils for `ROUNDS` rounds. A run that was stopped goes on.
"""

import argparse
import itertools
import tempfile
from typing import Any

import torch

from benchmarks.results import write_result
from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.data.load import load_data
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import plan_experiment, run_rounds
from mm_ray.fed.phase_store import PhaseStore

TEMPERATURES = (1.0, 2.7, 7.4, 20.0)
WEIGHTS = (0.0, 0.33, 0.67, 1.0)
RATES = (0.003, 0.01, 0.03, 0.1)
ROUNDS = 30
BASE = {"data.synthetic.clips_per_class": 60, "phase1.rounds": 40, "phase2.rounds": ROUNDS}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--phases", default="runs/phases")
    phases = parser.parse_args().phases
    torch.set_num_threads(1)
    base: ExperimentConfig = with_overrides(ExperimentConfig(), BASE)
    with tempfile.TemporaryDirectory() as cache:
        table = load_data(base.data, cache)
    curves: list[dict[str, Any]] = []
    for temperature, weight, rate in itertools.product(TEMPERATURES, WEIGHTS, RATES):
        setting = {"phase2.temperature": temperature, "phase2.loss_weight": weight, "phase2.local.lr": rate}
        plan = plan_experiment(with_overrides(base, setting), table)
        reports = list(run_rounds(plan, PhaseStore(phases), SerialExecutor()))
        top1 = [report.metrics["dev/audio_top1"] for report in reports if report.phase == "phase2/distill"]
        curves.append({**setting, "dev_audio_top1": [round(value, 5) for value in top1]})
        print(len(curves), setting, max(top1), flush=True)
    write_result("study_curves", {"base": BASE, "rounds": ROUNDS, "curves": curves})


if __name__ == "__main__":
    main()
