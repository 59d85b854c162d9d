"""Search algorithms: Optuna's samplers by name, created anew for every suggestion (docs/decisions.md)."""

import warnings

import optuna

from mm_ray.errors import bad_value
from mm_ray.seeding import stream
from mm_ray.tune.choices import SEARCHERS
from mm_ray.tune.space import Space

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
        return samplers.TPESampler(
            n_startup_trials=NUM_STARTUP_TRIALS, multivariate=True, group=True, constant_liar=True, seed=drawn
        )


def check_searcher(name: str, space: Space) -> None:
    """Refuse a searcher that cannot search the space.

    Raises:
        UserError: An unknown name, or CMA-ES with several objectives.

    """
    if name not in SEARCHERS:
        raise bad_value("searcher", name, f"known names: {', '.join(SEARCHERS)}")
    if name == "cmaes" and len(space.objectives) > 1:
        raise bad_value("searcher", name, f"supports one objective, the space {space.name} has several; use nsga2, tpe or gp")
