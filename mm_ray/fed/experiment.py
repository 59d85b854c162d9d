"""One experiment from config to result: the method's rounds, then one test of each role, at its best dev round."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from mm_ray.config import MODALITIES, PRECOMPUTED, ExperimentConfig, ModelConfig, with_overrides
from mm_ray.data.audio_features import find_function
from mm_ray.data.feature_table import FeatureTable
from mm_ray.data.labels import check_confusion
from mm_ray.data.load import prepared_store
from mm_ray.data.manifest import find_manifest
from mm_ray.data.own_partition import check_kind
from mm_ray.data.video_features import find_recipe
from mm_ray.evaluate.metrics import confusion_matrix, recall, summary
from mm_ray.fed.aggregation import refusals
from mm_ray.fed.diagnosis import diagnosis_of
from mm_ray.fed.evaluation import batches_of, classes_of, client_spreads
from mm_ray.fed.executor import Executor
from mm_ray.fed.federation import Federation, build_federation
from mm_ray.fed.measured_cost import EnergyMeter, peak_memory_bytes
from mm_ray.fed.method import Method, find_method
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.privacy import privacy_of
from mm_ray.fed.rounds import Driven, PhaseResults, Returned, role_params, run
from mm_ray.fed.virtual_time import SIM_SECONDS, check_profile
from mm_ray.models.encoder import check_encoders, check_reading, shipped_name
from mm_ray.models.flat_params import flat_network, named_tensors
from mm_ray.models.network import check_sizes
from mm_ray.plugins import in_user_code
from mm_ray.types import RoundReport, Shapes

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

    @property
    def reports(self) -> list[RoundReport]:
        """Every round of every phase, in order."""
        return [report for outcome in self.outcomes.values() for report in outcome.reports]

    def best_dev(self, role: NetworkRef) -> float:
        """A role's dev top-1 at its best round."""
        outcome = self.outcomes[role.phase]
        return float(outcome.reports[outcome.best_round(role.network) - 1].metrics[f"dev/{role.network}_top1"])


@dataclass(frozen=True)
class Evaluation:
    """A finished experiment and its one evaluation on the test set."""

    finished: RunResult
    controls: Mapping[str, RunResult]
    """The controls that ran, by name (`CONTROL_PHASES`)."""
    predictions: Mapping[str, np.ndarray]
    """Predicted class (N,) of each test clip by role, and of each control that ran; -1 where it cannot read the clip."""
    confusions: Mapping[str, np.ndarray]
    """Confusion matrix (C, C) of the predictions."""
    result: dict[str, Any]
    """What `result.json` holds."""

    @property
    def reports(self) -> list[RoundReport]:
        """What `run_experiment` reports: every round of the plan, then those that only a control has, renamed."""
        own = [(name, run.outcomes[run.plan.method.main.phase].reports) for name, run in self.controls.items()]
        renamed = [replace(report, phase=CONTROL_PHASES[name]) for name, reports in own for report in reports]
        return [*self.finished.reports, *renamed]


def check_config(config: ExperimentConfig) -> None:
    """Find the mistakes of a config that need no data to be seen: reading the data can take minutes.

    Raises:
        UserError: An unknown name, own code that cannot be used, or a file that is missing or malformed.

    """
    if prepared_store(config.data) is None:
        find_manifest(config.data.name)
    find_method(config)
    check_reading(config.model)
    check_kind(config.partition.kind)
    check_confusion(config.partition.label_confusion)
    check_profile(config.clients.profile)
    if config.data.features.video != PRECOMPUTED:
        find_recipe(config.data.features.video)
    if config.data.features.is_own_audio:
        find_function(config.data.features.audio)


def plan_experiment(config: ExperimentConfig, table: FeatureTable) -> Experiment:
    """Partition the data, build the method, and check that every phase can work.

    Raises:
        UserError: An unknown name, or a federation in which a phase cannot work.

    """
    federation, method = build_federation(config, table), find_method(config)
    for model in {phase.model for phase in method.phases}:
        check_sizes(model, federation.shapes)
        check_encoders(model, federation.shapes)
        _try_own_encoders(model, federation.shapes)
    for phase in method.phases:
        phase.cohort(federation, 1)  # refuses a federation in which the phase cannot work
    return Experiment(config, federation, method)


def _try_own_encoders(model: ModelConfig, shapes: Shapes) -> None:
    """Take some clips through the user's own encoders: what fails there would fail in a client."""
    for modality in MODALITIES:
        name = model.encoder(modality)
        if shapes.features(modality) and not shipped_name(name):
            from mm_ray.models.encoder_checks import EncoderCase, gives_a_sequence  # brings the export along

            case, field = EncoderCase(modality, model, shapes), f"model.{modality}_encoder"
            in_user_code(field, name, "fails on clips of noise", partial(gives_a_sequence, case))


