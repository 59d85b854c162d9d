"""What the end of a study leaves for its report: single predictions, curves, gains by class, clients, cost, what was run.

Everything is read from stored rounds and from the test that was made; nothing is trained.

Shape suffixes: K seeds, N test clips, C classes.
"""

import io
import platform
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mm_ray.config import ExperimentConfig
from mm_ray.data.batching import gather
from mm_ray.data.feature_table import SPLITS, FeatureTable
from mm_ray.evaluate.metrics import recall
from mm_ray.evaluate.statistics import OverClips, compare_clips
from mm_ray.fed.evaluation import batches_of, predicted
from mm_ray.fed.experiment import CONTROL_PHASES, Evaluation, Experiment, RunResult, control_of, run_rounds
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import role_params
from mm_ray.fed.virtual_time import SIM_SECONDS
from mm_ray.models.flat_params import flat_network
from mm_ray.models.network import READS
from mm_ray.report.verdict import CONTROLS
from mm_ray.runtime.drive import drive
from mm_ray.storage import write_bytes
from mm_ray.tune.stored import StoredOnly
from mm_ray.types import UNLABELLED, RoundReport

PREDICTIONS = "test_predictions.parquet"
PACKAGES = ("mm_ray", "torch", "ray", "optuna", "numpy")
Predictions = Mapping[str, np.ndarray]
"""By role the predicted class of each test clip with each seed (K, N), in the order of the test rows; -1 where the role's
network cannot read the clip."""


@dataclass(frozen=True)
class StoredRun:
    """A plan's rounds out of the store."""

    finished: RunResult
    reports: Sequence[RoundReport]

    @property
    def plan(self) -> Experiment:
        """The plan."""
        return self.finished.plan


def stored_runs(plan: Experiment, store: PhaseStore, device: str) -> dict[str, StoredRun]:
    """The chosen configuration as `chosen`, and both controls by name."""
    plans = {"chosen": plan} | {name: control_of(plan, name) for name in CONTROL_PHASES}
    runs = {}
    for name, one in plans.items():
        reports: list[RoundReport] = []
        runs[name] = StoredRun(drive(run_rounds(one, store, StoredOnly(device)), reports.append), reports)
    return runs


def predict_test(runs: Sequence[Mapping[str, StoredRun]], store: PhaseStore) -> Predictions:
    """Every role's predictions on the test set, of each seed's runs."""
    by_role: dict[str, list[np.ndarray]] = {}
    for seed_runs in runs:
        own = seed_runs["chosen"]
        for role, network in own.plan.method.roles.items():
            by_role.setdefault(role, []).append(_predict(own.finished, network, store))
        for name in CONTROL_PHASES:
            control = seed_runs[name]
            by_role.setdefault(name, []).append(_predict(control.finished, control.plan.method.main, store))
    return {role: np.stack(predictions) for role, predictions in by_role.items()}


def _predict(finished: RunResult, role: NetworkRef, store: PhaseStore) -> np.ndarray:
    plan, network = finished.plan, str(role.network)
    table = plan.federation.table
    net = flat_network(network, plan.model_of(role), table.shapes)
    net.load(role_params(role, finished.outcomes, store))
    classes_N = np.full(table.num_clips, -1)
    with torch.inference_mode():
        for rows in batches_of("test", network, table):
            logits_BC = net.network(gather(table, rows, READS[network], net.params.device)).logits_BC
            classes_N[rows] = predicted(logits_BC.cpu().numpy(), table.labels_N[rows])
    return classes_N[table.rows("test")]


def write_predictions(folder: Path, predictions: Predictions, seeds: Sequence[int], table: FeatureTable) -> None:
    """Write `test_predictions.parquet`: `seed`, `role`, `clip_id`, `label`, `predicted` (names of classes), a row each."""
    rows, names = table.rows("test"), np.array(table.class_names)
    pieces = []
    for role, classes_KN in predictions.items():
        for seed, classes_N in zip(seeds, classes_KN, strict=True):
            known = classes_N >= 0
            columns: dict[str, Any] = {"seed": np.full(known.sum(), seed), "role": [role] * int(known.sum())}
            columns |= {"clip_id": table.clip_ids_N[rows][known].tolist(), "label": names[table.labels_N[rows]][known].tolist()}
            pieces.append(pa.table(columns | {"predicted": names[classes_N[known]].tolist()}))
    file = io.BytesIO()
    pq.write_table(pa.concat_tables(pieces), file)
    write_bytes(folder / PREDICTIONS, file.getvalue())


