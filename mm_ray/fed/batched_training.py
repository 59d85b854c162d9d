"""Trains the clients of a chunk together: the training of `mm_ray.fed.local_training`, in fewer operations.

Each client has its own copy of the network in a stack (`mm_ray.models.batched.network`), and its own batches, dropout masks,
momentum and corrections, all from the same named streams as when it is trained alone. A client whose batches are used up drops
out of the stack. A client's update is therefore the same up to the order in which floats are summed
(tests/fed/test_batched_training.py says how close). It depends only on the client's chunk, not on actors or on what ran before.

Where a GPU runs out of memory, a stack of clients is trained in smaller stacks, one after the other, instead of ending the run.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mm_ray.config import LocalConfig, ModelConfig
from mm_ray.data.batching import gather_stacked
from mm_ray.errors import EnvironmentFailure, in_one_line
from mm_ray.fed.client_optimizers import ControlVariate, LocalOptimizer
from mm_ray.fed.local_training import batch_plan
from mm_ray.models.batched.network import StackedNetwork
from mm_ray.models.dropout import StackedDropout
from mm_ray.models.layers import Output
from mm_ray.models.network import PARTS, READS, part_size
from mm_ray.models.precision import Precision, forward_precision, full_precision
from mm_ray.types import Batch, ClientData, ClientUpdate, RoundContext, Shapes, StackedBatch

Train = Callable[[Sequence[ClientData]], list[ClientUpdate]]
ClientLoss = Callable[[Output, Batch, ClientData], Tensor]
"""The loss of a batch of a client (scalar, mean over the batch)."""
STACK_VALUES = {"cpu": 2_000_000, "cuda": 500_000_000}
"""The features of a stack's batches hold at most about this many values; more would not fit a CPU's caches."""
STACK_PARAMETERS = 20_000_000
"""A stack's copies hold at most this many parameters; with gradients, momentum and start they take 16 bytes each."""
MOST_CLIENTS = 64
OUT_OF_MEMORY = "out_of_memory"
"""The metric of a round that counts the clients which were trained in a smaller stack than usual; absent if there are none."""


class _SharedLoss(NamedTuple):
    """What a loss over several clients' batches of equal size is computed from, one client after the other."""

    members: list[int]
    size: int
    output: Output
    clips: Batch

    def of(self, member: int) -> tuple[Output, Batch]:
        """One client's own share."""
        start = self.members.index(member) * self.size
        own = slice(start, start + self.size)
        batch = self.clips._replace(labels_B=self.clips.labels_B[own], indices_B=self.clips.indices_B[own])
        return Output(self.output.logits_BC[own], self.output.features_BH[own]), batch


