"""Search which distillation loss: of the logits, optionally with one of the features, each with its own parameters.

Use it when plain `kd` brings little and the phase before it is settled: all trials share phase 1. It is conditional, so a trial
suggests only what its losses read; give it 60 trials and up. Feature losses have other units than `kd`, hence wide weights.
"""

from typing import Any

import optuna

OBJECTIVES: dict[str, str] = {"dev/audio_top1": "max"}

_DEFAULT: dict[str, Any] = {
    "phase2.loss_weight": 0.9,
    "phase2.loss": "kd",
    "phase2.loss@feature": "none",
    "phase2.temperature": 2.0,
}

ENQUEUED: list[dict[str, Any]] = [
    _DEFAULT,
    _DEFAULT | {"phase2.loss_weight": 0.0},
    _DEFAULT | {"phase2.loss_weight": 1.0},
]


def space(trial: optuna.Trial) -> dict[str, Any]:
    """Config overrides of one trial."""
    overrides: dict[str, Any] = {"phase2.loss_weight": trial.suggest_float("phase2.loss_weight", 0.0, 1.0)}
    loss = trial.suggest_categorical("phase2.loss", ["kd", "dkd", "c2kd", "mse_logits"])
    feature = trial.suggest_categorical("phase2.loss@feature", ["none", "fitnets", "rkd", "crd"])
    overrides |= _of_logits(trial, loss) | _of_features(trial, feature)
    if feature == "none":
        return overrides | {"phase2.loss": loss}
    weight = trial.suggest_float(f"phase2.loss@{feature}_weight", 1e-3, 10.0, log=True)
    return overrides | {"phase2.loss": f"{loss}+{feature}:{weight:.4g}"}


def _of_logits(trial: optuna.Trial, loss: str) -> dict[str, Any]:
    if loss == "mse_logits":
        return {}
    chosen: dict[str, Any] = {"phase2.temperature": trial.suggest_float("phase2.temperature", 1.0, 20.0, log=True)}
    if loss == "dkd":
        chosen["phase2.losses.dkd_beta"] = trial.suggest_float("phase2.losses.dkd_beta", 0.5, 16.0, log=True)
    if loss == "c2kd":
        chosen["phase2.losses.c2kd_min_tau"] = trial.suggest_float("phase2.losses.c2kd_min_tau", -0.5, 0.5)
    return chosen


def _of_features(trial: optuna.Trial, feature: str) -> dict[str, Any]:
    if feature == "crd":
        return {"phase2.losses.crd_tau": trial.suggest_float("phase2.losses.crd_tau", 0.02, 0.5, log=True)}
    if feature == "rkd":
        return {"phase2.losses.rkd_angle": trial.suggest_float("phase2.losses.rkd_angle", 5.0, 100.0, log=True)}
    return {}
