"""Which trial a study chooses."""

from collections.abc import Sequence

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState


def ranking(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials, best first, without duplicates.

    Trials that satisfy the space's constraints come first, then those with the higher first objective (with several objectives
    its winner lies on the Pareto front), then earlier trials.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    own = [trial for trial in complete if "same_as" not in trial.user_attrs]
    sign = 1 if study.directions[0] == StudyDirection.MAXIMIZE else -1
    return sorted(own, key=lambda trial: (not is_feasible(trial), -sign * trial.values[0], trial.number))


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether the trial satisfies the space's constraints."""
    return all(value <= 0 for value in trial.constraints.values())


def pareto_front(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> list[FrozenTrial]:
    """The feasible trials that no other one dominates."""
    signs = [1 if way == StudyDirection.MAXIMIZE else -1 for way in directions]
    points = [(tuple(s * v for s, v in zip(signs, t.values, strict=True)), t) for t in trials if is_feasible(t)]
    return [
        t for mine, t in points if not any(all(a >= b for a, b in zip(p, mine, strict=True)) and p != mine for p, _ in points)
    ]
