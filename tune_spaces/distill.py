"""Search phase 2 only: temperature, loss weight and rounds of the distillation.

The default space. Every trial shares one phase 1, which is computed once. Use it when phase 1 is settled and the question
is how to distil; `phase2.loss_weight` 0 is cross-entropy on all clients (`control_all`), so that control lies inside the space.
"""

from typing import Any

import optuna

OBJECTIVES: dict[str, str] = {"dev/audio_top1": "max"}

_DEFAULT: dict[str, Any] = {"phase2.temperature": 2.0, "phase2.loss_weight": 0.9, "phase2.rounds": 24}

ENQUEUED: list[dict[str, Any]] = [
    _DEFAULT,
    _DEFAULT | {"phase2.loss_weight": 0.0},
    _DEFAULT | {"phase2.loss_weight": 1.0},
]


def space(trial: optuna.Trial) -> dict[str, Any]:
    """Config overrides of one trial."""
    return {
        "phase2.temperature": trial.suggest_float("phase2.temperature", 1.0, 20.0, log=True),
        "phase2.loss_weight": trial.suggest_float("phase2.loss_weight", 0.0, 1.0),
        "phase2.rounds": trial.suggest_int("phase2.rounds", 8, 40, step=8),
    }
