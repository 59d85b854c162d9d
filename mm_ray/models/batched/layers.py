"""The layers of `mm_ray.models.layers` for K clients with weights of their own: one call does the work of K.

Convolutions are grouped, products are batched, so that on a CPU the overhead of an operation is paid once for K clients, and on
a GPU K small products fill the card. Weights are the stacked tensors of torch's own modules.

Shapes: K clients, B batch, T steps, F inputs, C channels or classes, H hidden, A attention heads, Z any size. Convolutions have
the clients innermost but one (B, T, K, F), so that they are the groups of one convolution in channels-last order, which oneDNN
runs fastest; recurrent layers have the steps outermost (T, K, B, H).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


class StackedSequence(NamedTuple):
    """An encoded modality and which of its steps are real."""

    values_TKBH: Tensor
    mask_TKB: Tensor


def conv5(x_BTKF: Tensor, weight_KCF5: Tensor, bias_KC: Tensor) -> Tensor:
    """Conv1d(k=5, padding=2) along T of each client with its own weights: (B, T, K, C)."""
    batch, steps, clients, inputs = x_BTKF.shape
    channels = weight_KCF5.shape[1]
    image = x_BTKF.view(batch, 1, steps, clients * inputs).permute(0, 3, 1, 2)
    weight = weight_KCF5.transpose(2, 3).reshape(clients * channels, 1, 5, inputs).permute(0, 3, 1, 2)
    result = functional.conv2d(image, weight, bias_KC.flatten(), padding=(0, 2), groups=clients)
    return result.permute(0, 2, 3, 1).reshape(batch, steps, clients, channels)


def relu_pool_dropout(x_BTKC: Tensor, real_BTK1: Tensor | None, kept_BPKC: Tensor | None) -> Tensor:
    """ReLU, masking, MaxPool(2, ceil) and dropout in one: (B, ceil(T/2), K, C).

    Args:
        x_BTKC: Output of a convolution.
        real_BTK1: 1.0 where a step lies within the clip, else 0; None: everywhere.
        kept_BPKC: Dropout's factors for the result; None: no dropout.

    """
    pooled: Tensor = _ReluPoolDropout.apply(x_BTKC, real_BTK1, kept_BPKC)
    return pooled


class _ReluPoolDropout(torch.autograd.Function):
    """Twice as fast as max_pool1d with its indices, which are not vectorised; ReLU after the maximum is ReLU before it."""

    @staticmethod
    def forward(ctx: Any, x_BTKC: Tensor, real_BTK1: Tensor | None, kept_BPKC: Tensor | None) -> Tensor:
        if real_BTK1 is not None:
            x_BTKC = x_BTKC * real_BTK1.to(x_BTKC.dtype)
        first, second = x_BTKC[:, ::2], x_BTKC[:, 1::2]
        pooled = first.clone()
        paired = pooled[:, : second.shape[1]]  # a last odd step is pooled with nothing
        torch.maximum(paired, second, out=paired)
        pooled.clamp_min_(0)
        ctx.save_for_backward(first >= pooled, pooled > 0, kept_BPKC)
        ctx.shape = x_BTKC.shape
        return pooled if kept_BPKC is None else pooled.mul_(kept_BPKC)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_BPKC: Tensor) -> tuple[Tensor | None, ...]:
        is_first, is_positive, kept_BPKC = ctx.saved_tensors
        d_BPKC = d_BPKC * is_positive  # nothing flows to a masked step, which is zero
        if kept_BPKC is not None:
            d_BPKC.mul_(kept_BPKC)
        dx_BTKC = d_BPKC.new_empty(ctx.shape)
        first, second = dx_BTKC[:, ::2], dx_BTKC[:, 1::2]
        torch.mul(d_BPKC, is_first, out=first)
        pairs = second.shape[1]
        torch.sub(d_BPKC[:, :pairs], first[:, :pairs], out=second)
        return dx_BTKC, None, None


def linear(x_KXF: Tensor, weight_KZF: Tensor, bias_KZ: Tensor) -> Tensor:
    """A linear layer of each client: (K, X, Z)."""
    return torch.baddbmm(bias_KZ[:, None], x_KXF, weight_KZF.transpose(1, 2)).float()


def mean_pool(sequence: StackedSequence) -> Tensor:
    """The mean over a clip's real steps: (K, B, H)."""
    total_KBH = (sequence.values_TKBH * sequence.mask_TKB[..., None]).sum(0)
    return total_KBH / sequence.mask_TKB.sum(0)[..., None]


def attention_pool(sequence: StackedSequence, hidden: tuple[Tensor, Tensor], scores: tuple[Tensor, Tensor]) -> Tensor:
    """Weighted sums over a clip's real steps, one per head: (K, B, A*H).

    Args:
        sequence: What is pooled.
        hidden: Weight and bias of the hidden layer.
        scores: Weight and bias of the scores.

    """
    steps, clients, batch, _ = sequence.values_TKBH.shape
    rows_KXH = sequence.values_TKBH.transpose(0, 1).flatten(1, 2)
    scores_KXA = linear(torch.tanh(linear(rows_KXH, *hidden)), *scores)
    scores_KTBA = scores_KXA.view(clients, steps, batch, -1)
    scores_KTBA = scores_KTBA.masked_fill(sequence.mask_TKB.transpose(0, 1)[..., None] == 0, -torch.inf)
    shares_KBAT = scores_KTBA.softmax(1).permute(0, 2, 3, 1)
    pooled_KBAH = (shares_KBAT @ sequence.values_TKBH.permute(1, 2, 0, 3)).float()
    return pooled_KBAH.flatten(2)
