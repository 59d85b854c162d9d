"""Runs a generator of round reports to its end."""

from collections.abc import Callable, Generator
from typing import TypeVar

from mm_ray.types import RoundReport

Returned = TypeVar("Returned")


def drive(rounds: Generator[RoundReport, None, Returned], *tell: Callable[[RoundReport], None]) -> Returned:
    """Run a generator to its end, pass each report to each listener, and return the generator's result."""
    while True:
        try:
            report = next(rounds)
        except StopIteration as stop:
            returned: Returned = stop.value
            return returned
        for listener in tell:
            listener(report)
