"""Search accuracy against communication: what a point of accuracy costs in bytes sent.

Use it when clients pay for traffic, with `--searcher nsga2` (or tpe) and 60 trials and up. The result is a front, not a winner;
`best.yaml` holds its most accurate end. For time instead of bytes, copy this file and name `compute_s` in OBJECTIVES. The front
holds only trials whose student is not below their phase-1 audio network.
"""

from typing import Any

import optuna

OBJECTIVES: dict[str, str] = {"dev/audio_top1": "max", "bytes": "min"}
AT_LEAST: dict[str, float] = {"dev/gain_top1": 0.0}

_DEFAULT: dict[str, Any] = {
    "phase1.rounds": 64,
    "phase2.rounds": 24,
    "phase2.temperature": 2.0,
    "phase2.loss_weight": 0.9,
    "clients.sample_frac": 0.3,
}

ENQUEUED: list[dict[str, Any]] = [
    _DEFAULT,
    _DEFAULT | {"phase2.loss_weight": 0.0},
    _DEFAULT | {"phase2.loss_weight": 1.0},
]


def space(trial: optuna.Trial) -> dict[str, Any]:
    """Config overrides of one trial."""
    return {
        "phase1.rounds": trial.suggest_int("phase1.rounds", 16, 96, step=16),
        "phase2.rounds": trial.suggest_int("phase2.rounds", 8, 40, step=8),
        "phase2.temperature": trial.suggest_float("phase2.temperature", 1.0, 20.0, log=True),
        "phase2.loss_weight": trial.suggest_float("phase2.loss_weight", 0.0, 1.0),
        "clients.sample_frac": trial.suggest_categorical("clients.sample_frac", [0.1, 0.2, 0.3]),
    }
