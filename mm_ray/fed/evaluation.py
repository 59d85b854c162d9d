"""A network's outputs on clips, its accuracy on a common split, which no client trains on, and its spread over clients.

A confusion matrix is a sum over batches, which are cut the same way everywhere, so it is the same in the driver and on any
number of actors. A recording that was cut into several clips (`features.window_hop_s`) counts once, with the mean of its clips'
probabilities; its clips therefore lie in one batch.

Shape suffixes: N or B clips, R recordings, C classes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mm_ray.config import ModelConfig
from mm_ray.data.batching import gather
from mm_ray.data.feature_table import FeatureTable
from mm_ray.evaluate.metrics import confusion_matrix, summary
from mm_ray.evaluate.statistics import spread_of_clients
from mm_ray.fed.federation import Federation
from mm_ray.models.flat_params import FlatNetwork, flat_network
from mm_ray.models.layers import Output
from mm_ray.models.network import READS
from mm_ray.types import Arrays, Batch, RoundReport

BATCH_FRAMES = 32_000
"""Frames of a batch: activations of longer batches do not fit the caches (a quarter slower at 500 frames per clip)."""
MOST_CLIPS = 128
"""Clips of a batch that is scored."""
OUTPUT_CLIPS = 128
"""Clips of a batch whose outputs are kept: always as many, whatever the length of the clips."""
MOST_CLIENTS = 10_000
"""In a larger federation the clients are not gone through: a run's time depends on its cohorts."""
ROLES = ("student", "control", "control_all")
"""Networks that every client uses."""


def outputs_on(net: FlatNetwork, table: FeatureTable, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C) and pooled features (N, H) of N rows, at least one, in evaluation mode, with the parameters loaded."""

    def run(batch: Batch) -> Output:
        output: Output = net.network(batch.to(net.params.device))
        return output

    return outputs_of(run, lambda some: gather(table, rows[some], READS[net.network.name]), table.audio_lengths(rows))


def outputs_of(
    network: Callable[[Batch], Output], gather: Callable[[np.ndarray], Batch], lengths_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C) and pooled features (N, H), float32, of N clips in evaluation mode.

    Args:
        network: Called with batches, gives logits and features.
        gather: Makes the batch of some of the N clips, by position.
        lengths_N: Length of each clip; clips of like length share a batch, so that little is padded.

    """
    logits_NC, features_NH = over_batches(lambda batch: network(batch)[:2], gather, lengths_N)
    return logits_NC, features_NH


def over_batches(
    network: Callable[[Batch], Sequence[torch.Tensor]], gather: Callable[[np.ndarray], Batch], lengths_N: np.ndarray
) -> list[np.ndarray]:
    """Each of the tensors that the network gives, for N clips; arguments as for `outputs_of`."""
    order_N = np.argsort(lengths_N, kind="stable")
    pieces = []
    with torch.inference_mode():
        for start in range(0, len(order_N), OUTPUT_CLIPS):
            outputs = network(gather(order_N[start : start + OUTPUT_CLIPS]))
            pieces.append([values.cpu().numpy() for values in outputs])
    places_N = np.argsort(order_N)
    return [np.concatenate(values)[places_N] for values in zip(*pieces, strict=True)]


def predicted(logits_BC: np.ndarray, labels_B: np.ndarray) -> np.ndarray:
    """The class of each clip; where a logit is not finite the class after the clip's own, so that it counts as wrong."""
    wrong_B = (labels_B + 1) % logits_BC.shape[1]
    return np.where(np.isfinite(logits_BC).all(1), logits_BC.argmax(1), wrong_B)


def rows_of(split: str, network: str, table: FeatureTable) -> np.ndarray:
    """Rows of the clips of a split that have the modalities which the network reads."""
    rows = table.rows(split)
    return rows[table.has_video(rows)] if "video" in READS[network] else rows


def batches_of(split: str, network: str, table: FeatureTable) -> list[np.ndarray]:
    """Rows of the clips of a split that have the modalities which the network reads, in batches of clips of like length.

    All clips of a recording are in one batch, which may therefore be a larger one.
    """
    rows = rows_of(split, network, table)
    size = _batch_size(network, table, rows)
    rows = rows[np.argsort(_lengths(network, table, rows), kind="stable")]
    if table.files_N is None:
        return [rows[start : start + size] for start in range(0, len(rows), size)]
    batches: list[list[np.ndarray]] = [[]]
    for file in dict.fromkeys(table.files_N[rows].tolist()):
        if sum(map(len, batches[-1])) >= size:
            batches.append([])
        batches[-1].append(np.arange(file, np.searchsorted(table.files_N, file, "right")))
    return [np.concatenate(batch) for batch in batches if batch]


def _lengths(network: str, table: FeatureTable, rows: np.ndarray) -> np.ndarray:
    return table.audio_lengths(rows) if "audio" in READS[network] else table.video_lengths(rows)


