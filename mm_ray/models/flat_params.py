"""A network whose parameters are views of one flat buffer, and its gradients of another.

Federated learning copies parameters in, trains, and takes a difference out; on flat vectors each of these is one operation.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from mm_ray.config import ModelConfig
from mm_ray.models.network import PARTS, Network, part_of
from mm_ray.types import Arrays, Shapes

# cuDNN copies a GRU's weights at each call, since they lie in a flat vector with all others: that is meant, and cheap.
warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")


@dataclass(eq=False)
class FlatVectors:
    """A network's parameters and gradients as flat vectors, and where its parts lie in them."""

    params: torch.Tensor
    grads: torch.Tensor
    slices: Mapping[str, slice]

    def load(self, params: Arrays) -> None:
        """Copy the network's parts in, each a flat float32 vector."""
        for part, where in self.slices.items():
            self.params[where].copy_(as_tensor(params[part]))

    def parts(self, flat: torch.Tensor) -> dict[str, np.ndarray]:
        """A flat vector of the whole network, cut into its parts (copies)."""
        return {part: flat[where].cpu().numpy().copy() for part, where in self.slices.items()}


class FlatNetwork(FlatVectors):
    """A resident network that is loaded with parameters, used, and loaded again."""

    def __init__(self, name: str, model: ModelConfig, shapes: Shapes, device: str) -> None:
        with torch.device("meta"):
            self.network = Network(name, model, shapes)
        slices = part_slices(self.network)
        size = max(where.stop for where in slices.values())
        super().__init__(torch.zeros(size, device=device), torch.zeros(size, device=device), slices)
        _bind(self.network, self.params, self.grads)


@lru_cache(maxsize=16)
def flat_network(name: str, model: ModelConfig, shapes: Shapes, device: str = "cpu") -> FlatNetwork:
    """This process's resident network of that name and size."""
    return FlatNetwork(name, model, shapes, device)


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """The array as a tensor to read from; one that lies read-only in an object store is not copied."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that nobody may write to it, which nobody does
        return torch.from_numpy(array)


def part_slices(network: Network) -> dict[str, slice]:
    """Where each part of a network lies in its flat vector."""
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
        for name, buffer in list(module.named_buffers(recurse=False)):  # constants of an own encoder
            setattr(module, name, buffer.to(params.device))
        if isinstance(module, torch.nn.RNNBase):
            # On a GPU torch moves a GRU's weights into a buffer of its own; they must stay views of ours, which is loaded.
            module.flatten_parameters = _nothing  # type: ignore[method-assign]
            module._init_flat_weights()


def _nothing() -> None:
    pass


def named_tensors(name: str, params: Arrays, model: ModelConfig, shapes: Shapes) -> dict[str, torch.Tensor]:
    """A network's parameters under the names of its modules, e.g. `audio.encoder.gru.weight_ih_l0` (for files)."""
    flat = FlatNetwork(name, model, shapes, "cpu")
    flat.load(params)
    return {
        f"{part}.{tensor_name}": tensor.detach().clone()
        for part in PARTS[name]
        for tensor_name, tensor in part_of(flat.network, part).named_parameters()
    }
