"""Weights & Biases, configured by the library's own variables: `WANDB_MODE=offline`, `WANDB_PROJECT`, `WANDB_ENTITY`."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mm_ray.runtime.tracking import RunInfo

NEEDS = "wandb"
PROJECT = "mm_ray"


def begin(run: RunInfo) -> "WandbRun":
    """Start a run, or resume it; an offline run of an earlier process starts over."""
    return WandbRun(run)


class WandbRun:
    """A run whose step is the number of the round over all phases."""

    def __init__(self, run: RunInfo) -> None:
        import wandb

        for left in run.folder.glob(f"wandb/offline-run-*-{run.key}"):
            shutil.rmtree(left)
        self._wandb, self._title = wandb, run.title
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), id=run.key, name=run.title, group=run.group or None,
            config=dict(run.config), dir=run.folder, resume="allow", reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True),
        )  # fmt: skip
        self._first = self._run.step
        """Earlier rounds are already on the server."""

    def add_round(self, report: Mapping[str, Any], number: int) -> None:
        """Metrics as `PHASE/METRIC`, and the phase's own round."""
        if number >= self._first:
            scalars = {f"{report['phase']}/{name}": value for name, value in report["metrics"].items()}
            self._run.log(scalars | {f"{report['phase']}/round": report["round"]}, step=number)

    def finish(self, status: str, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
        """The summary, and an artifact of the files."""
        self._run.summary.update({f"best/{name}": value for name, value in metrics.items()})
        if files:
            artifact = self._wandb.Artifact("".join(c if c.isalnum() or c in "-_." else "-" for c in self._title), "run")
            for file in files:
                artifact.add_file(str(file))
            self._run.log_artifact(artifact)
        self._run.finish(exit_code=int(status != "SUCCESS"))
