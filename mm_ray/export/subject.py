"""The student to export, found in the folder of a run, a study or a comparison."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mm_ray.config import FIELDS, ExperimentConfig, flatten, with_overrides
from mm_ray.data.load import load_data
from mm_ray.errors import UserError, bad_value, in_one_line
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import plan_experiment, run_experiment
from mm_ray.fed.federation import Federation, build_federation
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import drive
from mm_ray.models.onnx_export import check_features
from mm_ray.models.student import stored_features
from mm_ray.runtime.run_folder import write_results
from mm_ray.storage import read_object, read_text

STUDENT = "student.safetensors"
RESULT_REMEDY = "run the command that made the folder again"


@dataclass(frozen=True)
class Subject:
    """A trained student and what is known of it."""

    name: str
    """The run's, comparison's or study's."""
    student: Path
    """`student.safetensors`, with `student.json` beside it."""
    config: ExperimentConfig
    result: Mapping[str, Any]
    """What `result.json` holds."""
    federation: Federation | None
    """Its clients and data; `None` where the data is not at hand."""
    confusions: Mapping[str, np.ndarray]
    """Confusion matrix (C, C) on the test set by role, as far as known."""


def subject_of(folder: Path) -> Subject:
    """The student that a run or a study left in its folder, with its data if that can still be read.

    Raises:
        UserError: The folder holds no student, its features cannot be exported, or a file in it cannot be read.

    """
    if not (folder / STUDENT).is_file():
        problem = "holds no student.safetensors; give the folder of a run, a study or a comparison that is done"
        raise bad_value("RUN", folder, problem)
    check_features(stored_features(folder / STUDENT))
    best = folder / "best.yaml"
    config = read_config(best if best.exists() else folder / "config.yaml")
    result = read_object(folder / "result.json", RESULT_REMEDY)
    if "seed" in result:
        config = with_overrides(config, {"seed": result["seed"]})
    try:
        federation = build_federation(config, load_data(config.data, folder.parent / "features"))
    except UserError as error:
        print(f"warning: the data cannot be read, so nothing is measured on its test clips ({error})")
        federation = None
    return Subject(folder.name, folder / STUDENT, config, result, federation, {})


def best_of_comparison(folder: Path, method: str, phases: str, workspace: Path) -> Subject:
    """The student of a comparison's best run by its dev clips, made again from the stored rounds; its files lie in `workspace`.

    Args:
        folder: The comparison's.
        method: Of this method; empty: of any.
        phases: The phase store.
        workspace: An empty folder.

    Raises:
        UserError: The comparison is not done, has no such method, or its methods have no student that can be exported.

    """
    try:
        rows = list(csv.DictReader(read_text(folder / "compare.csv").splitlines()))
        mine = [row for row in rows if row["dev_top1"] and method in ("", row["method"])]
        if not mine:
            known = sorted({row["method"] for row in rows if row["dev_top1"]})
            raise bad_value("method", method, f"no such method with a student in {folder}; it has {', '.join(known) or 'none'}")
        best = max(mine, key=lambda row: float(row["dev_top1"]))
        settings = {"partition.video_missing": float(best["video_missing"]), "partition.alpha": float(best["alpha"])}
        own = {"method": best["method"], "seed": int(best["seed"]), "data.fold": int(best["fold"])}
        tuned = json.loads(best["tuned"]) if best["tuned"] else {}
    except (csv.Error, LookupError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{folder}/compare.csv: is no table of a comparison ({in_one_line(error)}); {RESULT_REMEDY}") from error
    config = with_overrides(read_config(folder / "config.yaml"), own | settings | tuned)
    named = ", ".join(f"{name} {value}" for name, value in (own | settings).items())
    print(f"the run with the best dev accuracy, {float(best['dev_top1']):.3f}: {named}")
    check_features(config.data.features)
    table = load_data(config.data, folder.parent / "features")
    check_features(table.features)
    store = PhaseStore(phases)
    tested = drive(run_experiment(plan_experiment(config, table), store, SerialExecutor(), control=False), lambda report: None)
    path = write_results(workspace, tested, store, table)
    assert path is not None
    return Subject(folder.name, path, config, tested.result, tested.finished.plan.federation, tested.confusions)


def read_config(path: Path) -> ExperimentConfig:
    """A complete configuration that a run left.

    Raises:
        UserError: The file cannot be read, or holds other fields.

    """
    try:
        flat = flatten(yaml.safe_load(read_text(path)))
        return with_overrides(ExperimentConfig(), {name: value for name, value in flat.items() if name in FIELDS})
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: is no configuration ({in_one_line(error)}); {RESULT_REMEDY}") from error
