"""The chosen configuration, tested: the one place of a study that looks at the test set."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mm_ray.config import with_overrides
from mm_ray.data.table import FeatureTable
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import Finished, confusion_of_role, plan_experiment, run_experiment, run_rounds
from mm_ray.fed.method import find_method
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.runtime.drive import drive
from mm_ray.runtime.progress import RunProgress
from mm_ray.runtime.run_folder import RoundLog, write_results
from mm_ray.tune.study import Study


@dataclass(frozen=True)
class Chosen:
    """A trial's configuration, run to its end beside its control."""

    row: dict[str, Any]
    finished: Finished
    result: dict[str, Any]
    """What `result.json` holds."""
    confusions: dict[str, np.ndarray]
    """Confusion matrix (C, C) on the test set by role, and of the control."""


def tested(study: Study, row: dict[str, Any], table: FeatureTable) -> Chosen:
    """Take the rounds of a trial from the phase store, and test its networks and its control's."""
    plan = plan_experiment(with_overrides(study.base, row["overrides"]), table)
    store, executor = PhaseStore(study.phases), SerialExecutor()
    with RunProgress(plan, control=True, only_computed=True) as progress, RoundLog(study.folder, "best") as log:
        finished, result = drive(run_experiment(plan, store, executor, control=True), log.add, progress.add)
    write_results(study.folder, finished, result, store, table)
    control_config = with_overrides(plan.config, {"method": "control"})
    control_plan = replace(plan, config=control_config, method=find_method(control_config))
    control = drive(run_rounds(control_plan, store, executor))
    confusions = {name: confusion_of_role(finished, role, store) for name, role in plan.method.roles.items()}
    confusions["control"] = confusion_of_role(control, control_plan.method.main, store)
    return Chosen(row, finished, result, confusions)
