"""A client's local training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fed.tiny import tiny_config, tiny_plan
from torch.nn import functional

from mm_ray.config import LocalConfig
from mm_ray.data.batching import gather
from mm_ray.fed.client_optimizers import LocalOptimizer
from mm_ray.fed.local_training import train_local
from mm_ray.models.flat_params import FlatNetwork
from mm_ray.seeding import torch_stream
from mm_ray.types import RoundContext


def test_a_step_by_hand():
    params = torch.tensor([1.0, 2.0])
    optimizer = LocalOptimizer(params, LocalConfig(lr=0.1, momentum=0.5, weight_decay=0.1, clip_norm=1.0), 1)
    grads = torch.tensor([3.0, 4.0])  # norm 5, scaled to norm 1: (0.6, 0.8); decayed: (0.7, 1.0)
    optimizer.step(params, grads)
    assert params.tolist() == pytest.approx([0.93, 1.9], abs=1e-6)
    assert grads.tolist() == [0.0, 0.0]
    optimizer.step(params, grads)  # gradient: decay alone, (0.093, 0.19); momentum: (0.35 + 0.093, 0.5 + 0.19)
    assert params.tolist() == pytest.approx([0.8857, 1.831], abs=1e-6)


def test_the_rate_rises_over_the_first_rounds():
    local = LocalConfig(lr=0.4, warmup_rounds=4, momentum=0.0, weight_decay=0.0, clip_norm=0.0)
    moved = []
    for round_number in (1, 2, 4, 9):
        params, grads = torch.zeros(1), torch.ones(1)
        LocalOptimizer(params, local, round_number).step(params, grads)
        moved.append(-params.item())
    assert moved == pytest.approx([0.1, 0.2, 0.4, 0.4])


def test_steps_of_adam_equal_those_of_torch_for_each_row():
    local = LocalConfig(optimizer="adam", lr=0.01, momentum=0.8, weight_decay=1e-2, clip_norm=0.0)
    starts, *gradients = torch.randn(4, 2, 7, generator=torch_stream(0, "adam"))
    ours, grads, optimizer = starts.clone(), torch.zeros(2, 7), LocalOptimizer(starts, local, 1)
    theirs = torch.nn.Parameter(starts.clone())
    reference = torch.optim.Adam([theirs], lr=0.01, betas=(0.8, 0.999), weight_decay=1e-2)
    for gradient in gradients:
        grads.copy_(gradient)
        optimizer.step(ours, grads)
        theirs.grad = gradient.clone()
        reference.step()
        torch.testing.assert_close(ours, theirs.data, atol=1e-6, rtol=0)


@pytest.mark.parametrize("clip_norm", [0.0, 0.5, 1e6])
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 1e-2), (0.0, 0.0)])
def test_three_steps_equal_those_of_torch(clip_norm, momentum, weight_decay):
    local = LocalConfig(lr=0.05, momentum=momentum, weight_decay=weight_decay, clip_norm=clip_norm)
    start, *gradients = torch.randn(4, 7, generator=torch_stream(0, "steps"))
    ours, grads, optimizer = start.clone(), torch.zeros(7), LocalOptimizer(start, local, 1)
    theirs = torch.nn.Parameter(start.clone())
    optimiser = torch.optim.SGD([theirs], lr=0.05, momentum=momentum, weight_decay=weight_decay)
    for gradient in gradients:
        grads.copy_(gradient)
        optimizer.step(ours, grads)
        theirs.grad = gradient.clone()
        if clip_norm:
            torch.nn.utils.clip_grad_norm_([theirs], clip_norm)
        optimiser.step()
        torch.testing.assert_close(ours, theirs.data, atol=1e-6, rtol=0)
    assert not ours.equal(start)


@pytest.fixture(scope="module")
def plan():
    return tiny_plan()


def setting(plan, name="audio", **local):
    phase, federation = plan.method.phases[0], plan.federation
    params = phase.init(federation, {}).params
    net = FlatNetwork(name, plan.config.model, federation.shapes, "cpu")
    return net, RoundContext(1, 1, params, {}, federation.table, federation.shapes), LocalConfig(**local)


def cross_entropy(output, batch):
    return functional.cross_entropy(output.logits_BC, batch.labels_B)


def test_one_full_batch_is_one_gradient_step_weighted_by_the_clips(plan):
    model = replace(plan.config.model, dropout=0.0)
    _, context, local = setting(plan, lr=0.5, momentum=0.0, weight_decay=0.0, clip_norm=0.0, epochs=1, batch_size=100)
    net = FlatNetwork("audio", model, context.shapes, "cpu")
    client = plan.federation.clients[0]
    update = train_local(net, context, client, local, cross_entropy, "s")
    net.load(context.params)
    batch = gather(context.table, client.indices, ("audio",))
    loss = cross_entropy(net.network(batch), batch)
    loss.backward()
    clips = client.num_clips
    for part, where in net.slices.items():
        expected = -0.5 * clips * net.grads[where].numpy()
        np.testing.assert_allclose(update.sums[part], expected, atol=1e-5)
    assert update.weights == {"audio.encoder": clips, "audio.head": clips}
    assert update.metrics == {"audio_loss": pytest.approx(loss.item() * clips, rel=1e-5), "audio_seen": clips}


def test_epochs_see_every_clip_so_many_times(plan):
    net, context, local = setting(plan, epochs=3, batch_size=4)
    client, seen = plan.federation.clients[0], []
    train_local(net, context, client, local, lambda o, b: (seen.extend(b.indices_B), cross_entropy(o, b))[1], "s")
    assert sorted(seen) == sorted(list(client.indices) * 3)
    assert seen[: client.num_clips] != seen[client.num_clips : 2 * client.num_clips]


def train(plan, round_number=1, client=0, stream="s", seed=1):
    net, context, local = setting(plan)
    context = replace(context, round=round_number, seed=seed)
    update = train_local(net, context, plan.federation.clients[client], local, cross_entropy, stream)
    return b"".join(array.tobytes() for array in update.sums.values())


def test_training_again_gives_the_same_bits_whatever_ran_between(plan):
    first = train(plan)
    torch.rand(5)
    np.random.random(5)
    train(plan, client=2)
    assert train(plan) == first


@pytest.mark.parametrize("other", [{"round_number": 2}, {"stream": "t"}, {"seed": 2}])
def test_each_round_stream_and_seed_draws_anew(plan, other):
    assert train(plan, **other) != train(plan)


def test_what_the_server_sent_is_not_changed(plan):
    net, context, local = setting(plan)
    before = {part: array.tobytes() for part, array in context.params.items()}
    train_local(net, context, plan.federation.clients[0], local, cross_entropy, "s")
    assert {part: array.tobytes() for part, array in context.params.items()} == before


def test_the_tiny_config_keeps_the_defaults_that_it_does_not_name():
    assert tiny_config({"phase1.local.epochs": 1}).phase1.local == LocalConfig(lr=0.1, epochs=1)
