"""The server's step after two clients and one round, by hand; and against torch's optimisers.

One clip changes the part by (1, -2), three clips by (5, 2): the mean change is d = ((1 + 15) / 4, (-2 + 6) / 4) = (4, 1).
"""

import numpy as np
import pytest
import torch
from fed.tiny import Run, tiny_plan

from mm_ray.config import ServerConfig
from mm_ray.errors import UserError
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.rounds import role_params
from mm_ray.fed.server_optimizers import averaged, evaluated, server_memory, server_settings, server_step
from mm_ray.types import ClientUpdate, Key, ServerState

START = {"a": np.array([10, 20], np.float32)}


def change(*values, weight=4.0):
    return ClientUpdate({"a": weight}, {"a": np.array(values, np.float32) * np.float32(weight)})


TOTAL = change(1, -2, weight=1.0) + change(5, 2, weight=3.0)


def steps(server, *totals):
    params, memory = START, server_memory(server, START)
    for total in totals:
        moved, remembered = server_step(server, params, memory, total, ["a"])
        params, memory = params | moved, memory | remembered
    return params | memory


def test_fedavg_moves_by_the_mean_and_remembers_nothing():
    after = steps(ServerConfig(optimizer="fedavg"), TOTAL)
    assert {name: array.tolist() for name, array in after.items()} == {"a": [14, 21]}
    assert steps(ServerConfig(optimizer="fedavg", lr=0.5), TOTAL)["a"].tolist() == [12, 20.5]


def test_sgd_adds_momentum():
    after = steps(ServerConfig(optimizer="sgd", lr=0.5, momentum=0.5), TOTAL, TOTAL)
    # m = (4, 1), then (6, 1.5); x = (12, 20.5), then (15, 21.25)
    assert after[Key("momentum", "a")].tolist() == [6, 1.5]
    assert after["a"].tolist() == [15, 21.25]


def test_adam_by_hand():
    # m = d / 2 = (2, 0.5); v = (tau^2 + d^2) / 2 with tau = 3: (12.5, 5)
    after = steps(ServerConfig(optimizer="adam", lr=1.0, momentum=0.5, beta2=0.5, tau=3.0), TOTAL)
    assert after[Key("momentum", "a")].tolist() == [2, 0.5]
    assert after[Key("second", "a")].tolist() == [12.5, 5]
    np.testing.assert_allclose(after["a"], [10 + 2 / (12.5**0.5 + 3), 20 + 0.5 / (5**0.5 + 3)], rtol=1e-6)


def test_yogi_by_hand():
    # v = 9 + 16 / 2 where v < d^2, and 9 - 1 / 2 where v > d^2
    after = steps(ServerConfig(optimizer="yogi", lr=1.0, momentum=0.5, beta2=0.5, tau=3.0), TOTAL)
    assert after[Key("second", "a")].tolist() == [17, 8.5]
    np.testing.assert_allclose(after["a"], [10 + 2 / (17**0.5 + 3), 20 + 0.5 / (8.5**0.5 + 3)], rtol=1e-6)


def test_sgd_is_torch_s_on_the_negative_change():
    server = ServerConfig(optimizer="sgd", lr=0.3, momentum=0.9)
    totals = [change(1, 2), change(-3, 0.5), change(0.1, 4)]
    theirs = torch.nn.Parameter(torch.tensor([10.0, 20.0]))
    optimiser = torch.optim.SGD([theirs], lr=0.3, momentum=0.9)
    for total in totals:
        theirs.grad = -torch.from_numpy(total.mean("a"))
        optimiser.step()
    np.testing.assert_allclose(steps(server, *totals)["a"], theirs.detach(), rtol=1e-6)


def test_adam_is_torch_s_without_its_bias_correction():
    server = ServerConfig(optimizer="adam", lr=0.1, momentum=0.9, beta2=0.99, tau=1e-3)
    totals = [change(1, 2), change(-3, 0.5), change(0.1, 4)]
    theirs = torch.nn.Parameter(torch.tensor([10.0, 20.0], dtype=torch.float64))
    optimiser = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99), eps=1e-3)
    memory = optimiser.state[theirs]
    memory |= {"step": torch.tensor(1e6), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.full((2,), 1e-6)}
    memory |= {name: memory[name].double() for name in ("exp_avg", "exp_avg_sq")}
    for total in totals:
        theirs.grad = -torch.from_numpy(total.mean("a")).double()
        optimiser.step()
    np.testing.assert_allclose(steps(server, *totals)["a"], theirs.detach(), rtol=1e-5)


