"""The end of a study: the chosen configuration, its one test beside the controls, its files, the report.

Nothing else in a study reads the test set.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Any

import numpy as np

from mm_ray.config import with_overrides
from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import StorageError, UserError
from mm_ray.evaluate.statistics import OverClips, beats_guessing, guessing
from mm_ray.fed.experiment import (
    CONTROL_PHASES,
    Evaluation,
    Experiment,
    RunResult,
    control_of,
    evaluate,
    plan_experiment,
)
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.report.study import StudyEnding
from mm_ray.report.tensorboard_images import write_images
from mm_ray.report.verdict import verdict
from mm_ray.runtime.run_folder import RoundLog, config_yaml, write_results
from mm_ray.runtime.tracking import DEFAULT as TENSORBOARD
from mm_ray.runtime.tracking import RunInfo, TrackedRun, flat_config, metrics_of
from mm_ray.storage import write_text
from mm_ray.tune.reevaluation import Finals, ranking
from mm_ray.tune.report import (
    class_gains,
    client_rows,
    cost,
    curves,
    curves_over_time,
    over_clips,
    test_predictions,
    what_was_run,
    write_predictions,
    write_report,
)  # fmt: skip
from mm_ray.tune.searcher import StudySearch
from mm_ray.tune.stored import NotStored, stored_run
from mm_ray.tune.study import Runner, Study
from mm_ray.tune.trainable import failures

TOP1 = "dev/audio_top1"


@dataclass(frozen=True)
class StudyConclusion:
    """What a study found."""

    row: dict[str, Any]
    """The chosen trial's, of `trials.jsonl`."""
    num_trials: int
    tested: Evaluation
    """The chosen configuration with the first seed, whose student is kept."""
    test: Mapping[str, Sequence[float]]
    """Top-1 on the test set by role, one for each seed."""
    guessing: float
    """Accuracy on the test set of always naming the most common class."""
    at_chance: Sequence[str]
    """Roles whose mean on the test set is no better than that."""
    verdict: Sequence[str]
    """What may be claimed, one line per claim."""


def finalize(runner: Runner, search: StudySearch, finals: Finals | None) -> StudyConclusion:
    """Test the chosen configuration once, beside its controls; write `best.yaml`, the student, the result and the report.

    Client actors compute what is missing of it; the driver trains nothing.

    Raises:
        UserError: No trial was completed, or missing rounds could not be computed.
        Interrupted: By ^C or TERM.

    """
    study, table, rows = runner.study, runner.table, runner.rows(search)
    row = _chosen_row(study, search, finals, rows)
    config = with_overrides(study.base, row["overrides"])
    write_text(study.folder / "best.yaml", config_yaml(config))
    plans = [plan_experiment(replace(config, seed=seed), table) for seed in study.test_seeds]
    tested = _test_all(runner, search, row, plans)
    _write(study, rows, tested, table)
    predictions = test_predictions(tested)
    write_predictions(study.folder, predictions, study.test_seeds, table)
    found = _conclusion(study, row, rows, tested, over_clips(predictions, table, study.base.seed))
    if "student" in tested[0].confusions and TENSORBOARD in study.trackers:
        write_images(study.folder / "tensorboard" / "chosen", tested[0].confusions["student"], table)
    metric, best = next(iter(study.space.objectives)), quote(str(study.folder / "best.yaml"))
    ending = StudyEnding(
        test=found.test,
        dev={role: [one.result["dev"][role]["top1"] for one in tested] for role in tested[0].result["dev"]},
        chance=found.guessing,
        at_chance=found.at_chance,
        verdict=found.verdict,
        curves=curves(tested, metric),
        levels=_levels(tested, table) if metric == TOP1 else {},
        gains=class_gains(predictions, table, study.base.seed),
        classes=table.class_names,
        clients=client_rows(tested),
        notes=[tested[0].result["diagnosis"]["text"]] if "diagnosis" in tested[0].result else [],
        warnings=tested[0].result.get("refused", []),
        finals=finals.words() if finals else [],
        cost=cost(rows, tested[0].result),
        curves_over_time=curves_over_time(tested[0], metric),
        what_was_run=what_was_run(config, tested[0].finished, study.test_seeds, PhaseStore(study.phases))
        | {"duration": _duration(search), "student's digest": tested[0].result["params_digest"]},
        command=f"python -m mm_ray.train --config {best} --seed {study.base.seed + 7} --control",
    )
    write_report(study.folder / "report.html", search.study, rows, _shown(row), metric, ending, study.vector_figures)
    chosen = RunInfo(study.folder, "best", flat_config(plans[0].config), board="best")
    with TrackedRun(study.trackers, chosen) as tracked:
        for report in tested[0].reports:
            tracked.add(report)
        tracked.finish("SUCCESS", metrics_of(tested[0].result), artifacts=True)
    return found


