"""Paired statistics of a comparison. K pairs: cells that differ in the method only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

Row = Mapping[str, Any]
PAIR = ("video_missing", "alpha", "seed", "fold")
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Paired:
    """What the differences between two methods say."""

    num_pairs: int
    mean: float
    low: float
    high: float
    """Confidence interval of the mean (Student's t over the pairs); NaN for fewer than two pairs."""
    wins: int
    """Pairs in which the first method is better."""
    wilcoxon_p: float
    """Two-sided Wilcoxon signed-rank test; 1.0 where no pair differs, NaN for fewer than two pairs."""


def paired(differences_K: np.ndarray) -> Paired:
    """Mean, confidence interval and Wilcoxon test of paired differences (first minus second method)."""
    count, mean = len(differences_K), float(differences_K.mean())
    half = _half_width(differences_K)
    return Paired(count, mean, mean - half, mean + half, int((differences_K > 0).sum()), _wilcoxon(differences_K))


def _half_width(differences_K: np.ndarray) -> float:
    if len(differences_K) < 2:
        return float("nan")
    error = differences_K.std(ddof=1) / np.sqrt(len(differences_K))
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences_K) - 1) * error)


def _wilcoxon(differences_K: np.ndarray) -> float:
    if len(differences_K) < 2:
        return float("nan")
    return float(stats.wilcoxon(differences_K).pvalue) if differences_K.any() else 1.0


def differences(rows: Sequence[Row], method: str, other: str, metric: str) -> np.ndarray:
    """Differences (K,) of a metric over the pairs that both methods have, in the order of the pairs."""
    ours, theirs = _by_pair(rows, method, metric), _by_pair(rows, other, metric)
    return np.array([ours[pair] - theirs[pair] for pair in sorted(ours.keys() & theirs.keys())])


def _by_pair(rows: Sequence[Row], method: str, metric: str) -> dict[tuple[Any, ...], float]:
    return {
        tuple(row[name] for name in PAIR): row[metric]
        for row in rows
        if row["method"] == method and row.get(metric) is not None
    }


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over cells (of the sample; 0 for a single one)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
