"""Statistics of scores: spread, paired tests, Holm's correction, guessing. K units of a comparison, C classes, M tests.

Cells of a comparison share data, so they are no independent draws. A unit is what is drawn anew:

- several folds: a unit is a fold, the mean over its seeds (and regimes). Folds share most of their training clips, so the
  variance of the mean is corrected by Nadeau and Bengio (Inference for the Generalization Error, Machine Learning 52, 2003):
  `(1 / K + test clips / training clips) * variance` instead of `variance / K`, with K - 1 degrees of freedom;
- one fold: a unit is a seed, the mean over its regimes, with the paired t-test. It says nothing of other test clips.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from mm_ray.seeding import numpy_stream

Row = Mapping[str, Any]
PAIR = ("video_missing", "alpha", "seed", "fold")
CONFIDENCE = 0.95
LEVEL = 0.05
"""A score beats guessing if guessing would reach it with a smaller probability."""
NAN = float("nan")
RESAMPLES = 2000


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; NaN for the deviation of a single value."""
    return fmean(values), stdev(values) if len(values) > 1 else NAN


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval by Student's t; NaN for the bounds of a single value."""
    mean, sd = mean_and_sd(values)
    half = special.stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * sd / np.sqrt(len(values)) if len(values) > 1 else NAN
    return mean, float(mean - half), float(mean + half)


def spread_text(values: Sequence[float]) -> str:
    """Mean, standard deviation and n for people: a spread is shown only where there is one to estimate."""
    mean, sd = mean_and_sd(values)
    if len(values) == 1:
        return f"{mean:.3f} (n=1)"
    return f"{mean:.3f} ± {sd:.3f} (n={len(values)})" if sd > 0 else f"{mean:.3f} (n={len(values)}, all equal)"


class Units(NamedTuple):
    """Paired differences between two methods, by what is resampled."""

    kind: str
    """`folds` or `seeds`."""
    differences_K: np.ndarray
    """First minus second method, the mean over a unit's cells."""
    cells_each: float
    """Mean number of cells in a unit."""
    test_per_train: float
    """Test clips over training clips, the mean over folds; 0 on one fold, where it is not used."""


def units_of(rows: Sequence[Row], method: str, other: str, metric: str) -> Units:
    """Pair the cells that differ in the method only, and take the mean over each unit.

    Args:
        rows: Rows with `method`, `video_missing`, `alpha`, `seed`, `fold`, the metric, `train_clips` and `test_clips`.
        method: The first method.
        other: The second method.
        metric: A column; rows with None are left out.

    """
    ours, theirs = _by_pair(rows, method, metric), _by_pair(rows, other, metric)
    pairs = sorted(ours.keys() & theirs.keys())
    several_folds = len({pair[PAIR.index("fold")] for pair in pairs}) > 1
    kind = "folds" if several_folds else "seeds"
    by_unit: dict[Any, list[float]] = defaultdict(list)
    for pair in pairs:
        by_unit[pair[PAIR.index(kind.removesuffix("s"))]].append(ours[pair] - theirs[pair])
    ratio = _test_per_train(rows) if several_folds else 0.0
    means_K = np.array([fmean(by_unit[unit]) for unit in sorted(by_unit)])
    return Units(kind, means_K, len(pairs) / len(by_unit) if by_unit else 0.0, ratio)


def _by_pair(rows: Sequence[Row], method: str, metric: str) -> dict[tuple[Any, ...], float]:
    mine = (row for row in rows if row["method"] == method and row.get(metric) is not None)
    return {tuple(row[name] for name in PAIR): row[metric] for row in mine}


def _test_per_train(rows: Sequence[Row]) -> float:
    return fmean({row["fold"]: row["test_clips"] / row["train_clips"] for row in rows}.values())


@dataclass(frozen=True)
class Paired:
    """A paired test of two methods; NaN where it cannot be made: fewer than two units, or no spread between them."""

    n: int
    """Units."""
    mean: float
    low: float
    high: float
    """95 % confidence interval of the mean, not corrected for the number of tests."""
    wins: int
    """Units in which the first method is better."""
    p: float
    """Two-sided; 1 where no unit differs."""


def paired_test(differences_K: np.ndarray, test_per_train: float = 0.0) -> Paired:
    """The paired t-test, corrected by Nadeau and Bengio if the units share training data.

    Args:
        differences_K: A difference by unit.
        test_per_train: Test clips over training clips; 0 for units that share none.

    """
    n, mean, wins = len(differences_K), float(differences_K.mean()), int((differences_K > 0).sum())
    sd = float(differences_K.std(ddof=1)) if n > 1 else NAN
    if not sd > 1e-12:  # also NaN
        equal = n > 1 and abs(mean) <= 1e-12
        return Paired(n, mean, mean if equal else NAN, mean if equal else NAN, wins, 1.0 if equal else NAN)
    error = sd * np.sqrt(1 / n + test_per_train)
    half = special.stdtrit(n - 1, (1 + CONFIDENCE) / 2) * error
    return Paired(n, mean, float(mean - half), float(mean + half), wins, float(2 * special.stdtr(n - 1, -abs(mean) / error)))


