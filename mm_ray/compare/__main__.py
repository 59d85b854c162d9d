"""`python -m mm_ray.compare`: methods x missing video x heterogeneity x seeds x folds, on equal terms."""

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from mm_ray.cli import add_run_flags, experiment_parser, parse, run_main, say_changed_code
from mm_ray.compare.cells import Cell, Setting, cells_of
from mm_ray.compare.report import write_report
from mm_ray.compare.results import row_of, write_csv
from mm_ray.compare.run import Comparison, run_cells
from mm_ray.compare.tuning import tuned_settings
from mm_ray.config import DataConfig, ExperimentConfig
from mm_ray.data.table import FeatureTable
from mm_ray.errors import bad_value
from mm_ray.fed.experiment import plan_experiment
from mm_ray.runtime.cluster import connect
from mm_ray.runtime.run_folder import default_name, open_folder, phases_place
from mm_ray.storage import check_place, write_text
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
    if flags.tune:
        cells = tuned_settings(comparison, cells, flags.tune)
    results = run_cells(comparison, cells, "test" if flags.tune else "cells")
    rows = [row_of(cell, result) for cell, result in zip(cells, results, strict=True)]
    write_csv(comparison.folder / "compare.csv", rows)
    class_names = next(iter(comparison.tables.values())).class_names
    print(write_report(comparison.folder / "compare.html", rows, class_names, flags.tune))
    print(f"table:  {comparison.folder / 'compare.csv'}\nreport: {comparison.folder / 'compare.html'}")


def _prepare(config: ExperimentConfig, flags: Namespace) -> tuple[Comparison, list[Cell]]:
    methods = [name.strip() for name in flags.methods.split(",") if name.strip()]
    if not methods:
        raise bad_value("methods", flags.methods, "names no method; write modality_mirror,control")
    missing = _numbers("video_missing", flags.video_missing) or [config.partition.video_missing]
    alphas = _numbers("alphas", flags.alphas) or [config.partition.alpha]
    tables = _tables(config.data, flags)
    settings = [Setting(q, alpha) for q in missing for alpha in alphas]
    cells = cells_of(methods, settings, _seeds(flags.seeds, config.seed), sorted(tables))
    for cell in cells:
        plan_experiment(cell.config(config), tables[cell.fold])
    folder = open_folder(flags.runs, flags.name or f"compare-{default_name(config)}", config)
    write_text(folder / "compare.json", json.dumps({key: getattr(flags, key) for key in FLAGS}, indent=2))
    phases = phases_place(flags.phases, flags.runs)
    check_place(phases)
    say_changed_code(phases)
    return Comparison(config, folder, phases, tables, connect(flags.address)), cells


FLAGS = ("methods", "video_missing", "alphas", "seeds", "folds", "tune")


def _tables(data: DataConfig, flags: Namespace) -> dict[int, FeatureTable]:
    first = load_with_progress(data, flags.runs)
    folds = range(first.num_folds) if flags.folds == "all" else [int(f) for f in _numbers("folds", flags.folds)] or [data.fold]
    return {fold: load_with_progress(replace(data, fold=fold), flags.runs) for fold in folds}


def _seeds(text: str, first: int) -> list[int]:
    numbers = [int(number) for number in _numbers("seeds", text)]
    seeds = numbers if "," in text or not numbers else list(range(first, first + numbers[0]))
    if not seeds:
        raise bad_value("seeds", text, "gives no seed; write how many, such as 3, or a list such as 0,3,7")
    return seeds


def _numbers(flag: str, text: str) -> list[Any]:
    try:
        return [float(piece) for piece in text.split(",") if piece.strip()]
    except ValueError as error:
        raise bad_value(flag, text, "is no list of numbers; write 0.2,0.5") from error


if __name__ == "__main__":
    run_main(main)
