"""What a study writes while it runs: `trials.jsonl`, runs in trackers, the live table; and the repair of `trials.jsonl`.

The log is a Tune callback in the driver. The study's journal says which trials have ended, the phase store has their rounds: so
rows that a killed driver left, or did not write, are made right when the study resumes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from ray.tune import Callback

from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import UserError
from mm_ray.runtime.tracking import DEFAULT, RunInfo, TrackedRun, best_round, flat_config
from mm_ray.storage import append_lines, write_text
from mm_ray.tune.live_table import LiveTable
from mm_ray.tune.searcher import ENDED_AFTER, StudySearch
from mm_ray.tune.space import METRICS
from mm_ray.tune.stored import NotStored, StoredOnly
from mm_ray.tune.trial import TrialRun, TrialSettings

ROW_KEYS = ("score", "seed_scores", "best_round", "rounds_computed", "rounds_reused", "seconds")
ROW_TYPES = {"number": int, "state": str, "params": dict, "overrides": dict, "metrics": dict, "curve": list}
STATUS = {"COMPLETE": "SUCCESS", "PRUNED": "SUCCESS", "FAIL": "FAILURE"}


class StudyLog(Callback):
    """Records every trial.

    Args:
        folder: The study's folder.
        table: The live table.
        base: The config that all trials start from.
        trackers: The trackers that show the trials, one run per seed.

    """

    def __init__(
        self, folder: Path, table: LiveTable, base: ExperimentConfig | None = None, trackers: Sequence[str] = (DEFAULT,)
    ) -> None:
        self._folder, self._table = folder, table
        self._base, self._trackers = base or ExperimentConfig(), trackers
        self._runs: dict[int, dict[int, TrackedRun]] = {}
        """By trial and seed."""
        self._results: dict[int, dict[str, Any]] = {}
        self._curves: dict[int, list[dict[str, Any]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that we do not use: the journal is what a study resumes from

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial begins, or begins again after a failure."""
        number, params = trial.config["number"], trial.config["params"]
        self._let_go(number)
        config = with_overrides(self._base, trial.config["overrides"])
        self._runs[number] = {config.seed: self._begin(number, params, config, first=True)}
        self._curves[number] = []
        self._table.begin(number, params, trial.config["overrides"])

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        """A trial reports: its new rounds go to the run of their seed."""
        number, runs = trial.config["number"], self._runs[trial.config["number"]]
        self._results[number] = result
        for report in result["reports"]:
            self._curves[number].append(report)
            if report["seed"] not in runs:
                config = replace(with_overrides(self._base, trial.config["overrides"]), seed=report["seed"])
                runs[report["seed"]] = self._begin(number, trial.config["params"], config, first=False)
            runs[report["seed"]].add_round(report)
        self._table.update(number, result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune releases a trial; if it has not ended (the study is interrupted), it resumes with the study."""
        self._let_go(trial.config["number"])

    def end(self, suggestion: Mapping[str, Any], state: str) -> None:
        """The study is about to record a trial as COMPLETE, PRUNED or FAIL.

        Its row is written first, so that a driver killed between the two loses nothing: when the study resumes, the trial ends
        once more, and this row is removed (`mm_ray.tune.study_log`).
        """
        number = suggestion["number"]
        result = self._results.get(number, {})
        row = {"number": number, "state": state, "params": suggestion["params"], "overrides": suggestion["overrides"]}
        row |= {key: result.get(key) for key in ROW_KEYS}
        row |= {"metrics": {name: result[name] for name in METRICS if name in result}}
        append_lines(self._folder / "trials.jsonl", json.dumps(row | {"curve": self._curves.get(number, [])}) + "\n")
        score = {"score": result["score"]} if "score" in result else {}
        for seed, run in self._runs.pop(number, {}).items():
            curve = [report for report in self._curves[number] if report["seed"] == seed]
            run.finish(STATUS[state], best_round(curve, "dev/audio_top1") | score)
        self._table.end(number, state)

    def _begin(self, number: int, params: Mapping[str, Any], config: ExperimentConfig, first: bool) -> TrackedRun:
        trial = f"trial-{number:03d}"
        info = RunInfo(
            self._folder, f"{trial}-seed-{config.seed}", flat_config(config), trial, params, trial if first else None
        )
        return TrackedRun(self._trackers, info)

    def _let_go(self, number: int) -> None:
        for run in self._runs.pop(number, {}).values():
            run.finish("RUNNING")


def read_trials(folder: Path) -> list[dict[str, Any]]:
    """The rows of `trials.jsonl` by number, the last one for each; a line that a crash cut off is left out.

    Raises:
        UserError: A complete line is not a row.

    """
    rows: dict[int, dict[str, Any]] = {}
    for number, row in enumerate(_lines(folder), start=1):
        if row is None:
            raise UserError(f"{folder / 'trials.jsonl'}: line {number} is not a trial; the study's --resume writes it again")
        rows[row["number"]] = row
    return [rows[number] for number in sorted(rows)]


def whole_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of `trials.jsonl` in their order; other lines are skipped."""
    return [row for row in _lines(folder) if row is not None]


def _lines(folder: Path) -> Iterator[dict[str, Any] | None]:
    path = folder / "trials.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # what follows the last line end was cut off
    yield from map(_row, lines)


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row: dict[str, Any] = json.loads(line)
        good = all(isinstance(row[name], kind) for name, kind in ROW_TYPES.items())
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return row if good else None


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
        if row is None or row["state"] != trial.state.name or row["params"] != trial.params:
            row = _made_again(search, trial, settings, table, device)
        rows.append(row)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if text.encode() != (path.read_bytes() if path.exists() else b""):
        write_text(path, text)
    return sorted(rows, key=lambda row: int(row["number"]))


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
