"""Pruning: rules over the stored learning curves, applied by a scheduler of Tune.

A rule reads only the study, so a resumed study prunes the same trials as an uninterrupted one. Tune's own schedulers lose their
rungs when the driver ends.
"""

import warnings
from copy import copy
from itertools import accumulate
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from mm_ray.errors import bad_value
from mm_ray.tune.space import Space

GRACE_ROUNDS = 5
"""No trial is stopped before this many rounds of phase 2."""
REDUCTION = 3
BRACKETS = 3
MEDIAN_STARTUP_TRIALS = 5
WILCOXON_P = 0.15
"""A trial whose three seeds are all worse than the best trial's has p = 1/8, so the third seed is the first that can prune
it."""


def make_pruner(name: str) -> BasePruner | None:
    """The rule of a scheduler's name; None lets every trial run."""
    match name:
        case "asha":
            return OnBestSoFar(SuccessiveHalving(GRACE_ROUNDS, REDUCTION))
        case "hyperband":
            return OnBestSoFar(SuccessiveHalving(GRACE_ROUNDS, REDUCTION, BRACKETS))
        case "median":
            return OnBestSoFar(optuna.pruners.MedianPruner(MEDIAN_STARTUP_TRIALS, n_warmup_steps=GRACE_ROUNDS))
        case "wilcoxon":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.pruners.WilcoxonPruner(p_threshold=WILCOXON_P)
    return None


def check_scheduler(name: str, space: Space, num_seeds: int) -> None:
    """Refuse a scheduler that has nothing to compare.

    Raises:
        UserError: Stopping with several objectives, by rounds with several seeds, or by seeds with one.

    """
    if name == "none":
        return
    if len(space.objectives) > 1:
        raise bad_value("scheduler", name, f"compares one objective, the space {space.name} has several; use none")
    if num_seeds > 1 and name != "wilcoxon":
        raise bad_value("scheduler", name, f"compares rounds, but a trial of {num_seeds} seeds is judged by them; use wilcoxon")
    if num_seeds == 1 and name == "wilcoxon":
        raise bad_value("scheduler", name, "compares seeds; give --seeds 4 or more")


class OnBestSoFar(BasePruner):
    """A rule over running maxima: each round counts with the best value so far, since a trial keeps its best round.

    The study holds the rounds' own values, as Optuna's dashboard shows them.
    """

    def __init__(self, rule: BasePruner) -> None:
        self.rule = rule

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the rule stops the trial at its last step."""
        view: Any = _BestSoFar(study)
        return self.rule.prune(view, view.seen(trial))


class _BestSoFar:
    """What a rule reads of a study."""

    def __init__(self, study: optuna.Study) -> None:
        self._study, self.direction = study, study.direction

    def get_trials(self, deepcopy: bool = False, states: Any = None) -> list[FrozenTrial]:
        return [self.seen(trial) for trial in self._study.get_trials(deepcopy=False, states=states)]

    def seen(self, trial: FrozenTrial) -> FrozenTrial:
        best = max if self.direction == StudyDirection.MAXIMIZE else min
        steps = sorted(trial.intermediate_values)
        values = accumulate((trial.intermediate_values[step] for step in steps), best)
        shown = copy(trial)
        shown.intermediate_values = dict(zip(steps, values, strict=True))
        return shown


class SuccessiveHalving(BasePruner):
    """Asynchronous successive halving (Li et al. 2020) as a function of the stored curves.

    At each rung (`grace`, `grace * factor`, ... rounds) a trial continues if it is among the best 1/`factor` of the trials that
    have reached the rung so far (while those are fewer than `factor`: if it is the best). With several brackets, trial n starts
    at rung n modulo `brackets`: Hyperband's hedge against late bloomers, with equally many trials per bracket. Optuna's own
    pruners store a rung before they decide, so a driver killed in between would decide differently after a restart.
    """

    def __init__(self, grace: int, factor: int, brackets: int = 1) -> None:
        self.grace, self.factor, self.brackets = grace, factor, brackets

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial stops at its last step."""
        step = trial.last_step
        if step is None or not self._is_rung(step, trial.number % self.brackets):
            return False
        sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        peers = [
            sign * other.intermediate_values[step]
            for other in study.get_trials(deepcopy=False)
            if step in other.intermediate_values and other.number % self.brackets == trial.number % self.brackets
        ]
        worst_kept = sorted(peers, reverse=True)[max(len(peers) // self.factor, 1) - 1]
        return bool(sign * trial.intermediate_values[step] < worst_kept)

    def _is_rung(self, step: int, bracket: int) -> bool:
        rung = self.grace * self.factor**bracket
        while rung < step:
            rung *= self.factor
        return rung == step


class StudyScheduler(FIFOScheduler):
    """Tune's scheduler: first come, first served; it stops a trial when the study's rule prunes it.

    Args:
        search: The searcher, which holds the study and its rule.

    """

    def __init__(self, search: Any) -> None:
        super().__init__()
        self._search = search

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop or continue."""
        return TrialScheduler.STOP if self._search.report(trial.trial_id, result) else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A trial failed: tell the searcher whether it has tries left, before Tune retries it or gives up."""
        self._search.has_tries_left[trial.trial_id] = trial.should_recover()
