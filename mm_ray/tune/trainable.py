"""The one Trainable: trials, a study's finals and tests, and the runs of a comparison are all steps of it.

Its host is an actor, which the next trial reuses (the quick one), or one Ray Train job per trial. Both take their client actors
from the trial's placement group, so that Tune accounts for all of a trial. If one client actor on CPUs is all that a trial has,
its host simulates the clients itself: a second process would cost a start and memory, and the two would never work at once.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
import torch
from ray import train, tune
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.tune import Callback
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.search.searcher import Searcher
from ray.util.placement_group import PlacementGroup, get_current_placement_group

from mm_ray.config import ClientsConfig
from mm_ray.data.feature_table import FeatureTable
from mm_ray.fed.executor import Executor, SerialExecutor
from mm_ray.runtime.cluster import Cluster
from mm_ray.runtime.executor import RayExecutor
from mm_ray.runtime.placement import DRIVER_CPUS, Placement, most_trials, place_trial

TRIAL_RETRIES = 3
"""How often a trial whose process died resumes from its last stored round; then it counts as failed."""


class Steps(Protocol):
    """What a trial does, cut into the steps that Tune sees."""

    def step(self) -> dict[str, Any]:
        """Run to the next result; its `finished` says whether it is the last."""

    def close(self) -> None:
        """End where it stands; what is computed is kept."""


Begin = Callable[[dict[str, Any], FeatureTable, Executor], Steps]
"""Makes a trial's steps from the suggestion, the features and the executor; pickled and sent to the actors."""


@dataclass(frozen=True)
class TrialResources:
    """What a host gets: the trial's steps, the feature table in the object store, and the trial's actors."""

    begin: Begin
    table: list[Any]
    """The reference, in a list so that Ray does not resolve it."""
    placement: Placement
    hosts_clients: bool
    """Whether the trial's host simulates the clients itself."""

    def executor(self, group: PlacementGroup | None) -> Executor:
        """Client actors in the trial's placement group, or none."""
        if self.hosts_clients:
            return SerialExecutor()
        assert group is not None
        return RayExecutor(self.table[0], self.placement, group)

    def bundles(self) -> list[dict[str, float]]:
        """What Tune reserves; the first bundle is the host's, which takes no CPU beside client actors: they take turns."""
        return self.placement.bundles() if self.hosts_clients else [{}, *self.placement.bundles()]

    def trial(self, config: dict[str, Any], executor: Executor) -> Steps:
        """The trial that the searcher suggested."""
        torch.set_num_threads(1)
        return self.begin(config, ray.get(self.table[0]), executor)


def hosts_clients(placement: Placement, clients: ClientsConfig, host: str) -> bool:
    """Whether a trial's host simulates the clients itself."""
    return host == "actor" and placement.num_actors == 1 and not placement.num_gpus and not clients.deadline_s


@dataclass(frozen=True)
class TrialRunner:
    """Runs trials on a cluster, as many at once as fit.

    Args:
        table: The features.
        clients: The actors of a trial.
        cluster: The cluster.
        folder: Where Tune keeps its files.
        host: `actor` or `train`.

    """

    table: FeatureTable
    clients: ClientsConfig
    cluster: Cluster
    folder: Path
    host: str = "actor"

    def run(
        self,
        begin: Begin,
        searcher: Searcher,
        count: int,
        callbacks: Sequence[Any] = (),
        scheduler: Any = None,
        stop: Any = None,
    ) -> tune.ResultGrid:
        """Run the trials that a searcher suggests.

        With `stop`, which may end them early, the caller handles signals, not Tune.
        """
        placement = place_trial(self.clients, self.cluster, self.host)
        hosted = TrialResources(begin, [ray.put(self.table)], placement, hosts_clients(placement, self.clients, self.host))
        with _tune_without(LOGGERS, *([SIGINT_HANDLER] if stop else [])):
            return tune.Tuner(
                trainable(hosted, self.host),
                tune_config=tune.TuneConfig(
                    num_samples=count,
                    search_alg=searcher,
                    scheduler=scheduler,
                    reuse_actors=self.host == "actor",
                    max_concurrent_trials=most_trials(placement, self.clients, self.cluster),
                ),
                run_config=tune.RunConfig(
                    name="tune",
                    storage_path=str(self.folder.absolute()),
                    callbacks=list(callbacks),
                    stop=stop,
                    failure_config=tune.FailureConfig(max_failures=TRIAL_RETRIES),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    verbose=0,
                ),
            ).fit()


