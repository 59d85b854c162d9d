"""`python -m mm_ray.train`: one experiment, as a Ray Train job or (`--serial`) in this process."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from mm_ray.cli import add_run_flags, experiment_parser, parse, run_main, say_changed_code
from mm_ray.config import ClientsConfig, DataConfig
from mm_ray.console import PlainConsole, text_column
from mm_ray.data.feature_table import FeatureTable
from mm_ray.data.load import load_data
from mm_ray.errors import bad_value
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import Experiment, plan_experiment, run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.runtime.drive import drive
from mm_ray.runtime.progress import RunProgress
from mm_ray.runtime.run_folder import RoundLog, default_name, open_folder, phases_place, runs_folder, write_results
from mm_ray.storage import check_place
from mm_ray.types import RoundReport

DESCRIPTION = """Train one method once: phase 1 (modality-wise FL and the audiovisual teacher), then phase 2 (federated
distillation into an audio-only student). Every config field is a flag. Stored rounds are reused, so a run that was killed
goes on when the same command is given again."""


def main(argv: Sequence[str]) -> None:
    """Parse the flags, run, print the result."""
    parser = experiment_parser("mm_ray.train", DESCRIPTION)
    add_run_flags(parser)
    parser.add_argument("--serial", action="store_true", help="Run in this process without Ray: same bits, easy to debug")
    parser.add_argument("--control", action="store_true", help="Also run the cross-entropy control for as many rounds")
    config, flags = parse(parser, argv)
    if flags.serial and config.clients.deadline_s:
        raise bad_value("clients.deadline_s", config.clients.deadline_s, "a serial run waits for all; leave out one of the two")
    torch.set_num_threads(1)
    if not flags.serial:
        _check_fits(config.clients, flags.address)
    table = load_with_progress(config.data, flags.runs)
    plan = plan_experiment(config, table)
    name = flags.name or default_name(config)
    phases = phases_place(flags.phases, flags.runs, name)
    check_place(phases)
    folder = open_folder(flags.runs, name, config)
    say_changed_code(phases)
    with RunProgress(plan, flags.control) as progress:
        if flags.serial:
            _run_here(plan, table, phases, flags.control, folder, progress)
        else:
            _run_on_ray(plan, table, phases, flags, folder, progress)
    print_result(folder)


def _check_fits(clients: ClientsConfig, address: str) -> None:
    """Refuse client actors that do not fit before the data is read, anything is written, or a Ray is started here."""
    from mm_ray.runtime.cluster import connect, known_cluster  # ray takes a second to import, which --serial need not wait for
    from mm_ray.runtime.placement import place_run

    place_run(clients, known_cluster(address) or connect(address))


def load_with_progress(data: DataConfig, runs: str) -> FeatureTable:
    """The feature table; a bar shows while features are computed for the first time."""
    columns = (text_column("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=PlainConsole(), transient=True) as bars:
        task = bars.add_task(f"features of {data.name}", visible=False)
        return load_data(
            data,
            runs_folder(runs) / "features",
            lambda done, total: bars.update(task, completed=done, total=total, visible=True),
        )


def _run_here(plan: Experiment, table: FeatureTable, phases: str, control: bool, folder: Path, progress: RunProgress) -> None:
    store = PhaseStore(phases)
    rounds = run_experiment(plan, store, SerialExecutor(), control)
    with RoundLog(folder) as log:
        tested = drive(rounds, log.add, progress.add)
    write_results(folder, tested, store, table)


def _run_on_ray(plan: Experiment, table: FeatureTable, phases: str, flags: Any, folder: Path, progress: RunProgress) -> None:
    from mm_ray.runtime.cluster import connect
    from mm_ray.runtime.placement import place_run
    from mm_ray.runtime.train_job import TrainJob, run_job

    cluster = connect(flags.address)
    placement = place_run(plan.config.clients, cluster)
    print(f"Ray: {cluster.name}, {cluster.num_cpus:g} CPUs, {cluster.num_gpus:g} GPUs; {placement.num_actors} client actors")
    with _Follower(folder / "rounds.jsonl", progress):
        run_job(TrainJob(plan.config, flags.control, str(folder.absolute()), phases, placement), table)


class _Follower:
    """Shows the rounds that the job's worker writes to `rounds.jsonl`."""

    def __init__(self, path: Path, progress: RunProgress) -> None:
        path.unlink(missing_ok=True)
        self._path, self._progress = path, progress
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._shown = 0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._done.wait(0.3):
            self._show()
        self._show()

    def _show(self) -> None:
        lines = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        self._shown = min(self._shown, len(whole))  # a worker that was started again begins the file anew
        for line in whole[self._shown :]:
            self._progress.add(RoundReport(**json.loads(line)))
        self._shown = len(whole)


def print_result(folder: Path) -> None:
    """The run's accuracies and files."""
    result = json.loads((folder / "result.json").read_text())
    print(f"\n{'on the test set':<18}{'top-1':>8}{'UAR':>8}{'macro-F1':>10}")
    for role, scores in result["test"].items():
        print(f"{role:<18}{scores['top1']:>8.3f}{scores['uar']:>8.3f}{scores['macro_f1']:>10.3f}")
    print(
        f"\nbest round {result['best_round']}; {result['rounds_computed']} rounds computed, "
        f"{result['rounds_reused']} taken from the phase store, {result['seconds']:.1f} s"
    )
    for line in result.get("refused", []):
        print(f"warning: {line}")
    if "student" in result["test"]:
        print(f"student:     {folder / 'student.safetensors'}")
    print(f"tensorboard --logdir {quote(str(folder / 'tensorboard'))}")


if __name__ == "__main__":
    run_main(main)
