"""The end of a study: the chosen configuration, its one test beside the control, its files, the report.

The one place of a study that looks at the test set.
"""

from collections.abc import Sequence
from typing import Any

from mm_ray.config import with_overrides
from mm_ray.data.table import FeatureTable
from mm_ray.errors import UserError
from mm_ray.evaluate.metrics import recall
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import Tested, plan_experiment, run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.runtime.drive import drive
from mm_ray.runtime.progress import RunProgress
from mm_ray.runtime.run_folder import RoundLog, config_yaml, write_results
from mm_ray.storage import write_text
from mm_ray.tune.board_images import write_images
from mm_ray.tune.choice import ranking
from mm_ray.tune.finals import Finals
from mm_ray.tune.report import write_report
from mm_ray.tune.search import StudySearch
from mm_ray.tune.study import Study
from mm_ray.tune.study_log import read_trials


def conclude(study: Study, search: StudySearch, table: FeatureTable, finals: Finals | None) -> tuple[dict[str, Any], Tested]:
    """Test the chosen configuration once, beside its control; write `best.yaml`, the student, the result and the report.

    Returns:
        The chosen trial's row of `trials.jsonl`, and its test.

    Raises:
        UserError: No trial reached its end.

    """
    rows = read_trials(study.folder)
    row = _chosen_row(study, search, finals, rows)
    write_text(study.folder / "best.yaml", config_yaml(with_overrides(study.base, row["overrides"])))
    tested = _tested(study, row, table)
    if "student" in tested.confusions:
        write_images(study.folder / "tensorboard" / "chosen", tested.confusions["student"], table)
    write_report(study.folder / "report.html", search.study, rows, _headline(study, row, tested, finals))
    return row, tested


def report_so_far(study: Study) -> None:
    """The report of a study that was interrupted: nothing is tested."""
    search = study.open_search()
    rows, done = read_trials(study.folder), ranking(search.study)
    best = next((row for row in rows if done and row["number"] == done[0].number), {})
    shown = {key: best[key] for key in ("number", "params", "score") if best}
    write_report(study.folder / "report.html", search.study, rows, shown)


def _chosen_row(study: Study, search: StudySearch, finals: Finals | None, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    done = ranking(search.study)
    if not done:
        raise UserError(f"no trial of {study.folder} reached its end; see trials.jsonl there, and run more --trials")
    number = finals.chosen if finals else done[0].number
    return next(row for row in rows if row["number"] == number)


def _tested(study: Study, row: dict[str, Any], table: FeatureTable) -> Tested:
    """Take the rounds of a trial from the phase store, and test its networks and its control's."""
    plan = plan_experiment(with_overrides(study.base, row["overrides"]), table)
    store = PhaseStore(study.phases)
    with RunProgress(plan, control=True, only_computed=True) as progress, RoundLog(study.folder, "best") as log:
        tested = drive(run_experiment(plan, store, SerialExecutor(), control=True), log.add, progress.add)
    write_results(study.folder, tested, store, table)
    return tested


def _headline(study: Study, row: dict[str, Any], tested: Tested, finals: Finals | None) -> dict[str, Any]:
    result = tested.result
    return {
        "number": row["number"],
        "params": row["params"],
        "score": row["score"],
        "metric": next(iter(study.space.objectives)),
        "control": result["dev"]["control"]["top1"],
        "phase1": result["dev"].get("phase1_audio", {}).get("top1"),
        "test": result["test"],
        "refused": result.get("refused", []),
        "finals": finals.words() if finals else [],
        "classes": tested.finished.plan.federation.table.class_names,
        "recall": {name: recall(confusion_CC) for name, confusion_CC in tested.confusions.items()},
        "command": f"python -m mm_ray.train --config {study.folder / 'best.yaml'} --seed {study.base.seed + 7} --control",
    }
