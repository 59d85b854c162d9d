"""A GRU over K stacked weights, with its backward pass written out.

`torch.nn.GRU` on a CPU makes a dozen small operations a step, forward and backward, and adds a weight gradient to memory in
each step. Here a step is one batched product and four operations forward, one product and two operations backward; all that
does not wait for the step before (the input's product, the factors of the gates, the weight gradients) is done for all steps
at once.

Shape suffixes: K clients, T steps, B batch, I inputs, H hidden, G = 3H gates in torch's order r, z, n.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mm_ray.models.precision import reduced


class GRUWeights(NamedTuple):
    """torch's parameters of a one-layer GRU, K of them."""

    input_KGI: Tensor
    hidden_KGH: Tensor
    input_bias_KG: Tensor
    hidden_bias_KG: Tensor


def stacked_gru(x_KTBI: Tensor, weights: GRUWeights) -> Tensor:
    """Hidden states (T, K, B, H) of each step, from a zero state: for each client what `torch.nn.GRU` gives."""
    hidden: Tensor = _StackedGRU.apply(reduced(x_KTBI), *weights)
    return hidden


class _StackedGRU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_KTBI: Tensor, *tensors: Tensor) -> Tensor:
        weights = GRUWeights(*tensors)
        gates_TKBG, new_TKBH = _inputs(x_KTBI, weights)
        num_steps, num_clients, batch, hidden = new_TKBH.shape
        h_TKBH = new_TKBH.new_zeros(num_steps + 1, num_clients, batch, hidden)
        hidden_weights_KHG = weights.hidden_KGH.transpose(1, 2)
        for gates, new, h, h_next in zip(gates_TKBG, new_TKBH, h_TKBH[:-1], h_TKBH[1:], strict=True):
            _matmul_add(gates, h, hidden_weights_KHG)
            gates[..., : 2 * hidden].sigmoid_()
            reset, update, candidate = gates.split(hidden, -1)
            new.addcmul_(candidate, reset).tanh_()
            torch.lerp(new, h, update, out=h_next)
        ctx.save_for_backward(x_KTBI, weights.input_KGI, weights.hidden_KGH, gates_TKBG, new_TKBH, h_TKBH)
        return h_TKBH[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout_TKBH: Tensor) -> tuple[Tensor | None, ...]:
        x_KTBI, input_KGI, hidden_KGH, gates_TKBG, new_TKBH, h_TKBH = ctx.saved_tensors
        hidden = new_TKBH.shape[3]
        update_TKBH = gates_TKBG[..., hidden : 2 * hidden].contiguous()
        _to_slopes(gates_TKBG, new_TKBH, h_TKBH[:-1], update_TKBH)
        dh_TKBH = dout_TKBH.contiguous().clone()
        _back_through_time(gates_TKBG, dh_TKBH, update_TKBH, hidden_KGH)
        d_hidden_KXG = _client_major(gates_TKBG)
        d_input_KXG = d_hidden_KXG.clone()
        d_input_KXG[..., 2 * hidden :] = _client_major(new_TKBH.mul_(dh_TKBH))
        sums = d_input_KXG.sum(1), d_hidden_KXG.sum(1)
        kind = x_KTBI.dtype  # of the products for all steps at once; the recurrence is float32
        d_input_KXG, d_hidden_KXG = d_input_KXG.to(kind), d_hidden_KXG.to(kind)
        dx_KTBI = torch.bmm(d_input_KXG, input_KGI.to(kind)).view(x_KTBI.shape) if ctx.needs_input_grad[0] else None
        return (
            dx_KTBI,
            torch.bmm(d_input_KXG.transpose(1, 2), x_KTBI.flatten(1, 2)).float(),
            torch.bmm(d_hidden_KXG.transpose(1, 2), _client_major(h_TKBH[:-1]).to(kind)).float(),
            *sums,
        )


def _inputs(x_KTBI: Tensor, weights: GRUWeights) -> tuple[Tensor, Tensor]:
    """What of the gates does not depend on the steps before: (T, K, B, G) with r, z, and n's recurrent bias; n's input part."""
    num_clients, num_steps, batch, _ = x_KTBI.shape
    hidden = weights.hidden_KGH.shape[2]
    rows_KXG = torch.bmm(x_KTBI.flatten(1, 2), weights.input_KGI.transpose(1, 2)).float()
    rows_TKBG = rows_KXG.view(num_clients, num_steps, batch, 3 * hidden).transpose(0, 1)
    input_bias_KBG, gates_bias_KBG = weights.input_bias_KG[:, None], weights.hidden_bias_KG.clone()[:, None]
    gates_bias_KBG[..., : 2 * hidden] += input_bias_KBG[..., : 2 * hidden]
    gates_TKBG = rows_TKBG.new_empty(rows_TKBG.shape)
    torch.add(rows_TKBG[..., : 2 * hidden], gates_bias_KBG[..., : 2 * hidden], out=gates_TKBG[..., : 2 * hidden])
    gates_TKBG[..., 2 * hidden :] = gates_bias_KBG[..., 2 * hidden :]
    return gates_TKBG, rows_TKBG[..., 2 * hidden :] + input_bias_KBG[..., 2 * hidden :]


def _to_slopes(gates_TKBG: Tensor, new_TKBH: Tensor, h_TKBH: Tensor, update_TKBH: Tensor) -> None:
    """In place: each gate by the slope of the step's result in the gate's sum; `new` by the slope in n's sum."""
    reset, update, candidate = gates_TKBG.split(new_TKBH.shape[3], -1)
    torch.mul((h_TKBH - new_TKBH).mul_(update_TKBH), 1 - update_TKBH, out=update)
    new_TKBH.square_().neg_().add_(1).mul_(1 - update_TKBH)
    slope_candidate = new_TKBH * reset
    reset.mul_(reset.neg().add_(1).mul_(candidate)).mul_(new_TKBH)
    candidate.copy_(slope_candidate)


def _back_through_time(slopes_TKBG: Tensor, dh_TKBH: Tensor, update_TKBH: Tensor, hidden_KGH: Tensor) -> None:
    """In place: `dh` by the whole gradient of each hidden state, slopes by the gradients of the gates' sums."""
    last = len(dh_TKBH) - 1
    for step in range(last, -1, -1):
        dh, slopes = dh_TKBH[step], slopes_TKBG[step]
        slopes.unflatten(-1, (3, -1)).mul_(dh.unsqueeze(-2))
        if step:
            before = dh_TKBH[step - 1].addcmul_(dh, update_TKBH[step])
            _matmul_add(before, slopes, hidden_KGH)


def _matmul_add(total_KBZ: Tensor, a_KBX: Tensor, b_KXZ: Tensor) -> None:
    """total += a @ b for each client."""
    torch.baddbmm(total_KBZ, a_KBX, b_KXZ, out=total_KBZ)


def _client_major(values_TKBZ: Tensor) -> Tensor:
    """(K, T * B, Z), contiguous."""
    return values_TKBZ.transpose(0, 1).flatten(1, 2)
