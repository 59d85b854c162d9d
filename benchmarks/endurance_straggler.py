"""One of two client actors is ten times slower: seconds a round when all are waited for, and with a deadline."""

import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.data.load import load_data
from mm_ray.fed.experiment import plan_experiment, run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import drive
from mm_ray.runtime.cluster import connect
from mm_ray.runtime.executor import RayExecutor
from mm_ray.runtime.placement import Placement

PHASE, WARM_UP = "phase1/unimodal", 3
SLOWER = 10
SLICE_S = 0.02
SETTINGS = {
    "data.synthetic.clips_per_class": 160,
    "clients.sample_frac": 0.6,
    "clients.chunk_size": 3,
    "phase1.rounds": 24,
    "phase1.local.epochs": 1,
    "phase2.rounds": 1,
}


def straggler(folder: Path) -> dict[str, Any]:
    """Medians over rounds of phase 1: undisturbed; with a straggler; with a straggler and a deadline of three calm rounds."""
    config = with_overrides(ExperimentConfig(), SETTINGS)
    table = load_data(config.data, str(folder / "features"))
    connect("")
    table_ref = ray.put(table)

    def played(name: str, deadline_s: float, slow: bool) -> dict[str, float]:
        plan = plan_experiment(with_overrides(config, {"clients.deadline_s": deadline_s}), table)
        executor, reports = RayExecutor(table_ref, Placement(2, 1.0, 0.0)), []
        with slowed(ray.get(executor.actors[0].place.remote())[1] if slow else None):
            rounds = run_experiment(plan, PhaseStore(str(folder / name)), executor, control=False)
            tested = drive(rounds, reports.append)
        executor.close()
        mine = [report for report in reports if report.phase == PHASE][WARM_UP:]
        return {
            "deadline_s": deadline_s,
            "seconds_a_round": statistics.median(report.seconds for report in mine),
            "slowest_round_s": max(report.seconds for report in mine),
            "clients_a_round": statistics.mean(report.num_clients for report in mine),
            "late_a_round": statistics.mean(len(report.refused) for report in mine),
            "student_top1": tested.result["test"]["student"]["top1"],
        }

    calm = played("calm", 0.0, slow=False)
    waiting = played("waiting", 0.0, slow=True)
    deadline = played("deadline", round(3 * calm["seconds_a_round"], 3), slow=True)
    return {"slower": SLOWER, "calm": calm, "waiting": waiting, "with_deadline": deadline}


@contextmanager
def slowed(pid: int | None) -> Iterator[None]:
    """A process gets one slice of time in ten."""
    over = threading.Event()

    def alternate() -> None:
        while pid and not over.is_set():
            os.kill(pid, signal.SIGSTOP)
            over.wait((SLOWER - 1) * SLICE_S)
            os.kill(pid, signal.SIGCONT)
            time.sleep(SLICE_S)

    thread = threading.Thread(target=alternate)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
