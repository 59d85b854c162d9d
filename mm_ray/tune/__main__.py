"""`python -m mm_ray.tune`: a study."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import torch

from mm_ray.cli import add_run_flags, experiment_parser, parse, run_main, say_changed_code, value_of
from mm_ray.errors import bad_value
from mm_ray.fed.experiment import Tested, plan_experiment
from mm_ray.runtime.cluster import connect
from mm_ray.runtime.run_folder import default_name, open_folder, phases_place
from mm_ray.storage import check_place
from mm_ray.train import load_with_progress
from mm_ray.tune.budget import Interrupted, Limits, seconds_of
from mm_ray.tune.choice import ranking
from mm_ray.tune.conclude import conclude, report_so_far
from mm_ray.tune.export import ROLE_LABELS, export
from mm_ray.tune.finals import run_finals
from mm_ray.tune.flags import add_study_flags, keep_flags, resumed, scheduler_of
from mm_ray.tune.live import describe
from mm_ray.tune.search import SearchSettings
from mm_ray.tune.space import load_space
from mm_ray.tune.study import Runner, Study, check_study
from mm_ray.tune.study_log import read_trials

DESCRIPTION = """Search a space of configurations for the best audio student: Ray Tune runs the trials, Optuna suggests them,
and trials share the phases that are the same. The best configuration is tested once, beside the cross-entropy control. The same
command, or --resume NAME, goes on with a study that was stopped."""


def main(argv: Sequence[str]) -> None:
    """Parse the flags, run the study, print what it found."""
    parser = experiment_parser("mm_ray.tune", DESCRIPTION)
    add_run_flags(parser)
    add_study_flags(parser)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config, flags = parse(parser, [*resumed(value_of("--resume", argv), value_of("--runs", argv)), *argv])
    torch.set_num_threads(1)
    space, name = load_space(flags.space), default_name(config)
    if flags.seeds < 1:
        raise bad_value("seeds", flags.seeds, "needs at least 1")
    search = SearchSettings(flags.searcher, scheduler_of(flags), flags.storage, experiment=name.rpartition("-")[2])
    limits = Limits(seconds_of(flags.time), flags.rounds, flags.patience)
    check_study(space, search, flags.seeds)
    cluster = connect(flags.address)
    table = load_with_progress(config.data, flags.runs)
    plan_experiment(config, table)
    folder = open_folder(flags.runs, flags.resume or flags.name or f"study-{Path(space.name).stem}-{name}", config)
    keep_flags(folder, flags)
    phases = phases_place(flags.phases, flags.runs)
    check_place(phases)
    say_changed_code(phases)
    study = Study(config, space, folder, phases, flags.trials, flags.host, search, limits, flags.seeds)
    print(f"study {folder}: {study.trials} trials of the space {space.name} on {cluster.name} ({cluster.num_cpus:g} CPUs)")
    _run(Runner(study, table, cluster), flags.runs, flags.export)


def _run(runner: Runner, runs: str, wants_export: bool) -> None:
    study = runner.study
    again = f"python -m mm_ray.tune --resume {study.folder.name}" + ("" if runs == "runs" else f" --runs {runs}")
    try:
        search, budget = runner.run()
        if budget.reason:
            print(f"the study ends early: {budget.reason}; more: {again} with a larger limit")
        finals = run_finals(runner, search) if study.num_seeds > 1 and ranking(search.study) else None
    except Interrupted:
        report_so_far(study)
        print(f"stopped; go on with: {again}\nreport so far: {study.folder / 'report.html'}", flush=True)
        sys.exit(130)
    row, tested = conclude(study, search, runner.table, finals)
    _print_best(study, row, tested)
    for line in finals.words() if finals else []:
        print(f"  {line}")
    if wants_export:
        print(f"exported:            {export(study.folder, tested)}")


def _print_best(study: Study, best: dict[str, Any], tested: Tested) -> None:
    test = tested.result["test"]
    print(f"\nbest of {len(read_trials(study.folder))} trials: number {best['number']}, dev audio top-1 {best['score']:.3f}")
    print(f"  {describe(best['params'])}")
    print("audio accuracy on the test set")
    for role, label in ROLE_LABELS.items():
        if role in test:
            print(f"  {label:<26} {test[role]['top1']:.3f}")
    print(f"best configuration:  {study.folder / 'best.yaml'}")
    print(f"report:              {study.folder / 'report.html'}")
    print(f"tensorboard --logdir {study.folder / 'tensorboard'}")


if __name__ == "__main__":
    run_main(main)