def trainable(hosted: TrialResources, host: str) -> Any:
    """What Tune runs: `actor` (the Trainable) or `train` (a Train job for each trial)."""
    kind: Any = TrialActor if host == "actor" else train_trial
    bundles = tune.PlacementGroupFactory(hosted.bundles(), strategy="PACK")
    return tune.with_resources(tune.with_parameters(kind, hosted=hosted), bundles)


LOGGERS = "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"
"""Tune's own loggers: they would write every result a second time, under other names."""
SIGINT_HANDLER = "TUNE_DISABLE_SIGINT_HANDLER"
"""Turns off Tune's ^C handler, where signals are ours (`mm_ray.tune.stopping.stops_on_signals`)."""


@contextmanager
def _tune_without(*features: str) -> Iterator[None]:
    """Run Tune without some of its features, by the environment variables that turn them off."""
    os.environ |= dict.fromkeys(features, "1")
    try:
        yield
    finally:
        for name in features:
            del os.environ[name]


class TrialActor(tune.Trainable):
    """A trial in this actor; the next trial reuses it together with its client actors."""

    def setup(self, config: dict[str, Any], hosted: TrialResources) -> None:  # type: ignore[override]
        """Start the client actors and plan the trial."""
        self._hosted = hosted
        self._executor = hosted.executor(get_current_placement_group())
        self._trial = hosted.trial(config, self._executor)

    def step(self) -> dict[str, Any]:
        """The next result."""
        result = self._trial.step()
        return result | {"done": result["finished"]}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial."""
        self._trial.close()
        self._trial = self._hosted.trial(new_config, self._executor)
        return True

    def cleanup(self) -> None:
        """Keep the trial's last round and end its actors."""
        self._trial.close()
        self._executor.close()


def train_trial(config: dict[str, Any], hosted: TrialResources) -> None:
    """A trial whose driver is a Train job; its clients are actors in the trial's placement group."""
    DataParallelTrainer(
        _train_worker,
        train_loop_config={"config": config, "hosted": hosted, "group": get_current_placement_group()},
        scaling_config=train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": DRIVER_CPUS}),
        run_config=train.RunConfig(
            name=f"trial-{config['number']}",
            storage_path=tune.get_context().get_trial_dir(),
            failure_config=train.FailureConfig(max_failures=2, controller_failure_limit=2),  # type: ignore[call-arg]
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]
        ),
    ).fit()


def _train_worker(settings: dict[str, Any]) -> None:
    hosted: TrialResources = settings["hosted"]
    executor = hosted.executor(settings["group"])
    trial = hosted.trial(settings["config"], executor)
    try:
        while True:
            result = trial.step()
            train.report(result)
            if result["finished"]:
                return
    finally:
        trial.close()
        executor.close()


class FixedListSearcher(Searcher):
    """Suggests the configurations of a list."""

    def __init__(self, jobs: Sequence[dict[str, Any]]) -> None:
        super().__init__()
        self._jobs = list(jobs)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        """The next one."""
        return self._jobs.pop(0) if self._jobs else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to learn."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was kept."""


class OnResult(Callback):
    """Passes a trial's config and each of its results to a function of the driver."""

    def __init__(self, function: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
        self._function = function

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that we do not use

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        """A trial reported, or ended."""
        self._function(trial.config, result)


def failures(grid: tune.ResultGrid) -> list[tuple[dict[str, Any], str]]:
    """The config of each trial that failed, and why: the last line of Ray's account, which is the error itself."""
    ended = [grid[number] for number in range(len(grid))]
    return [(one.config, str(one.error).strip().splitlines()[-1]) for one in ended if one.error and one.config]
