"""A study from start to end: trials under Tune, the best configuration, its test beside the control, the report."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.data.table import FeatureTable
from mm_ray.errors import UserError
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import plan_experiment, run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.runtime.cluster import Cluster
from mm_ray.runtime.drive import drive
from mm_ray.runtime.placement import most_trials, place_trial
from mm_ray.runtime.progress import RunProgress
from mm_ray.runtime.run_folder import RoundLog, config_yaml, write_results, write_text
from mm_ray.tune.hosts import Hosted, trainable
from mm_ray.tune.hparams import write_experiment
from mm_ray.tune.live import LiveTable
from mm_ray.tune.report import write_report
from mm_ray.tune.search import StudySearch, Watch
from mm_ray.tune.space import Space
from mm_ray.tune.study_log import StudyLog, read_trials
from mm_ray.tune.trial import TrialSettings

TRIAL_RETRIES = 2
SCHEDULERS = ("none", "asha")
HOSTS = ("actor", "train")


@dataclass(frozen=True)
class Study:
    """A study: what is searched, from which base config, where its files lie."""

    base: ExperimentConfig
    space: Space
    folder: Path
    phases: str
    trials: int
    scheduler: str
    host: str


def run_trials(study: Study, table: FeatureTable, cluster: Cluster) -> StudySearch:
    """Run the trials that are still missing; returns the searcher with the finished study."""
    clients = study.base.clients
    placement = place_trial(clients, cluster, study.host)
    search = StudySearch(study.space, study.folder, study.folder.name, study.base.seed)
    remaining = search.remaining(study.trials)
    if not remaining:
        return search
    write_experiment(study.folder / "tensorboard", study.space.distributions, study.space.objectives)
    hosted = Hosted(TrialSettings(study.base, study.phases), [ray.put(table)], placement)
    with _quiet_tune(), LiveTable(study.trials) as live:
        tune.Tuner(
            trainable(hosted, study.host),
            tune_config=tune.TuneConfig(
                num_samples=remaining,
                search_alg=search,
                scheduler=_scheduler(study.scheduler),
                metric="score",
                mode="max",
                reuse_actors=study.host == "actor",
                max_concurrent_trials=most_trials(placement, clients, cluster),
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str((study.folder / "ray").absolute()),
                callbacks=[Watch(search), StudyLog(study.folder, live)],
                failure_config=tune.FailureConfig(max_failures=TRIAL_RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()
    return search


def _scheduler(name: str) -> Any:
    if name == "none":
        return None
    return ASHAScheduler(time_attr="phase2_round", grace_period=5, reduction_factor=3)


@contextmanager
def _quiet_tune() -> Iterator[None]:
    """Tune's own loggers would write every round a second time, under other names."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    try:
        yield
    finally:
        del os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"]


def conclude(study: Study, search: StudySearch, table: FeatureTable) -> dict[str, Any]:
    """Test the best configuration once, beside its control; write `best.yaml`, the student, the result and the report.

    Raises:
        UserError: No trial reached its end.

    """
    best = _best_trial(study, search)
    config = with_overrides(study.base, best["overrides"])
    write_text(study.folder / "best.yaml", config_yaml(config))
    plan, store = plan_experiment(config, table), PhaseStore(study.phases)
    with RunProgress(plan, control=True, only_computed=True) as progress, RoundLog(study.folder, "best") as log:
        finished, result = drive(run_experiment(plan, store, SerialExecutor(), control=True), log.add, progress.add)
    write_results(study.folder, finished, result, store, table)
    write_report(study.folder / "report.html", search.study, read_trials(study.folder), _headline(study, best, result))
    return best | {"result": result}


def _best_trial(study: Study, search: StudySearch) -> dict[str, Any]:
    complete = search.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if not complete:
        raise UserError(f"no trial of {study.folder} reached its end; see trials.jsonl there, and run more --trials")
    best = max(complete, key=lambda trial: (trial.value, -trial.number))
    rows = {row["number"]: row for row in read_trials(study.folder)}
    return rows[best.user_attrs.get("same_as", best.number)]


def _headline(study: Study, best: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    return {
        "number": best["number"],
        "params": best["params"],
        "score": best["score"],
        "control": result["dev"]["control"]["top1"],
        "phase1": result["dev"].get("phase1_audio", {}).get("top1"),
        "test": result["test"],
        "command": f"python -m mm_ray.train --config {study.folder / 'best.yaml'} --seed {study.base.seed + 1} --control",
    }
