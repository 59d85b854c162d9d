"""A network's accuracy on a common split; always in the driver, never on sampled clients."""

from collections.abc import Mapping

import numpy as np

from mm_ray.config import ModelConfig
from mm_ray.data.batch import gather
from mm_ray.evaluate.metrics import confusion_matrix, summary
from mm_ray.evaluate.predictions import logits_of
from mm_ray.fed.federation import Federation
from mm_ray.models.flat import flat_network
from mm_ray.models.network import READS
from mm_ray.types import Arrays


def confusion_on(split: str, network: str, params: Arrays, model: ModelConfig, federation: Federation) -> np.ndarray:
    """Confusion matrix (C, C) of a network on the clips of a split that have the modalities it reads."""
    table = federation.table
    net = flat_network(network, model, federation.shapes)
    net.load(params)
    rows = table.rows(split)
    if "video" in READS[network]:
        rows = rows[table.has_video(rows)]
    logits_NC = logits_of(net.network, lambda some: gather(table, rows[some], READS[network]), table.audio_lengths(rows))
    return confusion_matrix(table.labels_N[rows], logits_NC.argmax(1), federation.shapes.num_classes)


def dev_metrics(networks: tuple[str, ...], params: Arrays, model: ModelConfig, federation: Federation) -> Mapping[str, float]:
    """`dev/NETWORK_top1` and the like for each network."""
    metrics: dict[str, float] = {}
    for network in networks:
        scores = summary(confusion_on("dev", network, params, model, federation))
        metrics |= {f"dev/{network}_{name}": value for name, value in scores.items()}
    return metrics