def right(predictions: Predictions, role: str, table: FeatureTable) -> np.ndarray:
    """Whether a role is right, bool (K, N)."""
    right_KN: np.ndarray = predictions[role] == table.labels_N[table.rows("test")]
    return right_KN


def over_clips(predictions: Predictions, table: FeatureTable, seed: int) -> dict[str, OverClips]:
    """The student against each control, clip by clip; nothing without a student."""
    if "student" not in predictions:
        return {}
    student_KN = right(predictions, "student", table)
    return {name: compare_clips(student_KN, right(predictions, name, table), seed) for name in CONTROLS}


def class_gains(predictions: Predictions, table: FeatureTable, seed: int) -> list[dict[str, Any]]:
    """The student against the first control by class, with intervals over seeds and clips."""
    if "student" not in predictions:
        return []
    labels_N = table.labels_N[table.rows("test")]
    student_KN, control_KN = (right(predictions, role, table) for role in ("student", CONTROLS[0]))
    gains = []
    for label in np.unique(labels_N):
        mine = labels_N == label
        found = compare_clips(student_KN[:, mine], control_KN[:, mine], seed)
        recalls = {"student": float(student_KN[:, mine].mean()), "control": float(control_KN[:, mine].mean())}
        interval = {"mean": found.mean, "low": found.low, "high": found.high}
        gains.append({"name": table.class_names[label], "clips": int(mine.sum()), **recalls, **interval})
    return gains


def curves(runs: Sequence[Mapping[str, StoredRun]], metric: str) -> dict[str, list[list[tuple[int, float]]]]:
    """Rounds and values of the last phase, of the student, if there is one, and of the first control, a list a seed."""
    names = {"student": "chosen"} if "student" in runs[0]["chosen"].plan.method.roles else {}
    names |= {CONTROLS[0]: CONTROLS[0]}
    return {role: [_curve(seed_runs[name], metric) for seed_runs in runs] for role, name in names.items()}


def _curve(run: StoredRun, metric: str) -> list[tuple[int, float]]:
    own = run.plan.method.main.phase
    return [
        (report.round, report.metrics[metric]) for report in run.reports if report.phase == own and metric in report.metrics
    ]


def curves_over_time(runs: Mapping[str, StoredRun], metric: str) -> dict[str, list[tuple[float, float]]]:
    """Simulated seconds since the start and dev scores, of the student and the first control; empty without devices."""
    names = {role: name for role, name in (("student", "chosen"), (CONTROLS[0], CONTROLS[0])) if name in runs}
    return {role: points for role, name in names.items() if (points := _over_time(runs[name].reports, metric))}


def _over_time(reports: Sequence[RoundReport], metric: str) -> list[tuple[float, float]]:
    points, seconds = [], 0.0
    for report in reports:
        seconds += report.metrics.get(SIM_SECONDS, 0.0)
        if SIM_SECONDS in report.metrics and metric in report.metrics:
            points.append((seconds, report.metrics[metric]))
    return points