class BatchedLocalTrainer:
    """Some clients of a chunk that train one network together.

    Args:
        name: The network.
        model: Its sizes.
        context: The round.
        clients: The clients, in the order of their updates.
        local: How to train.
        stream: Name of the random streams of batches and dropout.
        precision: Of the matrix products.

    """

    def __init__(
        self,
        name: str,
        model: ModelConfig,
        context: RoundContext,
        clients: Sequence[ClientData],
        local: LocalConfig,
        stream: str,
        precision: Precision,
    ) -> None:
        self._context, self._local, self._precision = context, local, precision
        drawn = [batch_plan(context, client, local, name, stream) for client in clients]
        # Most batches first, so that the clients that still train are always the first ones.
        self._order = sorted(range(len(clients)), key=lambda i: -len(drawn[i][0]))
        self._clients = [clients[i] for i in self._order]
        self._batches, self._dropout = zip(*(drawn[i] for i in self._order), strict=True)
        capacity = 1 << (len(clients) - 1).bit_length()  # few sizes, so that few resident stacks are kept
        self._net = _resident(name, model, context.shapes, capacity, context.device, precision)
        self._net.load(context.params)
        self._params, self._grads = self._net.params[: len(clients)], self._net.grads[: len(clients)]
        self._start, self._optimizer = self._params.clone(), LocalOptimizer(self._params, local, context.round)
        self._losses_K = torch.zeros(len(clients), device=self._params.device)
        self._shared: list[_SharedLoss] = []
        self._controls = [ControlVariate(self._net.copy(i), context, c) for i, c in enumerate(self._clients) if local.scaffold]

    def train(self, loss: ClientLoss, separable: bool) -> list[ClientUpdate]:
        """Train to the end; the clients' updates, as `mm_ray.fed.local_training.train_local` gives them.

        Args:
            loss: The loss of a batch of a client.
            separable: Whether the loss of two clients' batches of equal size is the mean of their losses. If so, one loss is
                computed for several clients at once, which must hold the same modalities.

        """
        for step in range(len(self._batches[0])):
            active = sum(len(batches) > step for batches in self._batches)
            now = [(client, b[step]) for client, b in zip(self._clients[:active], self._batches[:active], strict=True)]
            rows, labels = [client.indices[some] for client, some in now], [client.labels[some] for client, some in now]
            batch = gather_stacked(self._context.table, rows, labels, READS[self._net.name], self._params.device)
            dropout = StackedDropout(self._dropout[:active], self._net.model.dropout, batch.rows_K)
            with forward_precision(self._precision, self._params.device.type):
                output = self._net.forward(batch, dropout)
            self._backward(full_precision(output), batch, loss, separable)
            self._move(active)
        self._add_shared_losses(loss)
        return self._updates()

    def _backward(self, output: Output, batch: StackedBatch, loss: ClientLoss, separable: bool) -> None:
        total = output.logits_BC.new_zeros(())
        for members in _alike(self._clients[: len(batch.rows_K)], batch.rows_K, separable):
            size = batch.rows_K[members[0]]
            chosen, clips = _select(output, batch, members, size)
            mean = loss(chosen, clips, self._clients[members[0]])
            total = total + len(members) * mean
            if len(members) == 1:
                self._losses_K[members] += size * mean.detach()
            else:  # clones, because a GPU's next batch overwrites these
                copied = Output(chosen.logits_BC.detach().clone(), chosen.features_BH.detach().clone())
                self._shared.append(_SharedLoss(members, size, copied, clips))
        self._net.backward(total, len(batch.rows_K))

    @torch.no_grad()
    def _add_shared_losses(self, loss: ClientLoss) -> None:
        """Each client's own loss instead of the shared mean, so that a NaN stays with the client that diverged."""
        for i, client in enumerate(self._clients):
            shares = [shared.of(i) for shared in self._shared if i in shared.members]
            if shares:
                logits_BC = torch.cat([output.logits_BC for output, _ in shares])
                features_BH = torch.cat([output.features_BH for output, _ in shares])
                labels_B = torch.cat([clips.labels_B for _, clips in shares])
                indices_B = np.concatenate([clips.indices_B for _, clips in shares])
                clips = Batch(None, None, None, None, labels_B, indices_B)
                self._losses_K[i] += len(indices_B) * loss(Output(logits_BC, features_BH), clips, client)

    @torch.no_grad()
    def _move(self, active: int) -> None:
        params, grads = self._params[:active], self._grads[:active]
        if self._local.prox_mu:
            grads.add_(params - self._start[:active], alpha=self._local.prox_mu)
        for control, row in zip(self._controls[:active], grads, strict=False):
            control.correct(row)
        self._optimizer.step(params, grads)

    def _updates(self) -> list[ClientUpdate]:
        """The clients' updates, in the order in which the clients were given."""
        weights_K1 = torch.tensor([[float(client.num_clips)] for client in self._clients], device=self._params.device)
        deltas_KP = ((self._params - self._start) * weights_K1).cpu().numpy()
        losses_K, slices, name = self._losses_K.tolist(), self._net.slices, self._net.name
        updates: dict[int, ClientUpdate] = {}
        for i, original in enumerate(self._order):
            weights = dict.fromkeys(slices, float(self._clients[i].num_clips))
            seen = float(sum(map(len, self._batches[i])))
            sums = {part: deltas_KP[i, where] for part, where in slices.items()}
            update = ClientUpdate(weights, sums, {f"{name}_loss": losses_K[i], f"{name}_seen": seen})
            updates[original] = update + self._controls[i].update() if self._controls else update
        return [updates[i] for i in range(len(updates))]


def train_batched(
    name: str,
    model: ModelConfig,
    context: RoundContext,
    clients: Sequence[ClientData],
    local: LocalConfig,
    loss: ClientLoss,
    separable: bool,
    stream: str,
    precision: Precision = "float32",
) -> list[ClientUpdate]:
    """The update of each client, in their order, from training one network on them together.

    The arguments are those of `BatchedLocalTrainer` and of its `train`.
    """

    def train(stack: Sequence[ClientData]) -> list[ClientUpdate]:
        return BatchedLocalTrainer(name, model, context, stack, local, stream, precision).train(loss, separable)

    stacks = _stacks(name, model, context, clients, local)
    return [update for stack in stacks for update in in_smaller_stacks(train, stack, _release_memory)]