def _batch_size(network: str, table: FeatureTable, rows: np.ndarray) -> int:
    return max(1, min(MOST_CLIPS, BATCH_FRAMES // max(int(_lengths(network, table, rows).max(initial=1)), 1)))


def confusion_of(
    network: str, params: Arrays, model: ModelConfig, table: FeatureTable, batches: Sequence[np.ndarray], device: str = "cpu"
) -> np.ndarray:
    """Confusion matrix (C, C) of a network on some batches of rows."""
    net = flat_network(network, model, table.shapes, device)
    net.load(params)
    total = np.zeros((table.shapes.num_classes,) * 2, np.int64)
    for rows in batches:
        file_rows, classes_R = classes_of(net, table, rows)
        total += confusion_matrix(table.labels_N[file_rows], classes_R, len(total))
    return total


def classes_of(net: FlatNetwork, table: FeatureTable, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a network with its parameters loaded predicts for a batch of `batches_of`.

    Returns:
        The row of the first clip of each recording (R,), and the recording's class (R,).

    """
    name, size = net.network.name, _batch_size(net.network.name, table, batch)
    with torch.inference_mode():
        pieces = [
            net.network(gather(table, batch[start : start + size], READS[name], net.params.device)).logits_BC.cpu().numpy()
            for start in range(0, len(batch), size)
        ]
    file_rows, scores_RC = by_recording(np.concatenate(pieces), batch, table)
    return file_rows, predicted(scores_RC, table.labels_N[file_rows])


def by_recording(logits_BC: np.ndarray, rows: np.ndarray, table: FeatureTable) -> tuple[np.ndarray, np.ndarray]:
    """Scores (R, C) of the recordings of some rows, and the row of the first clip of each (R,).

    If every recording is one clip, the scores are the logits, else the mean of the probabilities of its clips.
    """
    if table.files_N is None:
        return rows, logits_BC
    file_rows, file_B = np.unique(table.files_N[rows], return_inverse=True)
    probabilities_BC = torch.from_numpy(logits_BC).double().softmax(1).numpy()
    sums_RC = np.zeros((len(file_rows), logits_BC.shape[1]))
    np.add.at(sums_RC, file_B, probabilities_BC)
    return file_rows, sums_RC / np.bincount(file_B)[:, None]


def confusion_on(split: str, network: str, params: Arrays, model: ModelConfig, federation: Federation) -> np.ndarray:
    """Confusion matrix (C, C) of a network on the clips of a split that have the modalities it reads."""
    return confusion_of(network, params, model, federation.table, batches_of(split, network, federation.table))


def dev_metrics(networks: Sequence[str], confusions: Sequence[np.ndarray]) -> Mapping[str, float]:
    """`dev/NETWORK_top1` and the like for each network, from its confusion matrix."""
    scores = {network: summary(matrix) for network, matrix in zip(networks, confusions, strict=True)}
    return {f"dev/{network}_{name}": value for network, found in scores.items() for name, value in found.items()}


def client_spreads(
    federation: Federation, recalls: Mapping[str, Sequence[float]], reports: Iterable[RoundReport]
) -> dict[str, dict[str, Any]]:
    """Mean, worst tenth and standard deviation over clients; empty in a federation of more than `MOST_CLIENTS`.

    Args:
        federation: The clients.
        recalls: By role: recall on the test set by class (C,).
        reports: The rounds of the student's phase.

    Returns:
        By measure, a `ClientSpread` as a dictionary: each of `ROLES`, its accuracy on the client's own mix of classes; `loss`,
        the client's mean training loss over its rounds, where that is recorded; `clips`.

    """
    if len(federation.clients) > MOST_CLIENTS:
        return {}
    found = {role: federation.client_accuracies(np.array(recalls[role])) for role in ROLES if role in recalls}
    known = {role: [value for value in values if value is not None] for role, values in found.items()}
    losses = [loss for loss, _ in update_means(reports).values() if np.isfinite(loss)]
    clips = [float(client.num_clips) for client in federation.clients]
    spreads = {measure: spread_of_clients(values)._asdict() for measure, values in (known | {"clips": clips}).items() if values}
    return spreads | ({"loss": spread_of_clients(losses, lowest=False)._asdict()} if losses else {})


def update_means(reports: Iterable[RoundReport]) -> dict[str, tuple[float, float]]:
    """Training loss and norm of the update by client: means over the client's rounds, where they are recorded."""
    seen: dict[str, list[Sequence[float]]] = {}
    for report in reports:
        for client, values in report.clients.items():
            seen.setdefault(client, []).append(values)
    means = {client: np.mean(values, axis=0).tolist() for client, values in seen.items()}
    return {client: (loss, norm) for client, (loss, norm) in means.items()}