def client_rows(run: StoredRun, tested: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """The clients of the first seed (`mm_ray.report.study.StudyEnding.clients`)."""
    plan, table = run.plan, run.plan.federation.table
    recalls = {role: np.mean([recall(one.confusions[role]) for one in tested], axis=0) for role in tested[0].confusions}
    rounds = Counter(
        client.id
        for phase in plan.method.phases
        for number in range(1, phase.rounds + 1)
        for client in phase.cohort(plan.federation, number)
    )
    main = plan.method.main.phase
    seen = [report.clients for report in run.reports if report.phase == main]
    refused = Counter(client for report in run.reports for client in report.refused)
    reasons = {client: reason for report in run.reports for client, reason in report.refused.items()}
    rows = []
    for client in plan.federation.clients:
        labels = table.labels_N[client.indices]
        counts_C = np.bincount(labels[labels != UNLABELLED], minlength=len(table.class_names))
        num_known = counts_C.sum()
        own = [found[str(client.id)] for found in seen if str(client.id) in found]
        loss, norm = np.mean(own, axis=0).tolist() if own else (None, None)
        rows.append(
            {
                "id": client.id,
                "modalities": "+".join(client.modalities),
                "clips": client.num_clips,
                "labelled": int((client.labels != UNLABELLED).sum()),
                "classes": counts_C.tolist(),
                "rounds": rounds[client.id],
                "participation": rounds[client.id] / sum(phase.rounds for phase in plan.method.phases),
                "refused": refused[str(client.id)],
                "reason": reasons.get(str(client.id), ""),
                "loss": loss,
                "norm": norm,
                "accuracy": {
                    role: float(counts_C @ recall_C / num_known) if num_known else None for role, recall_C in recalls.items()
                },
            }
        )
    return rows


def cost(rows: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> dict[str, str]:
    """What the chosen configuration and the whole study cost, for people."""
    memory, energy_j = result["peak_memory_bytes"], result["energy_j"]
    driver, actor = (f"{peak / 1e6:,.0f} MB" if peak else "not measured" for peak in (memory["driver"], memory["actor"]))
    simulated = {"simulated time, chosen configuration": f"{result['sim_seconds']:,.0f} s"} if "sim_seconds" in result else {}
    reports = [report for row in rows for report in row["curve"]]
    computed, reused = (sum(one["seconds"] for one in reports if one["reused"] is kind) for kind in (False, True))
    rounds = [sum(row[key] or 0 for row in rows) for key in ("rounds_computed", "rounds_reused")]
    return {
        "bytes, chosen configuration": f"{result['bytes_up'] / 1e6:,.1f} MB up, {result['bytes_down'] / 1e6:,.1f} MB down, "
        "as a federation would send them in all rounds, the controls' left out",
        "computation, chosen configuration": f"{result['compute_s']:,.1f} s when its rounds were computed",
        "FLOPs, chosen configuration": f"{result['flops']:.3g} by formula, of all clients in all rounds",
        **simulated,
        "peak memory": f"driver {driver}; largest client actor {actor}",
        "energy": "not measured" if energy_j is None else f"{energy_j:,.0f} J of this machine's processors during the test",
        "all trials": f"{rounds[0]:,} rounds computed in {computed:,.1f} s; "
        f"{rounds[1]:,} reused, which would have cost {reused:,.1f} s",
    }


def what_was_run(
    config: ExperimentConfig, runs: Mapping[str, StoredRun], seeds: Sequence[int], store: PhaseStore
) -> dict[str, str]:
    """Data, federation, networks and versions, for people."""
    run, partition = runs["chosen"], config.partition
    federation = run.plan.federation
    table, clients = federation.table, federation.clients
    counts = [f"{len(table.rows(split)):,} {split}" for split in SPLITS]
    has_video = sum("video" in client.modalities for client in clients)
    clips, labelled = (
        sum(values) for values in zip(*((c.num_clips, (c.labels != UNLABELLED).sum()) for c in clients), strict=True)
    )
    sizes = {role: _size(run, network, store) for role, network in run.plan.method.roles.items()}
    return {
        "method": config.method,
        "data": f"{config.data.name}, {len(table.class_names)} classes, {', '.join(counts)} clips, fold {config.data.fold}",
        "clients": f"{len(clients)}, {has_video} with video ({has_video / len(clients):.0%}); "
        f"{labelled / max(clips, 1):.0%} of the training clips labelled",
        "partition": f"{partition.kind}, alpha {partition.alpha:g}, video_missing {partition.video_missing:g}",
        "seeds of the test": ", ".join(map(str, seeds)),
        "parameters": ", ".join(f"{role} {size:,}" for role, size in sizes.items()),
        "versions": ", ".join(f"{name} {number}" for name, number in _versions().items()),
        **({"command": command} if (command := _command()) else {}),
    }


def _size(run: StoredRun, role: NetworkRef, store: PhaseStore) -> int:
    return sum(array.size for array in role_params(role, run.finished.outcomes, store).values())


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from its source
            continue
    return found


def _command() -> str:
    """The command of this process, if it is one of this package's."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec and spec.name.startswith("mm_ray."):
        return shlex.join(["python", "-m", spec.name.removesuffix(".__main__"), *sys.argv[1:]])
    name = Path(sys.argv[0]).name
    return shlex.join([name, *sys.argv[1:]]) if name.startswith(("mm-ray", "mm_ray")) else ""