def in_smaller_stacks(train: Train, clients: Sequence[ClientData], release: Callable[[], object]) -> list[ClientUpdate]:
    """The update of each client, in their order, from one stack, or from its halves (and so on) if memory does not suffice.

    A stack is tried a second time after `release`, since most of a GPU's memory may be what earlier chunks left in caches; then
    its bits are the same. A client's update from a smaller stack is the same up to the order in which floats are summed.

    Args:
        train: Trains some clients together; without a trace if it fails.
        clients: The stack.
        release: Gives back the memory that only saves time.

    Raises:
        torch.OutOfMemoryError: One client alone does not fit.

    """
    for _ in range(2):
        try:
            return train(clients)
        except torch.OutOfMemoryError as error:
            failure = error.with_traceback(None)  # its frames hold the tensors of the failed step
        release()
    if len(clients) == 1:
        raise failure
    half = -(-len(clients) // 2)
    halves = [in_smaller_stacks(train, some, release) for some in (clients[:half], clients[half:])]
    return [replace(update, metrics={**update.metrics, OUT_OF_MEMORY: 1.0}) for updates in halves for update in updates]


def does_not_fit(error: torch.OutOfMemoryError) -> EnvironmentFailure:
    """One client alone does not fit into the memory that is free on a GPU."""
    remedy = "a smaller local.batch_size of its phase, or fewer client actors per GPU (a larger --clients.num_gpus)"
    return EnvironmentFailure(f"the GPU has no memory left for a single client ({in_one_line(error)[:200]}); use {remedy}")


def _release_memory() -> None:
    """Give back the resident stacks, whose graphs hold a step's activations each, and the allocator's free blocks."""
    _resident.cache_clear()
    gc.collect()  # a failed step's tensors may lie in cycles of its autograd graph
    torch.cuda.empty_cache()


def _stacks(
    name: str, model: ModelConfig, context: RoundContext, clients: Sequence[ClientData], local: LocalConfig
) -> Iterator[Sequence[ClientData]]:
    """The clients in their order, cut into stacks whose batches fit the caches and whose copies fit the memory."""
    table, values = context.table, 1
    modality = READS[name][0]
    lengths = {"audio": table.audio_lengths, "video": table.video_lengths}[modality]
    for client in clients:
        values = max(values, int(lengths(client.indices).max()) * min(client.num_clips, local.batch_size))
    width = context.shapes.features(modality)
    parameters = sum(part_size(part, model, context.shapes) for part in PARTS[name])
    size = max(1, min(STACK_VALUES[context.device] // (values * width), STACK_PARAMETERS // parameters, MOST_CLIENTS))
    for start in range(0, len(clients), size):
        yield clients[start : start + size]


def _alike(clients: Sequence[ClientData], rows_K: Sequence[int], separable: bool) -> list[list[int]]:
    """Positions of the clients whose losses are taken at once: equal batch sizes and modalities."""
    groups: dict[object, list[int]] = {}
    for i, (client, rows) in enumerate(zip(clients, rows_K, strict=True)):
        # With unlabelled clips, a client's loss is a mean over fewer clips than its batch has, so the shared loss is not the
        # mean of the clients' losses.
        groups.setdefault((rows, client.modalities) if separable and client.is_labelled else i, []).append(i)
    return list(groups.values())


def _select(output: Output, batch: StackedBatch, members: list[int], size: int) -> tuple[Output, Batch]:
    """The outputs and clips of some clients, one after the other."""
    every = len(members) == len(batch.rows_K)
    logits, features, labels = (
        (values if every else values[members])[:, :size].flatten(0, 1)
        for values in (output.logits_BC, output.features_BH, batch.labels_KB)
    )
    indices = batch.indices_KB[members, :size].ravel()
    return Output(logits, features), Batch(None, None, None, None, labels, indices)


@lru_cache(maxsize=4)
def _resident(
    name: str, model: ModelConfig, shapes: Shapes, num_clients: int, device: str, precision: Precision
) -> StackedNetwork:
    """The resident stack. Each precision has its own, since a GPU replays passes as they were first run."""
    return StackedNetwork(name, model, shapes, num_clients, device)
