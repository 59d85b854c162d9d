"""One experiment from config to result: the method's rounds, then the test set, once, at each role's best dev round."""

import contextlib
import hashlib
import time
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mm_ray.config import ExperimentConfig, ModelConfig, with_overrides
from mm_ray.data.feature_table import FeatureTable
from mm_ray.evaluate.metrics import summary
from mm_ray.fed.diagnosis import diagnosis_of
from mm_ray.fed.evaluation import confusion_on
from mm_ray.fed.executor import Executor
from mm_ray.fed.federation import Federation, build_federation
from mm_ray.fed.measured_cost import EnergyMeter, peak_memory_bytes, read_each_round
from mm_ray.fed.method import Method, find_method
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.privacy import privacy_of
from mm_ray.fed.rounds import PhaseResults, role_params, run
from mm_ray.fed.update_screening import refusals
from mm_ray.fed.virtual_time import SIM_SECONDS
from mm_ray.models.flat_params import named_tensors
from mm_ray.types import RoundReport

CONTROL_PHASES = {"control": "control/cross_entropy", "control_all": "control_all/cross_entropy"}
"""The methods that continue with cross-entropy, on audiovisual and on all clients, and the names of their own rounds."""


@dataclass(frozen=True)
class Experiment:
    """A config made ready to run: its federation and its method, both checked."""

    config: ExperimentConfig
    federation: Federation
    method: Method

    def model_of(self, role: NetworkRef) -> ModelConfig:
        """Sizes of a role's network; a method may have its own."""
        return next(phase.model for phase in self.method.phases if phase.name == role.phase)


@dataclass(frozen=True)
class RunResult:
    """All rounds done: the plan and the outcome of each of its phases."""

    plan: Experiment
    outcomes: PhaseResults

    def best_dev(self, role: NetworkRef) -> float:
        """A role's dev top-1 at its best round."""
        outcome = self.outcomes[role.phase]
        return float(outcome.reports[outcome.best_round(role.network) - 1].metrics[f"dev/{role.network}_top1"])


@dataclass(frozen=True)
class Evaluation:
    """A finished experiment and its one look at the test set."""

    finished: RunResult
    confusions: dict[str, np.ndarray]
    """Confusion matrix (C, C) on the test set by role, and of each control that ran."""
    result: dict[str, Any]
    """What `result.json` holds."""


def plan_experiment(config: ExperimentConfig, table: FeatureTable) -> Experiment:
    """Partition the data, build the method, and check that every phase can work.

    Raises:
        UserError: An unknown name, or a federation in which a phase cannot work.

    """
    federation, method = build_federation(config, table), find_method(config)
    for phase in method.phases:
        phase.cohort(federation, 1)  # refuses a federation in which the phase cannot work
    return Experiment(config, federation, method)


def run_rounds(plan: Experiment, store: PhaseStore, executor: Executor) -> Generator[RoundReport, None, RunResult]:
    """The rounds of a plan."""
    outcomes = yield from run(plan.method, plan.federation, store, executor, plan.config.clients.chunk_size)
    return RunResult(plan, outcomes)


def run_experiment(
    plan: Experiment, store: PhaseStore, executor: Executor, control: bool
) -> Generator[RoundReport, None, Evaluation]:
    """The rounds of a plan and, if asked for, of both controls; then the test."""
    meter = EnergyMeter()
    tested = yield from read_each_round(meter, _tested(plan, store, executor, control))
    tested.result["energy_j"] = meter.read()
    return tested


def _tested(plan: Experiment, store: PhaseStore, executor: Executor, control: bool) -> Generator[RoundReport, None, Evaluation]:
    started = time.perf_counter()
    finished = yield from run_rounds(plan, store, executor)
    reports = [report for outcome in finished.outcomes.values() for report in outcome.reports]
    confusions = {name: _confusion_on_test(finished, role, store) for name, role in plan.method.roles.items()}
    dev = {name: finished.best_dev(role) for name, role in plan.method.roles.items()}
    for name, phase in CONTROL_PHASES.items() if control else ():
        control_plan = control_of(plan, name)
        main = control_plan.method.main
        control_run = yield from _renamed(run_rounds(control_plan, store, executor), main.phase, phase)
        confusions[name] = _confusion_on_test(control_run, main, store)
        dev[name] = control_run.best_dev(main)
    diagnosis = diagnosis_of(reports)
    test = {name: summary(confusion_CC) for name, confusion_CC in confusions.items()}
    result = _result(finished, reports, test, dev, store, time.perf_counter() - started)
    if diagnosis:
        result["diagnosis"] = {**asdict(diagnosis), "share": diagnosis.share, "text": diagnosis.line()}
    return Evaluation(finished, confusions, result)


def control_of(plan: Experiment, name: str) -> Experiment:
    """A control of a plan, one of `CONTROL_PHASES`, on the same federation."""
    config = with_overrides(plan.config, {"method": name})
    return replace(plan, config=config, method=find_method(config))


def _renamed(rounds: Generator[RoundReport, None, RunResult], own: str, name: str) -> Generator[RoundReport, None, RunResult]:
    """A control's own rounds under a name of their own; those that it shares were reported already."""
    with contextlib.closing(rounds):
        while True:
            try:
                report = next(rounds)
            except StopIteration as stop:
                finished: RunResult = stop.value
                return finished
            if report.phase == own:
                yield replace(report, phase=name)


def _confusion_on_test(finished: RunResult, role: NetworkRef, store: PhaseStore) -> np.ndarray:
    assert role.network
    params = role_params(role, finished.outcomes, store)
    plan = finished.plan
    return confusion_on("test", role.network, params, plan.model_of(role), plan.federation)


def params_digest(finished: RunResult, role: NetworkRef, store: PhaseStore) -> str:
    """sha256 over a role's tensors (float32, little endian) in the order of their names."""
    digest, plan = hashlib.sha256(), finished.plan
    params = role_params(role, finished.outcomes, store)
    tensors = named_tensors(str(role.network), params, plan.model_of(role), plan.federation.shapes)
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def _result(
    finished: RunResult,
    reports: list[RoundReport],
    test: Mapping[str, Mapping[str, float]],
    dev: Mapping[str, float],
    store: PhaseStore,
    seconds: float,
) -> dict[str, Any]:
    plan = finished.plan
    main = plan.method.main
    reused = sum(report.reused for report in reports)
    return {
        "method": plan.config.method,
        "seed": plan.config.seed,
        "data": plan.config.data.name,
        "test": test,
        "dev": {role: {"top1": value} for role, value in dev.items()},
        "best_round": finished.outcomes[main.phase].best_round(main.network),
        "rounds_computed": len(reports) - reused,
        "rounds_reused": reused,
        "seconds": seconds,
        "compute_s": sum(report.seconds for report in reports),
        "bytes_up": sum(report.bytes_up for report in reports),
        "bytes_down": sum(report.bytes_down for report in reports),
        "flops": sum(report.flops for report in reports),
        "peak_memory_bytes": {
            "driver": peak_memory_bytes(),
            "actor": max(report.peak_memory_bytes for report in reports) or None,
        },
        **({SIM_SECONDS: sum(report.metrics[SIM_SECONDS] for report in reports)} if plan.federation.profile else {}),
        "params_digest": params_digest(finished, main, store),
        **privacy_of(plan.method.phases, plan.federation),
        **({"refused": lines} if (lines := refusals(reports)) else {}),
    }
