"""TensorBoard: files in `tensorboard/` of the run's folder, a subfolder for each trial or cell."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mm_ray.runtime.tensorboard import TrialWriter
from mm_ray.runtime.tracking import RunInfo


def begin(run: RunInfo) -> "TensorBoardRun":
    """Start a run over."""
    return TensorBoardRun(run)


class TensorBoardRun:
    """A run in its own subfolder."""

    def __init__(self, run: RunInfo) -> None:
        self._writer = None if run.board is None else TrialWriter(run.folder / "tensorboard", run.board, run.params)

    def add_round(self, report: Mapping[str, Any], number: int) -> None:
        """Scalars of the phase at its own round."""
        if self._writer:
            self._writer.add_round(report)

    def finish(self, status: str, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
        """The score, which is a column of the HParams page; the files are already beside it."""
        if self._writer:
            self._writer.finish(status, {"dev/audio_top1": metrics["score"]} if "score" in metrics else {})
