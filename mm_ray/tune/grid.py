"""The grid of a space: all its points, found by running the space's function with every possible choice."""

from collections.abc import Iterator
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from mm_ray.errors import bad_value
from mm_ray.seeding import numpy_stream
from mm_ray.tune.space import Space

POINTS = 5
"""Values of a number: both ends and what lies evenly between them, on a log axis where the space says so."""
MAX_POINTS = 10_000


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


class _Odometer(optuna.samplers.BaseSampler):
    """Makes the given choices, then takes the first value of every parameter, and records how many values each has."""

    def __init__(self, first: list[int]) -> None:
        self._first = first
        self.dials: list[tuple[int, int]] = []

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return {}

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
