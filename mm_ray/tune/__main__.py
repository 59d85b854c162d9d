"""`python -m mm_ray.tune`: a study."""

import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from mm_ray import api
from mm_ray.cli import INTERRUPTED, Parser, add_run_flags, experiment_parser, parse, run_main, value_of
from mm_ray.tune.flags import KEPT, add_study_flags, resumed

if TYPE_CHECKING:
    from mm_ray.results import TuneResult

DESCRIPTION = """Search a space of configurations for the best audio student: Ray Tune runs the trials, Optuna suggests them,
and trials share the phases that are the same. The best configuration is tested once, beside the cross-entropy control. The same
command, or --resume NAME, resumes a study that was stopped."""


def main(argv: Sequence[str]) -> None:
    """Parse the flags, run the study, print what it found."""
    config, flags = parse(make_parser(), [*resumed(value_of("--resume", argv), value_of("--runs", argv)), *argv])
    settings = {
        name: getattr(flags, name) for name in (*KEPT, "time", "export", "runs", "phases", "address", "from_study", "figures")
    }
    try:
        print_best(api.tune(config=config, name=flags.resume or flags.name, **settings))
    except KeyboardInterrupt as stop:
        if not stop.args:  # before the first trial
            raise
        folder = Path(stop.args[0])
        print(f"stopped; resume with: {_again(folder, flags.runs)}", flush=True)
        sys.exit(INTERRUPTED)


def make_parser() -> Parser:
    """The command's flags."""
    parser = experiment_parser("mm_ray.tune", DESCRIPTION)
    add_study_flags(parser)
    add_run_flags(parser)
    return parser


def _again(folder: Path, runs: str) -> str:
    name = folder.relative_to(Path(runs).expanduser())
    return f"python -m mm_ray.tune --resume {quote(str(name))}" + ("" if runs == "runs" else f" --runs {quote(runs)}")


def print_best(result: "TuneResult") -> None:
    """What the study found: the verdict, then where to go from here."""
    from mm_ray.evaluate.statistics import spread_text
    from mm_ray.tune.export import ROLE_LABELS
    from mm_ray.tune.live_table import describe

    best, found, finals = result.best, result.finished.found, result.finished.finals
    print(f"\nbest of {found.num_trials} trials: number {best.number}, dev audio top-1 {best.score:.3f}")
    print(f"  {describe(best.params)}")
    for line in finals.words() if finals else []:
        print(f"  {line}")
    num_seeds = len(result.finished.study.test_seeds)
    print("audio accuracy on the test set" + (f", {num_seeds} seeds" if num_seeds > 1 else ""))
    for role, label in ROLE_LABELS.items():
        if role in result.test:
            values = result.test[role]
            score = spread_text(values) if len(values) > 1 else f"{values[0]:.3f}"
            chance = f"  not better than guessing, {found.guessing:.2f}" if role in found.at_chance else ""
            print(f"  {label:<27} {score}{chance}")
    for line in result.verdict:
        print(line)
    if diagnosis := found.tested.result.get("diagnosis"):
        print(diagnosis["text"])
    for line in found.tested.result.get("refused", []):
        print(f"warning: {line}")
    _print_next(result)


def _print_next(result: "TuneResult") -> None:
    folder = result.folder
    print("next:")
    print(f"  report:              {folder / 'report.html'}")
    print(f"  best configuration:  {folder / 'best.yaml'}")
    print(f"  train it again:      python -m mm_ray.train --config {quote(str(folder / 'best.yaml'))} --seed 7")
    if "student" in result.test:
        print(f"  use the student:     python -m mm_ray.predict {quote(str(folder / 'student.safetensors'))} a.wav")
    if result.finished.exported:
        print(f"  exported:            {result.finished.exported}")
    if (folder / "tensorboard").exists():
        print(f"  tensorboard --logdir {quote(str(folder / 'tensorboard'))}")


if __name__ == "__main__":
    run_main(main)
