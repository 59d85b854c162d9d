"""A study as the plain records that its page is made of: its trials, and how it ended.

The end (predictions per clip, curves, gains by class, clients, cost, what was run) is read from stored rounds and from
the test that was made; nothing is trained.

Shape suffixes: K seeds, N test clips, C classes.
"""

import io
import platform
import shlex
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mm_ray.config import ExperimentConfig
from mm_ray.data.feature_table import SPLITS, FeatureTable
from mm_ray.evaluate.metrics import recall
from mm_ray.evaluate.statistics import OverClips, compare_clips
from mm_ray.fed.evaluation import update_means
from mm_ray.fed.experiment import Evaluation, RunResult
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import role_params
from mm_ray.fed.virtual_time import SIM_SECONDS
from mm_ray.report.study import MIN_FOR_IMPORTANCE, StudyEnding, StudyRecord, write_study
from mm_ray.report.verdict import CONTROLS
from mm_ray.storage import write_bytes
from mm_ray.types import UNLABELLED, RoundReport

PRUNED = TrialState.PRUNED
PREDICTIONS = "test_predictions.parquet"
PACKAGES = ("mm_ray", "torch", "ray", "optuna", "numpy")
Predictions = Mapping[str, np.ndarray]
"""By role the predicted class of each test clip with each seed (K, N), in the order of the test rows; -1 where the role's
network cannot read the clip."""


def write_report(
    path: Path,
    study: optuna.Study,
    trials: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any],
    metric: str = "dev/audio_top1",
    ending: StudyEnding | None = None,
    vector_figures: bool = False,
) -> None:
    """Write the report of a study, finished or not.

    Args:
        path: The html file, in the run's folder.
        study: The Optuna study; it adds at which step a trial was pruned and why it failed.
        trials: Rows of `trials.jsonl`.
        best: `number`, `params` and `score` of the best trial, empty if there is none yet.
        metric: The first objective.
        ending: The test of the best configuration, if it was made.
        vector_figures: Also write the figures as SVG and PDF.

    """
    by_number = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    rows = [dict(row) | _end_of(by_number.get(row["number"])) for row in trials]
    maximize = study.directions[0] == StudyDirection.MAXIMIZE
    record = StudyRecord(path.resolve().parent.name, rows, metric, maximize, importances(study, maximize), best, ending)
    write_study(path, record, vector_figures)


def _end_of(trial: FrozenTrial | None) -> dict[str, Any]:
    if trial is None:
        return {}
    return {"last_step": trial.last_step if trial.state == PRUNED else None, "error": trial.user_attrs.get("error")}


