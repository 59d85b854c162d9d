"""`python -m mm_ray.tune`: a study."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import torch

from mm_ray.cli import add_run_flags, experiment_parser, parse, run_main, value_of
from mm_ray.errors import bad_value
from mm_ray.fed.experiment import plan_experiment
from mm_ray.runtime.cluster import connect
from mm_ray.runtime.run_folder import default_name, open_folder, phases_place, write_text
from mm_ray.train import load_with_progress
from mm_ray.tune.live import describe
from mm_ray.tune.space import load_space
from mm_ray.tune.study import HOSTS, SCHEDULERS, Study, conclude, run_trials

DESCRIPTION = """Search a space of configurations for the best audio student: Ray Tune runs the trials, Optuna suggests them,
and trials share the phases that are the same. The best configuration is tested once, beside the cross-entropy control. The same
command, or --resume NAME, goes on with a study that was stopped."""

STUDY_FLAGS = ("space", "trials", "scheduler", "host")


def main(argv: Sequence[str]) -> None:
    """Parse the flags, run the study, print what it found."""
    parser = experiment_parser("mm_ray.tune", DESCRIPTION)
    add_run_flags(parser)
    parser.add_argument("--space", type=str, default="distill", help="A space of tune_spaces/, a .py file, or a dotted name")
    parser.add_argument("--trials", type=int, default=12, help="Trials in all (default: 12)")
    parser.add_argument("--scheduler", choices=SCHEDULERS, default="none", help="Who stops hopeless trials (default: none)")
    parser.add_argument("--host", choices=HOSTS, default="actor", help="What runs a trial: an actor, or a Ray Train job")
    parser.add_argument("--resume", type=str, default="", help="Go on with the study of this name, as it was configured")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config, flags = parse(parser, [*_resumed(argv), *argv])
    torch.set_num_threads(1)
    space = load_space(flags.space)
    cluster = connect(flags.address)
    table = load_with_progress(config.data, flags.runs)
    plan_experiment(config, table)
    folder = open_folder(flags.runs, flags.resume or flags.name or f"study-{space.name}-{default_name(config)}", config)
    write_text(folder / "study.json", json.dumps({name: flags[name] for name in STUDY_FLAGS}, indent=2))
    phases = phases_place(flags.phases, flags.runs)
    study = Study(config, space, folder, phases, flags.trials, flags.scheduler, flags.host)
    print(f"study {folder}: {study.trials} trials of the space {space.name} on {cluster.name} ({cluster.num_cpus:g} CPUs)")
    search = run_trials(study, table, cluster)
    _print_best(conclude(study, search, table), study)


def _resumed(argv: Sequence[str]) -> list[str]:
    """The flags of the study to go on with."""
    name = value_of("--resume", argv)
    if name is None:
        return []
    folder = Path(value_of("--runs", argv) or "runs").expanduser() / name
    if not (folder / "study.json").exists():
        raise bad_value("resume", name, f"no study in {folder}; see --runs, or start it with --name")
    settings = json.loads((folder / "study.json").read_text())
    return [f"--config={folder / 'config.yaml'}", *(f"--{name}={value}" for name, value in settings.items())]


ROLE_LABELS = {
    "student": "distilled student",
    "control": "control (cross-entropy)",
    "phase1_audio": "phase 1, un-distilled",
    "teacher": "audiovisual teacher",
}


def _print_best(best: dict[str, Any], study: Study) -> None:
    test = best["result"]["test"]
    print(f"\nbest of {study.trials} trials: number {best['number']}, dev audio top-1 {best['score']:.3f}")
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
