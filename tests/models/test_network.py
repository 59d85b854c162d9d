"""Stacked layers against torch's own, client by client: values and gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fed.tiny import table_of, tiny_config
from torch.nn import functional

from mm_ray.config import ModelConfig
from mm_ray.data.batching import gather, gather_stacked
from mm_ray.models.batched.gru import GRUWeights, stacked_gru
from mm_ray.models.batched.layers import StackedSequence, attention_pool, conv5, linear, mean_pool, relu_pool_dropout
from mm_ray.models.batched.network import StackedNetwork
from mm_ray.models.dropout import StackedDropout
from mm_ray.models.flat_params import FlatNetwork
from mm_ray.models.network import PARTS, READS, init_part
from mm_ray.seeding import torch_stream
from mm_ray.types import Shapes

CLIENTS, BATCH = 3, 4
CLOSE = {"atol": 2e-5, "rtol": 1e-4}
GRU_NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def leaf(*shape):
    return torch.randn(*shape).requires_grad_()


def gradients(result, *leaves):
    weights = torch.linspace(-1, 1, result.numel()).view(result.shape)
    return torch.autograd.grad((result * weights).sum(), leaves)


def assert_same(ours, theirs, *leaves):
    torch.testing.assert_close(ours, theirs, **CLOSE)
    for mine, other in zip(gradients(ours, *leaves), gradients(theirs, *leaves), strict=True):
        torch.testing.assert_close(mine, other, **CLOSE)


@pytest.mark.parametrize(("steps", "inputs", "hidden"), [(1, 3, 5), (2, 5, 4), (7, 6, 6)])
def test_a_stacked_gru_is_torch_s_gru_of_each_client(steps, inputs, hidden):
    modules = [torch.nn.GRU(inputs, hidden) for _ in range(CLIENTS)]
    weights = GRUWeights(*(torch.stack([getattr(m, n).detach() for m in modules]).requires_grad_() for n in GRU_NAMES))
    x = leaf(CLIENTS, steps, BATCH, inputs)
    own = [dict(zip(GRU_NAMES, (stack[k] for stack in weights), strict=True)) for k in range(CLIENTS)]
    theirs = [torch.func.functional_call(m, w, (x[k],))[0] for k, (m, w) in enumerate(zip(modules, own, strict=True))]
    assert_same(stacked_gru(x, weights), torch.stack(theirs, 1), x, *weights)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_grouped_convolution(steps):
    x, weight, bias = leaf(BATCH, steps, CLIENTS, 6), leaf(CLIENTS, 5, 6, 5), leaf(CLIENTS, 5)
    theirs = [functional.conv1d(x[:, :, k].mT, weight[k], bias[k], padding=2).mT for k in range(CLIENTS)]
    assert_same(conv5(x, weight, bias), torch.stack(theirs, 2), x, weight, bias)


@pytest.mark.parametrize("steps", [1, 4, 7])
@pytest.mark.parametrize("masked", [False, True])
def test_relu_pool_and_dropout(steps, masked):
    x, kept = leaf(BATCH, steps, CLIENTS, 5), (torch.rand(BATCH, (steps + 1) // 2, CLIENTS, 5) > 0.3) * 1.4
    lengths = torch.randint(1, steps + 1, (BATCH, 1, CLIENTS, 1))
    real = (torch.arange(steps)[:, None, None] < lengths).float() if masked else None
    x_NT = (torch.relu(x) * (1 if real is None else real)).permute(0, 2, 3, 1).flatten(0, 2)
    pooled = functional.max_pool1d(x_NT[:, None], 2, ceil_mode=True).view(BATCH, CLIENTS, 5, -1).permute(0, 3, 1, 2)
    assert_same(relu_pool_dropout(x, real, kept), pooled * kept, x)
    torch.testing.assert_close(relu_pool_dropout(x, real, None), pooled)


def test_linear_and_pooling():
    x, weight, bias = leaf(CLIENTS, BATCH, 6), leaf(CLIENTS, 5, 6), leaf(CLIENTS, 5)
    assert_same(linear(x, weight, bias), torch.stack([x[k] @ weight[k].T + bias[k] for k in range(CLIENTS)]), x, weight, bias)
    values = torch.arange(8.0).view(4, 1, 1, 2)
    mask = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(4, 1, 1)
    assert mean_pool(StackedSequence(values, mask)).tolist() == [[[1.0, 2.0]]]
    hidden, scores = (torch.zeros(1, 3, 2), torch.zeros(1, 3)), (torch.zeros(1, 2, 3), torch.zeros(1, 2))
    assert attention_pool(StackedSequence(values, mask), hidden, scores).tolist() == [[[1.0, 2.0, 1.0, 2.0]]]


MODEL = {"conv_channels": (3, 4, 5), "hidden": 6, "attention_size": 7, "attention_heads": 2, "classifier_hidden": 8}


@pytest.mark.parametrize(("name", "pooling"), [("audio", "mean"), ("audio", "attention"), ("video", "mean"), ("av", "mean")])
def test_a_stacked_network_is_the_plain_network_with_each_client_s_weights(name, pooling, ragged_table):
    model, shapes = ModelConfig(**MODEL, audio_pooling=pooling, dropout=0.2), ragged_table.shapes
    plain, stacked = FlatNetwork(name, model, shapes, "cpu"), StackedNetwork(name, model, shapes, 4, "cpu")
    rows = [np.array([0, 3, 5]), np.array([1]), np.array([2, 4])]
    params = [{p: init_part(p, model, shapes, torch_stream(k, p)) for p in PARTS[name]} for k in range(3)]
    for copy, own in zip(map(stacked.copy, range(3)), params, strict=True):
        copy.load(own)
    batch = gather_stacked(ragged_table, rows, [ragged_table.labels_N[own] for own in rows], READS[name], torch.device("cpu"))
    output = stacked.forward(batch, StackedDropout([torch_stream(k, "d") for k in range(3)], 0.2, batch.rows_K))
    losses = [output.logits_BC[k, : len(own)].square().mean() for k, own in enumerate(rows)]
    stacked.backward(sum(losses), 3)
    for k, own in enumerate(rows):
        plain.load(params[k])
        alone = plain.network(gather(ragged_table, own, READS[name]), torch_stream(k, "d"))
        alone.logits_BC.square().mean().backward()
        torch.testing.assert_close(output.logits_BC[k, : len(own)], alone.logits_BC, **CLOSE)
        torch.testing.assert_close(output.features_BH[k, : len(own)], alone.features_BH, **CLOSE)
        torch.testing.assert_close(stacked.grads[k], plain.grads, **CLOSE)
        plain.grads.zero_()
    assert not stacked.grads[3].any()


@pytest.fixture(scope="module")
def ragged_table():
    table = table_of(tiny_config().data)
    rng, audio, video = np.random.default_rng(0), np.array([9, 16, 1, 13, 4, 7]), np.array([3, 1, 5, 2, 2, 4])
    ends = [np.concatenate([[0], np.cumsum(lengths)]) for lengths in (audio, video)]
    flats = [rng.standard_normal((offsets[-1], size)).astype(np.float16) for offsets, size in zip(ends, (6, 4), strict=True)]
    return replace(
        table,
        audio_flat_XF=flats[0],
        audio_offsets_N1=ends[0],
        video_flat_XD=flats[1],
        video_offsets_N1=ends[1],
        labels_N=np.arange(6) % 4,
    )


def test_shapes_of_the_ragged_table(ragged_table):
    assert ragged_table.shapes == Shapes(6, 4, 4)
