"""A comparison from its settings to its tables: what `mm_ray.compare` and its command share."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from mm_ray.compare.cells import ComparisonRun, Setting, cells_of, each_once, seeds_of
from mm_ray.compare.results import row_of, write_csv
from mm_ray.compare.run import Comparison, run_cells
from mm_ray.config import ClientsConfig, DataConfig, ExperimentConfig, flatten, to_dict
from mm_ray.data.feature_row import one_torch_thread
from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import bad_value
from mm_ray.fed.experiment import Experiment, check_config, plan_experiment
from mm_ray.plugins import resolve
from mm_ray.report.comparison import write_comparison
from mm_ray.report.vector import check_figures
from mm_ray.runtime.run_folder import check_places, default_name, open_folder
from mm_ray.runtime.tracking import RunInfo, TrackedRun, check_trackers, flat_config
from mm_ray.startup import load_with_progress, local_gpus, say_changed_code, say_idle_gpus
from mm_ray.storage import check_place, names_full_disk, write_text


@dataclass(frozen=True)
class ComparisonRequest:
    """The settings of a comparison (`mm_ray.compare`)."""

    config: ExperimentConfig
    methods: Sequence[str]
    seeds: int | Sequence[int] = 3
    """Their number, counted up from the config's seed, or a list."""
    video_missing: Sequence[float] = ()
    alphas: Sequence[float] = ()
    folds: Sequence[int] | str = ()
    tune: int = 0
    serial: bool = False
    """Run the cells one by one in this process; else side by side on Ray."""
    address: str = ""
    name: str = ""
    runs: str = "runs"
    phases: str = ""
    tracker: str = "none"
    figures: bool = False


Rows = list[Mapping[str, Any]]


def run_comparison(request: ComparisonRequest) -> tuple[Path, Rows]:
    """Run the cells that have no result yet; the comparison's folder, with its table and its page, and a row for each cell.

    Raises:
        UserError: A mistake in the settings, or cells that failed; the others are kept, and the same call resumes.

    """
    with one_torch_thread():
        comparison, cells = _prepare(request)
        with names_full_disk(comparison.folder):
            return comparison.folder, _run(comparison, cells, request)


def _run(comparison: Comparison, cells: list[ComparisonRun], request: ComparisonRequest) -> Rows:
    tune_trials = request.tune
    if tune_trials:
        from mm_ray.compare.tuning import tuned_settings  # only tuning needs Optuna

        cells = tuned_settings(comparison, cells, tune_trials)
    results = run_cells(comparison, cells, "test" if tune_trials else "cells")
    rows = [row_of(cell, result, comparison.tables[cell.fold]) for cell, result in zip(cells, results, strict=True)]
    write_csv(comparison.folder / "compare.csv", rows)
    class_names = next(iter(comparison.tables.values())).class_names
    page = comparison.folder / "compare.html"
    print(write_comparison(page, rows, class_names, _settings(comparison.base, tune_trials), request.figures))
    with TrackedRun(comparison.trackers, RunInfo(comparison.folder, "", flat_config(comparison.base), board=None)) as tracked:
        tracked.finish("SUCCESS", _means(rows), artifacts=True)
    return list(rows)


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean top-1 of each method over all its cells, as a tracker's metrics."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row["top1"] is not None:
            scores.setdefault(f"test/{row['method']}_top1", []).append(row["top1"])
    return {name: fmean(values) for name, values in scores.items()}


def _prepare(request: ComparisonRequest) -> tuple[Comparison, list[ComparisonRun]]:
    config = request.config
    methods = each_once("methods", request.methods)
    if not methods:
        raise bad_value("--methods", "", "must name a method; write modality_mirror,control")
    missing = each_once("video_missing", request.video_missing) or [config.partition.video_missing]
    alphas = each_once("alphas", request.alphas) or [config.partition.alpha]
    trackers = check_trackers(request.tracker)
    check_figures(request.figures)
    if request.tune < 0:
        raise bad_value("--tune", request.tune, "must be 0 (no tuning) or above")
    settings = [Setting(q, alpha) for q in missing for alpha in alphas]
    seeds = seeds_of(request.seeds, config.seed)
    for method in methods:
        resolve("methods", method, "mm_ray.methods", "build")
    for cell in cells_of(methods, settings, seeds[:1], [config.data.fold]):
        check_config(cell.config(config))
    name = request.name or f"compare-{default_name(config)}"
    phases = check_places(request.runs, name, request.phases, config)
    if not request.serial:
        _check_fits(config, request.address)
    tables = _tables(config.data, request)
    cells = cells_of(methods, settings, seeds, sorted(tables))
    plans: dict[str, Experiment] = {}
    for cell in cells:
        plan = plan_experiment(cell.config(config), tables[cell.fold])
        plans.setdefault(cell.method, plan)
    check_place(phases)
    say_changed_code(phases)
    folder = open_folder(request.runs, name, config)
    write_text(folder / "compare.json", json.dumps({key: getattr(request, key) for key in KEPT}, indent=2))
    cluster = None if request.serial else _connect(request.address)
    say_idle_gpus(config.clients, local_gpus() if cluster is None else cluster.num_gpus)
    clients = _sized([*plans.values()], next(iter(tables.values())), cluster) if cluster else config.clients
    return Comparison(config, folder, phases, tables, cluster, clients, trackers), cells


KEPT = ("methods", "video_missing", "alphas", "seeds", "folds", "tune")


def _check_fits(config: ExperimentConfig, address: str) -> None:
    from mm_ray.runtime.cluster import cluster_at  # a serial comparison need not wait for ray
    from mm_ray.runtime.gpu_sharing import before_measuring
    from mm_ray.runtime.placement import place_trial

    cluster = cluster_at(address)
    place_trial(before_measuring(config.clients, cluster), cluster, "actor")


def _connect(address: str) -> Any:
    from mm_ray.runtime.cluster import connect

    return connect(address)


def _sized(plans: Sequence[Experiment], table: FeatureTable, cluster: Any) -> ClientsConfig:
    from mm_ray.runtime.gpu_sharing import share_gpus

    return share_gpus(plans, table, cluster)


def _settings(config: ExperimentConfig, tune_trials: int) -> str:
    """The settings of the methods: tuned or not, and what differs from the defaults."""
    given, defaults = flatten(to_dict(config)), flatten(to_dict(ExperimentConfig()))
    changed = [f"{name} {value}" for name, value in given.items() if value != defaults[name] and name not in VARIED]
    tuned = f"each method tuned with {tune_trials} trials on dev" if tune_trials else "no method tuned"
    return f"{tuned}, {'with ' + ', '.join(changed) if changed else 'default settings'}"


VARIED = ("method", "seed", "data.fold", "partition.video_missing", "partition.alpha")
"""Fields that cells differ in."""


def _tables(data: DataConfig, request: ComparisonRequest) -> dict[int, FeatureTable]:
    first = load_with_progress(data, request.runs)
    if isinstance(request.folds, str):
        if request.folds != "all":
            raise bad_value("--folds", request.folds, "must be whole numbers, such as 0,1,2, or all")
        folds: Sequence[int] = range(first.num_folds)
    else:
        folds = each_once("folds", request.folds) or [data.fold]
    return {fold: load_with_progress(replace(data, fold=fold), request.runs) for fold in folds}
