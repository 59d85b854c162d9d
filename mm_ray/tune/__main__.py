"""`python -m mm_ray.tune`: a study."""

import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import optuna
import torch

from mm_ray.cli import add_run_flags, experiment_parser, parse, run_main, say_changed_code, value_of
from mm_ray.errors import bad_value
from mm_ray.evaluate.statistics import spread_text
from mm_ray.fed.experiment import plan_experiment
from mm_ray.runtime.cluster import connect, known_cluster
from mm_ray.runtime.placement import place_trial
from mm_ray.runtime.run_folder import default_name, open_folder, phases_place
from mm_ray.storage import check_place, names_full_disk
from mm_ray.train import load_with_progress
from mm_ray.tune.export import ROLE_LABELS, export
from mm_ray.tune.finalize import Conclusion, conclude, report_so_far
from mm_ray.tune.flags import add_study_flags, keep_flags, resumed, scheduler_of
from mm_ray.tune.live_table import describe
from mm_ray.tune.reevaluation import run_finals
from mm_ray.tune.searcher import SearchSettings
from mm_ray.tune.selection import ranking
from mm_ray.tune.space import load_space
from mm_ray.tune.stopping import Interrupted, StopConditions, seconds_of
from mm_ray.tune.study import Runner, Study, check_study
from mm_ray.tune.study_storage import check_same_study

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
    space, digest = load_space(flags.space), default_name(config)
    name = flags.resume or flags.name or f"study-{Path(space.name).stem}-{digest}"
    if flags.seeds < 1:
        raise bad_value("seeds", flags.seeds, "needs at least 1")
    if flags.test_seeds < 0:
        raise bad_value("test_seeds", flags.test_seeds, "must be 0 (the trial's own seeds) or above")
    search = SearchSettings(flags.searcher, scheduler_of(flags), flags.storage, experiment=digest.rpartition("-")[2])
    limits = StopConditions(seconds_of(flags.time), flags.rounds, flags.patience)
    check_study(space, search, flags.seeds)
    place_trial(config.clients, known_cluster(flags.address) or connect(flags.address), flags.host)
    table = load_with_progress(config.data, flags.runs)
    plan_experiment(config, table)
    phases = phases_place(flags.phases, flags.runs, name)
    check_place(phases)
    say_changed_code(phases)
    folder = open_folder(flags.runs, name, config)
    check_same_study(space, folder, folder.name, search.storage, search.experiment)
    keep_flags(folder, flags)
    cluster = connect(flags.address)
    study = Study(config, space, folder, phases, flags.trials, flags.host, search, limits, flags.seeds, flags.test_seeds)
    print(f"study {folder}: {study.trials} trials of the space {space.name} on {cluster.name} ({cluster.num_cpus:g} CPUs)")
    with names_full_disk(folder):
        _run(Runner(study, table, cluster), flags.runs, flags.export)


def _run(runner: Runner, runs: str, wants_export: bool) -> None:
    study = runner.study
    name = study.folder.relative_to(Path(runs).expanduser())
    again = f"python -m mm_ray.tune --resume {quote(str(name))}" + ("" if runs == "runs" else f" --runs {quote(runs)}")
    try:
        search, budget = runner.run()
        if budget.reason:
            print(f"the study ends early: {budget.reason}; more: {again} with a larger limit")
        finals = run_finals(runner, search) if study.num_seeds > 1 and ranking(search.study) else None
        found = conclude(runner, search, finals)
    except Interrupted:
        report_so_far(runner)
        print(f"stopped; go on with: {again}\nreport so far: {study.folder / 'report.html'}", flush=True)
        sys.exit(130)
    _print_best(study, found)
    for line in finals.words() if finals else []:
        print(f"  {line}")
    if wants_export:
        print(f"exported:            {export(study.folder, found.tested)}")


def _print_best(study: Study, found: Conclusion) -> None:
    best = found.row
    print(f"\nbest of {found.num_trials} trials: number {best['number']}, dev audio top-1 {best['score']:.3f}")
    print(f"  {describe(best['params'])}")
    seeds = study.test_seeds
    print("audio accuracy on the test set" + (f", {len(seeds)} seeds" if len(seeds) > 1 else ""))
    for role, label in ROLE_LABELS.items():
        if role in found.test:
            values = found.test[role]
            score = spread_text(values) if len(values) > 1 else f"{values[0]:.3f}"
            chance = f"  not better than guessing, {found.guessing:.2f}" if role in found.at_chance else ""
            print(f"  {label:<26} {score}{chance}")
    for line in found.verdict:
        print(line)
    if diagnosis := found.tested.result.get("diagnosis"):
        print(diagnosis["text"])
    for line in found.tested.result.get("refused", []):
        print(f"warning: {line}")
    print(f"best configuration:  {study.folder / 'best.yaml'}")
    print(f"report:              {study.folder / 'report.html'}")
    print(f"tensorboard --logdir {quote(str(study.folder / 'tensorboard'))}")


if __name__ == "__main__":
    run_main(main)
