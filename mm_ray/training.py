"""One experiment from config to files, as a Ray Train job or in this process: what `mm_ray.train` and its command share."""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from mm_ray.config import ClientsConfig, ExperimentConfig
from mm_ray.data.feature_row import one_torch_thread
from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import bad_value
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import Experiment, check_config, plan_experiment, run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import drive
from mm_ray.runtime.progress import RunProgress
from mm_ray.runtime.run_folder import RoundLog, check_places, default_name, open_folder, write_results
from mm_ray.runtime.tracking import DEFAULT, RunInfo, TrackedRun, check_trackers, flat_config, metrics_of
from mm_ray.startup import load_with_progress, local_gpus, say_changed_code, say_idle_gpus
from mm_ray.storage import check_place
from mm_ray.types import RoundReport


@dataclass(frozen=True)
class TrainingRequest:
    """A run: what is trained, where its files lie, and who plays the clients."""

    config: ExperimentConfig
    control: bool = False
    name: str = ""
    runs: str = "runs"
    phases: str = ""
    serial: bool = True
    """In this process; else as a Ray Train job."""
    address: str = ""
    tracker: str = DEFAULT


def run_training(request: TrainingRequest) -> Path:
    """Run an experiment to its end, or resume it; returns its folder (docs/files.md).

    Raises:
        UserError: A mistake in the config, the data or a path, or client actors that do not fit.
        EnvironmentFailure: Ray does not start.

    """
    config, trackers = request.config, check_trackers(request.tracker)
    if request.serial and config.clients.deadline_s:
        raise bad_value("clients.deadline_s", config.clients.deadline_s, "a serial run waits for all; leave out one of the two")
    check_config(config)
    name = request.name or default_name(config)
    phases = check_places(request.runs, name, request.phases, config)
    if not request.serial:
        _check_fits(config.clients, request.address)
    with one_torch_thread():
        table = load_with_progress(config.data, request.runs)
        plan = plan_experiment(config, table)
        check_place(phases)
        folder = open_folder(request.runs, name, config)
        say_changed_code(phases)
        tracked = TrackedRun(trackers, RunInfo(folder, "", flat_config(config)))
        with tracked, RunProgress(plan, request.control) as progress:
            listeners = (progress.add, tracked.add)
            if request.serial:
                _run_here(plan, table, phases, request.control, folder, listeners)
            else:
                _run_on_ray(plan, table, phases, request, folder, listeners)
            tracked.finish("SUCCESS", metrics_of(json.loads((folder / "result.json").read_text())), artifacts=True)
    return folder


def _check_fits(clients: ClientsConfig, address: str) -> None:
    """Refuse client actors that do not fit before the data is read, anything is written, or a Ray is started here."""
    from mm_ray.runtime.cluster import cluster_at  # ray takes a second to import, which a serial run need not wait for
    from mm_ray.runtime.gpu_sharing import before_measuring
    from mm_ray.runtime.placement import place_run

    cluster = cluster_at(address)
    place_run(before_measuring(clients, cluster), cluster)


Listeners = Sequence[Callable[[RoundReport], None]]


def _run_here(plan: Experiment, table: FeatureTable, phases: str, control: bool, folder: Path, listeners: Listeners) -> None:
    say_idle_gpus(plan.config.clients, local_gpus())
    store = PhaseStore(phases)
    rounds = run_experiment(plan, store, SerialExecutor(), control)
    with RoundLog(folder) as log:
        tested = drive(rounds, log.add, *listeners)
    write_results(folder, tested, store, table)


def _run_on_ray(
    plan: Experiment, table: FeatureTable, phases: str, request: TrainingRequest, folder: Path, listeners: Listeners
) -> None:
    from mm_ray.runtime.cluster import connect
    from mm_ray.runtime.gpu_sharing import share_gpus
    from mm_ray.runtime.placement import place_run
    from mm_ray.runtime.train_job import TrainJob, run_job

    cluster = connect(request.address)
    placement = place_run(share_gpus([plan], table, cluster, per_trial=False), cluster)
    print(f"Ray: {cluster.name}, {cluster.num_cpus:g} CPUs, {cluster.num_gpus:g} GPUs; {placement.num_actors} client actors")
    say_idle_gpus(plan.config.clients, cluster.num_gpus)
    with _Follower(folder / "rounds.jsonl", listeners):
        run_job(TrainJob(plan.config, request.control, str(folder.absolute()), phases, placement), table)


class _Follower:
    """Passes on the rounds that the job's worker writes to `rounds.jsonl`; what a listener raises comes at the job's end."""

    def __init__(self, path: Path, listeners: Listeners) -> None:
        path.unlink(missing_ok=True)
        self._path, self._listeners = path, listeners
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._shown = 0
        self._raised: Exception | None = None

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()
        if self._raised and error is None:
            raise self._raised

    def _follow(self) -> None:
        try:
            while not self._done.wait(0.3):
                self._show()
            self._show()
        except Exception as error:
            self._raised = error

    def _show(self) -> None:
        lines = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        self._shown = min(self._shown, len(whole))  # a worker that was started again starts the file again
        for line in whole[self._shown :]:
            for listener in self._listeners:
                listener(RoundReport(**json.loads(line)))
        self._shown = len(whole)
