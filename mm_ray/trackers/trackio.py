"""Trackio, with SQLite files in `TRACKIO_DIR`, or in the Space `TRACKIO_SPACE_ID`; one project per study."""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from contextvars import Context
from pathlib import Path
from typing import Any

from mm_ray.runtime.tracking import RunInfo

NEEDS = "trackio"


def begin(run: RunInfo) -> "TrackioRun":
    """Start a run over."""
    return TrackioRun(run)


class TrackioRun:
    """A run whose step is the number of the round over all phases."""

    def __init__(self, run: RunInfo) -> None:
        import trackio

        project = "".join(c if c.isalnum() or c in "-_" else "-" for c in run.folder.name)
        self._trackio, self._title, self._last = trackio, run.title, 0
        with redirect_stdout(io.StringIO()):  # it prints four lines for each run
            with suppress(ValueError):  # no such project yet
                for earlier in trackio.Api().runs(project):
                    if earlier.name == run.title:
                        earlier.delete()
            # In its own context: otherwise Trackio would end the run that it considers current.
            self._run = Context().run(
                trackio.init, project, run.title, run.group or None, config=dict(run.config), embed=False,
                auto_log_cpu=False, auto_log_gpu=False,
            )  # fmt: skip

    def add_round(self, report: Mapping[str, Any], number: int) -> None:
        """Metrics as `PHASE/METRIC`, and the phase's own round."""
        scalars = {f"{report['phase']}/{name}": value for name, value in report["metrics"].items()}
        self._run.log(scalars | {f"{report['phase']}/round": report["round"]}, step=number)
        self._last = number

    def finish(self, status: str, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
        """Metrics as `best/METRIC` after the last round, and an artifact of the files."""
        with redirect_stdout(io.StringIO()):
            if metrics:
                self._run.log({f"best/{name}": value for name, value in metrics.items()}, step=self._last + 1)
            if files:
                artifact = self._trackio.Artifact("".join(c if c.isalnum() or c in "-_." else "-" for c in self._title), "run")
                for file in files:
                    artifact.add_file(file)
                self._run.log_artifact(artifact)
            self._run.finish()
