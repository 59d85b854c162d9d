"""Asking a study for its next trial, so that the answer depends on the seed and on what is stored, and on nothing else."""

import warnings
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from mm_ray.seeding import stream
from mm_ray.tune.space import Space

NUM_STARTUP_TRIALS = 8
MAX_DUPLICATES = 20

Suggestion = tuple[Trial, dict[str, Any]]


def ask(study: optuna.Study, space: Space, seed: int) -> Suggestion:
    """A new trial and its config overrides; enqueued trials come first.

    A trial with exactly the parameters of a complete one gets that one's values at once, and another is asked, at most
    `MAX_DUPLICATES` times; then a duplicate is let run.
    """
    for _ in range(MAX_DUPLICATES):
        trial, overrides = _ask_once(study, space, seed)
        twin = _twin(study, trial)
        if twin is None:
            return trial, overrides
        trial.set_user_attr("same_as", twin.number)
        study.tell(trial, twin.values)
    return _ask_once(study, space, seed)


def adopt(study: optuna.Study, space: Space, seed: int, number: int) -> Suggestion:
    """A trial that is stored as running, with its stored parameters; one that was never asked to the end is asked on."""
    study.sampler = _sampler(seed, number)
    trial = reattach(study, study.get_trials(deepcopy=False)[number])
    return trial, space.overrides(trial)


def reattach(study: optuna.Study, frozen: FrozenTrial) -> Trial:
    """The live trial of a stored one."""
    return Trial(study, frozen._trial_id)


def _ask_once(study: optuna.Study, space: Space, seed: int) -> Suggestion:
    stored = study.get_trials(deepcopy=False)
    waiting = [trial.number for trial in stored if trial.state == TrialState.WAITING]
    study.sampler = _sampler(seed, waiting[0] if waiting else len(stored))
    trial = study.ask()
    return trial, space.overrides(trial)


def _sampler(seed: int, number: int) -> optuna.samplers.TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            n_startup_trials=NUM_STARTUP_TRIALS,
            multivariate=True,
            group=True,
            constant_liar=True,
            seed=stream(seed, "suggest", number) % 2**32,
        )


def _twin(study: optuna.Study, trial: Trial) -> FrozenTrial | None:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return next((other for other in complete if other.params == trial.params), None)
