"""Two tiny trials that finish in a minute on a laptop: to see that a study works here, not to learn anything.

Use it with `--trials 2` after an installation, or as the pattern of a space of your own: it also fixes settings that are
not searched.
"""

from typing import Any

import optuna

OBJECTIVES: dict[str, str] = {"dev/audio_top1": "max"}

ENQUEUED: list[dict[str, Any]] = [
    {"phase2.temperature": 2.0, "phase2.loss_weight": 0.9},
    {"phase2.temperature": 2.0, "phase2.loss_weight": 0.0},
    {"phase2.temperature": 2.0, "phase2.loss_weight": 1.0},
]

_FIXED: dict[str, Any] = {"phase1.rounds": 4, "phase2.rounds": 2}


def space(trial: optuna.Trial) -> dict[str, Any]:
    """Config overrides of one trial."""
    return _FIXED | {
        "phase2.temperature": trial.suggest_float("phase2.temperature", 1.0, 20.0, log=True),
        "phase2.loss_weight": trial.suggest_float("phase2.loss_weight", 0.0, 1.0),
    }
