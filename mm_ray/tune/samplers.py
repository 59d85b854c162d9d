"""Search algorithms: Optuna's samplers by name, created anew for every suggestion (docs/decisions.md), and the grid of a space.

Your own (`mine.py`, `mine.py:thing`) is a function `sampler(seed)` that gives an `optuna.samplers.BaseSampler`, such as one of
OptunaHub's.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from mm_ray.errors import bad_value
from mm_ray.plugins import check_name, in_user_code, load
from mm_ray.seeding import numpy_stream, stream
from mm_ray.tune.flags import SEARCHERS
from mm_ray.tune.space import OneByOneSampler, Space

FIELD = "searcher"
NUM_STARTUP_TRIALS = 8
POPULATION = 16
"""Of NSGA-II; Optuna's default of 50 would spend most studies' whole budget on the first generation."""
POINTS = 5
"""Values of a number: both ends and what lies evenly between them, on a log axis where the space says so."""
MAX_POINTS = 10_000


def make_sampler(name: str, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of trial `number`, seeded with the stream (seed, "suggest", number) alone.

    It reads earlier trials only from the study, so a resumed study continues as if it had never stopped.
    `grid` needs none: its points are enqueued (`grid_points`).
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


def grid_points(space: Space, seed: int) -> list[dict[str, Any]]:
    """Every point of the grid once, in an order drawn from the seed, so that the first points already spread over all of it.

    A parameter that a branch does not suggest has no values there.

    Raises:
        UserError: The grid has more than `MAX_POINTS` points.

    """
    points = []
    for point in _walk(space):
        points.append(point)
        if len(points) > MAX_POINTS:
            remedy = f"the grid of {space.name} has more than {MAX_POINTS} points; search fewer parameters, or use tpe"
            raise bad_value("searcher", "grid", remedy)
    order = numpy_stream(seed, "grid").permutation(len(points))
    return [points[index] for index in order]


def _walk(space: Space) -> Iterator[dict[str, Any]]:
    odometer: list[int] = []
    while True:
        sampler = _Odometer(odometer)
        trial = optuna.create_study(storage=optuna.storages.InMemoryStorage(), sampler=sampler).ask()
        space.overrides(trial)
        yield dict(trial.params)
        odometer = [index for index, _ in sampler.dials]
        sizes = [size for _, size in sampler.dials]
        while odometer and odometer[-1] + 1 == sizes[len(odometer) - 1]:
            odometer.pop()
        if not odometer:
            return
        odometer[-1] += 1


class _Odometer(OneByOneSampler):
    """Makes the given choices, then takes the first value of every parameter, and records how many values each has."""

    def __init__(self, first: list[int]) -> None:
        self._first = first
        self.dials: list[tuple[int, int]] = []

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: BaseDistribution) -> Any:
        values = values_of(param_distribution)
        position = len(self.dials)
        index = self._first[position] if position < len(self._first) else 0
        self.dials.append((index, len(values)))
        return values[index]


def values_of(distribution: Any) -> list[Any]:
    """The grid's values of one parameter, ascending."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    low, high, step = distribution.low, distribution.high, distribution.step
    whole = isinstance(distribution, optuna.distributions.IntDistribution)
    if step and not distribution.log and (high - low) / step < POINTS:
        return [_as(whole, low + i * step) for i in range(round((high - low) / step) + 1)]
    fractions = [i / (POINTS - 1) for i in range(POINTS)]
    if distribution.log:
        values = [low * (high / low) ** fraction for fraction in fractions]
    else:
        values = [low + (high - low) * fraction for fraction in fractions]
    if step and not distribution.log:
        values = [low + step * round((value - low) / step) for value in values]
    return sorted({_as(whole, min(max(value, low), high)) for value in values})


def _as(whole: bool, value: float) -> float | int:
    return round(value) if whole else float(value)
