"""The flags of a study, and how they come back when it goes on."""

from argparse import ArgumentParser
from pathlib import Path

from mm_ray.errors import bad_value
from mm_ray.storage import read_object
from mm_ray.tune.choices import HOSTS, SCHEDULERS, SEARCHERS

KEPT = ("space", "trials", "rounds", "patience", "seeds", "test_seeds", "searcher", "scheduler", "storage", "host")
"""Flags that `--resume` gives again, unless the command line does."""


def add_study_flags(parser: ArgumentParser) -> None:
    """What is searched, by whom, and for how long."""
    add = parser.add_argument
    add("--space", default="distill", help="A space of tune_spaces/, or your own: mine.py, mine.py:space, package.module")
    add("--trials", type=int, default=8, help="Number of trials (default: 8)")
    add("--seeds", type=int, default=1, help="Seeds of each trial; with more than one the best run again with fresh ones")
    add(
        "--test_seeds",
        type=int,
        default=5,
        help="Fresh seeds with which the chosen configuration and both controls run for the test; 0: the trial's own seeds "
        "(default: 5)",
    )
    add("--time", default="", help="Stop after this time, such as 90s, 30m or 1h30m; counted from the start or the resume")
    add("--rounds", type=int, default=0, help="Stop when so many rounds are computed in all trials (default: no limit)")
    add("--patience", type=int, default=0, help="Stop when so many trials in a row were no better (default: no limit)")
    add("--searcher", choices=SEARCHERS, default="tpe", help="Who suggests trials (default: tpe)")
    add(
        "--scheduler",
        choices=SCHEDULERS,
        default="none",
        help="Who stops hopeless trials (default: none; with seeds: wilcoxon)",
    )
    add(
        "--storage", default="",
        help="Where Optuna keeps the study: sqlite:///FILE or another database's URL (default: a journal in the run's folder)",
    )  # fmt: skip
    add("--host", choices=HOSTS, default="actor", help="What runs a trial: an actor, or a Ray Train job")
    add("--export", action="store_true", help="Write the student as safetensors and ONNX with a model card into export/")
    add("--resume", default="", help="Go on with the study of this name, as it was configured")


def resumed(name: str | None, runs: str | None) -> list[str]:
    """The flags of the study to go on with; none without a name.

    Raises:
        UserError: There is no such study.

    """
    if name is None:
        return []
    folder = Path(runs or "runs").expanduser() / name
    if not (folder / "study.json").exists():
        raise bad_value("resume", name, f"no study in {folder}; see --runs, or start it with --name")
    kept = read_object(folder / "study.json", "start the study anew under another --name")
    return [f"--config={folder / 'config.yaml'}", *(f"--{name}={value}" for name, value in kept.items() if name in KEPT)]
