"""Asking a study for its next trial, so that the answer depends only on the seed and on what is stored."""

from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from mm_ray.tune.samplers import grid_points, make_sampler
from mm_ray.tune.space import Space

MAX_DUPLICATES = 20

Suggestion = tuple[Trial, dict[str, Any]]


class Suggester:
    """Asks one study for trials.

    Args:
        study: The study.
        space: What is searched.
        seed: Trial n is drawn from the stream (seed, "suggest", n).
        searcher: The search algorithm, one of `SEARCHERS`.

    """

    def __init__(self, study: optuna.Study, space: Space, seed: int, searcher: str = "tpe") -> None:
        self.study, self.space, self.seed, self.searcher = study, space, seed, searcher
        self._grid = grid_points(space, seed) if searcher == "grid" else []

    def ask(self) -> Suggestion | None:
        """A new trial and its config overrides; enqueued trials come first; None when a grid is used up.

        A trial with exactly the parameters of a complete one gets its values at once, and another is asked for, at most
        `MAX_DUPLICATES` times; after that a duplicate is run.
        """
        for _ in range(MAX_DUPLICATES):
            if self.searcher == "grid" and not self._lay_out():
                return None
            trial, overrides = self._ask_once()
            complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            twin = next((other for other in complete if other.params == trial.params), None)
            if twin is None:
                return trial, overrides
            answer(self.study, trial, twin)
        return self._ask_once()

    def adopt(self, number: int) -> Suggestion:
        """A trial that is stored as running, with its stored parameters; missing ones (a driver was killed) are suggested
        now."""
        self.study.sampler = make_sampler(self.searcher, self.seed, number)
        frozen = self.study.get_trials(deepcopy=False)[number]
        trial = reattach(self.study, frozen)
        _draw_again(trial, frozen)
        return trial, self.space.overrides(trial)

    def _ask_once(self) -> Suggestion:
        stored = self.study.get_trials(deepcopy=False)
        waiting = [trial.number for trial in stored if trial.state == TrialState.WAITING]
        self.study.sampler = make_sampler(self.searcher, self.seed, waiting[0] if waiting else len(stored))
        trial = self.study.ask()
        return trial, self.space.overrides(trial)

    def _lay_out(self) -> bool:
        """Enqueue the grid's next point, unless something waits already; False if no point is left."""
        stored = self.study.get_trials(deepcopy=False)
        if any(trial.state == TrialState.WAITING for trial in stored):
            return True
        asked = [trial.params for trial in stored]
        point = next((point for point in self._grid if point not in asked), None)
        if point is not None:
            self.study.enqueue_trial(point)
        return point is not None


def _draw_again(trial: Trial, frozen: FrozenTrial) -> None:
    """Draw the stored parameters again, so that the sampler draws the missing ones as if it had not been interrupted."""
    for name, distribution in list(frozen.distributions.items()):
        given = trial._is_fixed_param(name, distribution) or distribution.single()
        if not given and not trial._is_relative_param(name, distribution):
            trial.study.sampler.sample_independent(trial.study, frozen, name, distribution)


def answer(study: optuna.Study, trial: Trial, twin: FrozenTrial) -> None:
    """Tell a trial the values of a complete one with the same parameters."""
    trial.set_user_attr("same_as", twin.number)
    for key, value in twin.constraints.items():
        trial.set_constraint(key, value)
    study.tell(trial, twin.values)


def reattach(study: optuna.Study, frozen: FrozenTrial) -> Trial:
    """The live trial of a stored one."""
    return Trial(study, frozen._trial_id)
