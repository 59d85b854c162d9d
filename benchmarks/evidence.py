"""When ModalityMirror helps: methods on equal terms over many fresh cells, regime by regime (docs/when-it-helps.md).

    python -m benchmarks.evidence REGIME ... [--cells 12] [--methods a,b] [--workers 1]
    python -m benchmarks.evidence REGIME --tune [--cells 3]
    python -m benchmarks.evidence --list

A cell is one data set and partition (a data seed, or a fold and a seed), shared by all methods; each cell is looked at once.
Each finished run is a line of `benchmarks/results/evidence/REGIME.jsonl`, and what is there is not run again: start it again to
go on after it was stopped. Settings are the defaults of mm_ray unless the regime or `TUNED` says otherwise; `TUNED` was
chosen on dev accuracy in cells that are not tested (data seeds from 100): `--tune` runs each setting of `GRIDS` there.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.results import add_row, read_rows

RESULTS = Path(__file__).parent / "results" / "evidence"
METHODS = ("modality_mirror", "control_all", "self_distil", "control", "harmony", "fedcmi", "mfcpl", "multifl", "unifl")
TUNED: dict[str, dict[str, Any]] = {
    "fedcmi": {"phase2.loss_weight": 0.1},
    "mfcpl": {"phase2.loss_weight": 0.3},
    "unifl": {"phase1.local.lr": 0.1},
}
"""What a method has besides the defaults, chosen on dev."""

GRIDS: dict[str, tuple[dict[str, Any], ...]] = {
    **{name: tuple({"phase2.loss_weight": w} for w in (0.03, 0.1, 0.3)) for name in ("fedcmi", "mfcpl")},
    **{name: tuple({"phase1.local.lr": lr} for lr in (0.02, 0.05, 0.1)) for name in ("harmony", "multifl", "unifl")},
    "control_all": tuple({"phase2.local.lr": lr} for lr in (0.02, 0.05, 0.1)),
    "self_distil": tuple({"phase2.loss_weight": w} for w in (0.5, 0.9, 1.0)),
}
"""Three settings of each rival; ModalityMirror keeps the defaults, so that its rivals are tuned better than it is."""
DEV_CELLS = 100
"""The first data seed of cells for tuning."""


@dataclass(frozen=True)
class Regime:
    """One row of the table."""

    overrides: Mapping[str, Any]
    folds: tuple[int, ...] = ()
    """The data set's folds, one after the other from cell to cell; none: each cell has a data seed of its own."""
    first_seed: int = 300
    methods: tuple[str, ...] = METHODS

    def cell(self, number: int) -> dict[str, Any]:
        """The overrides of a cell."""
        seed = self.first_seed + number
        if self.folds:
            fold = self.folds[number % len(self.folds)]
            return {**self.overrides, "seed": self.first_seed + number // len(self.folds), "data.fold": fold}
        return {**self.overrides, "seed": seed, "data.synthetic.data_seed": seed}


def synthetic(labelled: float = 1.0, label_noise: float = 0.0, video_missing: float = 0.5, **more: Any) -> Regime:
    """The embedded data with their dials, and 40 rounds of phase 2: with few labels the student still rises at 24."""
    dials = {"data.synthetic.labelled": labelled, "data.synthetic.label_noise": label_noise, "phase2.rounds": 40}
    return Regime({**dials, "partition.video_missing": video_missing, **more})


def recorded(data: str, folds: int, methods: tuple[str, ...] = METHODS, **more: Any) -> Regime:
    """A data set of recordings in the folder that holds them all (`--root`)."""
    return Regime({"data.name": data, **more}, folds=tuple(range(folds)), first_seed=60, methods=methods)


HALF_WIDTH = {"model.conv_channels": (16, 32, 64), "model.hidden": 64}
AV_DIGITS = {"partition.alpha": 1.0, "phase1.rounds": 40, "phase2.rounds": 16, **HALF_WIDTH}
KNOWN = {"data.folds": "known", "phase1.local.steps": 9, "phase2.local.steps": 9, **HALF_WIDTH}
CONVOLVED = {"model.video_encoder": "frame_cnn", "phase2.rounds": 40}
"""A teacher that reads pictures with convolutions, and rounds for the student to follow it; chosen on dev (seeds from 100)."""
RAVDESS = {
    "partition.kind": "natural",
    "data.features.normalize": "group",
    "model.video_encoder": "mlp",
    **{
        f"{phase}.local.{name}": value
        for phase in ("phase1", "phase2")
        for name, value in (("optimizer", "adam"), ("lr", 1e-3), ("steps", 12))
    },
    "phase2.rounds": 48,
    **HALF_WIDTH,
}
"""Adam, more steps per round and a small network for the action units, one vector per clip; chosen on dev (seeds from 100)."""

LONGER = {"phase1.rounds": 88, "phase1.fusion_frac": 24 / 88, "phase2.rounds": 96}
"""24 rounds of fusion instead of 8, and twice the rounds of phase 2: a better teacher, and time to follow it; chosen on dev (a
cell of seed 100)."""

REGIMES = {
    "headline": synthetic(0.25, 0.2),
    "quarter-clean": synthetic(0.25, 0.0),
    "clean": synthetic(1.0, 0.0),
    "wrong-20": synthetic(1.0, 0.2),
    "wrong-40": synthetic(1.0, 0.4),
    "tenth-clean": synthetic(0.1, 0.0),
    "quarter-q.2": synthetic(0.25, 0.2, 0.2),
    "quarter-q.8": synthetic(0.25, 0.2, 0.8),
    "wrong-20-q.2": synthetic(1.0, 0.2, 0.2),
    "wrong-20-q.8": synthetic(1.0, 0.2, 0.8),
    "clean-q.8": synthetic(1.0, 0.0, 0.8),
    "avdigits-known-tenth": recorded("avdigits", 5, **KNOWN, **CONVOLVED, **{"partition.labelled": 0.1}),
    "avdigits-known-tenth-gru": recorded("avdigits", 5, **KNOWN, **{"partition.labelled": 0.1}),
    "avdigits-known-clean": recorded("avdigits", 5, **KNOWN),
    "avdigits-clean": recorded("avdigits", 6, **AV_DIGITS),
    "ravdess": recorded("ravdess", 6, **RAVDESS),
    "ravdess-quarter": recorded("ravdess", 6, **RAVDESS, **{"partition.labelled": 0.25}),
    "ravdess-tenth-long": recorded("ravdess", 6, **RAVDESS | LONGER, **{"partition.labelled": 0.1}),
    "ravdess-tenth": recorded("ravdess", 6, **RAVDESS, **{"partition.labelled": 0.1}),
}
ROOTS = {"avdigits": "", "ravdess": "ravdess"}
"""Where each data set of recordings lies below `--root`."""


@dataclass(frozen=True)
class Job:
    """The runs of one cell that are not done yet."""

    regime: str
    cell: int
    overrides: Mapping[str, Any]
    methods: tuple[str, ...]
    root: str = ""
    settings: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    """Of each method, one or, for tuning, several; what is not named has the defaults."""
    tuning: bool = False

    @property
    def path(self) -> Path:
        """Where its results go."""
        return RESULTS / f"{self.regime}{'.tuning' if self.tuning else ''}.jsonl"


def run_cell(job: Job) -> Iterator[dict[str, Any]]:
    """Each method's result, over one phase store, so that what methods share is computed once."""
    import torch

    from mm_ray.config import ExperimentConfig, with_overrides
    from mm_ray.data.load import load_data
    from mm_ray.fed.diagnosis import diagnosis_of
    from mm_ray.fed.executor import SerialExecutor
    from mm_ray.fed.experiment import plan_experiment, run_experiment
    from mm_ray.fed.phase_store import PhaseStore
    from mm_ray.fed.rounds import drive

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="evidence-") as work:
        name = job.overrides.get("data.name", "")
        root = {"data.root": str(Path(job.root) / ROOTS[name])} if name in ROOTS else {}
        base = with_overrides(ExperimentConfig(), {**job.overrides, **root})
        table = load_data(base.data, Path(work) / "features")
        runs = [(method, setting) for method in job.methods for setting in job.settings.get(method, ({},))]
        for method, setting in runs:
            config = with_overrides(base, {**setting, "method": method})
            reports = []
            rounds = run_experiment(
                plan_experiment(config, table), PhaseStore(f"{work}/phases"), SerialExecutor(), control=False
            )
            result = drive(rounds, reports.append).result
            diagnosis = diagnosis_of(reports)
            yield {
                "regime": job.regime,
                "cell": job.cell,
                "seed": config.seed,
                "fold": config.data.fold,
                "method": method,
                **({"setting": dict(setting)} if setting else {}),
                "test": {role: scores["top1"] for role, scores in result["test"].items()},
                "dev": {role: scores["top1"] for role, scores in result["dev"].items()},
                "test_clips": len(table.rows("test")),
                "train_clips": len(table.rows("train")),
                "classes": table.shapes.num_classes,
                "best_round": result["best_round"],
                "share": diagnosis.share if diagnosis else None,
                "digest": result["params_digest"],
            }
        shutil.rmtree(f"{work}/phases", ignore_errors=True)


