"""Repairs `trials.jsonl`: the study's journal says which trials have ended, the phase store has their rounds."""

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import UserError
from mm_ray.storage import write_text
from mm_ray.tune.searcher import ENDED_AFTER, StudySearch
from mm_ray.tune.space import METRICS
from mm_ray.tune.stored import NotStored, StoredOnly
from mm_ray.tune.study_log import ROW_KEYS, whole_rows
from mm_ray.tune.trial import TrialRun, TrialSettings


def mend_rows(search: StudySearch, settings: TrialSettings, table: FeatureTable, device: str) -> list[dict[str, Any]]:
    """One row for each trial that has ended, by number; the file, in the order of their ends, is rewritten if it differs.

    Dropped are rows of trials that the journal does not know, has open, or has with another result: a driver that is killed
    after it wrote a row and before the journal leaves one. A missing row (a torn line, a lost file) is made again from the
    journal and from stored rounds; rounds that were removed from the store cannot be recovered.
    """
    path = search.run_dir / "trials.jsonl"
    by_number = {row["number"]: row for row in whole_rows(search.run_dir)}
    ended = [trial for trial in search.study.get_trials(deepcopy=False) if trial.state.is_finished()]
    own = [trial for trial in ended if "same_as" not in trial.user_attrs]
    in_order = sorted(own, key=lambda trial: (trial.user_attrs.get(ENDED_AFTER, trial.number), trial.number))
    rows = []
    for trial in in_order:
        row = by_number.get(trial.number)
        rows.append(row if row and _is_of(row, trial) else _made_again(search, trial, settings, table, device))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if text.encode() != (path.read_bytes() if path.exists() else b""):
        write_text(path, text)
    return sorted(rows, key=lambda row: int(row["number"]))


def _is_of(row: dict[str, Any], trial: FrozenTrial) -> bool:
    return bool(row["state"] == trial.state.name and row["params"] == trial.params)


def _made_again(
    search: StudySearch, trial: FrozenTrial, settings: TrialSettings, table: FeatureTable, device: str
) -> dict[str, Any]:
    notes, overrides = trial.user_attrs, dict[str, Any]()
    with suppress(UserError):  # a trial that failed in the space's code has not all of its parameters
        overrides = search.space.overrides(trial)  # type: ignore[arg-type]
    count = notes.get("rounds_computed", 0) + notes.get("rounds_reused", 0)
    result, curve = _replay(TrialRun(replace(settings, judged=True), overrides, table, StoredOnly(device)), count)
    score = result.get("score") if len(curve) == count else max(trial.intermediate_values.values(), default=None)
    if trial.state == TrialState.COMPLETE:
        score = trial.values[0]
    row = {"number": trial.number, "state": trial.state.name, "params": trial.params, "overrides": overrides}
    row |= {key: notes.get(key) for key in ROW_KEYS} | {"score": score}
    return row | {"metrics": {name: result[name] for name in METRICS if name in result}, "curve": curve}


def _replay(trial: TrialRun, count: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The last result of a trial after `count` rounds, and its reports, if they are stored."""
    result, curve = dict[str, Any](), list[dict[str, Any]]()
    with suppress(NotStored):
        while len(curve) < count:
            result = trial.step()
            curve += result["reports"]
    trial.close()
    return result, curve
