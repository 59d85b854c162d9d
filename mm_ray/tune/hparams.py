"""The columns of TensorBoard's HParams page for a study."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from mm_ray.runtime.tensorboard import BEST, begin_events, plain_value, plugin_summary


def write_experiment(logdir: Path, distributions: Mapping[str, BaseDistribution], metrics: Iterable[str]) -> None:
    """Declare the columns of the HParams page in the study's folder.

    Args:
        logdir: Folder of the study.
        distributions: What the space suggests (`Space.distributions`).
        metrics: Metrics that `TrialWriter.finish` gets.

    """
    experiment = api_pb2.Experiment(
        hparam_infos=[_hparam_info(name, distribution) for name, distribution in distributions.items()],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=BEST + name), display_name=name) for name in metrics],
        time_created_secs=time.time(),
    )
    writer = begin_events(Path(logdir))
    summary = plugin_summary(metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=experiment))
    writer.add_event(Event(wall_time=time.time(), step=0, summary=summary))
    writer.close()


def _hparam_info(name: str, distribution: Any) -> api_pb2.HParamInfo:
    if not isinstance(distribution, CategoricalDistribution):
        interval = api_pb2.Interval(min_value=distribution.low, max_value=distribution.high)
        return api_pb2.HParamInfo(name=name, type="DATA_TYPE_FLOAT64", domain_interval=interval)
    info = api_pb2.HParamInfo(name=name, type=_data_type(distribution.choices))
    info.domain_discrete.extend([plain_value(choice) for choice in distribution.choices])
    return info


def _data_type(choices: Iterable[Any]) -> str:
    kinds = {type(plain_value(choice)) for choice in choices}
    if kinds == {bool}:
        return "DATA_TYPE_BOOL"
    return "DATA_TYPE_FLOAT64" if kinds <= {int, float} else "DATA_TYPE_STRING"
