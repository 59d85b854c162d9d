"""A method's own search space for a comparison, and its search by Optuna."""

from typing import Any

import optuna

from mm_ray.seeding import stream

NUM_STARTUP_TRIALS = 5
PHASE1_RATES = (0.01, 0.03, 0.1)
WITH_PHASE2 = ("modality_mirror", "control", "control_all", "harmony")
WEIGHTED = ("modality_mirror", "fedcmi", "mfcpl")


class MethodSearch:
    """Asks and tells one method's settings; the first is the default.

    Args:
        method: Name of the method.
        name: Name of the random stream, so that two searches differ.
        seed: Seed.

    """

    def __init__(self, method: str, name: str, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=stream(seed, "compare", name) % 2**32, n_startup_trials=NUM_STARTUP_TRIALS)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._study.enqueue_trial(default_of(method))
        self._method = method

    def ask(self) -> dict[str, Any]:
        """The next setting, as config fields."""
        self._trial = self._study.ask()
        return space_of(self._method, self._trial)

    def tell(self, score: float) -> None:
        """The mean dev accuracy of what was asked last."""
        self._study.tell(self._trial, score)

    def best(self) -> dict[str, Any]:
        """The best setting so far, as config fields."""
        return dict(self._study.best_params)


def space_of(method: str, trial: optuna.Trial) -> dict[str, Any]:
    """Learning rate of phase 1 for all, of phase 2 where there is one; the weight of a method's own loss; for
    ModalityMirror its temperature, and whether audio-only clients go on with cross-entropy (as in `control_all`).

    Rounds are not searched: all methods have the same number. Phase 1's rate is one of a few, so that methods and trials
    share phase 1.
    """
    setting: dict[str, Any] = {"phase1.local.lr": trial.suggest_categorical("phase1.local.lr", PHASE1_RATES)}
    if method in WITH_PHASE2:
        setting["phase2.local.lr"] = trial.suggest_float("phase2.local.lr", 0.003, 0.1, log=True)
    if method in WEIGHTED:
        setting["phase2.loss_weight"] = trial.suggest_float("phase2.loss_weight", 0.1, 1.0)
    if method == "modality_mirror":
        setting["phase2.temperature"] = trial.suggest_float("phase2.temperature", 1.0, 20.0, log=True)
        setting["phase2.audio_clients"] = trial.suggest_categorical("phase2.audio_clients", ("idle", "train"))
    return setting


def default_of(method: str) -> dict[str, Any]:
    """The defaults of the space."""
    fixed = {
        "phase1.local.lr": 0.03,
        "phase2.local.lr": 0.03,
        "phase2.loss_weight": 0.5,
        "phase2.temperature": 4.0,
        "phase2.audio_clients": "idle",
    }
    return dict(space_of(method, optuna.trial.FixedTrial(fixed)))  # type: ignore[arg-type]
