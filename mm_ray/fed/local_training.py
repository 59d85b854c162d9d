"""A client's local training: SGD or Adam on flat buffers, with FedProx's and SCAFFOLD's corrections as options."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mm_ray.config import LocalConfig
from mm_ray.data.batching import gather
from mm_ray.fed.client_optimizers import ControlVariate, LocalOptimizer
from mm_ray.fed.cohort import epoch_batches
from mm_ray.fed.cost import num_steps
from mm_ray.models.flat_params import FlatNetwork
from mm_ray.models.layers import Output
from mm_ray.models.network import READS
from mm_ray.models.precision import Precision, forward_precision, full_precision
from mm_ray.seeding import numpy_stream, torch_stream
from mm_ray.types import Batch, ClientData, ClientUpdate, RoundContext

BatchLoss = Callable[[Output, Batch], Tensor]
"""The loss of a batch (scalar, mean over the batch)."""


def train_local(
    net: FlatNetwork,
    context: RoundContext,
    client: ClientData,
    local: LocalConfig,
    loss: BatchLoss,
    stream: str,
    precision: Precision = "float32",
) -> ClientUpdate:
    """Train one network on one client's clips; the update is what it changed, weighted by the number of clips.

    Args:
        net: A resident network; it is loaded with the context's parameters first.
        context: The round.
        client: The client.
        local: How to train.
        loss: The loss of a batch.
        stream: Name of the random streams of batches and dropout.
        precision: Of the matrix products.

    Returns:
        `sums[part]` = clips * (trained - received) and the metrics `NETWORK_loss` (sum over the clips seen) and
        `NETWORK_seen` (their number); with SCAFFOLD also what `ControlVariate.update` gives.

    """
    net.load(context.params)
    start = net.params.clone()
    batches, dropout = batch_plan(context, client, local, net.network.name, stream)
    optimizer = LocalOptimizer(net.params, local, context.round)
    control = ControlVariate(net, context, client) if local.scaffold else None
    loss_sum = torch.zeros((), device=net.params.device)
    for positions in batches:
        rows, labels = client.indices[positions], client.labels[positions]
        batch = gather(context.table, rows, READS[net.network.name], net.params.device, labels)
        with forward_precision(precision, net.params.device.type):
            output = net.network(batch, dropout)
        mean_loss = loss(full_precision(output), batch)
        mean_loss.backward()
        loss_sum += mean_loss.detach() * batch.size
        with torch.no_grad():
            if local.prox_mu:
                net.grads.add_(net.params - start, alpha=local.prox_mu)
            if control:
                control.correct(net.grads)
            optimizer.step(net.params, net.grads)
    delta = net.params - start
    name, weight = net.network.name, float(client.num_clips)
    update = ClientUpdate(
        {part: weight for part in net.slices},
        net.parts(delta * weight),
        {f"{name}_loss": float(loss_sum), f"{name}_seen": float(sum(map(len, batches)))},
    )
    return update + control.update() if control else update


def local_settings(local: LocalConfig) -> dict[str, Any]:
    """What local training depends on, for a phase's key; options that are off are left out."""
    unused = {"epochs"} if local.steps else set()
    unused |= {name for name in ("prox_mu", "scaffold", "steps", "warmup_rounds") if not getattr(local, name)}
    unused |= {"optimizer"} if local.optimizer == "sgd" else set()
    return {name: value for name, value in asdict(local).items() if name not in unused}


def batch_plan(
    context: RoundContext, client: ClientData, local: LocalConfig, network: str, stream: str
) -> tuple[list[np.ndarray], torch.Generator]:
    """A client's batches, as positions among its clips, and the generator of its dropout in one network.

    There are `local.steps` of them, or `local.epochs` epochs of the client's clips; clips are used again, in a new order, when
    all were used.
    """
    rng = numpy_stream(context.seed, "batches", stream, context.round, client.id)
    steps = num_steps(local, client)
    batches: list[np.ndarray] = []
    while len(batches) < steps:
        batches += epoch_batches(client.num_clips, local.batch_size, rng)
    del batches[steps:]
    name = ("dropout", stream, network, context.round, client.id)
    dropout = torch_stream(context.seed, *name, device=context.device)
    return batches, dropout
