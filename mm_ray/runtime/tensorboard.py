"""TensorBoard for runs and studies: one folder per study, one subfolder per trial, written by the driver.

Written with TensorBoard's own protos and event file writer, which load neither torch nor tensorflow. HParams are written when a
trial begins, so that a killed trial is shown too; its metrics and status when it ends.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata, plugin_data_pb2
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

SIM_SECONDS = "sim_seconds"
"""The metric `mm_ray.fed.virtual_time.SIM_SECONDS`; importing it would load torch."""
BEST = "best/"
"""Tags of the metrics at a trial's end, which are the metric columns of the HParams page."""


class TrialWriter:
    """Writes one trial, or a single run that has no HParams.

    An existing folder starts over: the loop also reports the rounds that it reuses, so each is written once.

    Args:
        logdir: Folder of the study.
        trial_name: Subfolder of the trial; "" writes into `logdir` itself.
        params: HParams by config name; None and lists are shown as text. Without any, none are written.

    """

    def __init__(self, logdir: Path, trial_name: str, params: Mapping[str, Any] | None = None) -> None:
        self._writer = begin_events(Path(logdir) / trial_name)
        self._has_hparams, self._sim_seconds = bool(params), 0.0
        if params:
            self._add(hparams_pb({key: plain_value(value) for key, value in params.items()}, trial_id=trial_name), 0)
        self._writer.flush()

    def add_round(self, report: Mapping[str, Any]) -> None:
        """Scalars `<phase>/<metric>` at step `round`; `report` is a `RoundReport` as a dictionary.

        Where time is simulated also `sim_seconds/<phase>/dev/<metric>`, whose step is the simulated time in whole seconds.
        """
        metrics = report["metrics"]
        self._add(_scalars({f"{report['phase']}/{name}": value for name, value in metrics.items()}), report["round"])
        if SIM_SECONDS in metrics:
            self._sim_seconds += metrics[SIM_SECONDS]
            dev = {name: value for name, value in metrics.items() if name.startswith("dev/")}
            scalars = {f"{SIM_SECONDS}/{report['phase']}/{name}": value for name, value in dev.items()}
            self._add(_scalars(scalars), round(self._sim_seconds))
        self._writer.flush()

    def finish(self, status: str, metrics: Mapping[str, float] | None = None) -> None:
        """Write `best/<metric>` and the status (SUCCESS, FAILURE or RUNNING), and close the files."""
        self._add(_scalars({BEST + name: value for name, value in (metrics or {}).items()}), 0)
        if self._has_hparams:
            self._add(_session_end(status), 0)
        self._writer.close()

    def _add(self, summary: Summary, step: int) -> None:
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def begin_events(folder: Path) -> EventFileWriter:
    """A writer into an emptied folder."""
    # Old files are emptied, because TensorBoard keeps the first status of a run that it finds. They are not deleted, because a
    # process that reads them would hang. START makes it drop the scalars that it has already read.
    for old in folder.glob("events.out.tfevents.*"):
        old.write_bytes(b"")
    writer = EventFileWriter(str(folder))
    start = SessionLog(status=SessionLog.START)
    writer.add_event(Event(wall_time=time.time(), step=0, session_log=start))
    return writer


def _scalars(values: Mapping[str, float]) -> Summary:
    return Summary(value=[Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values.items()])


def _session_end(status: str) -> Summary:
    end = plugin_data_pb2.SessionEndInfo(status=f"STATUS_{status}", end_time_secs=time.time())
    return plugin_summary(metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=end))


def plugin_summary(tag: str, content: Any) -> Summary:
    """A record of the HParams plugin."""
    value = Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(content), tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])


def plain_value(value: Any) -> bool | int | float | str:
    """A value as the HParams plugin takes it; None and lists become text."""
    return value if isinstance(value, bool | int | float | str) else str(value)
