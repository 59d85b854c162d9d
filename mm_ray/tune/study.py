"""A study from start to end: trials under Tune, the best configuration, its test beside the control, the report."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

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
from mm_ray.tune.choice import ranking
from mm_ray.tune.hosts import Hosted, trainable
from mm_ray.tune.hparams import write_experiment
from mm_ray.tune.live import LiveTable
from mm_ray.tune.report import write_report
from mm_ray.tune.schedulers import StudyScheduler, check_scheduler
from mm_ray.tune.search import SearchSettings, StudySearch, Watch
from mm_ray.tune.searchers import check_searcher
from mm_ray.tune.space import Space
from mm_ray.tune.study_log import StudyLog, read_trials
from mm_ray.tune.trial import TrialSettings

TRIAL_RETRIES = 2


@dataclass(frozen=True)
class Study:
    """A study: what is searched, from which base config, where its files lie."""

    base: ExperimentConfig
    space: Space
    folder: Path
    phases: str
    trials: int
    host: str
    search: SearchSettings
    num_seeds: int = 1


def check_study(space: Space, searcher: str, scheduler: str, num_seeds: int = 1) -> None:
    """Refuse settings that do not go together, before anything starts.

    Raises:
        UserError: See `check_searcher` and `check_scheduler`.

    """
    check_searcher(searcher, space)
    check_scheduler(scheduler, space, num_seeds)


def run_trials(study: Study, table: FeatureTable, cluster: Cluster) -> StudySearch:
    """Run the trials that are still missing; returns the searcher with the finished study."""
    clients = study.base.clients
    placement = place_trial(clients, cluster, study.host)
    search = StudySearch(study.space, study.folder, study.folder.name, study.base.seed, study.search)
    remaining = search.remaining(study.trials)
    if not remaining:
        return search
    write_experiment(study.folder / "tensorboard", study.space.distributions, study.space.objectives)
    objective = next(iter(study.space.objectives))
    hosted = Hosted(TrialSettings(study.base, study.phases, objective, study.num_seeds), [ray.put(table)], placement)
    with _quiet_tune(), LiveTable(study.trials) as live:
        log = StudyLog(study.folder, live)
        search.before_end = log.end
        tune.Tuner(
            trainable(hosted, study.host),
            tune_config=tune.TuneConfig(
                num_samples=remaining,
                search_alg=search,
                scheduler=StudyScheduler(search),
                reuse_actors=study.host == "actor",
                max_concurrent_trials=most_trials(placement, clients, cluster),
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str((study.folder / "ray").absolute()),
                callbacks=[Watch(search), log],
                failure_config=tune.FailureConfig(max_failures=TRIAL_RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()
    return search


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
    done = ranking(search.study)
    if not done:
        raise UserError(f"no trial of {study.folder} reached its end; see trials.jsonl there, and run more --trials")
    return next(row for row in read_trials(study.folder) if row["number"] == done[0].number)


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
