"""A single run as a Ray Train job: the worker is the driver of the rounds, client actors play the clients.

A worker that dies is started again by Train and goes on from the phase store; its actors end with it. Each actor asks for its
share by itself and not as a bundle of a placement group: while a group waits for a bundle that lay on a lost node, Ray's GCS
takes a whole core (measured on Ray 2.60), and the others can do without the lost actor.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray import train
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.placement_group import placement_group, remove_placement_group

from mm_ray.config import ExperimentConfig
from mm_ray.data.table import FeatureTable
from mm_ray.errors import UserError, bad_value, in_one_line
from mm_ray.fed.experiment import plan_experiment, run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.runtime.drive import drive
from mm_ray.runtime.executor import RayExecutor
from mm_ray.runtime.placement import DRIVER_CPUS, Placement
from mm_ray.runtime.run_folder import RoundLog, write_results
from mm_ray.types import RoundReport

MAX_FAILURES = 3
CHECKPOINT_EVERY_S = 5.0
"""Train copies a checkpoint to its storage; the phase store holds the states in any case."""
PLACEMENT_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Job:
    """All that the worker needs, on whichever node it runs."""

    config: ExperimentConfig
    control: bool
    folder: str
    phases: str
    placement: Placement


def run_job(job: Job, table: FeatureTable) -> None:
    """Run a Train job to its end; its files are then in the job's folder.

    Raises:
        UserError: There is no room for the client actors, or the run fails for good.

    """
    wait_for_room(job.placement.bundles())
    try:
        trainer = _Trainer(
            _worker,
            train_loop_config={"job": job, "table": [ray.put(table)]},
            scaling_config=train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": DRIVER_CPUS}),
            run_config=train.RunConfig(
                name="train",
                storage_path=str(Path(job.folder).absolute()),
                # Without a limit the controller waits for ever for a worker that does not fit.
                failure_config=train.FailureConfig(MAX_FAILURES, controller_failure_limit=1),  # type: ignore[call-arg]
                checkpoint_config=train.CheckpointConfig(num_to_keep=1),
            ),
        )
        trainer.fit()
    except train.TrainingFailedError as error:
        raise UserError(f"the run failed: {_cause(error)}; the same command goes on from the last stored round") from error


class _Trainer(DataParallelTrainer):
    def _register_sigint_handler(self, controller: Any) -> None:
        """Nothing: Ray's handler ends the process with code 0 and no word, ours says how to go on (`mm_ray.cli.run_main`)."""


def _cause(error: train.TrainingFailedError) -> str:
    """The worker's own error where there is one, in one line."""
    failures = getattr(error, "worker_failures", {})
    cause = next(iter(failures.values()), error)
    cause = getattr(cause, "cause", None) or cause
    return in_one_line(f"{type(cause).__name__}: {cause}")[:400]


def wait_for_room(bundles: list[dict[str, float]]) -> None:
    """Wait until the cluster has room for all the actors at once, and leave it free for them.

    Raises:
        UserError: The cluster does not have the room now.

    """
    group = placement_group(bundles, strategy="PACK")
    there_is_room = group.wait(PLACEMENT_TIMEOUT_S)
    remove_placement_group(group)
    if not there_is_room:
        raise bad_value("clients.num_actors", len(bundles), f"no room for {bundles[0]} each on the cluster now; use fewer")


def _worker(settings: dict[str, Any]) -> None:
    """The Train worker: drives the rounds, writes the run's files, hands the server's state to Train now and then."""
    torch.set_num_threads(1)
    job: Job = settings["job"]
    table = ray.get(settings["table"][0])
    store = PhaseStore(job.phases)
    _restore(store)
    executor = RayExecutor(settings["table"][0], job.placement)
    plan = plan_experiment(job.config, table)
    folder = Path(job.folder)
    with RoundLog(folder) as log:
        tested = drive(run_experiment(plan, store, executor, job.control), log.add, _Checkpoints(store).add)
    write_results(folder, tested, store, table)


class _Checkpoints:
    """Reports rounds to Train, with the newest stored state as the checkpoint: a phase store of one state."""

    def __init__(self, store: PhaseStore) -> None:
        self._store = store
        self._reported_at = -CHECKPOINT_EVERY_S

    def add(self, report: RoundReport) -> None:
        """Report a computed round if the last report is a while ago."""
        if report.reused or time.monotonic() - self._reported_at < CHECKPOINT_EVERY_S:
            return
        stored = self._store.rounds(report.key)
        if not stored:
            return
        with tempfile.TemporaryDirectory() as folder:
            self._store.copy(report.key, stored[-1], PhaseStore(folder))
            metrics = {"phase": report.phase, "round": report.round, **report.metrics}
            train.report(metrics, checkpoint=train.Checkpoint.from_directory(folder))
        self._reported_at = time.monotonic()


def _restore(store: PhaseStore) -> None:
    """After a failure: put the checkpoint's state into the store, should it have been lost there."""
    checkpoint = train.get_checkpoint()
    if checkpoint is None:
        return
    with checkpoint.as_directory() as folder:
        saved = PhaseStore(folder)
        for key in (path.name for path in Path(folder).iterdir() if path.is_dir()):
            for round_number in saved.rounds(key):
                saved.copy(key, round_number, store)