def importances(study: optuna.Study, maximize: bool) -> dict[str, float]:
    """PED-ANOVA: which parameters distinguish the best tenth of the trials (arXiv 2304.10255).

    Empty where there are too few complete trials, or all are equal.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(trials) < MIN_FOR_IMPORTANCE or len({trial.values[0] for trial in trials}) == 1:
        return {}
    # PED-ANOVA minimises a target if it gets one; with several objectives Optuna requires one.
    sign = -1 if maximize else 1
    target = None if len(study.directions) == 1 else lambda trial: sign * trial.values[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental feature; parameters that only some trials have
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target=target)


def test_predictions(tested: Sequence[Evaluation]) -> Predictions:
    """Every role's predictions on the test set, of each seed's run."""
    return {role: np.stack([one.predictions[role] for one in tested]) for role in tested[0].predictions}


def write_predictions(folder: Path, predictions: Predictions, seeds: Sequence[int], table: FeatureTable) -> None:
    """Write `test_predictions.parquet`: `seed`, `role`, `clip_id`, `label`, `predicted` (names of classes), a row each."""
    rows, names = table.file_rows("test"), np.array(table.class_names)
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
    right_KN: np.ndarray = predictions[role] == table.labels_N[table.file_rows("test")]
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
    labels_N = table.labels_N[table.file_rows("test")]
    student_KN, control_KN = (right(predictions, role, table) for role in ("student", CONTROLS[0]))
    gains = []
    for label in np.unique(labels_N):
        mine = labels_N == label
        found = compare_clips(student_KN[:, mine], control_KN[:, mine], seed)
        recalls = {"student": float(student_KN[:, mine].mean()), "control": float(control_KN[:, mine].mean())}
        interval = {"mean": found.mean, "low": found.low, "high": found.high}
        gains.append({"name": table.class_names[label], "clips": int(mine.sum()), **recalls, **interval})
    return gains


def curves(tested: Sequence[Evaluation], metric: str) -> dict[str, list[list[tuple[int, float]]]]:
    """Rounds and values of the last phase, of the student (if any) and of the first control, one list per seed."""
    student = {"student": [one.finished for one in tested]} if "student" in tested[0].predictions else {}
    runs = student | {CONTROLS[0]: [one.controls[CONTROLS[0]] for one in tested]}
    return {role: [_curve(run, metric) for run in by_seed] for role, by_seed in runs.items()}


def _curve(run: RunResult, metric: str) -> list[tuple[int, float]]:
    own = run.outcomes[run.plan.method.main.phase]
    return [(report.round, report.metrics[metric]) for report in own.reports if metric in report.metrics]


def curves_over_time(tested: Evaluation, metric: str) -> dict[str, list[tuple[float, float]]]:
    """Simulated seconds since the start and dev scores, of the student and the first control; empty without devices."""
    runs = {"student": tested.finished, CONTROLS[0]: tested.controls[CONTROLS[0]]}
    return {role: points for role, run in runs.items() if (points := _over_time(run.reports, metric))}


def _over_time(reports: Sequence[RoundReport], metric: str) -> list[tuple[float, float]]:
    points, seconds = [], 0.0
    for report in reports:
        seconds += report.metrics.get(SIM_SECONDS, 0.0)
        if SIM_SECONDS in report.metrics and metric in report.metrics:
            points.append((seconds, report.metrics[metric]))
    return points


def client_rows(tested: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """The clients of the first seed (`mm_ray.report.study.StudyEnding.clients`)."""
    run = tested[0].finished
    plan = run.plan
    recalls = {role: np.mean([recall(one.confusions[role]) for one in tested], axis=0) for role in tested[0].confusions}
    rounds = Counter(
        client.id
        for phase in plan.method.phases
        for number in range(1, phase.rounds + 1)
        for client in phase.cohort(plan.federation, number)
    )
    main = plan.method.main.phase
    updates = update_means(report for report in run.reports if report.phase == main)
    refused = Counter(client for report in run.reports for client in report.refused)
    reasons = {client: reason for report in run.reports for client, reason in report.refused.items()}
    rows = []
    accuracies = {role: plan.federation.client_accuracies(recall_C) for role, recall_C in recalls.items()}
    for place, client in enumerate(plan.federation.clients):
        counts_C = plan.federation.class_counts(client)
        loss, norm = updates.get(str(client.id), (None, None))
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
                "accuracy": {role: values[place] for role, values in accuracies.items()},
            }
        )
    return rows


def cost(rows: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> dict[str, str]:
    """What the chosen configuration and the whole study cost, for people."""
    memory, energy_j = result["peak_memory_bytes"], result["energy_j"]
    driver, actor = (f"{peak / 1e6:,.0f} MB" if peak else "not measured" for peak in (memory["driver"], memory["actor"]))
    simulated = {}
    if SIM_SECONDS in result:
        simulated_s = result[SIM_SECONDS]  # of a tiny model it may be far below one
        shown = f"{simulated_s:,.0f} s" if simulated_s >= 100 else f"{simulated_s:.3g} s"
        simulated = {"simulated time, chosen configuration": shown}
    reports = [report for row in rows for report in row["curve"]]
    computed, reused = (sum(one["seconds"] for one in reports if one["reused"] is kind) for kind in (False, True))
    rounds = [sum(row[key] or 0 for row in rows) for key in ("rounds_computed", "rounds_reused")]
    return {
        "bytes, chosen configuration": f"{result['bytes_up'] / 1e6:,.1f} MB up, {result['bytes_down'] / 1e6:,.1f} MB down, "
        "as a federation would send them in all rounds, without the controls'",
        "computation, chosen configuration": f"{result['compute_s']:,.1f} s when its rounds were computed",
        "FLOPs, chosen configuration": f"{result['flops']:.3g} by formula, of all clients in all rounds",
        **simulated,
        "peak memory": f"driver {driver}; largest client actor {actor}",
        "energy": "not measured" if energy_j is None else f"{energy_j:,.0f} J of this machine's processors during the test",
        "all trials": f"{rounds[0]:,} rounds computed in {computed:,.1f} s; "
        f"{rounds[1]:,} reused, which would have cost {reused:,.1f} s",
    }


def what_was_run(config: ExperimentConfig, run: RunResult, seeds: Sequence[int], store: PhaseStore) -> dict[str, str]:
    """Data, federation, networks and versions, for people."""
    partition = config.partition
    federation = run.plan.federation
    table, clients = federation.table, federation.clients
    counts = [f"{len(table.file_rows(split)):,} {split}" for split in SPLITS]
    has_video = sum("video" in client.modalities for client in clients)
    clips, labelled = (
        sum(values) for values in zip(*((c.num_clips, (c.labels != UNLABELLED).sum()) for c in clients), strict=True)
    )
    sizes = {
        role: sum(array.size for array in role_params(network, run.outcomes, store).values())
        for role, network in run.plan.method.roles.items()
    }
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
