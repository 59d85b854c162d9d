"""Search both phases: rounds and client learning rates of each, and where the student starts.

Use it when nothing is settled yet, and give it more trials than `distill` (50 and up). Trials that differ only in
`phase1.rounds` share the rounds they have in common; a new `phase1.local.lr` costs a whole phase 1. A trial counts only if its
student is not below its own phase-1 audio network.
"""

from typing import Any

import optuna

OBJECTIVES: dict[str, str] = {"dev/audio_top1": "max"}
AT_LEAST: dict[str, float] = {"dev/gain_top1": 0.0}

_DEFAULT: dict[str, Any] = {
    "phase1.rounds": 64,
    "phase1.local.lr": 0.05,
    "phase2.temperature": 2.0,
    "phase2.loss_weight": 0.9,
    "phase2.rounds": 24,
    "phase2.student_init": "phase1",
    "phase2.local.lr": 0.05,
}

ENQUEUED: list[dict[str, Any]] = [
    _DEFAULT,
    _DEFAULT | {"phase2.loss_weight": 0.0},
    _DEFAULT | {"phase2.loss_weight": 1.0},
]


def space(trial: optuna.Trial) -> dict[str, Any]:
    """Config overrides of one trial."""
    overrides: dict[str, Any] = {
        "phase1.rounds": trial.suggest_int("phase1.rounds", 16, 96, step=16),
        "phase1.local.lr": trial.suggest_float("phase1.local.lr", 0.005, 0.2, log=True),
        "phase2.temperature": trial.suggest_float("phase2.temperature", 1.0, 20.0, log=True),
        "phase2.loss_weight": trial.suggest_float("phase2.loss_weight", 0.0, 1.0),
        "phase2.rounds": trial.suggest_int("phase2.rounds", 8, 64, step=8),
        "phase2.student_init": trial.suggest_categorical("phase2.student_init", ["phase1", "random"]),
    }
    return overrides | {"phase2.local.lr": _student_lr(trial, overrides["phase2.student_init"])}


def _student_lr(trial: optuna.Trial, student_init: str) -> float:
    # One Optuna name has one range, so the branch has a name of its own: a fresh student bears a larger step.
    if student_init == "random":
        return trial.suggest_float("phase2.local.lr@random", 0.02, 0.3, log=True)
    return trial.suggest_float("phase2.local.lr", 0.002, 0.1, log=True)
