"""K copies of a network that are trained together, each on its own batch: the clients of a chunk.

The copies' parameters are the rows of one tensor (K, P), each row a flat vector as in `mm_ray.models.flat_params`. What a copy
computes is what the plain network computes, up to the order in which floats are summed.

Shapes: K clients, P parameters, B batch, T steps, H hidden, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mm_ray.config import ModelConfig
from mm_ray.models.batched.encoder import ClientFrames, Weights, find_batched
from mm_ray.models.batched.layers import StackedSequence, attention_pool, linear, mean_pool
from mm_ray.models.cuda_graphs import Graphs, Named
from mm_ray.models.dropout import StackedDropout
from mm_ray.models.flat_params import FlatVectors, as_tensor, part_slices
from mm_ray.models.layers import Output
from mm_ray.models.network import PARTS, READS, Network, part_of
from mm_ray.types import Arrays, Shapes, StackedBatch


class Views(NamedTuple):
    """The parameters of some of the copies by name, and where their gradients go."""

    by_name: Named
    grads: list[Tensor]


class StackedNetwork:
    """K copies of a network with one classifier, whose encoders have a form for several clients."""

    def __init__(self, name: str, model: ModelConfig, shapes: Shapes, num_clients: int, device: str) -> None:
        with torch.device("meta"):
            network = Network(name, model, shapes)
        self.name, self.model = name, model
        self._encoders = {modality: find_batched(model.encoder(modality)) for modality in READS[name]}
        self.slices = part_slices(network)
        tensors = [(f"{part}.{n}", t.shape) for part in PARTS[name] for n, t in part_of(network, part).named_parameters()]
        self._shapes = dict(tensors)
        size = max(where.stop for where in self.slices.values())
        self.params = torch.zeros(num_clients, size, device=device)
        self.grads = torch.zeros(num_clients, size, device=device)
        self._views_of: dict[int, Views] = {}
        self._pass = Graphs(self._output)

    def load(self, params: Arrays) -> None:
        """Copy the network's parts into every copy, each part a flat float32 vector."""
        for part, where in self.slices.items():
            self.params[:, where] = as_tensor(params[part]).to(self.params.device)

    def copy(self, index: int) -> FlatVectors:
        """One of the copies."""
        return FlatVectors(self.params[index], self.grads[index], self.slices)

    def first(self, count: int) -> Views:
        """Parameters and gradients of the first `count` copies."""
        if count not in self._views_of:
            params, grads = self._views(self.params[:count]), self._views(self.grads[:count])
            self._views_of[count] = Views({n: view.requires_grad_() for n, view in params.items()}, list(grads.values()))
        return self._views_of[count]

    def _views(self, flat_KP: Tensor) -> dict[str, Tensor]:
        pieces = flat_KP.split([shape.numel() for shape in self._shapes.values()], 1)
        return {name: piece.unflatten(1, shape) for (name, shape), piece in zip(self._shapes.items(), pieces, strict=True)}

    def backward(self, loss: Tensor, count: int) -> None:
        """Put the gradients of the first `count` copies into their rows of `grads`."""
        views = self.first(count)
        gradients = torch.autograd.grad(loss, list(views.by_name.values()))
        torch._foreach_copy_(views.grads, list(gradients))

    def forward(self, batch: StackedBatch, dropout: StackedDropout) -> Output:
        """Logits (K, B, C) and pooled features (K, B, H) of the first K copies in training mode."""
        return self._pass.run(self.first(len(batch.rows_K)).by_name, self._given(batch, dropout))

    def _given(self, batch: StackedBatch, dropout: StackedDropout) -> dict[str, Tensor]:
        """All that the copies compute with besides their weights; masks are drawn in the order in which they are used."""
        given: dict[str, Tensor | None] = {}
        for modality, encoder in self._encoders.items():
            inputs = encoder.inputs(ClientFrames(*batch.of(modality), batch.rows_K), self.model, dropout)
            given |= {f"{modality}.{name}": values for name, values in inputs.items()}
        kept_KB1H = dropout.mask([1] * len(batch.rows_K), (max(batch.rows_K), 1, self.model.classifier_hidden))
        given["head_kept_KBH"] = None if kept_KB1H is None else kept_KB1H[:, :, 0]
        return {name: values for name, values in given.items() if values is not None}

    def _output(self, by_name: Named, given: Named) -> Output:
        """A pure function of tensors, so that a GPU can replay it."""
        weights = Weights(by_name)
        sequences = [
            encoder.encode(weights.within(f"{modality}.encoder"), _within(given, modality))
            for modality, encoder in self._encoders.items()
        ]
        joined = StackedSequence(*(torch.cat(pieces) for pieces in zip(*sequences, strict=True)))
        return _head(PARTS[self.name][-1], weights, joined, given.get("head_kept_KBH"))


def _within(given: Named, modality: str) -> dict[str, Tensor]:
    """The inputs of a modality's encoder, by its own names."""
    return {name.removeprefix(f"{modality}."): values for name, values in given.items() if name.startswith(f"{modality}.")}


def _head(part: str, weights: Weights, sequence: StackedSequence, kept_KBH: Tensor | None) -> Output:
    if weights.has(f"{part}.pool.scores"):
        pooled_KBH = attention_pool(sequence, weights.of(f"{part}.pool.hidden_layer"), weights.of(f"{part}.pool.scores"))
    else:
        pooled_KBH = mean_pool(sequence)
    hidden_KBH = torch.relu(linear(pooled_KBH, *weights.of(f"{part}.hidden_layer")))
    hidden_KBH = hidden_KBH if kept_KBH is None else hidden_KBH * kept_KBH
    return Output(linear(hidden_KBH, *weights.of(f"{part}.classes")), pooled_KBH)