def test_a_part_that_nobody_held_stays_with_its_memory():
    phase = tiny_plan({"phase1.server.optimizer": "adam", "phase1.server.average": 0.0}).method.phases[0]
    params = {"b": START["a"], **START}
    state = ServerState(params, server_memory(phase.server, params))
    after = phase.server_update(state, TOTAL).flat()
    moved = {path for path, array in state.flat().items() if array.tobytes() != after[path].tobytes()}
    assert moved == {("params", "a"), ("server", "momentum", "a"), ("server", "second", "a")}


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (ServerConfig(), {"server": {"optimizer": "sgd", "lr": 1.0, "momentum": 0.5, "average": 0.8}}),
        (ServerConfig(optimizer="fedavg", average=0.0), {}),
        (ServerConfig(optimizer="fedavg", average=0.0, lr=1.0, momentum=0.1), {}),
        (ServerConfig(optimizer="fedavg", average=0.0, lr=0.5), {"server": {"optimizer": "fedavg", "lr": 0.5}}),
        (ServerConfig(tau=9.0, average=0.0), {"server": {"optimizer": "sgd", "lr": 1.0, "momentum": 0.5}}),
        (
            ServerConfig(optimizer="yogi", average=0.0),
            {"server": {"optimizer": "yogi", "lr": 0.01, "momentum": 0.5, "beta2": 0.99, "tau": 0.001}},
        ),
    ],
)
def test_the_key_holds_what_the_optimiser_reads(server, expected):
    assert server_settings(server) == expected


@pytest.mark.parametrize(("field", "value"), [("lr", -1.0), ("momentum", 1.0), ("beta2", -0.1), ("tau", 0.0)])
def test_a_server_that_cannot_move_is_refused(field, value):
    with pytest.raises(UserError, match=f"^--{field} {value}: "):
        ServerConfig(**{field: value})


def test_memory_stays_with_the_server_and_crosses_rounds(tmp_path):
    run = Run(tmp_path / "one", {"phase1.server.optimizer": "yogi"})
    state = run.store.load(run.keys["phase2/distill"], 3)
    parts = ("audio.encoder", "audio.head")
    assert set(state.server) == {Key(what, part) for what in ("average", "momentum") for part in parts}
    assert set(state.params) == set(parts)
    for rounds in (1, 3):  # one round first, then on from there
        again = Run(tmp_path / "two", {"phase1.server.optimizer": "yogi", "phase2.rounds": rounds})
    assert again.bits() == run.bits()


def test_the_average_over_rounds_by_hand():
    server, state, seen = ServerConfig(average=0.5), ServerState({"a": np.array([8.0], np.float32)}), []
    for rounds, value in enumerate((19.0, 31.0, 10.0), 1):
        moved = {"a": np.array([value], np.float32)}
        state = ServerState(moved, averaged(server, state, moved, rounds))
        seen.append(float(evaluated(state)["a"][0]))
    # decays (1 + r) / (10 + r), at most 0.5: 2/11, 3/12, 4/13
    first = 2 / 11 * 8 + 9 / 11 * 19
    second = 0.25 * first + 0.75 * 31
    assert seen == pytest.approx([first, second, 4 / 13 * second + 9 / 13 * 10], rel=1e-6)
    late = averaged(server, state, {"a": np.array([0.0], np.float32)}, 100)
    assert late[Key("average", "a")][0] == pytest.approx(seen[-1] / 2)
    assert state.params["a"][0] == 10  # what clients get


def test_the_average_is_evaluated_and_handed_on_and_never_sent(tmp_path):
    run = Run(tmp_path, {"phase1.server.average": 0.8})
    outcome = run.finished.outcomes["phase1/unimodal"]
    state = run.store.load(outcome.key, outcome.best_round("audio"))
    handed = role_params(NetworkRef("phase1/unimodal", "audio"), run.finished.outcomes, run.store)
    for part, array in handed.items():
        assert array.tobytes() == state.server[Key("average", part)].tobytes()
        assert array.tobytes() != state.params[part].tobytes()
    assert not any("average" in path for path in state.flat() if path[0] != "server")
    assert state.meta["rounds"] == outcome.best_round("audio")
