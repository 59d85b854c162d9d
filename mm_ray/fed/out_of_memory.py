"""Out of memory on a GPU: a stack of clients is trained in smaller stacks, one after the other, instead of ending the run."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from mm_ray.errors import EnvironmentFailure, in_one_line
from mm_ray.types import ClientData, ClientUpdate

OUT_OF_MEMORY = "out_of_memory"
"""The metric of a round that counts the clients which were trained in a smaller stack than usual; absent if there are none."""
Train = Callable[[Sequence[ClientData]], list[ClientUpdate]]


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
