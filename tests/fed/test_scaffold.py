"""SCAFFOLD and FedProx: two clients and one part of three weights by hand, and the identities of their papers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fed.tiny import Run, tiny_plan

from mm_ray.config import LocalConfig
from mm_ray.fed.client_optimizers import ControlVariate, moved_controls
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.local_training import local_settings, train_local
from mm_ray.models.flat_params import FlatNetwork
from mm_ray.types import ClientData, ClientUpdate, Key, RoundContext

PLAIN = {"momentum": 0.0, "weight_decay": 0.0, "clip_norm": 0.0}
CONTROL_A = Key("control", "a")
SCAFFOLD = {"phase1.local.scaffold": True, "phase2.local.scaffold": True}


class Net:
    """Three weights as one part."""

    def __init__(self):
        self.slices, self.params, self.grads = {"a": slice(0, 3)}, torch.zeros(3), torch.zeros(3)

    def parts(self, flat):
        return {"a": flat.numpy().copy()}


def client(k):
    return ClientData(k, ("audio",), np.arange(4), np.zeros(4, np.int64))


def test_two_clients_by_hand():
    own = {7: {CONTROL_A: np.array([0, 2, 4], np.float32)}}
    context = RoundContext(0, 1, {CONTROL_A: np.array([1, 1, 1], np.float32)}, {}, None, None, clients=own)
    total = ClientUpdate()
    for k, gradients in ((7, ([1, 2, 3], [3, 2, 1])), (8, ([9, 9, 9],))):
        control = ControlVariate(Net(), context, client(k))
        for gradient in gradients:
            grads = torch.tensor(gradient, dtype=torch.float32)
            control.correct(grads)
            # c - c_i: client 7 has (1, -1, -3), client 8, new, has (1, 1, 1)
            assert grads.tolist() == [g + c for g, c in zip(gradient, (1, -1, -3) if k == 7 else (1, 1, 1), strict=True)]
        total += control.update()
    assert total.kept[7][CONTROL_A].tolist() == [2, 2, 2]
    assert total.kept[8][CONTROL_A].tolist() == [9, 9, 9]
    # (2, 2, 2) - (0, 2, 4) and (9, 9, 9) - 0, over 4 clients that hold the part
    assert total.sums[CONTROL_A].tolist() == [11, 9, 7]
    assert moved_controls(context.params, total, {"a": 4})[CONTROL_A].tolist() == [1 + 11 / 4, 1 + 9 / 4, 1 + 7 / 4]


@pytest.fixture(scope="module")
def plan():
    return tiny_plan(SCAFFOLD)


def train(plan, params=None, own=None, loss_weight=1.0, **local):
    state = plan.method.phases[0].init(plan.federation, {}).params
    federation, who = plan.federation, plan.federation.clients[0]
    params = {**state, **(params or {})}
    context = RoundContext(1, 1, params, {}, federation.table, federation.shapes, clients={who.id: own or {}})
    net = FlatNetwork("audio", replace(plan.config.model, dropout=0.0), federation.shapes, "cpu")

    def loss(output, batch):
        return loss_weight * torch.nn.functional.cross_entropy(output.logits_BC, batch.labels_B)

    update = train_local(net, context, who, LocalConfig(**(PLAIN | {"lr": 0.05, "batch_size": 4} | local)), loss, "s")
    return update, state, who, net


def test_with_plain_sgd_it_is_the_paper_s_option_two(plan):
    rng = np.random.default_rng(0)
    size = len(plan.method.phases[0].init(plan.federation, {}).params["audio.head"])
    of_server, of_client = (np.resize(rng.normal(0, 0.01, 124).astype(np.float32), size) for _ in "ab")
    name = Key("control", "audio.head")
    update, _, who, _ = train(plan, {name: of_server}, {name: of_client}, scaffold=True)
    num_steps = 3 * -(-who.num_clips // 4)
    # c_i' = c_i - c + (received - trained) / (steps * lr)
    moved = -update.sums["audio.head"] / who.num_clips / (num_steps * 0.05)
    np.testing.assert_allclose(update.kept[0][name], of_client - of_server + moved, atol=1e-5)


def test_the_first_round_of_scaffold_is_fedavg(plan):
    plain, corrected = train(plan)[0], train(plan, scaffold=True)[0]
    assert all(corrected.sums[part].tobytes() == plain.sums[part].tobytes() for part in plain.sums)


def test_one_step_of_fedprox_is_plain_and_the_next_is_pulled_back(plan):
    # After one step of x by u the proximal gradient is mu * u, so the second step is the plain one minus lr * mu * u.
    full = {"batch_size": 100}
    one, two, pulled = (train(plan, **full, **kind)[0].sums["audio.head"] for kind in (
        {"epochs": 1}, {"epochs": 2}, {"epochs": 2, "prox_mu": 0.5}))  # fmt: skip
    assert train(plan, **full, epochs=1, prox_mu=0.5)[0].sums["audio.head"].tobytes() == one.tobytes()
    np.testing.assert_allclose(pulled, two - 0.05 * 0.5 * one, atol=2e-5)


def test_fedprox_is_the_gradient_of_half_the_squared_distance(plan):
    # A loss of zero leaves the pull alone, which is zero where training starts.
    update, *_ = train(plan, loss_weight=0.0, prox_mu=1.0)
    assert all((array == 0).all() for array in update.sums.values())


def test_options_that_are_off_do_not_enter_the_key():
    assert set(local_settings(LocalConfig())) == {"lr", "momentum", "weight_decay", "clip_norm", "epochs", "batch_size"}
    on = local_settings(LocalConfig(prox_mu=0.1, scaffold=True))
    assert (on["prox_mu"], on["scaffold"]) == (0.1, True)


class Counting(SerialExecutor):
    sent = 0

    def run_round(self, params, round_number, chunks, clients):
        updates = super().run_round(params, round_number, chunks, clients)
        self.sent += sum(array.nbytes for update in updates for array in update.sums.values())
        return updates


def test_a_run_remembers_its_clients_and_counts_the_bytes(tmp_path):
    # Chunks of one client, so that sums over a chunk hide nothing.
    fields, executor = SCAFFOLD | {"clients.chunk_size": 1}, Counting()
    run = Run(tmp_path / "one", fields, executor)
    plain = Run(tmp_path / "plain", {"clients.chunk_size": 1})
    assert run.result["bytes_up"] == executor.sent == 2 * plain.result["bytes_up"]
    state = run.store.load(run.keys["phase1/unimodal"], 3)
    seen = {who.id for number in (1, 2, 3) for who in run.plan.method.phases[0].cohort(run.plan.federation, number)}
    assert set(state.clients) == seen
    audio_only = [who.id for who in run.plan.federation.of_type("audio") if who.id in seen]
    assert {name.of for client in audio_only for name in state.clients[client]} == {"audio.encoder", "audio.head"}
    assert state.meta["holders"] == {"audio.encoder": 6, "audio.head": 6, "video.encoder": 3, "video.head": 3}
    for rounds in (1, 3):  # one round first, then on from there
        again = Run(tmp_path / "two", fields | {"phase2.rounds": rounds})
    assert again.bits() == run.bits()
    assert run.digest != plain.digest


def test_the_server_s_variate_is_the_mean_of_all_clients_variates(tmp_path):
    # Each client's change is added over the number of all clients, so c is the mean of all c_i, absent ones being zero.
    run = Run(tmp_path, SCAFFOLD | {"phase1.rounds": 5})
    state, name = run.store.load(run.keys["phase1/unimodal"], 4), Key("control", "audio.head")
    own = [arrays[name] for arrays in state.clients.values()]
    np.testing.assert_allclose(state.params[name], sum(own) / 6, atol=1e-6)
