"""What a study leaves while it runs: `trials.jsonl`, TensorBoard, the live table. A Tune callback in the driver."""

import json
from pathlib import Path
from typing import Any

from ray.tune import Callback

from mm_ray.runtime.tensorboard import TrialWriter
from mm_ray.tune.live import LiveTable

ROW_KEYS = ("score", "best_round", "rounds_computed", "rounds_reused", "seconds")


class StudyLog(Callback):
    """Writes every trial down.

    Args:
        folder: The study's folder.
        table: The live table.

    """

    def __init__(self, folder: Path, table: LiveTable) -> None:
        self._folder, self._table = folder, table
        self._writers: dict[int, TrialWriter] = {}
        self._results: dict[int, dict[str, Any]] = {}
        self._curves: dict[int, list[dict[str, Any]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that we do not use: the journal is what a study resumes from

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial begins, or begins again after a failure."""
        number, params = trial.config["number"], trial.config["params"]
        if number in self._writers:
            self._writers[number].finish("RUNNING")
        self._writers[number] = TrialWriter(self._folder / "tensorboard", f"trial-{number:03d}", params)
        self._curves[number] = []
        self._table.begin(number, params)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        """A trial reports: its new rounds go to TensorBoard."""
        number = trial.config["number"]
        self._results[number] = result
        for report in result["reports"]:
            self._writers[number].add_round(report)
            self._curves[number].append(report)
        self._table.update(number, result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial reached its last round, or a scheduler stopped it."""
        finished = self._results.get(trial.config["number"], {}).get("finished")
        self._end(trial, "COMPLETE" if finished else "PRUNED", "SUCCESS")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial failed for good."""
        self._end(trial, "FAIL", "FAILURE")

    def _end(self, trial: Any, state: str, status: str) -> None:
        number = trial.config["number"]
        result = self._results.get(number, {})
        row = {"number": number, "state": state, "params": trial.config["params"], "overrides": trial.config["overrides"]}
        row |= {key: result.get(key) for key in ROW_KEYS}
        with (self._folder / "trials.jsonl").open("a") as file:
            file.write(json.dumps(row | {"curve": self._curves.get(number, [])}) + "\n")
        score = {"dev/audio_top1": result["score"]} if "score" in result else {}
        self._writers.pop(number).finish(status, score)
        self._table.end(number, state)


def read_trials(folder: Path) -> list[dict[str, Any]]:
    """The rows of `trials.jsonl` by number, the last one for each; a line that a crash cut off is left out."""
    rows: dict[int, dict[str, Any]] = {}
    path = folder / "trials.jsonl"
    for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
        if line.endswith("\n"):
            row = json.loads(line)
            rows[row["number"]] = row
    return [rows[number] for number in sorted(rows)]
