"""The hosts of a trial under Tune: a Trainable with its client actors (the quick one), or a Ray Train job.

Both take their client actors from the trial's placement group, so that Tune accounts for all of a trial.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray import train, tune
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from ray.util.placement_group import PlacementGroup, get_current_placement_group

from mm_ray.runtime.executor import RayExecutor
from mm_ray.runtime.placement import DRIVER_CPUS, Placement
from mm_ray.tune.trial import TrialRun, TrialSettings


@dataclass(frozen=True)
class TrialResources:
    """What a host gets: the study's settings, the feature table in the object store, the trial's actors."""

    settings: TrialSettings
    table: list[Any]
    """The reference, in a list so that Ray passes it on and does not resolve it."""
    placement: Placement

    def executor(self, group: PlacementGroup | None) -> RayExecutor:
        """Client actors in the trial's placement group."""
        assert group is not None
        return RayExecutor(self.table[0], self.placement, group)

    def trial(self, config: dict[str, Any], executor: RayExecutor) -> TrialRun:
        """The trial that the searcher suggested."""
        torch.set_num_threads(1)
        return TrialRun(self.settings, config["overrides"], ray.get(self.table[0]), executor, config.get("seeds", ()))


def trainable(hosted: TrialResources, host: str) -> Any:
    """What Tune runs: `actor` (the Trainable) or `train` (a Train job per trial)."""
    kind: Any = TrialActor if host == "actor" else train_trial
    return tune.with_resources(tune.with_parameters(kind, hosted=hosted), bundles_of(hosted.placement))


def bundles_of(placement: Placement) -> tune.PlacementGroupFactory:
    """What Tune reserves for a trial: its client actors.

    The first bundle is empty: the trial itself takes no CPU, since it and its clients never work at the same time.
    """
    return tune.PlacementGroupFactory([{}, *placement.bundles()], strategy="PACK")


LOGGERS = "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"
"""Tune's own loggers: they would write every result a second time, under other names."""
SIGINT_HANDLER = "TUNE_DISABLE_SIGINT_HANDLER"
"""Tune's ^C, where signals are ours (`mm_ray.tune.stopping.stops_on_signals`)."""


@contextmanager
def tune_without(*features: str) -> Iterator[None]:
    """Run Tune without some of its features, each by the variable that turns it off."""
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
