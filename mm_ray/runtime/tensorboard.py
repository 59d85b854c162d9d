"""TensorBoard for runs and studies: one folder a study, one subfolder a trial, written by the driver.

Written with TensorBoard's own protos and event file writer, which load neither torch nor tensorflow. HParams are written
when a trial begins, so that a killed trial shows too; its metrics and its status when it ends.
"""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

BEST = "best/"
"""Tags of the metrics at a trial's end, which are the metric columns of the HParams page."""


class TrialWriter:
    """Writes one trial, or a single run that has no HParams.

    A folder that exists is begun anew: the loop reports the rounds that it reuses, so they are written again, once.

    Args:
        logdir: Folder of the study.
        trial_name: Subfolder of the trial; "" writes into `logdir` itself.
        params: HParams by config name; None and lists are shown as text. Without any, none are written.

    """

    def __init__(self, logdir: Path, trial_name: str, params: Mapping[str, Any] | None = None) -> None:
        self._writer = _begin(Path(logdir) / trial_name)
        self._has_hparams = bool(params)
        if params:
            self._add(hparams_pb({key: _plain(value) for key, value in params.items()}, trial_id=trial_name), 0)
        self._writer.flush()

    def add_round(self, report: Mapping[str, Any]) -> None:
        """Scalars `<phase>/<metric>` at step `round`; `report` is a `RoundReport` as a dictionary."""
        scalars = {f"{report['phase']}/{name}": value for name, value in report["metrics"].items()}
        self._add(_scalars(scalars), report["round"])
        self._writer.flush()

    def finish(self, status: str, metrics: Mapping[str, float] | None = None) -> None:
        """Write `best/<metric>` and the status (SUCCESS, FAILURE or RUNNING), and close the files."""
        self._add(_scalars({BEST + name: value for name, value in (metrics or {}).items()}), 0)
        if self._has_hparams:
            self._add(_session_end(status), 0)
        self._writer.close()

    def _add(self, summary: Summary, step: int) -> None:
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def write_experiment(logdir: Path, distributions: Mapping[str, BaseDistribution], metrics: Iterable[str]) -> None:
    """Declare the columns of the HParams page in the study's folder.

    Args:
        logdir: Folder of the study.
        distributions: What the space suggests (`Space.distributions`).
        metrics: Metrics that `TrialWriter.finish` is given.

    """
    experiment = api_pb2.Experiment(
        hparam_infos=[_hparam_info(name, distribution) for name, distribution in distributions.items()],
        metric_infos=[_metric_info(name) for name in metrics],
        time_created_secs=time.time(),
    )
    writer = _begin(Path(logdir))
    summary = _plugin_summary(metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=experiment))
    writer.add_event(Event(wall_time=time.time(), step=0, summary=summary))
    writer.close()


def _begin(folder: Path) -> EventFileWriter:
    # Old files are emptied, because TensorBoard keeps the first status of a run that it finds; they are not deleted,
    # because one that is reading them would get stuck there. START makes it drop the scalars that it has read already.
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
    return _plugin_summary(metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=end))


def _plugin_summary(tag: str, content: Any) -> Summary:
    value = Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(content), tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])


def _hparam_info(name: str, distribution: Any) -> api_pb2.HParamInfo:
    if not isinstance(distribution, CategoricalDistribution):
        interval = api_pb2.Interval(min_value=distribution.low, max_value=distribution.high)
        return api_pb2.HParamInfo(name=name, type="DATA_TYPE_FLOAT64", domain_interval=interval)
    info = api_pb2.HParamInfo(name=name, type=_data_type(distribution.choices))
    info.domain_discrete.extend([_plain(choice) for choice in distribution.choices])
    return info


def _data_type(choices: Iterable[Any]) -> str:
    kinds = {type(_plain(choice)) for choice in choices}
    if kinds == {bool}:
        return "DATA_TYPE_BOOL"
    return "DATA_TYPE_FLOAT64" if kinds <= {int, float} else "DATA_TYPE_STRING"


def _metric_info(name: str) -> api_pb2.MetricInfo:
    return api_pb2.MetricInfo(name=api_pb2.MetricName(tag=BEST + name), display_name=name)


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)
