"""The files that a run leaves below `runs/<name>/` (docs/files.md)."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO

import yaml

from mm_ray.config import ExperimentConfig, flatten, with_overrides
from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import bad_value
from mm_ray.fed.experiment import Evaluation
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import role_params
from mm_ray.models.student import save_student
from mm_ray.plugins import plain
from mm_ray.storage import check_place, names_full_disk, write_text
from mm_ray.types import RoundReport

SHARED = ("phases", "features")
"""Folders that all runs share, below the folder of all runs."""
LOCK = ".lock"
"""The lock of Optuna's journal is a link to it."""

_LOCKS: dict[Path, int] = {}
"""Folders of this process, open until it ends."""


def default_name(config: ExperimentConfig) -> str:
    """A name derived from the config, so that the same command resumes the run."""
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()[:8]
    return f"{plain(config.method)}-{plain(config.data.name)}-{digest}"


def config_yaml(config: ExperimentConfig) -> str:
    """The complete config as YAML."""
    return yaml.safe_dump(json.loads(json.dumps(asdict(config))), sort_keys=False)


def stored_config(path: Path) -> ExperimentConfig:
    """The config of a run's `config.yaml` or `best.yaml`."""
    config: ExperimentConfig = with_overrides(ExperimentConfig(), flatten(yaml.safe_load(path.read_text())))
    return config


def open_folder(runs: str, name: str, config: ExperimentConfig) -> Path:
    """Make a run's folder with its `config.yaml`, or reuse it if it holds the same config; this process locks it until it ends.

    Raises:
        UserError: The folder holds a run of another config or another process works in it, `runs` cannot be made, or the name
            is not one of a folder for this run alone.

    """
    check_folder(runs, name, config)
    folder = runs_folder(runs) / name
    with _names_unusable(folder, name):
        folder.mkdir(parents=True, exist_ok=True)
    _lock(folder, name)
    write_text(folder / "config.yaml", config_yaml(config))
    return folder


def check_folder(runs: str, name: str, config: ExperimentConfig) -> None:
    """Refuse a name whose folder this run cannot have; makes nothing (UserError: see `open_folder`)."""
    _check_name(name)
    folder = Path(runs).expanduser() / name
    path = folder / "config.yaml"
    with _names_unusable(folder, name):
        _check_alone(folder, name)
        if path.exists() and path.read_bytes() != config_yaml(config).encode():
            raise bad_value("--name", name, f"{path} holds another config; choose another --name, or remove the folder")


@contextmanager
def _names_unusable(folder: Path, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise bad_value("--name", name, f"{folder} cannot be used ({error.strerror}); choose another --name") from error


def _check_name(name: str) -> None:
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts:
        raise bad_value("--name", name, "leads out of the folder of all runs; choose that folder with --runs")
    if not parts:
        raise bad_value("--name", name, "is the folder of all runs; choose a name for a folder in it")
    if parts[0].lower() in SHARED:
        raise bad_value("--name", name, f"{parts[0]} is where all runs keep their {parts[0]}; choose another --name")


def _check_alone(folder: Path, name: str) -> None:
    """Refuse a folder inside or around another run's, and links in it, which would redirect what is written."""
    around = [parent for parent in list(folder.parents)[: len(Path(name).parts) - 1] if (parent / "config.yaml").exists()]
    if around:
        raise bad_value("--name", name, f"lies in the folder of the run {around[0]}; choose another --name")
    if not folder.is_dir():
        return
    inside = next(folder.glob("*/config.yaml"), None)
    if inside and not (folder / "config.yaml").exists():
        raise bad_value("--name", name, f"holds runs ({inside.parent}); choose another --name")
    link = next((path for path in folder.iterdir() if path.is_symlink() and path.suffix != LOCK), None)
    if link:
        raise bad_value("--name", name, f"{link} is a link, and what is written there would land elsewhere; remove it")


def _lock(folder: Path, name: str) -> None:
    """Keep other processes out; the system releases the lock when this process ends, however it ends."""
    path = folder.resolve()
    if path in _LOCKS:
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(opened)
        remedy = "wait for its end, or choose another --name"
        raise bad_value("--name", name, f"another process works in {folder}; {remedy}") from error
    except OSError:
        pass  # a file system without locks
    _LOCKS[path] = opened


def runs_folder(runs: str) -> Path:
    """The folder of all runs, created if missing.

    Raises:
        UserError: It cannot be created or written.

    """
    folder = Path(runs).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise bad_value("--runs", runs, f"cannot be made ({error.strerror}); choose another --runs") from error
    if not os.access(folder, os.W_OK):
        raise bad_value("--runs", runs, "cannot be written; choose another --runs")
    return folder


def phases_place(phases: str, runs: str, name: str) -> str:
    """The phase store as an absolute path or URI: Ray's workers have other working folders.

    Raises:
        UserError: It lies in the folder of the run `name`, or of another run, and would be removed with that run.

    """
    place = phases or str(Path(runs) / "phases")
    if "://" in place and not place.startswith("file://"):
        return place
    path = Path(place.removeprefix("file://")).expanduser().resolve()
    every_run = Path(runs).expanduser().resolve()
    for folder in (path, *path.parents):
        is_run = folder == (every_run / name).resolve() or (folder / "config.yaml").exists()
        if every_run in folder.parents and is_run:
            raise bad_value(
                "--phases", phases, f"lies in the folder of the run {folder}; leave it out, or name one beside the runs"
            )
    return place if "://" in place else str(Path(place).expanduser().absolute())


def check_places(runs: str, name: str, phases: str, config: ExperimentConfig) -> str:
    """Find the mistakes in where a run's files go before the data is read, and before anything is made on this machine.

    Returns:
        The phase store, see `phases_place`.

    Raises:
        UserError: See `open_folder` and `phases_place`; or the phase store is a URI that cannot be used.

    """
    check_folder(runs, name, config)
    place = phases_place(phases, runs, name)
    if "://" in place and not place.startswith("file://"):
        check_place(place)
    return place


class RoundLog:
    """Writes each report to `rounds.jsonl`. A resumed run reports its stored rounds again, so the file starts over.

    Args:
        folder: The run's folder.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[str] = (folder / "rounds.jsonl").open("w")

    def add(self, report: RoundReport) -> None:
        """Write one report."""
        with names_full_disk(self._folder):
            self._file.write(json.dumps(report.to_json()) + "\n")
            self._file.flush()

    def __enter__(self) -> "RoundLog":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with names_full_disk(self._folder):
            self._file.close()


def write_results(folder: Path, tested: Evaluation, store: PhaseStore, table: FeatureTable) -> Path | None:
    """Write the student, then `result.json`; returns the student's path, or None if the method has no student."""
    finished, path = tested.finished, None
    plan, student = finished.plan, finished.plan.method.student
    if student:
        params = role_params(student, finished.outcomes, store)
        path = save_student(folder, params, plan.model_of(student), table.shapes, table.class_names, table.features)
    confusions = {role: confusion_CC.tolist() for role, confusion_CC in tested.confusions.items()}
    content = {"class_names": table.class_names, "confusions": confusions}
    write_text(folder / "confusions.json", json.dumps(content))
    write_text(folder / "result.json", json.dumps(tested.result, indent=2))
    return path
