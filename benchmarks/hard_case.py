"""Which recipe leaves chance in the hard case: few audiovisual clients, 40 % wrong labels? Phase 1's audio network, 16 seeds.

    python -m benchmarks.hard_case [--seeds 16] [--workers 1]

Each seed is one data set and one partition, shared by the recipes. Four fifths of the clients have no video, and 40 % of the
training labels are wrong (dev and test labels are right). Of each run: the best dev top-1 of the audio network over phase 1,
and the first round above 0.2, twice the level of chance. The recipe to take is the one whose worst seed is best. A finished
run is kept in `results/hard_case.jsonl`; start it again to continue.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from itertools import takewhile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.evidence import synthetic
from benchmarks.results import FOLDER, add_row, read_rows

RESULT = FOLDER / "hard_case.jsonl"
REGIME = synthetic(labelled=1.0, label_noise=0.4, video_missing=0.8)
LAYER_NORM = str(Path(__file__).with_name("layer_norm_encoder.py"))
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "warm-up over 8 rounds": {"phase1.local.warmup_rounds": 8},
    "rate .03": {"phase1.local.lr": 0.03},
    "LayerNorm": {"model.audio_encoder": LAYER_NORM},
}
FIRST_SEED, LEFT_CHANCE = 500, 0.2


def run_one(seed: int, recipe: str) -> dict[str, Any]:
    """The audio network's dev curve in phase 1."""
    import torch

    from mm_ray.config import ExperimentConfig, with_overrides
    from mm_ray.data.load import load_data
    from mm_ray.fed.executor import SerialExecutor
    from mm_ray.fed.experiment import plan_experiment, run_rounds
    from mm_ray.fed.phase_store import PhaseStore

    torch.set_num_threads(1)
    own = {"seed": seed, "data.synthetic.data_seed": seed}
    config = with_overrides(ExperimentConfig(), {**REGIME.overrides, **RECIPES[recipe], **own})
    with tempfile.TemporaryDirectory(prefix="hard-case-") as work:
        plan = plan_experiment(config, load_data(config.data, Path(work) / "features"))
        first = plan.method.phases[0].name
        with closing(run_rounds(plan, PhaseStore(f"{work}/phases"), SerialExecutor())) as rounds:
            reports = list(takewhile(lambda report: report.phase == first, rounds))
    curve = [round(report.metrics["dev/audio_top1"], 4) for report in reports]
    return {"seed": seed, "recipe": recipe, "curve": curve}


def table(done: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line per recipe, over the seeds that every recipe has."""
    by_recipe = {name: {row["seed"]: row["curve"] for row in done if row["recipe"] == name} for name in RECIPES}
    seeds = sorted(set.intersection(*(set(curves) for curves in by_recipe.values())))
    yield "| recipe | n | worst | mean ± sd | best | at chance | rounds to leave chance, median |"
    yield "|---|---|---|---|---|---|---|"
    for name, curves in by_recipe.items() if seeds else ():
        best = [max(curves[seed]) for seed in seeds]
        left = [next((n for n, value in enumerate(curves[seed], 1) if value > LEFT_CHANCE), None) for seed in seeds]
        leaving = [n for n in left if n is not None]
        spread = statistics.stdev(best) if len(best) > 1 else 0.0
        median = f"{statistics.median(leaving):g}" if leaving else "-"
        yield (
            f"| {name} | {len(seeds)} | {min(best):.3f} | {statistics.fmean(best):.3f} ± {spread:.3f} | {max(best):.3f} | "
            f"{left.count(None)} | {median} |"
        )


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=16, help="data sets")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    flags = parser.parse_args()
    done = {(row["seed"], row["recipe"]) for row in read_rows(RESULT)}
    wanted = [(FIRST_SEED + number, recipe) for number in range(flags.seeds) for recipe in RECIPES]
    with ProcessPoolExecutor(flags.workers, mp_context=get_context("spawn")) as pool:
        for ended in as_completed([pool.submit(run_one, *one) for one in wanted if one not in done]):
            add_row(RESULT, ended.result())
    print("\n".join(table(read_rows(RESULT))))


if __name__ == "__main__":
    main()
