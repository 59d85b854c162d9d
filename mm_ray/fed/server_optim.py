"""The server's step: FedAvg, and FedOpt, which takes the clients' mean change for a gradient (Reddi et al. 2021).

What an optimiser remembers lies in the server's state as `server/momentum/PART` and `server/second/PART`; it never leaves the
server. A part that no client held in a round keeps its place, and its optimiser its memory.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from mm_ray.config import ServerConfig
from mm_ray.fed.apart import MEAN, RULES
from mm_ray.plugins import code_digest, resolve
from mm_ray.types import Arrays, ClientUpdate

MOMENTUM, SECOND, AVERAGE = "server/momentum/", "server/second/", "server/average/"
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


def server_memory(server: ServerConfig, params: Arrays) -> dict[str, np.ndarray]:
    """What the optimiser remembers before round 1: no momentum, and tau^2 for the second moment, as in the paper."""
    memory: dict[str, np.ndarray] = {}
    if "momentum" in USES[server.optimizer]:
        memory |= {MOMENTUM + part: np.zeros_like(array) for part, array in params.items()}
    if "tau" in USES[server.optimizer]:
        memory |= {SECOND + part: np.full_like(array, server.tau**2) for part, array in params.items()}
    return memory


def server_step(server: ServerConfig, tensors: Arrays, total: ClientUpdate, parts: Iterable[str]) -> dict[str, np.ndarray]:
    """The new parameters and memory of some parts, all of them held by a client of the round.

    With d the weighted mean of the clients' changes: FedAvg x + lr d; SGD m = momentum m + d, x + lr m; Adam and Yogi
    m = momentum m + (1 - momentum) d, x + lr m / (sqrt(v) + tau), where Adam's v = beta2 v + (1 - beta2) d^2 and Yogi's
    v = v - (1 - beta2) d^2 sign(v - d^2). There is no bias correction (algorithm 2 of the paper has none).

    Args:
        server: Which optimiser, and its settings.
        tensors: The server's state, by name.
        total: The sum over the cohort.
        parts: The parts to move.

    """
    moved: dict[str, np.ndarray] = {}
    for part in parts:
        step, memory = _direction(server, part, tensors, total.mean(part))
        moved |= {part: tensors[part] + np.float32(server.step) * step, **memory}
    return moved


def _direction(
    server: ServerConfig, part: str, tensors: Arrays, change: np.ndarray
) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
    beta1, beta2 = np.float32(server.momentum), np.float32(server.beta2)
    match server.optimizer:
        case "fedavg":
            return change, {}
        case "sgd":
            momentum = beta1 * tensors[MOMENTUM + part] + change
            return momentum, {MOMENTUM + part: momentum}
    momentum = beta1 * tensors[MOMENTUM + part] + (1 - beta1) * change
    second, square = tensors[SECOND + part], change * change
    if server.optimizer == "adam":
        second = beta2 * second + (1 - beta2) * square
    else:
        second = second - (1 - beta2) * square * np.sign(second - square)
    step = momentum / (np.sqrt(second) + np.float32(server.tau))
    return step, {MOMENTUM + part: momentum, SECOND + part: second}


def averaged(server: ServerConfig, tensors: Arrays, moved: Arrays, parts: Iterable[str], rounds: int) -> dict[str, np.ndarray]:
    """The exponential moving averages of some parts after a round: decay * average + (1 - decay) * new parameters.

    The decay is min(server.average, (1 + rounds) / (10 + rounds)), so that the first rounds weigh little, and it does not
    depend on the total number of rounds. A part's average before its first round is its initial value.

    Args:
        server: Gives the decay.
        tensors: The server's state before the round, by name.
        moved: The parts' new parameters.
        parts: The parts that moved.
        rounds: Rounds so far, this one included.

    """
    decay = np.float32(min(server.average, (1 + rounds) / (10 + rounds)))
    return {AVERAGE + part: decay * tensors.get(AVERAGE + part, tensors[part]) + (1 - decay) * moved[part] for part in parts}


def evaluated(tensors: Arrays) -> Arrays:
    """A state's arrays with the averages in the place of the parameters: what is evaluated and handed on, and never sent."""
    return {name: tensors.get(AVERAGE + name, array) for name, array in tensors.items()}
