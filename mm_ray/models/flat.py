"""A network whose parameters are views of one flat buffer, and its gradients of another.

Federated learning copies parameters in, trains, and takes a difference out; on flat vectors each of these is one operation.
"""

from functools import lru_cache

import numpy as np
import torch

from mm_ray.config import ModelConfig
from mm_ray.models.network import PARTS, Network, part_of
from mm_ray.types import Arrays, Shapes


class FlatNetwork:
    """A resident network that is loaded with parameters, used, and loaded again."""

    def __init__(self, name: str, model: ModelConfig, shapes: Shapes, device: str) -> None:
        with torch.device("meta"):
            self.network = Network(name, model, shapes)
        self.slices = _slices(self.network)
        size = max(s.stop for s in self.slices.values())
        self.params = torch.zeros(size, device=device)
        self.grads = torch.zeros(size, device=device)
        _bind(self.network, self.params, self.grads)

    def load(self, params: Arrays) -> None:
        """Copy the network's parts in, each a flat float32 vector."""
        for part, where in self.slices.items():
            # as_tensor warns on the read-only arrays of an object store, and does not write to them.
            self.params[where].copy_(torch.from_numpy(np.require(params[part], requirements=["W", "A"])))

    def parts(self, flat: torch.Tensor) -> dict[str, np.ndarray]:
        """A flat vector of the whole network, cut into its parts (copies)."""
        return {part: flat[where].cpu().numpy().copy() for part, where in self.slices.items()}


@lru_cache(maxsize=16)
def flat_network(name: str, model: ModelConfig, shapes: Shapes, device: str = "cpu") -> FlatNetwork:
    """This process's resident network of that name and size."""
    return FlatNetwork(name, model, shapes, device)


def _slices(network: Network) -> dict[str, slice]:
    slices, start = {}, 0
    for part in PARTS[network.name]:
        stop = start + sum(p.numel() for p in part_of(network, part).parameters())
        slices[part] = slice(start, stop)
        start = stop
    return slices


def _bind(network: Network, params: torch.Tensor, grads: torch.Tensor) -> None:
    start = 0
    for module in network.modules():
        for name, tensor in list(module.named_parameters(recurse=False)):
            stop = start + tensor.numel()
            view = torch.nn.Parameter(params[start:stop].view(tensor.shape))
            view.grad = grads[start:stop].view(tensor.shape)
            setattr(module, name, view)
            start = stop
    for module in network.modules():
        if isinstance(module, torch.nn.GRU):
            module._init_flat_weights()


def named_tensors(name: str, params: Arrays, model: ModelConfig, shapes: Shapes) -> dict[str, torch.Tensor]:
    """A network's parameters under the names of its modules, e.g. `audio.encoder.gru.weight_ih_l0` (for files)."""
    flat = FlatNetwork(name, model, shapes, "cpu")
    flat.load(params)
    return {
        f"{part}.{tensor_name}": tensor.detach().clone()
        for part in PARTS[name]
        for tensor_name, tensor in part_of(flat.network, part).named_parameters()
    }
