"""The space of benchmarks.chaos: both phases' lengths vary, that of phase 2 under a condition. Use it there."""

from typing import Any

import optuna

OBJECTIVES: dict[str, str] = {"dev/audio_top1": "max"}


def space(trial: optuna.Trial) -> dict[str, Any]:
    """Config overrides of one trial."""
    overrides = {
        "phase1.rounds": trial.suggest_int("phase1.rounds", 40, 60, step=10),
        "phase2.temperature": trial.suggest_float("phase2.temperature", 1.0, 20.0, log=True),
        "phase2.local.lr": trial.suggest_float("phase2.local.lr", 0.001, 0.3, log=True),
        "phase2.student_init": trial.suggest_categorical("phase2.student_init", ["phase1", "random"]),
    }
    if overrides["phase2.student_init"] == "random":
        overrides["phase2.rounds"] = trial.suggest_int("phase2.rounds", 40, 120, step=40)
    return overrides
