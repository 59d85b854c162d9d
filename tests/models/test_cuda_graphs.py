"""On a GPU: training from cuda_graphs gives the bits of training without them, and the client-by-client result nearly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fed.tiny import table_of, tiny_config
from torch.nn import functional

from mm_ray.config import LocalConfig
from mm_ray.fed import batched_training
from mm_ray.fed.batched_training import BatchedLocalTrainer
from mm_ray.fed.local_training import train_local
from mm_ray.models import cuda_graphs
from mm_ray.models.flat_params import FlatNetwork
from mm_ray.models.network import PARTS, init_part
from mm_ray.seeding import torch_stream
from mm_ray.types import ClientData, RoundContext

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CLIENTS, CLIPS = 3, 12


@pytest.fixture(autouse=True)
def _same_bits(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def cross_entropy(output, batch):
    return functional.cross_entropy(output.logits_BC, batch.labels_B)


def context_of(name):
    config = tiny_config()
    table = table_of(config.data)
    rows = table.rows("train")
    rows = rows[table.has_video(rows)][: CLIENTS * CLIPS]
    clients = [
        ClientData(i, ("audio", "video"), part, table.labels_N[part]) for i, part in enumerate(np.array_split(rows, CLIENTS))
    ]
    start = {part: init_part(part, config.model, table.shapes, torch_stream(0, part)) for part in PARTS[name]}
    return config.model, clients, RoundContext(0, 1, start, {}, table, table.shapes, "cuda")


def trained(name, local):
    model, clients, context = context_of(name)
    stack = BatchedLocalTrainer(name, model, context, clients, local, "s")
    return stack.train(lambda output, batch, client: cross_entropy(output, batch), True)


@pytest.mark.parametrize("name", ["audio", "video", "av"])
def test_replayed_steps_have_the_bits_of_eager_ones(name, monkeypatch):
    local = LocalConfig(epochs=4, batch_size=4)
    replayed = trained(name, local)
    monkeypatch.setattr(cuda_graphs, "MOST_GRAPHS", 0)
    batched_training._resident.cache_clear()
    eager = trained(name, local)
    for one, other in zip(replayed, eager, strict=True):
        for part in one.sums:
            assert np.array_equal(one.sums[part], other.sums[part])


@pytest.mark.parametrize("name", ["audio", "video", "av"])
def test_together_is_client_by_client_nearly(name):
    local = LocalConfig(epochs=2, batch_size=4)
    model, clients, context = context_of(name)
    net = FlatNetwork(name, model, context.shapes, "cuda")
    together = trained(name, local)
    for client, one in zip(clients, together, strict=True):
        alone = train_local(net, context, client, local, cross_entropy, "s")
        for part in one.sums:
            apart = np.linalg.norm(one.sums[part] - alone.sums[part]) / np.linalg.norm(alone.sums[part])
            assert apart < 1e-3, (part, apart)


def test_a_network_trains_on_the_gpu_as_on_the_cpu():
    """A GRU keeps its place in the flat vector, from which it is loaded."""
    model, clients, context = context_of("audio")
    local, still, sums = LocalConfig(epochs=1, batch_size=4), replace(model, dropout=0.0), []
    for device in ("cpu", "cuda"):
        net, here = FlatNetwork("audio", still, context.shapes, device), replace(context, device=device)
        sums.append(train_local(net, here, clients[0], local, cross_entropy, "s").sums)
    for part, there in sums[1].items():
        assert np.linalg.norm(there - sums[0][part]) < 1e-3 * np.linalg.norm(sums[0][part])
