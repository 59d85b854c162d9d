"""A resident network's outputs on a client's own clips."""

import numpy as np
import torch

from mm_ray.data.batching import gather
from mm_ray.data.feature_table import FeatureTable
from mm_ray.evaluate.predictions import outputs_of, over_batches
from mm_ray.models.flat_params import FlatNetwork
from mm_ray.models.layers import MeanPool, Output
from mm_ray.models.network import READS
from mm_ray.types import Batch, ClientData, RoundContext


def outputs_on(net: FlatNetwork, context: RoundContext, client: ClientData) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C) and pooled features (N, H) of the client's N clips, in evaluation mode, with the parameters loaded."""
    return _outputs(net, context.table, client.indices)


def logits_on(net: FlatNetwork, table: FeatureTable, rows: np.ndarray) -> np.ndarray:
    """Logits (N, C) of some rows, in evaluation mode, with the parameters loaded."""
    return _outputs(net, table, rows)[0] if len(rows) else np.zeros((0, table.shapes.num_classes), np.float32)


def _outputs(net: FlatNetwork, table: FeatureTable, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    def run(batch: Batch) -> Output:
        output: Output = net.network(batch.to(net.params.device))
        return output

    return outputs_of(run, lambda some: gather(table, rows[some], READS[net.network.name]), table.audio_lengths(rows))


def encoded_on(net: FlatNetwork, context: RoundContext, client: ClientData) -> dict[str, np.ndarray]:
    """By modality: what the encoder says of the client's N clips, mean over time (N, H), in evaluation mode, as loaded."""
    table, rows, modalities = context.table, client.indices, READS[net.network.name]

    def run(batch: Batch) -> list[torch.Tensor]:
        return list(mean_encoded(net.network(batch.to(net.params.device))).values())

    features = over_batches(run, lambda some: gather(table, rows[some], modalities), table.audio_lengths(rows))
    return dict(zip(modalities, features, strict=True))


def mean_encoded(output: Output) -> dict[str, torch.Tensor]:
    """By modality: the encoder's mean over a clip's real steps (B, H)."""
    assert output.sequences is not None
    return {modality: MeanPool()(sequence) for modality, sequence in output.sequences.items()}