def _conclusion(
    study: Study,
    row: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    tested: Sequence[Evaluation],
    clips: Mapping[str, OverClips],
) -> StudyConclusion:
    table = tested[0].finished.plan.federation.table
    counts_C = np.bincount(table.labels_N[table.file_rows("test")], minlength=len(table.class_names)).tolist()
    test = {role: [one.result["test"][role]["top1"] for one in tested] for role in tested[0].result["test"]}
    at_chance = [role for role, values in test.items() if not beats_guessing(float(np.mean(values)), counts_C)]
    distils = tested[0].finished.plan.config.phase2.loss_weight > 0
    claims = verdict(test, guessing(counts_C), sum(counts_C), at_chance, clips, distils)
    return StudyConclusion(row, len(rows), tested[0], test, guessing(counts_C), at_chance, claims)


def _levels(tested: Sequence[Evaluation], table: FeatureTable) -> dict[str, float]:
    """The mean over seeds of the dev scores of the networks before phase 2, and chance."""
    dev = [one.result["dev"] for one in tested]
    levels = {
        role: float(np.mean([one[role]["top1"] for one in dev])) for role in ("teacher", "phase1_audio") if role in dev[0]
    }
    return levels | {"chance": guessing(np.bincount(table.labels_N[table.file_rows("dev")]).tolist())}


def _duration(search: StudySearch) -> str:
    trials = search.study.get_trials(deepcopy=False)
    ends = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    took = max(ends) - min(trial.datetime_start for trial in trials if trial.datetime_start)
    return f"{str(took).partition('.')[0]} from the first trial's start to the last one's end"


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("number", "params", "score") if row}


def report_so_far(runner: Runner) -> None:
    """The report of a study that was interrupted: nothing is tested."""
    study, search = runner.study, runner.study.open_search()
    rows, done = runner.rows(search), ranking(search.study)
    best = next((row for row in rows if done and row["number"] == done[0].number), {})
    write_report(study.folder / "report.html", search.study, rows, _shown(best), next(iter(study.space.objectives)))


def _chosen_row(study: Study, search: StudySearch, finals: Finals | None, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    done = ranking(search.study)
    if not done:
        raise UserError(f"no trial of {study.folder} reached its end; see trials.jsonl there, and run more --trials")
    number = finals.chosen if finals else done[0].number
    return next(row for row in rows if row["number"] == number)


def _test_all(runner: Runner, search: StudySearch, row: dict[str, Any], plans: Sequence[Experiment]) -> list[Evaluation]:
    """Test the networks and their controls, seed by seed, after client actors have computed the missing rounds."""
    study, store, started = runner.study, PhaseStore(runner.study.phases), time.perf_counter()
    wanted = {(OWN, plan.config.seed): plan for plan in plans}
    wanted |= {(name, plan.config.seed): control_of(plan, name) for name in CONTROL_PHASES for plan in plans}
    runs = {which: _stored(plan, store, study.device) for which, plan in wanted.items()}
    if missing := [which for which, run in runs.items() if run is None]:
        _compute(runner, search, row, missing)
        try:
            runs |= {which: stored_run(wanted[which], store, study.device) for which in missing}
        except NotStored as error:
            what = f"rounds of {error} were removed while they were needed"
            raise StorageError(f"{study.phases}: {what}; the same command computes them again") from error
    complete = {which: run for which, run in runs.items() if run}
    tested = [
        evaluate(complete[OWN, seed], {name: complete[name, seed] for name in CONTROL_PHASES}, store, started)
        for seed in study.test_seeds
    ]
    with RoundLog(study.folder) as log:
        for report in tested[0].reports:
            log.add(report)
    return tested


OWN = ""
"""The chosen configuration, beside the controls' names."""


def _stored(plan: Experiment, store: PhaseStore, device: str) -> RunResult | None:
    try:
        return stored_run(plan, store, device)
    except NotStored:
        return None


def _compute(runner: Runner, search: StudySearch, row: dict[str, Any], missing: Sequence[tuple[str, int]]) -> None:
    """Let client actors compute the controls, and missing rounds of the chosen trial."""
    study = runner.study
    jobs = [
        {"number": row["number"], "overrides": row["overrides"] | ({"method": name} if name else {}), "seeds": [seed]}
        for name, seed in missing
    ]
    num_seeds, fresh = len(study.test_seeds), bool(study.num_test_seeds)
    what = "the chosen configuration and both controls" if fresh else "both controls"
    seeds = f"{num_seeds} {'fresh ' * fresh}seed{'s' * (num_seeds > 1)}"
    if failed := failures(runner.compute(search, f"{what}, {seeds}", jobs)):
        reason = failed[0][1]
        raise UserError(f"the test of the chosen configuration failed: {reason}; the same command tries it again")


def _write(study: Study, rows: Sequence[dict[str, Any]], tested: Sequence[Evaluation], table: FeatureTable) -> None:
    """Write the first seed's student, and the result with the whole study's cost and the other seeds' scores."""
    computed = [report for row in rows for report in row["curve"] if not report["reused"]]
    cost = {
        "trials": len(rows),
        "rounds_computed": sum(row["rounds_computed"] or 0 for row in rows),
        "rounds_reused": sum(row["rounds_reused"] or 0 for row in rows),
        "compute_s": sum(report["seconds"] for report in computed),
    }
    seeds = [{key: one.result[key] for key in ("seed", "test", "dev", "params_digest")} for one in tested]
    result = tested[0].result | {"study": cost} | ({"seeds": seeds} if len(seeds) > 1 else {})
    write_results(study.folder, replace(tested[0], result=result), PhaseStore(study.phases), table)
