"""The end of a study: the best configuration, its one test beside the control, its files, the report."""

from typing import Any

from mm_ray.config import with_overrides
from mm_ray.data.table import FeatureTable
from mm_ray.errors import UserError
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import plan_experiment, run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.runtime.drive import drive
from mm_ray.runtime.progress import RunProgress
from mm_ray.runtime.run_folder import RoundLog, config_yaml, write_results, write_text
from mm_ray.tune.choice import ranking
from mm_ray.tune.finals import Finals
from mm_ray.tune.report import write_report
from mm_ray.tune.search import StudySearch
from mm_ray.tune.study import Study
from mm_ray.tune.study_log import read_trials


def conclude(study: Study, search: StudySearch, table: FeatureTable, finals: Finals | None) -> dict[str, Any]:
    """Test the chosen configuration once, beside its control; write `best.yaml`, the student, the result and the report.

    Raises:
        UserError: No trial reached its end.

    """
    best = _chosen_trial(study, search, finals)
    config = with_overrides(study.base, best["overrides"])
    write_text(study.folder / "best.yaml", config_yaml(config))
    plan, store = plan_experiment(config, table), PhaseStore(study.phases)
    with RunProgress(plan, control=True, only_computed=True) as progress, RoundLog(study.folder, "best") as log:
        finished, result = drive(run_experiment(plan, store, SerialExecutor(), control=True), log.add, progress.add)
    write_results(study.folder, finished, result, store, table)
    write_report(study.folder / "report.html", search.study, read_trials(study.folder), _headline(study, best, result, finals))
    return best | {"result": result}


def report_so_far(study: Study) -> None:
    """The report of a study that was interrupted: nothing is tested."""
    search = study.open_search()
    rows, done = read_trials(study.folder), ranking(search.study)
    best = next((row for row in rows if done and row["number"] == done[0].number), {})
    shown = {key: best[key] for key in ("number", "params", "score") if best}
    write_report(study.folder / "report.html", search.study, rows, shown)


def _chosen_trial(study: Study, search: StudySearch, finals: Finals | None) -> dict[str, Any]:
    done = ranking(search.study)
    if not done:
        raise UserError(f"no trial of {study.folder} reached its end; see trials.jsonl there, and run more --trials")
    number = finals.chosen if finals else done[0].number
    return next(row for row in read_trials(study.folder) if row["number"] == number)


def _headline(study: Study, best: dict[str, Any], result: dict[str, Any], finals: Finals | None) -> dict[str, Any]:
    return {
        "number": best["number"],
        "params": best["params"],
        "score": best["score"],
        "control": result["dev"]["control"]["top1"],
        "phase1": result["dev"].get("phase1_audio", {}).get("top1"),
        "test": result["test"],
        "finals": finals.words() if finals else [],
        "command": f"python -m mm_ray.train --config {study.folder / 'best.yaml'} --seed {study.base.seed + 7} --control",
    }
