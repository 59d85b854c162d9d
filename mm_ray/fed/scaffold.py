"""SCAFFOLD: control variates against client drift (Karimireddy et al., ICML 2020, arXiv 1910.06378).

Every local gradient is corrected by c - c_i. The server's c lies in its state as `control/PART`, goes down with the parts and
its change comes up with them. A client's c_i lies there as `client/ID/control/PART`, because a client of the simulation
remembers nothing; in a federation it stays with the client, and it is zero until the client has taken part.

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

from mm_ray.models.flat import FlatVectors
from mm_ray.types import Arrays, ClientData, ClientUpdate, RoundContext

CONTROL = "control/"


class ControlVariate:
    """Corrects one client's gradients in one round, and sums them up."""

    def __init__(self, net: FlatVectors, context: RoundContext, client: ClientData) -> None:
        self._net, self._own = net, f"client/{client.id}/"
        self._client = self._gather(context.params, self._own)
        self._correction = self._gather(context.params, "") - self._client
        self._sum, self._steps = torch.zeros_like(net.grads), 0

    def _gather(self, params: Arrays, prefix: str) -> Tensor:
        flat = torch.zeros_like(self._net.params)
        for part, where in self._net.slices.items():
            if (name := f"{prefix}{CONTROL}{part}") in params:
                flat[where] = torch.from_numpy(params[name].copy())
        return flat

    def correct(self, grads: Tensor) -> None:
        """Note the gradient of a step and correct it, in place."""
        self._sum += grads
        self._steps += 1
        grads += self._correction

    def update(self) -> ClientUpdate:
        """The client's new c_i, and its change as a sum over clients."""
        mean = self._sum / self._steps
        changed = {CONTROL + part: array for part, array in self._net.parts(mean - self._client).items()}
        kept = {f"{self._own}{CONTROL}{part}": array for part, array in self._net.parts(mean).items()}
        return ClientUpdate({}, changed | kept, {})


def control_variates(parts: Arrays) -> dict[str, np.ndarray]:
    """The server's c before round 1: zero."""
    return {CONTROL + part: np.zeros_like(array) for part, array in parts.items()}


def moved_controls(tensors: Arrays, total: ClientUpdate, holders: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """c plus the sum of the clients' changes over the number of all clients that hold the part, in the round or not."""
    changed = [name for name in total.sums if name.startswith(CONTROL)]
    return {name: tensors[name] + total.sums[name] / np.float32(holders[name.removeprefix(CONTROL)]) for name in changed}
