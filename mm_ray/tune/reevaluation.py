"""Which trial a study chooses: the best one, or with several seeds the best of the finals.

In the finals the best configurations run again with fresh seeds, and one is chosen.

The best of many noisy trials looks better than it is. All finalists run with the same fresh seeds, for paired comparison.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mm_ray.seeding import numpy_stream
from mm_ray.storage import write_text
from mm_ray.tune.estimate import NUM_FINALISTS
from mm_ray.tune.searcher import StudySearch
from mm_ray.tune.study import Runner


def ranking(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials, best first, without duplicates.

    Trials that satisfy the space's constraints come first, then those with the higher first objective (with several objectives
    its winner lies on the Pareto front), then earlier trials.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    own = [trial for trial in complete if "same_as" not in trial.user_attrs]
    sign = 1 if study.directions[0] == StudyDirection.MAXIMIZE else -1
    feasible = {trial.number: all(value <= 0 for value in trial.constraints.values()) for trial in own}
    return sorted(own, key=lambda trial: (not feasible[trial.number], -sign * trial.values[0], trial.number))


RESAMPLES = 2000


@dataclass(frozen=True)
class Finalist:
    """A configuration with its scores on the fresh seeds, in their order."""

    number: int
    params: Mapping[str, Any]
    scores: Sequence[float]
    rounds: int
    """What it costs: rounds of all its phases."""

    @property
    def mean(self) -> float:
        """Mean score."""
        return fmean(self.scores)

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; 0 of one seed."""
        return stdev(self.scores) if len(self.scores) > 1 else 0.0


@dataclass(frozen=True)
class Finals:
    """The outcome: the finalists by mean, and the one that is chosen."""

    seeds: Sequence[int]
    finalists: Sequence[Finalist]
    chosen: int
    """Its trial's number."""
    certainty: float
    """Share of resamples of the seeds in which the highest mean is the same finalist's."""

    def words(self) -> list[str]:
        """For people: one line per finalist, and how certain the choice is."""
        best = self.finalists[0]
        lines = [self._line(one, best) for one in self.finalists]
        rule = "the highest mean" if self.chosen == best.number else "the fewest rounds within one standard error of the best"
        return [*lines, f"chosen for {rule}; trial {best.number} is first in {self.certainty:.0%} of resamples of the seeds"]

    def _line(self, one: Finalist, best: Finalist) -> str:
        over = f"over {len(self.seeds)} fresh seeds, {one.rounds} rounds"
        chosen = " (chosen)" if one.number == self.chosen else ""
        against = "" if one is best else f"; {_paired(best, one)}"
        return f"trial {one.number}: mean {one.mean:.3f}, sd {one.spread:.3f} {over}{chosen}{against}"


def run_finals(runner: Runner, search: StudySearch) -> Finals | None:
    """Run the finalists with as many fresh seeds as the trials had; writes `finals.json`.

    Returns:
        The finals; None if no seed was completed by every finalist.

    Raises:
        Interrupted: By ^C or TERM.

    """
    study = runner.study
    seeds = range(study.base.seed + study.num_seeds, study.base.seed + 2 * study.num_seeds)
    rows = {row["number"]: row for row in runner.rows(search)}
    picked = [rows[trial.number] for trial in ranking(search.study)[:NUM_FINALISTS]]
    jobs = [{"number": row["number"], "overrides": row["overrides"], "seeds": [seed]} for row in picked for seed in seeds]
    grid = runner.compute(search, f"finals: {len(picked)} configurations, {len(seeds)} fresh seeds each", jobs)
    scores = {}
    for ended in (grid[index] for index in range(len(grid))):
        if not ended.error and ended.config and ended.metrics:
            scores[ended.config["number"], ended.config["seeds"][0]] = ended.metrics["score"]
    done = [seed for seed in seeds if all((row["number"], seed) in scores for row in picked)]
    finalists = [
        Finalist(row["number"], row["params"], [scores[row["number"], seed] for seed in done], int(row["metrics"]["rounds"]))
        for row in picked
    ]
    finals = choose(finalists, done, study.base.seed) if done else None
    if finals:
        write_text(study.folder / "finals.json", json.dumps(asdict(finals), indent=2))
    return finals


def choose(finalists: Sequence[Finalist], seeds: Sequence[int], seed: int) -> Finals:
    """The one-standard-error rule: of the finalists within one standard error of the best mean, that with the fewest rounds."""
    by_mean = sorted(finalists, key=lambda one: (-one.mean, one.number))
    best = by_mean[0]
    least = best.mean - best.spread / sqrt(len(best.scores))
    chosen = min((one for one in by_mean if one.mean >= least), key=lambda one: one.rounds)
    return Finals(list(seeds), by_mean, chosen.number, _certainty(by_mean, seed))


def _certainty(by_mean: Sequence[Finalist], seed: int) -> float:
    scores_FS = np.array([one.scores for one in by_mean])
    picks_RS = numpy_stream(seed, "finals").integers(0, scores_FS.shape[1], (RESAMPLES, scores_FS.shape[1]))
    means_FR = scores_FS[:, picks_RS].mean(2)
    return float((means_FR.argmax(0) == 0).mean())


def _paired(best: Finalist, other: Finalist) -> str:
    differences = [a - b for a, b in zip(best.scores, other.scores, strict=True)]
    wins = sum(difference > 0 for difference in differences)
    error = stdev(differences) / sqrt(len(differences)) if len(differences) > 1 else float("nan")
    return f"{-fmean(differences):+.3f} (se {error:.3f}) against trial {best.number}, which wins {wins} of {len(differences)}"
