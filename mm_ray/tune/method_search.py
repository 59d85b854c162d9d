"""A method's own search space for a comparison, and its search by Optuna."""

from typing import Any, cast

import optuna

from mm_ray.config import FIELDS
from mm_ray.fed.method import Trial, learning_rates
from mm_ray.plugins import resolve
from mm_ray.seeding import stream

NUM_STARTUP_TRIALS = 5


class MethodSearch:
    """Suggests one method's settings and records their scores; the first setting is the default.

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
        return space_of(self._method, cast(Trial, self._trial))

    def tell(self, score: float) -> None:
        """Record the mean dev accuracy of the last suggestion."""
        self._study.tell(self._trial, score)

    def best(self) -> dict[str, Any]:
        """The best setting so far, as config fields."""
        return dict(self._study.best_params)


def space_of(method: str, trial: Trial) -> dict[str, Any]:
    """What the method's own `space(trial)` suggests, or both learning rates where it has none.

    Rounds are not searched: all methods have the same number.
    """
    module = resolve("method", method, "mm_ray.methods", "build")
    suggested: dict[str, Any] = getattr(module, "space", learning_rates)(trial)
    return suggested


def default_of(method: str) -> dict[str, Any]:
    """The config's defaults for the parameters that the method searches."""
    defaults = {name: info.default for name, info in FIELDS.items()}
    return space_of(method, cast(Trial, optuna.trial.FixedTrial(defaults)))
