"""A resident network's outputs on a client's own clips."""

import numpy as np

from mm_ray.data.batch import gather
from mm_ray.evaluate.predictions import outputs_of
from mm_ray.models.flat import FlatNetwork
from mm_ray.models.layers import Output
from mm_ray.models.network import READS
from mm_ray.types import Batch, ClientData, RoundContext


def outputs_on(net: FlatNetwork, context: RoundContext, client: ClientData) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C) and pooled features (N, H) of the client's N clips, in evaluation mode, with the parameters loaded."""
    table, rows = context.table, client.indices

    def run(batch: Batch) -> Output:
        output: Output = net.network(batch.to(net.params.device))
        return output

    return outputs_of(run, lambda some: gather(table, rows[some], READS[net.network.name]), table.audio_lengths(rows))
