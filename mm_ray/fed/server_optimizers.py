"""The server's step: FedAvg, and FedOpt, which uses the clients' mean change as a gradient (Reddi et al. 2021).

The optimiser's state is in `ServerState.server` as `Key("momentum", PART)` and `Key("second", PART)`, the averages as
`Key("average", PART)`. A part that no client held in a round keeps its value, and its optimiser keeps its state.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from mm_ray.config import ServerConfig
from mm_ray.fed.aggregation import MEAN, RULES
from mm_ray.plugins import code_digest, resolve
from mm_ray.types import Arrays, ClientUpdate, Key, ServerState

MOMENTUM, SECOND, AVERAGE = "momentum", "second", "average"
USES = {
    "fedavg": ("lr",),
    "sgd": ("lr", "momentum"),
    "adam": ("lr", "momentum", "beta2", "tau"),
    "yogi": ("lr", "momentum", "beta2", "tau"),
}
"""The settings that each optimiser reads."""


def server_settings(server: ServerConfig) -> dict[str, Any]:
    """What the server's step depends on, for the phase's key; options that are off do not enter, so nothing by default."""
    values = asdict(server) | {"lr": server.step}
    content: dict[str, Any] = {name: values[name] for name in ("max_norm", "clip_norm", "noise", "average") if values[name]}
    if server.rule != MEAN:
        content |= {"rule": server.rule, "bad_frac": server.bad_frac}
        if code := code_digest(resolve("server.rule", server.rule, RULES, "combine")):
            content["rule_code"] = code
    if server.optimizer != "fedavg" or server.step != 1:
        content |= {"optimizer": server.optimizer} | {name: values[name] for name in USES[server.optimizer]}
    return {"server": content} if content else {}


def server_memory(server: ServerConfig, params: Arrays) -> dict[Key, np.ndarray]:
    """The optimiser's state before round 1: no momentum, and tau^2 for the second moment, as in the paper."""
    memory: dict[Key, np.ndarray] = {}
    if "momentum" in USES[server.optimizer]:
        memory |= {Key(MOMENTUM, part): np.zeros_like(array) for part, array in params.items()}
    if "tau" in USES[server.optimizer]:
        memory |= {Key(SECOND, part): np.full_like(array, server.tau**2) for part, array in params.items()}
    return memory


def server_step(
    server: ServerConfig, params: Arrays, memory: Arrays, total: ClientUpdate, parts: Iterable[str]
) -> tuple[dict[str, np.ndarray], dict[Key, np.ndarray]]:
    """The new parameters and optimiser state of some parts, each of them held by a client of the round.

    With d the weighted mean of the clients' changes: FedAvg x + lr d; SGD m = momentum m + d, x + lr m; Adam and Yogi
    m = momentum m + (1 - momentum) d, x + lr m / (sqrt(v) + tau), where Adam's v = beta2 v + (1 - beta2) d^2 and Yogi's
    v = v - (1 - beta2) d^2 sign(v - d^2). There is no bias correction (algorithm 2 of the paper has none).

    Args:
        server: Which optimiser, and its settings.
        params: The parts, among others.
        memory: The optimiser's state of these parts, among others.
        total: The sum over the cohort.
        parts: The parts to move.

    """
    moved: dict[str, np.ndarray] = {}
    remembered: dict[Key, np.ndarray] = {}
    for part in parts:
        step, fresh = _direction(server, part, memory, total.mean(part))
        moved[part] = params[part] + np.float32(server.step) * step
        remembered |= fresh
    return moved, remembered


def _direction(
    server: ServerConfig, part: str, memory: Arrays, change: np.ndarray
) -> tuple[np.ndarray, Mapping[Key, np.ndarray]]:
    beta1, beta2 = np.float32(server.momentum), np.float32(server.beta2)
    match server.optimizer:
        case "fedavg":
            return change, {}
        case "sgd":
            momentum = beta1 * memory[Key(MOMENTUM, part)] + change
            return momentum, {Key(MOMENTUM, part): momentum}
    momentum = beta1 * memory[Key(MOMENTUM, part)] + (1 - beta1) * change
    second, square = memory[Key(SECOND, part)], change * change
    if server.optimizer == "adam":
        second = beta2 * second + (1 - beta2) * square
    else:
        second = second - (1 - beta2) * square * np.sign(second - square)
    step = momentum / (np.sqrt(second) + np.float32(server.tau))
    return step, {Key(MOMENTUM, part): momentum, Key(SECOND, part): second}


def averaged(server: ServerConfig, state: ServerState, moved: Arrays, rounds: int) -> dict[Key, np.ndarray]:
    """The exponential moving averages of some parts after a round: decay * average + (1 - decay) * new parameters.

    The decay is min(server.average, (1 + rounds) / (10 + rounds)), so that the first rounds weigh little, and it does not
    depend on the total number of rounds. A part's average before its first round is its initial value.

    Args:
        server: Gives the decay.
        state: The state before the round.
        moved: The new parameters of the parts that moved.
        rounds: Rounds so far, this one included.

    """
    decay = np.float32(min(server.average, (1 + rounds) / (10 + rounds)))
    before = evaluated(state)
    return {Key(AVERAGE, part): decay * before[part] + (1 - decay) * array for part, array in moved.items()}


def evaluated(state: ServerState) -> Arrays:
    """The parameters, with averages in their place where there are any: for evaluation and later phases, never sent to
    clients."""
    return {name: state.server.get(Key(AVERAGE, name), array) for name, array in state.params.items()}
