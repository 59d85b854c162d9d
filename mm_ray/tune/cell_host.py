"""Runs of a comparison as Tune trials: each takes its config and ends with its result; actors are reused."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray import tune
from ray.tune import Callback
from ray.util.placement_group import get_current_placement_group

from mm_ray.config import ExperimentConfig
from mm_ray.data.feature_table import FeatureTable
from mm_ray.evaluate.metrics import recall
from mm_ray.fed.experiment import plan_experiment, run_experiment, run_rounds
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.runtime.cluster import Cluster
from mm_ray.runtime.executor import RayExecutor
from mm_ray.runtime.placement import Placement, most_trials, place_trial
from mm_ray.tune.hosts import LOGGERS, bundles_of, tune_without

REPORT_EVERY_S = 2.0
RETRIES = 2


@dataclass(frozen=True)
class ComparisonJob:
    """One run."""

    config: ExperimentConfig
    on_test: bool


@dataclass(frozen=True)
class Shared:
    """What all runs share. Folds differ in splits only, so one table lies in the object store for all of them."""

    table: list[Any]
    folds: Mapping[int, tuple[np.ndarray, str]]
    """Splits (N,) and fingerprint by fold."""
    phases: str
    placement: Placement


Done = Callable[[int, dict[str, Any]], None]
Moved = Callable[[int, int], None]


def run_jobs(
    jobs: Sequence[ComparisonJob],
    tables: Mapping[int, FeatureTable],
    phases: str,
    folder: Path,
    cluster: Cluster,
    done: Done,
    moved: Moved,
) -> dict[int, str]:
    """Run jobs side by side, as many as fit; returns the reason of each one that failed, by its position.

    Args:
        jobs: The runs.
        tables: The feature table of each fold.
        phases: The phase store.
        folder: Where Tune keeps its files.
        cluster: The cluster.
        done: Told the position of a finished job and its result.
        moved: Told the position of a job and how many rounds it has done.

    """
    clients = jobs[0].config.clients
    placement = place_trial(clients, cluster, "actor")
    folds = {fold: (table.splits_N, table.fingerprint) for fold, table in tables.items()}
    shared = Shared([ray.put(next(iter(tables.values())))], folds, phases, placement)
    hosted = tune.with_parameters(JobActor, shared=shared, jobs=list(jobs))
    tuner = tune.Tuner(
        tune.with_resources(hosted, bundles_of(placement)),
        param_space={"position": tune.grid_search(list(range(len(jobs))))},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=most_trials(placement, clients, cluster)),
        run_config=tune.RunConfig(
            name="runs",
            storage_path=str(folder.absolute()),
            callbacks=[ProgressCallback(done, moved)],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    with tune_without(LOGGERS):
        ended = tuner.fit()
    results = [ended[number] for number in range(len(ended))]
    return {one.config["position"]: _reason(one.error) for one in results if one.error and one.config}


class JobActor(tune.Trainable):
    """A run in this actor; the next run reuses it together with its client actors."""

    def setup(self, config: dict[str, Any], shared: Shared, jobs: list[ComparisonJob]) -> None:  # type: ignore[override]
        """Start the client actors and the run."""
        torch.set_num_threads(1)
        group = get_current_placement_group()
        assert group is not None
        self._shared, self._jobs = shared, jobs
        self._executor = RayExecutor(shared.table[0], shared.placement, group)
        self.reset_config(config)

    def step(self) -> dict[str, Any]:
        """Go on for a while; the last step carries the result."""
        started = time.monotonic()
        while time.monotonic() - started < REPORT_EVERY_S:
            try:
                next(self._rounds)
                self._num_rounds += 1
            except StopIteration as stop:
                return {"rounds": self._num_rounds, "result": stop.value, "done": True}
        return {"rounds": self._num_rounds, "done": False}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next run."""
        self._num_rounds = 0
        job = self._jobs[new_config["position"]]
        splits_N, fingerprint = self._shared.folds[job.config.data.fold]
        table = replace(ray.get(self._shared.table[0]), splits_N=splits_N, fingerprint=fingerprint)
        self._rounds = _rounds(job, table, PhaseStore(self._shared.phases), self._executor)
        return True

    def cleanup(self) -> None:
        """Keep the last round and end the actors."""
        self._rounds.close()
        self._executor.close()


def _rounds(job: ComparisonJob, table: FeatureTable, store: PhaseStore, executor: RayExecutor) -> Any:
    plan = plan_experiment(job.config, table)
    if not job.on_test:
        finished = yield from run_rounds(plan, store, executor)
        return {"dev": {name: {"top1": finished.best_dev(role)} for name, role in plan.method.roles.items()}}
    tested = yield from run_experiment(plan, store, executor, control=False)
    return tested.result | {"per_class": {name: recall(confusion_CC) for name, confusion_CC in tested.confusions.items()}}


def _reason(error: Exception) -> str:
    """The last line of Ray's account, which is the error itself."""
    return str(error).strip().splitlines()[-1]


class ProgressCallback(Callback):
    """Passes progress and results on to the driver's functions."""

    def __init__(self, done: Done, moved: Moved) -> None:
        self._done, self._moved = done, moved

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that we do not use

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        """A run has moved, or ended."""
        position = trial.config["position"]
        self._moved(position, result["rounds"])
        if "result" in result:
            self._done(position, result["result"])