class OverClips(NamedTuple):
    """Two networks' answers to the same test clips."""

    mean: float
    """First minus second network, accuracy."""
    low: float
    high: float
    """95 % interval of the mean over other seeds and other test clips."""
    only_first: int
    only_second: int
    """Answers that one network alone has right, over all seeds."""
    p: float
    """McNemar's exact two-sided test, for one seed; NaN for several, whose answers to a clip are not independent."""

    def line(self) -> str:
        """For people."""
        mcnemar = "" if np.isnan(self.p) else f", McNemar p {self.p:.2g}"
        return (
            f"over seeds and test clips (paired bootstrap): {self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]; "
            f"{self.only_first:,} answers right in the first alone, {self.only_second:,} in the second alone{mcnemar}"
        )


def compare_clips(first_KN: np.ndarray, second_KN: np.ndarray, seed: int) -> OverClips:
    """Compare two networks on the same N clips with K paired seeds.

    The interval is a paired bootstrap that draws seeds and clips anew, both with replacement, and takes percentiles (Efron
    and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; for two factors Owen, Annals of Applied Statistics 1,
    2007).

    Args:
        first_KN: Whether the first network is right, bool, by seed and clip.
        second_KN: Likewise the second.
        seed: Of the resamples.

    """
    differences_KN = first_KN.astype(np.float64) - second_KN
    (k, n), draws = differences_KN.shape, numpy_stream(seed, "bootstrap")
    means_R = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        counts_K, counts_N = (np.bincount(draws.integers(0, size, size), minlength=size) for size in (k, n))
        means_R[i] = counts_K @ differences_KN @ counts_N / (k * n)
    low, high = np.quantile(means_R, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    only_first, only_second = int((differences_KN > 0).sum()), int((differences_KN < 0).sum())
    p = mcnemar(only_first, only_second) if k == 1 else NAN
    return OverClips(float(differences_KN.mean()), float(low), float(high), only_first, only_second, p)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p that two networks are right equally often, from the clips that one alone has right (McNemar 1947)."""
    n = only_first + only_second
    return min(1.0, 2 * float(special.bdtr(min(only_first, only_second), n, 0.5))) if n else 1.0


def holm(p_M: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm, Scandinavian Journal of Statistics 6, 1979); NaN counts as no test."""
    order = sorted((i for i, p in enumerate(p_M) if not np.isnan(p)), key=lambda i: p_M[i])
    corrected, largest = [NAN] * len(p_M), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_M[i]))
        corrected[i] = largest
    return corrected


class MethodDifference(NamedTuple):
    """One test of a page."""

    regime: tuple[float, float] | None
    """Missing video and alpha; None for all regimes together."""
    method: str
    other: str
    units: Units
    result: Paired
    holm_p: float
    """`result.p`, corrected for all tests of the page."""


def compare_all(rows: Sequence[Row], methods: Sequence[str], references: Iterable[str], metric: str) -> list[MethodDifference]:
    """Each method against each reference, by regime and over all regimes; each pair once. Holm's family is all of them."""
    regimes: list[tuple[float, float] | None] = [*sorted({(row["video_missing"], row["alpha"]) for row in rows})]
    references = [reference for reference in references if reference in methods]
    pairs = [
        (method, other) for place, other in enumerate(references) for method in methods if method not in references[: place + 1]
    ]
    found = []
    for regime in [*regimes, *([None] if len(regimes) > 1 else [])]:
        mine = [row for row in rows if regime in (None, (row["video_missing"], row["alpha"]))]
        for method, other in pairs:
            units = units_of(mine, method, other, metric)
            if len(units.differences_K):
                found.append(
                    MethodDifference(regime, method, other, units, paired_test(units.differences_K, units.test_per_train), NAN)
                )
    corrected = holm([one.result.p for one in found])
    return [one._replace(holm_p=p) for one, p in zip(found, corrected, strict=True)]


def guessing(counts_C: Sequence[int]) -> float:
    """Accuracy of always naming the most common class."""
    return max(counts_C) / max(sum(counts_C), 1)


def proportion_interval(hits: int, clips: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy (Wilson, JASA 22, 1927), for clips that are independent."""
    if not clips:
        return 0.0, 1.0
    z, share = float(special.ndtri((1 + CONFIDENCE) / 2)), hits / clips
    middle, width = share + z * z / (2 * clips), z * np.sqrt(share * (1 - share) / clips + z * z / (4 * clips**2))
    scale = 1 + z * z / clips
    return float((middle - width) / scale), float((middle + width) / scale)


def beats_guessing(accuracy: float, counts_C: Sequence[int]) -> bool:
    """Whether guessing would be right in as many clips with a probability below `LEVEL` (one-sided binomial test).

    Args:
        accuracy: Top-1 on these clips.
        counts_C: Clips by class.

    """
    clips = sum(counts_C)
    hits = round(accuracy * clips)
    return hits > 0 and float(special.bdtrc(hits - 1, clips, guessing(counts_C))) < LEVEL


class ClientSpread(NamedTuple):
    """How a measure differs over clients."""

    mean: float
    worst: float
    """Mean of the worst tenth, at least one client."""
    sd: float | None
    """Standard deviation; None for one client."""
    n: int


def spread_of_clients(values: Sequence[float], lowest: bool = True) -> ClientSpread:
    """The spread over clients.

    Args:
        values: One per client, at least one.
        lowest: Whether low values are the worst, as of an accuracy.

    """
    worst = sorted(values, reverse=not lowest)[: max(1, round(0.1 * len(values)))]
    return ClientSpread(fmean(values), fmean(worst), stdev(values) if len(values) > 1 else None, len(values))
