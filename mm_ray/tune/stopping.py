"""When a study ends before its last trial: time, rounds, a plateau, or ^C. Open trials stay open for --resume."""

import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from ray import tune

from mm_ray.errors import bad_value
from mm_ray.tune.searcher import ENDED_AFTER, StudySearch

UNITS_S = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class StopConditions:
    """Limits of a study; 0 is no limit."""

    time_s: float = 0.0
    """Since this process began its trials."""
    rounds: int = 0
    """Computed in all trials, earlier processes' included; reused ones cost nothing."""
    patience: int = 0
    """Ended trials in a row that are no better than the best before them."""


class Interrupted(KeyboardInterrupt):
    """The study was asked to end (^C or TERM); finished work is on disk."""


def seconds_of(text: str) -> float:
    """A time such as `90`, `90s`, `30m` or `1h30m` in seconds; empty is 0.

    Raises:
        UserError: It is not a time.

    """
    pieces = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.lower())
    if "".join(f"{number}{unit}" for number, unit in pieces) != text.lower().replace(" ", ""):
        raise bad_value("time", text, "is not a duration; write 90, 90s, 30m or 1h30m")
    if any(unit not in UNITS_S for _, unit in pieces):
        raise bad_value("time", text, "is not a duration; the units are s, m, h and d")
    return sum(float(number) * UNITS_S[unit] for number, unit in pieces)


class Budget(tune.Stopper):
    """Tells Tune when to end, and records why.

    Args:
        search: The searcher; trials that have not ended are left open in it.
        limits: The limits.

    """

    def __init__(self, search: StudySearch, limits: StopConditions) -> None:
        self._search, self._limits = search, limits
        self._begun = time.monotonic()
        self._computed: dict[str, int] = {}
        self._before = rounds_computed(search.study.get_trials(deepcopy=False))
        self.reason = ""
        """Why the study ends; empty while it runs."""
        self.interrupted = False
        """Whether ^C or TERM asked for it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its stopper for a restore that we do not use

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Count a trial's rounds; no trial is stopped alone."""
        self._computed[trial_id] = result["rounds_computed"]
        return False

    def stop_all(self) -> bool:
        """Whether the study ends now."""
        if not self.reason:
            self.reason = self._spent()
            if self.reason:
                self._search.interrupt()
        return bool(self.reason)

    @property
    def remaining_s(self) -> float | None:
        """Seconds that are left of the time; None without a limit."""
        return self._limits.time_s - (time.monotonic() - self._begun) if self._limits.time_s else None

    def _spent(self) -> str:
        limits = self._limits
        if self.interrupted:
            return "it was interrupted"
        if self._search.refusal:
            return self._search.refusal
        if self.remaining_s is not None and self.remaining_s <= 0:
            return f"its limit of {limits.time_s:g} s is reached"
        computed = self._before + sum(self._computed.values())
        if limits.rounds and computed >= limits.rounds:
            return f"{computed} rounds were computed"
        if limits.patience and self._since_best() >= limits.patience:
            return f"the last {self._since_best()} trials were no better than the best before them"
        return ""

    def _since_best(self) -> int:
        return since_best(self._search.study.get_trials(deepcopy=False))


def rounds_computed(trials: list[FrozenTrial]) -> int:
    """Rounds that ended trials computed."""
    return sum(trial.user_attrs.get("rounds_computed", 0) for trial in trials)


def since_best(trials: list[FrozenTrial]) -> int:
    """How many trials ended since the best one of the first objective, stopped ones included; 0 while there is none."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    ended = [trial for trial in trials if trial.state in states and "same_as" not in trial.user_attrs]
    in_order = sorted(ended, key=lambda trial: (trial.user_attrs.get(ENDED_AFTER, trial.number), trial.number))
    scores = [trial.values[0] if trial.state == TrialState.COMPLETE else float("-inf") for trial in in_order]
    if not scores or max(scores) == float("-inf"):
        return 0
    return len(scores) - 1 - scores.index(max(scores))


@contextmanager
def stops_on_signals(budget: Budget) -> Iterator[None]:
    """^C, or the TERM of a cluster's queue, ends the study in good order; a second one ends it at once."""

    def ask(number: int, frame: Any) -> None:
        if budget.interrupted:
            raise KeyboardInterrupt
        budget.interrupted = True
        print("\nstopping: open trials keep their last round (once more: stop at once)", flush=True)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
