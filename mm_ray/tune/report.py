"""A study as the plain records that its page is made of."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mm_ray.report.study import MIN_FOR_IMPORTANCE, StudyEnding, StudyRecord, write_study

PRUNED = TrialState.PRUNED


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
