"""The space of benchmarks.study: what benchmarks.study_curves has curves of. Use it there."""

from typing import Any

import optuna

OBJECTIVES: dict[str, str] = {"dev/audio_top1": "max"}


def space(trial: optuna.Trial) -> dict[str, Any]:
    """Config overrides of one trial."""
    return {
        "phase2.temperature": trial.suggest_float("phase2.temperature", 1.0, 20.0, log=True),
        "phase2.loss_weight": trial.suggest_float("phase2.loss_weight", 0.0, 1.0),
        "phase2.local.lr": trial.suggest_float("phase2.local.lr", 0.003, 0.1, log=True),
    }
