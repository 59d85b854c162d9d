"""Search how clients and server step, the same way in both phases: FedAvg, FedOpt, FedProx, SCAFFOLD, local Adam, their rates.

Use it when training itself is slow or swings from round to round. Every trial pays for a phase 1 of its own, so give it rounds
sparingly (`--phase1.rounds 30`) and a scheduler (`--scheduler asha`). A trial counts only if its student is not below its own
phase-1 audio network: else a poor phase 1 with a great gain could look well.
"""

from typing import Any

import optuna

OBJECTIVES: dict[str, str] = {"dev/audio_top1": "max"}
AT_LEAST: dict[str, float] = {"dev/gain_top1": 0.0}

_DEFAULT: dict[str, Any] = {
    "phase1.local.lr": 0.05,
    "phase2.local.lr": 0.05,
    "phase1.server.optimizer": "sgd",
    "phase1.server.lr@sgd": 1.0,
    "phase1.server.momentum": 0.5,
    "phase1.local.scaffold@client": "plain",
    "phase2.loss_weight": 0.9,
}

ENQUEUED: list[dict[str, Any]] = [
    _DEFAULT,
    _DEFAULT | {"phase2.loss_weight": 0.0},
    _DEFAULT | {"phase2.loss_weight": 1.0},
]


def space(trial: optuna.Trial) -> dict[str, Any]:
    """Config overrides of one trial."""
    overrides = {
        "phase1.local.lr": trial.suggest_float("phase1.local.lr", 0.005, 0.2, log=True),
        "phase2.local.lr": trial.suggest_float("phase2.local.lr", 0.005, 0.2, log=True),
        "phase2.loss_weight": trial.suggest_float("phase2.loss_weight", 0.0, 1.0),
    }
    return overrides | _in_both_phases(_server(trial) | _client(trial))


def _server(trial: optuna.Trial) -> dict[str, Any]:
    optimizer = trial.suggest_categorical("phase1.server.optimizer", ["fedavg", "sgd", "adam", "yogi"])
    if optimizer == "fedavg":
        return {"server.optimizer": optimizer}
    low, high = (0.2, 2.0) if optimizer == "sgd" else (1e-3, 0.1)
    step = trial.suggest_float(f"phase1.server.lr@{optimizer}", low, high, log=True)
    momentum = trial.suggest_float("phase1.server.momentum", 0.0, 0.95)
    return {"server.optimizer": optimizer, "server.lr": step, "server.momentum": momentum}


def _client(trial: optuna.Trial) -> dict[str, Any]:
    kind = trial.suggest_categorical("phase1.local.scaffold@client", ["plain", "prox", "scaffold", "adam"])
    if kind == "adam":  # other rates than SGD's, the same in both phases
        lr = trial.suggest_float("phase1.local.lr@adam", 3e-4, 1e-2, log=True)
        return {"local.optimizer": "adam", "local.lr": lr, "local.scaffold": False, "local.prox_mu": 0.0}
    mu = trial.suggest_float("phase1.local.prox_mu", 1e-3, 1.0, log=True) if kind == "prox" else 0.0
    return {"local.scaffold": kind == "scaffold", "local.prox_mu": mu}


def _in_both_phases(settings: dict[str, Any]) -> dict[str, Any]:
    return {f"{phase}.{name}": value for phase in ("phase1", "phase2") for name, value in settings.items()}
