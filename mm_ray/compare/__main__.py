"""`python -m mm_ray.compare`: methods x missing video x heterogeneity x seeds x folds, on equal terms."""

import json
import math
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from mm_ray.cli import add_run_flags, experiment_parser, parse, run_main, say_changed_code
from mm_ray.compare.cells import ComparisonRun, Setting, cells_of
from mm_ray.compare.report import write_report
from mm_ray.compare.results import row_of, write_csv
from mm_ray.compare.run import Comparison, run_cells
from mm_ray.compare.tuning import tuned_settings
from mm_ray.config import DataConfig, ExperimentConfig, flatten, to_dict
from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import bad_value
from mm_ray.fed.experiment import plan_experiment
from mm_ray.runtime.cluster import connect, known_cluster
from mm_ray.runtime.placement import place_trial
from mm_ray.runtime.run_folder import default_name, open_folder, phases_place
from mm_ray.storage import check_place, names_full_disk, write_text
from mm_ray.train import load_with_progress

DESCRIPTION = """Compare methods on equal terms: same clients, cohorts, batches and number of rounds, same tuning budget.
Methods share the phases that are the same. Every cell's result is kept, so the same command goes on where it was stopped.
Writes compare.csv (a row a cell) and compare.html below RUNS/NAME."""

METHODS = "modality_mirror,control,control_all,harmony,multifl,unifl,fedcmi,mfcpl"


def main(argv: Sequence[str]) -> None:
    """Parse the flags, run the cells, write the tables."""
    parser = experiment_parser("mm_ray.compare", DESCRIPTION)
    add_run_flags(parser)
    parser.add_argument("--methods", default=METHODS, help="Methods, with commas between them")
    parser.add_argument("--video_missing", default="", help="Fractions, such as .2,.5,.8; partition.video_missing")
    parser.add_argument("--alphas", default="", help="Dirichlet alphas, such as .1,1; partition.alpha")
    parser.add_argument("--seeds", default="3", help="Number of seeds from --seed on, or a list such as 0,3,7")
    parser.add_argument("--folds", default="", help="A list such as 0,1,2, or all; data.fold")
    parser.add_argument("--tune", type=int, default=0, help="Trials that each method gets on dev before its test (0: none)")
    config, flags = parse(parser, argv)
    torch.set_num_threads(1)
    comparison, cells = _prepare(config, flags)
    with names_full_disk(comparison.folder):
        _run(comparison, cells, flags.tune)


def _run(comparison: Comparison, cells: list[ComparisonRun], tune_trials: int) -> None:
    if tune_trials:
        cells = tuned_settings(comparison, cells, tune_trials)
    results = run_cells(comparison, cells, "test" if tune_trials else "cells")
    rows = [row_of(cell, result, comparison.tables[cell.fold]) for cell, result in zip(cells, results, strict=True)]
    table, report = comparison.folder / "compare.csv", comparison.folder / "compare.html"
    write_csv(table, rows)
    class_names = next(iter(comparison.tables.values())).class_names
    print(write_report(report, rows, class_names, _settings(comparison.base, tune_trials)))
    print(f"table:  {table}\nreport: {report}")


def _prepare(config: ExperimentConfig, flags: Namespace) -> tuple[Comparison, list[ComparisonRun]]:
    methods = _once("methods", flags.methods, [name.strip() for name in flags.methods.split(",") if name.strip()])
    if not methods:
        raise bad_value("--methods", flags.methods, "names no method; write modality_mirror,control")
    missing = _numbers("video_missing", flags.video_missing) or [config.partition.video_missing]
    alphas = _numbers("alphas", flags.alphas) or [config.partition.alpha]
    place_trial(config.clients, known_cluster(flags.address) or connect(flags.address), "actor")
    tables = _tables(config.data, flags)
    settings = [Setting(q, alpha) for q in missing for alpha in alphas]
    cells = cells_of(methods, settings, _seeds(flags.seeds, config.seed), sorted(tables))
    for cell in cells:
        plan_experiment(cell.config(config), tables[cell.fold])
    name = flags.name or f"compare-{default_name(config)}"
    phases = phases_place(flags.phases, flags.runs, name)
    check_place(phases)
    say_changed_code(phases)
    folder = open_folder(flags.runs, name, config)
    write_text(folder / "compare.json", json.dumps({key: getattr(flags, key) for key in FLAGS}, indent=2))
    return Comparison(config, folder, phases, tables, connect(flags.address)), cells


FLAGS = ("methods", "video_missing", "alphas", "seeds", "folds", "tune")


def _settings(config: ExperimentConfig, tune_trials: int) -> str:
    """With which settings the methods ran: tuned or not, and what differs from the defaults."""
    given, defaults = flatten(to_dict(config)), flatten(to_dict(ExperimentConfig()))
    changed = [f"{name} {value}" for name, value in given.items() if value != defaults[name] and name not in VARIED]
    tuned = f"each method tuned with {tune_trials} trials on dev" if tune_trials else "no method tuned"
    return f"{tuned}, {'with ' + ', '.join(changed) if changed else 'default settings'}"


VARIED = ("method", "seed", "data.fold", "partition.video_missing", "partition.alpha")
"""Fields that cells differ in."""


def _tables(data: DataConfig, flags: Namespace) -> dict[int, FeatureTable]:
    first = load_with_progress(data, flags.runs)
    folds = range(first.num_folds) if flags.folds == "all" else _numbers("folds", flags.folds, int) or [data.fold]
    return {fold: load_with_progress(replace(data, fold=fold), flags.runs) for fold in folds}


def _seeds(text: str, first: int) -> list[int]:
    numbers = _numbers("seeds", text, int)
    seeds = numbers if "," in text or not numbers else list(range(first, first + numbers[0]))
    if not seeds:
        raise bad_value("--seeds", text, "gives no seed; write how many, such as 3, or a list such as 0,3,7")
    return seeds


def _numbers(flag: str, text: str, kind: type[Any] = float) -> list[Any]:
    """The numbers of a list, each once.

    Raises:
        UserError: A piece is no such number, or is there twice.

    """
    try:
        numbers = [kind(piece) for piece in text.split(",") if piece.strip()]
    except ValueError as error:
        remedy = "is no list of whole numbers; write 0,1,2" if kind is int else "is no list of numbers; write 0.2,0.5"
        raise bad_value(f"--{flag}", text, remedy) from error
    if not all(map(math.isfinite, numbers)):
        raise bad_value(f"--{flag}", text, "each must be a finite number; write 0.2,0.5")
    return _once(flag, text, numbers)


def _once(flag: str, text: str, values: list[Any]) -> list[Any]:
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise bad_value(f"--{flag}", text, f"names {twice[0]} twice, whose cells would count twice; name it once")
    return values


if __name__ == "__main__":
    run_main(main)
