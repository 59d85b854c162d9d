"""K copies of a network that are trained together, each on its own batch: the clients of a chunk.

The copies' parameters are the rows of one tensor (K, P), each row a flat vector as in `mm_ray.models.flat_params`. What a copy
computes is what the plain network computes, up to the order in which floats are summed.

Shapes: K clients, P parameters, B batch, T audio frames, F audio bins, S video frames, D video features, H hidden, C classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mm_ray.config import ModelConfig
from mm_ray.models.batched.gru import GRUWeights, stacked_gru
from mm_ray.models.batched.layers import StackedSequence, attention_pool, conv5, linear, mean_pool, relu_pool_dropout
from mm_ray.models.cuda_graphs import Graphs, Named
from mm_ray.models.dropout import StackedDropout
from mm_ray.models.flat_params import FlatVectors, as_tensor, part_slices
from mm_ray.models.layers import Output
from mm_ray.models.network import PARTS, READS, Network, part_of
from mm_ray.types import Arrays, Shapes, StackedBatch


class Weights(NamedTuple):
    """The parameters of some of the copies by name (`audio.encoder.gru.weight_ih_l0`), as views."""

    by_name: Named

    def of(self, module: str) -> tuple[Tensor, Tensor]:
        """Weight and bias of a module."""
        return self.by_name[f"{module}.weight"], self.by_name[f"{module}.bias"]

    def gru(self, part: str) -> GRUWeights:
        """The weights of a part's GRU."""
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        return GRUWeights(*(self.by_name[f"{part}.gru.{name}"] for name in names))


class Views(NamedTuple):
    """The parameters of some of the copies by name, and where their gradients go."""

    by_name: Named
    grads: list[Tensor]


class StackedNetwork:
    """K copies of one of the three networks."""

    def __init__(self, name: str, model: ModelConfig, shapes: Shapes, num_clients: int, device: str) -> None:
        with torch.device("meta"):
            network = Network(name, model, shapes)
        self.name, self.model = name, model
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
        for modality in READS[self.name]:
            given |= (self._audio if modality == "audio" else self._video)(batch, dropout)
        kept_KB1H = dropout.mask([1] * len(batch.rows_K), (max(batch.rows_K), 1, self.model.classifier_hidden))
        given["head_kept_KBH"] = None if kept_KB1H is None else kept_KB1H[:, :, 0]
        return {name: values for name, values in given.items() if values is not None}

    def _audio(self, batch: StackedBatch, dropout: StackedDropout) -> dict[str, Tensor | None]:
        x_BTKF, lengths_KB = batch.audio_BTKF, batch.audio_lengths_KB
        assert x_BTKF is not None
        assert lengths_KB is not None
        given: dict[str, Tensor | None] = {"audio_BTKF": x_BTKF}
        steps, steps_K = x_BTKF.shape[1], _longest(lengths_KB, batch.rows_K)
        for index, channels in enumerate(self.model.conv_channels):
            given[f"real_BTK1.{index}"] = _real(lengths_KB, steps, x_BTKF.device)
            lengths_KB, steps, steps_K = (lengths_KB + 1) // 2, (steps + 1) // 2, [(own + 1) // 2 for own in steps_K]
            kept_KBPC = dropout.mask(steps_K, (len(x_BTKF), steps, channels))
            given[f"kept_BPKC.{index}"] = None if kept_KBPC is None else kept_KBPC.permute(1, 2, 0, 3)
        return given | {"audio_mask_TKB": _mask(lengths_KB, steps, x_BTKF.device)}

    def _video(self, batch: StackedBatch, dropout: StackedDropout) -> dict[str, Tensor | None]:
        x_KSBD, lengths_KB = batch.video_KSBD, batch.video_lengths_KB
        assert x_KSBD is not None
        assert lengths_KB is not None
        _, steps, rows, features = x_KSBD.shape
        kept_KBSD = dropout.mask(_longest(lengths_KB, batch.rows_K), (rows, steps, features))
        x_KSBD = x_KSBD if kept_KBSD is None else x_KSBD * kept_KBSD.transpose(1, 2)
        return {"video_KSBD": x_KSBD.contiguous(), "video_mask_TKB": _mask(lengths_KB, steps, x_KSBD.device)}

    def _output(self, by_name: Named, given: Named) -> Output:
        """A pure function of tensors, so that a GPU can replay it."""
        weights = Weights(by_name)
        sequences = [
            _encoded_audio(weights, given, len(self.model.conv_channels))
            if modality == "audio"
            else _encoded_video(weights, given)
            for modality in READS[self.name]
        ]
        joined = StackedSequence(*(torch.cat(pieces) for pieces in zip(*sequences, strict=True)))
        return _head(PARTS[self.name][-1], weights, joined, given.get("head_kept_KBH"))


def _encoded_audio(weights: Weights, given: Named, num_convs: int) -> StackedSequence:
    x_BTKF = given["audio_BTKF"]
    for index in range(num_convs):
        x_BTKC = conv5(x_BTKF, *weights.of(f"audio.encoder.convs.{index}"))
        x_BTKF = relu_pool_dropout(x_BTKC, given.get(f"real_BTK1.{index}"), given.get(f"kept_BPKC.{index}"))
    values_TKBH = stacked_gru(x_BTKF.permute(2, 1, 0, 3).contiguous(), weights.gru("audio.encoder"))
    return StackedSequence(values_TKBH, given["audio_mask_TKB"])


def _encoded_video(weights: Weights, given: Named) -> StackedSequence:
    return StackedSequence(stacked_gru(given["video_KSBD"], weights.gru("video.encoder")), given["video_mask_TKB"])


def _head(part: str, weights: Weights, sequence: StackedSequence, kept_KBH: Tensor | None) -> Output:
    if f"{part}.pool.scores.weight" in weights.by_name:
        pooled_KBH = attention_pool(sequence, weights.of(f"{part}.pool.hidden_layer"), weights.of(f"{part}.pool.scores"))
    else:
        pooled_KBH = mean_pool(sequence)
    hidden_KBH = torch.relu(linear(pooled_KBH, *weights.of(f"{part}.hidden_layer")))
    hidden_KBH = hidden_KBH if kept_KBH is None else hidden_KBH * kept_KBH
    return Output(linear(hidden_KBH, *weights.of(f"{part}.classes")), pooled_KBH)


def _longest(lengths_KB: np.ndarray, rows_K: Sequence[int]) -> list[int]:
    """Steps of each client's own batch, as it would be padded without the others."""
    return [int(lengths[:rows].max()) for lengths, rows in zip(lengths_KB, rows_K, strict=True)]


def _mask(lengths_KB: np.ndarray, steps: int, device: torch.device) -> Tensor:
    """(T, K, B), 1.0 where a step is real."""
    return torch.from_numpy((np.arange(steps)[:, None, None] < lengths_KB).astype(np.float32)).to(device)


def _real(lengths_KB: np.ndarray, steps: int, device: torch.device) -> Tensor | None:
    """(B, T, K, 1), 1.0 where a step is real; None if all are."""
    return None if lengths_KB.min() >= steps else _mask(lengths_KB, steps, device).permute(2, 0, 1)[..., None]
