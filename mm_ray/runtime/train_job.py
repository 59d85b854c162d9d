"""A single run as a Ray Train job: the worker drives the rounds, client actors simulate the clients.

The worker runs on the node of the command that started it, so the run's folder, a phase store on a local disk and Train's
checkpoints may be on that node's own disk. The client actors, which do the work, run on any node and touch no file. Train
restarts a worker that dies; it resumes from the phase store, and its actors end with it. Each actor asks for its resources
alone, not as a bundle of a placement group: while a group waits for a bundle of a lost node, Ray's GCS uses a whole core
(measured on Ray 2.60), and the others can continue without the lost actor.
"""

import pickle
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
from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import StorageError, UserError, in_one_line
from mm_ray.fed.experiment import plan_experiment, run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import drive
from mm_ray.runtime.executor import RayExecutor
from mm_ray.runtime.placement import Placement
from mm_ray.runtime.run_folder import RoundLog, write_results
from mm_ray.storage import names_full_disk
from mm_ray.types import RoundReport

MAX_FAILURES = 3
CHECKPOINT_EVERY_S = 5.0
"""Train copies a checkpoint to its storage, although the phase store holds the states anyway."""
PLACEMENT_TIMEOUT_S = 60.0
SHARE_OF_NODE = 0.001
"""A Train worker needs some resource; each node has one with its own name, which nothing else here uses."""


@dataclass(frozen=True)
class TrainJob:
    """Everything that the worker needs."""

    config: ExperimentConfig
    control: bool
    folder: str
    phases: str
    placement: Placement


def run_job(job: TrainJob, table: FeatureTable) -> None:
    """Run a Train job to its end; its files are then in the job's folder.

    Raises:
        UserError: There is no room for the client actors, or the run fails for good.
        StorageError: Storage of the run's files is full, or fails.

    """
    wait_for_room(job.placement)
    try:
        trainer = _Trainer(
            _worker,
            # Pickled, so that Train's controller, which passes it on, need not import torch.
            train_loop_config={"job": pickle.dumps(job), "table": [ray.put(table)]},
            scaling_config=_on_this_node(),
            run_config=train.RunConfig(
                name="train",
                storage_path=str(Path(job.folder).absolute()),
                # Without a limit the controller waits for ever for a worker that does not fit.
                failure_config=train.FailureConfig(MAX_FAILURES, controller_failure_limit=1),  # type: ignore[call-arg]
                checkpoint_config=train.CheckpointConfig(num_to_keep=1),
            ),
        )
        refusal = trainer.fit().return_value  # type: ignore[attr-defined]
    except train.TrainingFailedError as error:
        raise UserError(f"the run failed: {_cause(error)}; the same command resumes from the last stored round") from error
    if refusal:
        raise refusal


def _on_this_node() -> train.ScalingConfig:
    """One worker on the node of this process."""
    node_id = ray.get_runtime_context().get_node_id()
    (resources,) = (node["Resources"] for node in ray.nodes() if node["NodeID"] == node_id)
    (name,) = (name for name in resources if name.startswith("node:") and name != "node:__internal_head__")
    # Nodes with the same address, as in tests, share the name too; the label is unique.
    here = {"ray.io/node-id": node_id}
    return train.ScalingConfig(num_workers=1, resources_per_worker={name: SHARE_OF_NODE}, label_selector=here)  # type: ignore[call-arg]


class _Trainer(DataParallelTrainer):
    def _register_sigint_handler(self, controller: Any) -> None:
        """Nothing: Ray's handler exits with code 0 and no message, ours says how to resume (`mm_ray.cli.run_main`)."""


def _cause(error: train.TrainingFailedError) -> str:
    """The worker's own error where there is one, in one line."""
    failures = getattr(error, "worker_failures", {})
    cause = next(iter(failures.values()), error)
    cause = getattr(cause, "cause", None) or cause
    return in_one_line(f"{type(cause).__name__}: {cause}")[:400]


def wait_for_room(placement: Placement) -> None:
    """Wait until the cluster has room for all the actors at once, and leave it free for them.

    Raises:
        UserError: The cluster does not have the room now.

    """
    group = placement_group(placement.bundles(), strategy="PACK")
    there_is_room = group.wait(PLACEMENT_TIMEOUT_S)
    remove_placement_group(group)
    if not there_is_room:
        bundle = placement.bundles()[0]
        each = ", ".join(f"{amount:g} {name}" for name, amount in bundle.items())
        problem = f"the cluster has no room now for {placement.num_actors} client actors of {each} each"
        raise UserError(f"{problem}; wait for other jobs to end, or give a smaller --clients.num_actors")


def _worker(settings: dict[str, Any]) -> StorageError | None:
    """The Train worker: runs the job; returns what storage refuses, since Train tries again after what is raised."""
    job: TrainJob = pickle.loads(settings["job"])
    try:
        with names_full_disk(job.folder):
            _run_here(job, settings["table"][0])
    except StorageError as error:
        return error
    return None


def _run_here(job: TrainJob, table_ref: ray.ObjectRef) -> None:
    """Drive the rounds, write the run's files, and pass the server's state to Train from time to time."""
    torch.set_num_threads(1)
    table = ray.get(table_ref)
    store = PhaseStore(job.phases)
    _restore(store)
    executor = RayExecutor(table_ref, job.placement)
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
        """Report a computed round if the last report is old enough."""
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
    """After a failure: put the checkpoint's state into the store, if it was lost there."""
    checkpoint = train.get_checkpoint()
    if checkpoint is None:
        return
    with checkpoint.as_directory() as folder:
        saved = PhaseStore(folder)
        for key in (path.name for path in Path(folder).iterdir() if path.is_dir()):
            for round_number in saved.rounds(key):
                saved.copy(key, round_number, store)