def run_job(job: Job) -> None:
    """Append a cell's results to its regime's file, a line each."""
    for row in run_cell(job):
        add_row(job.path, row)


def rows_of(regime: str) -> list[dict[str, Any]]:
    """The stored results of a regime."""
    return read_rows(RESULTS / f"{regime}.jsonl")


def jobs_of(name: str, cells: int, methods: tuple[str, ...], root: str) -> list[Job]:
    """A job for each cell that lacks a result."""
    regime, done = REGIMES[name], {(row["cell"], row["method"]) for row in rows_of(name)}
    missing = {cell: tuple(m for m in methods if m in regime.methods and (cell, m) not in done) for cell in range(cells)}
    settings = {method: (setting,) for method, setting in TUNED.items()}
    return [Job(name, cell, regime.cell(cell), these, root, settings) for cell, these in missing.items() if these]


def tuning_jobs(name: str, cells: int, methods: tuple[str, ...], root: str) -> list[Job]:
    """Every setting of `GRIDS` in some cells that are never tested; what is stored is run again."""
    regime = replace(REGIMES[name], first_seed=DEV_CELLS)
    tuned = tuple(method for method in GRIDS if method in methods)
    return [Job(name, cell, regime.cell(cell), tuned, root, GRIDS, tuning=True) for cell in range(cells)]


