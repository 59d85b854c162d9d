"""MLflow, at `MLFLOW_TRACKING_URI` (default: `mlflow.db` in the working folder); one experiment per study."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import time
from typing import Any

from mm_ray.runtime.tracking import RunInfo

NEEDS = "mlflow"
KEY = "mm_ray.key"
"""The tag by which a resumed run is found."""
STATUS = {"SUCCESS": "FINISHED", "FAILURE": "FAILED", "RUNNING": "KILLED"}
MOST_PARAMS = 100
"""Limit of one request."""


def begin(run: RunInfo) -> "MlflowRun":
    """Start a run, or resume it after the rounds that it has."""
    return MlflowRun(run)


class MlflowRun:
    """A run whose steps are the rounds of each phase."""

    def __init__(self, run: RunInfo) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._client, self._metric = MlflowClient(), Metric
        found = self._client.get_experiment_by_name(run.folder.name)
        experiment = found.experiment_id if found else self._client.create_experiment(run.folder.name)
        earlier = self._client.search_runs([experiment], f"tags.`{KEY}` = '{run.key}'", max_results=1)
        self._last: dict[str, int] = {}
        """The last step of each metric from an earlier process."""
        if earlier:
            self._id = earlier[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            for name in earlier[0].data.metrics:
                self._last[name] = max(one.step for one in self._client.get_metric_history(self._id, name))
            return
        tags = {KEY: run.key, "group": run.group}
        self._id = self._client.create_run(experiment, run_name=run.title, tags=tags).info.run_id
        params = [Param(name, str(value)) for name, value in run.config.items()]
        for start in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(self._id, params=params[start : start + MOST_PARAMS])

    def add_round(self, report: Mapping[str, Any], number: int) -> None:
        """Metrics as `PHASE/METRIC` at the phase's own round."""
        scalars = {f"{report['phase']}/{name}": value for name, value in report["metrics"].items()}
        self._log(
            {name: value for name, value in scalars.items() if report["round"] > self._last.get(name, -1)}, report["round"]
        )

    def finish(self, status: str, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
        """Metrics as `best/METRIC`, and the files."""
        self._log({f"best/{name}": value for name, value in metrics.items() if f"best/{name}" not in self._last}, 0)
        for file in files:
            self._client.log_artifact(self._id, str(file))
        self._client.set_terminated(self._id, STATUS[status])

    def _log(self, values: Mapping[str, float], step: int) -> None:
        now = int(1000 * time())
        self._client.log_batch(
            self._id, metrics=[self._metric(name, float(value), now, step) for name, value in values.items()]
        )
