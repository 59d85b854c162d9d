"""Search algorithms: Optuna's samplers by name, created anew for every suggestion (docs/decisions.md).

Your own (`mine.py`, `mine.py:thing`) is a function `sampler(seed)` that gives an `optuna.samplers.BaseSampler`, such as one of
OptunaHub's.
"""

import warnings
from typing import Any

import optuna

from mm_ray.errors import bad_value
from mm_ray.plugins import check_name, in_user_code, load
from mm_ray.seeding import stream
from mm_ray.tune.flags import SEARCHERS
from mm_ray.tune.space import Space

FIELD = "searcher"
NUM_STARTUP_TRIALS = 8
POPULATION = 16
"""Of NSGA-II; Optuna's default of 50 would spend most studies' whole budget on the first generation."""


def make_sampler(name: str, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of trial `number`, seeded with the stream (seed, "suggest", number) alone.

    It reads earlier trials only from the study, so a resumed study continues as if it had never stopped.
    `grid` needs none: its points are enqueued (mm_ray/tune/grid.py).
    """
    drawn = stream(seed, "suggest", number) % 2**32
    samplers = optuna.samplers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "gp":
                return samplers.GPSampler(seed=drawn, n_startup_trials=NUM_STARTUP_TRIALS, warn_independent_sampling=False)
            case "cmaes":
                return samplers.CmaEsSampler(seed=drawn, n_startup_trials=NUM_STARTUP_TRIALS, warn_independent_sampling=False)
            case "nsga2":
                return samplers.NSGAIISampler(seed=drawn, population_size=POPULATION)
            case "random" | "grid":
                return samplers.RandomSampler(seed=drawn)
            case "tpe":
                return samplers.TPESampler(
                    n_startup_trials=NUM_STARTUP_TRIALS, multivariate=True, group=True, constant_liar=True, seed=drawn
                )
    return own_sampler(name, drawn)


def own_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """What the user's own `sampler(seed)` gives.

    Raises:
        UserError: There is no such function, it fails, or gives something else.

    """
    spelled, _, thing = name.partition(":")
    function = getattr(load(FIELD, spelled), thing or "sampler", None)
    if not callable(function):
        raise bad_value(FIELD, name, f"the module has no function {thing or 'sampler'}(seed)")
    sampler = in_user_code(FIELD, name, "fails", lambda: function(seed))
    if not isinstance(sampler, optuna.samplers.BaseSampler):
        raise bad_value(FIELD, name, f"gives a {type(sampler).__name__}; it must give an optuna.samplers.BaseSampler")
    return sampler


def trial_suggestions(name: str, num_trials: int = 12) -> list[dict[str, Any]]:
    """What an own sampler suggests in a study of a number `x` and a word `kind`, made anew for each trial as studies do."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    for number in range(num_trials):
        study.sampler = own_sampler(name, number)
        trial = study.ask()
        x, kind = trial.suggest_float("x", 0, 1), trial.suggest_categorical("kind", ("a", "b"))
        study.tell(trial, x + (kind == "a"))
    return [trial.params for trial in study.trials]


def check_searcher(name: str, space: Space) -> None:
    """Refuse a searcher that cannot search the space.

    Raises:
        UserError: An unknown name, an own sampler that cannot be made, or CMA-ES with several objectives.

    """
    check_name(FIELD, name, SEARCHERS)
    if name not in SEARCHERS:
        own_sampler(name, seed=0)
    if name == "cmaes" and len(space.objectives) > 1:
        raise bad_value(FIELD, name, f"supports one objective, the space {space.name} has several; use nsga2, tpe or gp")
