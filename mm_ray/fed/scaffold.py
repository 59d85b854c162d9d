"""SCAFFOLD: control variates against client drift (Karimireddy et al., ICML 2020, arXiv 1910.06378).

Every local gradient is corrected by c - c_i. The server's c goes down with the parts, as `Key("control", PART)` beside them,
and its change comes up with them. A client's c_i stays with the client (`ServerState.clients`), and is zero until the client
has taken part.

c_i becomes the mean gradient of the client's local steps. That is the paper's option II where local steps are plain SGD (the
difference of its parameters over steps times learning rate is just that), and it keeps its meaning with momentum and clipping,
which the paper does not have (our choice). The parts themselves are averaged by clips, as everywhere here; the paper's mean
is plain.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mm_ray.models.flat_params import FlatVectors
from mm_ray.types import Arrays, ClientData, ClientUpdate, Key, RoundContext

CONTROL = "control"


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
    """c plus the sum of the clients' changes over the number of all clients that hold the part, in the round or not."""
    changed = [name for name in total.sums if isinstance(name, Key) and name.kind == CONTROL]
    return {name: params[name] + total.sums[name] / np.float32(holders[name.of]) for name in changed}
