"""The bars that the comparison has to meet, and which it meets."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Found = Mapping[str, Any]


class Bar(NamedTuple):
    """A figure of the comparison and its limit."""

    text: str
    limit: float
    value: Callable[[Found], float]


def _round(workload: str, other: str) -> Callable[[Found], float]:
    return lambda found: found[workload]["systems"][other]["ours_of_it"]


def _of_flower(workload: str, figure: str) -> Callable[[Found], float]:
    return lambda found: found[workload]["systems"]["ours"][figure] / found[workload]["systems"]["flower"][figure]


BARS = (
    Bar("W1 of the floor", 1.0, _round("w1", "floor")),
    Bar("W1 of the floor, goal", 0.75, _round("w1", "floor")),
    Bar("W1 of pfl", 0.95, _round("w1", "pfl")),
    Bar("W1 of Flower", 0.42, _round("w1", "flower")),
    Bar("W2 of pfl", 0.3, _round("w2", "pfl")),
    Bar("W2 of pfl, goal", 0.15, _round("w2", "pfl")),
    Bar("W2 of Flower", 0.05, _round("w2", "flower")),
    Bar("tiny of the floor", 1.3, _round("tiny", "floor")),
    Bar("tiny of Flower", 0.11, _round("tiny", "flower")),
    Bar("W1, start to end of round 1, of Flower", 0.5, _of_flower("w1", "start_to_round_1_s")),
    Bar("W1, peak memory of Flower", 1.0, _of_flower("w1", "peak_mb")),
    Bar("W2, peak memory of Flower", 1.0, _of_flower("w2", "peak_mb")),
)


def judged(found: Found) -> list[dict[str, Any]]:
    """Each bar whose figure was measured, with its value."""
    judgements = []
    for bar in BARS:
        try:
            value = bar.value(found)
        except (KeyError, TypeError):
            continue
        judgements.append({"text": bar.text, "limit": bar.limit, "value": value, "met": value <= bar.limit})
    return judgements
