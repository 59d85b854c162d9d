"""A client's optimiser: SGD or Adam on flat vectors, and SCAFFOLD's correction of the gradients.

No `torch.optim`: constructing one of its optimisers costs a second and 70 MB in every process, and a few lines on a flat
vector are fewer kernels than its loop over tensors.

SCAFFOLD (Karimireddy et al., ICML 2020, arXiv 1910.06378) counters client drift: every local gradient is corrected by c - c_i.
The server sends c with the parts, as `Key("control", PART)`, and receives the change of c with theirs. A client's c_i stays
with the client (`ServerState.clients`) and is zero until the client first takes part. It becomes the mean gradient of the
client's local steps. For plain SGD this is the paper's option II; it is also defined with momentum and clipping, which the
paper does not have (our choice). The parts themselves are averaged weighted by clips, as everywhere here; the paper's mean is
unweighted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mm_ray.config import LocalConfig
from mm_ray.models.flat_params import FlatVectors
from mm_ray.types import Arrays, ClientData, ClientUpdate, Key, RoundContext

ADAM_BETA2, ADAM_EPSILON = 0.999, 1e-8
CONTROL = "control"


class LocalOptimizer:
    """SGD with momentum, or Adam, for a vector (P) or each row of (K, P); fresh in every round.

    Args:
        params: Gives the shape and the device.
        local: Which optimiser, and its settings.
        round_number: The round, from 1; during `local.warmup_rounds` the learning rate rises.

    """

    def __init__(self, params: Tensor, local: LocalConfig, round_number: int) -> None:
        self._local, self._steps = local, 0
        self._lr = local.lr * min(1.0, round_number / local.warmup_rounds) if local.warmup_rounds else local.lr
        self._first = torch.zeros_like(params)
        self._second = torch.zeros_like(params) if local.optimizer == "adam" else None

    def step(self, params: Tensor, grads: Tensor) -> None:
        """Clip, decay, accumulate, move, all in place; gradients are zero afterwards.

        It may be given only the first of its rows, once the clients of the other rows have ended.
        """
        local, first = self._local, self._first[: len(params)]
        self._steps += 1
        if local.clip_norm:
            norm = torch.linalg.vector_norm(grads, dim=-1, keepdim=True)
            grads.mul_((local.clip_norm / (norm + 1e-6)).clamp(max=1.0))
        grads.add_(params, alpha=local.weight_decay)
        if self._second is None:
            torch.add(grads, first, alpha=local.momentum, out=first)
            params.add_(first, alpha=-self._lr)
        else:
            second = self._second[: len(params)]
            first.mul_(local.momentum).add_(grads, alpha=1 - local.momentum)
            second.mul_(ADAM_BETA2).addcmul_(grads, grads, value=1 - ADAM_BETA2)
            root = (second / (1 - ADAM_BETA2**self._steps)).sqrt_().add_(ADAM_EPSILON)
            params.addcdiv_(first, root, value=-self._lr / (1 - local.momentum**self._steps))
        grads.zero_()


class ControlVariate:
    """Corrects one client's gradients in one round, and sums them up."""

    def __init__(self, net: FlatVectors, context: RoundContext, client: ClientData) -> None:
        self._net, self._id = net, client.id
        self._client = self._gather(context.own(client))
        self._correction = self._gather(context.params) - self._client
        self._sum, self._steps = torch.zeros_like(net.grads), 0

    def _gather(self, arrays: Arrays) -> Tensor:
        flat = torch.zeros_like(self._net.params)
        for part, where in self._net.slices.items():
            if (name := Key(CONTROL, part)) in arrays:
                flat[where] = torch.from_numpy(arrays[name].copy())
        return flat

    def correct(self, grads: Tensor) -> None:
        """Note the gradient of a step and correct it, in place."""
        self._sum += grads
        self._steps += 1
        grads += self._correction

    def update(self) -> ClientUpdate:
        """The client's new c_i, and its change as a sum over clients."""
        mean = self._sum / self._steps
        changed = {Key(CONTROL, part): array for part, array in self._net.parts(mean - self._client).items()}
        kept = {Key(CONTROL, part): array for part, array in self._net.parts(mean).items()}
        return ClientUpdate({}, changed, {}, kept={self._id: kept})


def control_variates(parts: Arrays) -> dict[Key, np.ndarray]:
    """The server's c before round 1: zero."""
    return {Key(CONTROL, part): np.zeros_like(array) for part, array in parts.items()}


def moved_controls(params: Arrays, total: ClientUpdate, holders: Mapping[str, Any]) -> dict[Key, np.ndarray]:
    """c plus the sum of the clients' changes, divided by the number of all clients (in the round or not) that hold the part."""
    changed = [name for name in total.sums if isinstance(name, Key) and name.kind == CONTROL]
    return {name: params[name] + total.sums[name] / np.float32(holders[name.of]) for name in changed}
