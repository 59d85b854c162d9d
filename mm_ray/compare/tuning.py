"""Equal tuning: every method gets the same number of trials of its own space, judged on dev only.

A trial is one setting of a method in one regime. Its score is the mean dev accuracy over all seeds and folds, because one
held-out speaker is a weak guide to another. The best setting is then tested once on each fold and seed.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mm_ray.compare.cells import ComparisonRun, Setting
from mm_ray.compare.run import Comparison, run_cells
from mm_ray.tune.method_search import MethodSearch

Group = tuple[str, Setting]
"""What is tuned separately: a method in a regime."""


def tuned_settings(comparison: Comparison, cells: Sequence[ComparisonRun], num_trials: int) -> list[ComparisonRun]:
    """The cells with the setting that did best on dev for their method and regime."""
    groups: dict[Group, list[ComparisonRun]] = defaultdict(list)
    for cell in cells:
        groups[cell.method, cell.setting].append(cell)
    searches = {group: MethodSearch(group[0], str(group), comparison.base.seed) for group in groups}
    for number in range(num_trials):
        _trial(comparison, groups, searches, f"tuning, trial {number + 1} of {num_trials}")
    best = {group: search.best() for group, search in searches.items()}
    return [replace(cell, tuned=best[cell.method, cell.setting]) for cell in cells]


def _trial(
    comparison: Comparison, groups: dict[Group, list[ComparisonRun]], searches: dict[Group, MethodSearch], title: str
) -> None:
    """One trial per group, all side by side."""
    suggested = {group: search.ask() for group, search in searches.items()}
    trials = [(group, replace(cell, tuned=suggested[group], on_test=False)) for group in groups for cell in groups[group]]
    results = run_cells(comparison, [cell for _, cell in trials], title)
    scores: dict[Group, list[float]] = defaultdict(list)
    for (group, _), result in zip(trials, results, strict=True):
        dev = result["dev"]
        scores[group].append(float(dev.get("student", next(iter(dev.values())))["top1"]))
    for group, search in searches.items():
        search.tell(float(np.mean(scores[group])))
