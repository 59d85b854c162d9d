"""A client's local training: SGD with momentum on flat buffers, with FedProx's and SCAFFOLD's corrections as options.

No `torch.optim`: constructing one of its optimisers costs a second and 70 MB in every process, and the three lines of
SGD on a flat vector are fewer kernels than its loop over tensors.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mm_ray.config import LocalConfig
from mm_ray.data.batch import gather
from mm_ray.fed.cohort import epoch_batches
from mm_ray.fed.scaffold import ControlVariate
from mm_ray.models.flat import FlatNetwork
from mm_ray.models.layers import Output
from mm_ray.models.network import READS
from mm_ray.seeding import numpy_stream, torch_stream
from mm_ray.types import Batch, ClientData, ClientUpdate, RoundContext

Objective = Callable[[Output, Batch], Tensor]


def train_local(
    net: FlatNetwork, context: RoundContext, client: ClientData, local: LocalConfig, objective: Objective, stream: str
) -> ClientUpdate:
    """Train one network on one client's clips; the update is what it changed, weighted by the number of clips.

    Args:
        net: A resident network; it is loaded with the context's parameters first.
        context: The round.
        client: The client.
        local: How to train.
        objective: The loss of a batch (scalar, mean over the batch).
        stream: Name of the random streams of batches and dropout.

    Returns:
        `sums[part]` = clips * (trained - received) and the metrics `NETWORK_loss` (sum over the clips seen) and
        `NETWORK_seen` (their number); with SCAFFOLD also what `ControlVariate.update` gives.

    """
    net.load(context.params)
    start = net.params.clone()
    batches, dropout = randomness(context, client, local, net.network.name, stream)
    momentum = torch.zeros_like(net.params)
    control = ControlVariate(net, context, client) if local.scaffold else None
    loss_sum = torch.zeros((), device=net.params.device)
    for positions in batches:
        batch = gather(context.table, client.indices[positions], READS[net.network.name], net.params.device)
        loss = objective(net.network(batch, dropout), batch)
        loss.backward()
        loss_sum += loss.detach() * batch.size
        with torch.no_grad():
            if local.prox_mu:
                net.grads.add_(net.params - start, alpha=local.prox_mu)
            if control:
                control.correct(net.grads)
            sgd_step(net.params, net.grads, momentum, local)
    delta = net.params - start
    name, weight = net.network.name, float(client.num_clips)
    update = ClientUpdate(
        {part: weight for part in net.slices},
        net.parts(delta * weight),
        {f"{name}_loss": float(loss_sum), f"{name}_seen": float(sum(map(len, batches)))},
    )
    return update + control.update() if control else update


def local_settings(local: LocalConfig) -> dict[str, Any]:
    """What local training depends on, for a phase's key; options that are off do not enter."""
    settings = asdict(local)
    return {name: value for name, value in settings.items() if value or name not in ("prox_mu", "scaffold")}


def randomness(
    context: RoundContext, client: ClientData, local: LocalConfig, network: str, stream: str
) -> tuple[list[np.ndarray], torch.Generator]:
    """A client's batches, as positions among its clips, and the generator of its dropout in one network."""
    rng = numpy_stream(context.seed, "batches", stream, context.round, client.id)
    batches = [b for _ in range(local.epochs) for b in epoch_batches(client.num_clips, local.batch_size, rng)]
    name = ("dropout", stream, network, context.round, client.id)
    dropout = torch_stream(context.seed, *name, device=context.device)
    return batches, dropout


def sgd_step(params: Tensor, grads: Tensor, momentum: Tensor, local: LocalConfig) -> None:
    """Clip, decay, accumulate, move; all in place, for a vector (P) or each row of (K, P). Gradients are zero afterwards."""
    if local.clip_norm:
        norm = torch.linalg.vector_norm(grads, dim=-1, keepdim=True)
        grads.mul_((local.clip_norm / (norm + 1e-6)).clamp(max=1.0))
    grads.add_(params, alpha=local.weight_decay)
    torch.add(grads, momentum, alpha=local.momentum, out=momentum)
    params.add_(momentum, alpha=-local.lr)
    grads.zero_()