def run_rounds(plan: Experiment, store: PhaseStore, executor: Executor) -> Generator[RoundReport, None, RunResult]:
    """The rounds of a plan."""
    outcomes = yield from run(plan.method, plan.federation, store, executor, plan.config.clients.chunk_size)
    return RunResult(plan, outcomes)


def run_experiment(
    plan: Experiment, store: PhaseStore, executor: Executor, control: bool
) -> Generator[RoundReport, None, Evaluation]:
    """The rounds of a plan and, if asked for, of both controls; then the test."""
    meter = EnergyMeter()

    def metered(report: RoundReport) -> RoundReport:
        meter.read()
        return report

    tested = yield from _each(_tested(plan, store, executor, control), metered)
    tested.result["energy_j"] = meter.read()
    return tested


def _tested(plan: Experiment, store: PhaseStore, executor: Executor, control: bool) -> Generator[RoundReport, None, Evaluation]:
    started, controls = time.perf_counter(), dict[str, RunResult]()
    finished = yield from run_rounds(plan, store, executor)
    for name, phase in CONTROL_PHASES.items() if control else ():
        control_plan = control_of(plan, name)
        named = partial(_renamed, control_plan.method.main.phase, phase)
        controls[name] = yield from _each(run_rounds(control_plan, store, executor), named)
    return evaluate(finished, controls, store, started)


def evaluate(finished: RunResult, controls: Mapping[str, RunResult], store: PhaseStore, started: float) -> Evaluation:
    """Test every role of a run, and its controls, once.

    Args:
        finished: The run.
        controls: Its controls by name.
        store: Has the networks.
        started: When the rounds began, by `time.perf_counter`.

    """
    roles = {name: (finished, role) for name, role in finished.plan.method.roles.items()}
    roles |= {name: (run, run.plan.method.main) for name, run in controls.items()}
    predictions = {name: _predict_test(run, role, store) for name, (run, role) in roles.items()}
    table = finished.plan.federation.table
    labels_N, num_classes = table.labels_N[table.file_rows("test")], table.shapes.num_classes
    confusions = {
        name: confusion_matrix(labels_N[classes_N >= 0], classes_N[classes_N >= 0], num_classes)
        for name, classes_N in predictions.items()
    }
    test = {name: summary(confusion_CC) for name, confusion_CC in confusions.items()}
    dev = {name: run.best_dev(role) for name, (run, role) in roles.items()}
    diagnosis = diagnosis_of(finished.reports)
    result = _result(finished, test, dev, store, time.perf_counter() - started)
    last = [report for report in finished.reports if report.phase == finished.plan.method.main.phase]
    recalls = {name: recall(confusion_CC) for name, confusion_CC in confusions.items()}
    if spreads := client_spreads(finished.plan.federation, recalls, last):
        result["clients"] = spreads
    if diagnosis:
        result["diagnosis"] = {**asdict(diagnosis), "share": diagnosis.share, "text": diagnosis.line()}
    return Evaluation(finished, controls, predictions, confusions, result)


def control_of(plan: Experiment, name: str) -> Experiment:
    """A control of a plan, one of `CONTROL_PHASES`, on the same federation."""
    config = with_overrides(plan.config, {"method": name})
    return replace(plan, config=config, method=find_method(config))


def _renamed(own: str, name: str, report: RoundReport) -> RoundReport | None:
    """The rounds that only the control has, under their own name; the shared ones were reported before."""
    return replace(report, phase=name) if report.phase == own else None


def _each(
    rounds: Generator[RoundReport, None, Returned], change: Callable[[RoundReport], RoundReport | None]
) -> Generator[RoundReport, None, Returned]:
    """The rounds as `change` makes them, without those for which it gives None."""
    with contextlib.closing(rounds):
        driven = Driven(rounds)
        for report in driven:
            if (changed := change(report)) is not None:
                yield changed
        return driven.value


def _predict_test(finished: RunResult, role: NetworkRef, store: PhaseStore) -> np.ndarray:
    plan, network = finished.plan, str(role.network)
    table = plan.federation.table
    net = flat_network(network, plan.model_of(role), table.shapes)
    net.load(role_params(role, finished.outcomes, store))
    classes_N = np.full(table.num_clips, -1)
    for batch in batches_of("test", network, table):
        file_rows, classes_R = classes_of(net, table, batch)
        classes_N[file_rows] = classes_R
    return classes_N[table.file_rows("test")]


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
    test: Mapping[str, Mapping[str, float]],
    dev: Mapping[str, float],
    store: PhaseStore,
    seconds: float,
) -> dict[str, Any]:
    plan = finished.plan
    main, reports = plan.method.main, finished.reports
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
        "energy_j": None,
        "params_digest": params_digest(finished, main, store),
        **privacy_of(plan.method.phases, plan.federation),
        **({"refused": lines} if (lines := refusals(reports)) else {}),
    }
