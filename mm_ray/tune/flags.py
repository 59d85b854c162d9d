"""The flags of a study, and how a resumed study gets them again; loads neither Optuna nor Ray."""

from argparse import ArgumentParser
from pathlib import Path

from mm_ray.errors import bad_value
from mm_ray.storage import read_object

SEARCHERS = ("tpe", "gp", "cmaes", "random", "grid", "nsga2")
SCHEDULERS = ("none", "asha", "hyperband", "median", "wilcoxon")
HOSTS = ("actor", "train")


KEPT = ("space", "trials", "rounds", "patience", "seeds", "test_seeds", "searcher", "scheduler", "storage", "host", "tracker")
"""Flags that `--resume` gives again, unless the command line does."""


def add_study_flags(parser: ArgumentParser) -> None:
    """What is searched, how, and for how long."""
    add = parser.add_argument
    add("--space", default="distill", metavar="SPACE", help="In tune_spaces/, or mine.py")
    add("--trials", type=int, default=8, metavar="N", help="Number of configurations to try")
    add("--seeds", type=int, default=1, metavar="N", help="Seeds per trial; above 1: also finals")
    add("--test_seeds", type=int, default=5, metavar="N", help="Fresh seeds for the test; 0: the trials'")
    add("--time", default="", metavar="TIME", help="Stop after 90s, 30m, 1h30m from start or resume")
    add("--rounds", type=int, default=0, metavar="N", help="Stop after this many computed rounds")
    add("--patience", type=int, default=0, metavar="N", help="Stop after this many trials without a better one")
    add("--searcher", default="tpe", metavar="NAME", help=f"{', '.join(SEARCHERS)}; mine.py")
    add("--scheduler", choices=SCHEDULERS, default="none", metavar="NAME", help=f"{', '.join(SCHEDULERS)}")
    add("--storage", default="", metavar="URL", help="Optuna storage: sqlite:///FILE (default: a journal)")
    add("--host", choices=HOSTS, default="actor", metavar="NAME", help="Run a trial as an actor or a Train job")
    add("--export", action="store_true", help="Write export/: safetensors, ONNX, a model card")
    add("--figures", action="store_true", help="Write figures/: the report's, as SVG and PDF")
    add("--from", dest="from_study", default="", metavar="NAME", help="An older study whose results are reused")
    add("--resume", default="", metavar="NAME", help="Resume a study with its settings")


def resumed(name: str | None, runs: str | None) -> list[str]:
    """The flags of the study to resume; none without a name.

    Raises:
        UserError: There is no such study.

    """
    if name is None:
        return []
    folder = Path(runs or "runs").expanduser() / name
    if not (folder / "study.json").exists():
        raise bad_value("resume", name, f"no study in {folder}; see --runs, or start it with --name")
    kept = read_object(folder / "study.json", "start the study again under another --name")
    return [f"--config={folder / 'config.yaml'}", *(f"--{name}={value}" for name, value in kept.items() if name in KEPT)]