def best_settings(name: str) -> dict[str, tuple[dict[str, Any], float]]:
    """Of each method the setting with the best mean dev accuracy of the student over the cells, and that mean."""
    means: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    rows = read_rows(RESULTS / f"{name}.tuning.jsonl")
    for method, settings in GRIDS.items():
        for setting in settings:
            dev = [row["dev"]["student"] for row in rows if (row["method"], row.get("setting")) == (method, setting)]
            if dev:
                means.setdefault(method, []).append((sum(dev) / len(dev), setting))
    return {method: (setting, mean) for method, found in means.items() for mean, setting in [max(found, key=lambda f: f[0])]}


def main() -> None:
    """Run what is missing of the named regimes, cell by cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "regimes", nargs="*", choices=[[], *REGIMES], help="rows of the table, in the order in which to run them"
    )
    parser.add_argument("--cells", type=int, default=12, help="cells of each regime")
    parser.add_argument("--methods", default=",".join(METHODS), help="with commas between them")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--root", default="../shared/data", help="folder of the recordings (benchmarks/results/evidence)")
    parser.add_argument("--tune", action="store_true", help="run each setting of GRIDS in cells for tuning")
    parser.add_argument("--list", action="store_true", help="only say what is stored")
    flags = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if flags.list:
        for name in REGIMES:
            print(f"{name:<16}{len(rows_of(name)):>5} runs")
        return
    methods = tuple(flags.methods.split(","))
    if strangers := set(methods) - set(METHODS):
        parser.error(f"--methods {','.join(sorted(strangers))}: no such method; there are {', '.join(METHODS)}")
    if flags.tune:
        jobs = [job for name in flags.regimes for job in tuning_jobs(name, flags.cells, methods, flags.root)]
    else:
        jobs = [job for name in flags.regimes for job in jobs_of(name, flags.cells, methods, flags.root)]
    with ProcessPoolExecutor(flags.workers, mp_context=get_context("spawn")) as pool:
        for number, ended in enumerate(as_completed([pool.submit(run_job, job) for job in jobs]), 1):
            ended.result()
            print(f"{number} of {len(jobs)} cells", flush=True)
    for name in flags.regimes if flags.tune else ():
        for method, (setting, mean) in best_settings(name).items():
            print(f"{name} {method}: {setting}, dev {mean:.3f}")


if __name__ == "__main__":
    main()
