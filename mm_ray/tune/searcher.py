"""Optuna under Ray Tune: a thin searcher over ask and tell, whose only state is the study's journal on disk.

It replaces `ray.tune.search.optuna.OptunaSearch`, which reports a trial that a scheduler stopped as complete, cannot resume
from durable storage, and silently merges studies of one storage (docs/decisions.md).
"""

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune import Callback
from ray.tune.search.searcher import Searcher

from mm_ray.errors import StorageError
from mm_ray.tune.samplers import check_searcher
from mm_ray.tune.schedulers import make_pruner
from mm_ray.tune.space import Space, load_space
from mm_ray.tune.study_storage import open_study
from mm_ray.tune.suggester import Suggester, reattach

NOTES = ("rounds_computed", "rounds_reused", "seconds", "best_round", "seed_scores")
"""Keys of a result that are kept as user attributes of the trial, beside its `summary`."""
ENDED_AFTER = "ended_after"
"""User attribute: how many trials had ended before this one. Optuna's own times follow a clock that may be set back."""
FROM = "from"
"""User attribute: the older study and trial whose result was reused."""
MAX_GIVEN_BACK = 3
STORAGE_ERROR = f"{StorageError.__module__}.{StorageError.__qualname__}: "


@dataclass(frozen=True)
class SearchSettings:
    """How a study is searched, and where it is kept."""

    searcher: str = "tpe"
    scheduler: str = "none"
    storage: str = ""
    """A database's URL or a journal file; empty: the run's own journal."""
    experiment: str = ""
    """Digest of the base config."""


class StudySearch(Searcher):
    """Suggests trials, and tells the study how they ended.

    Args:
        space: What to search.
        run_dir: Folder of the run; the journal is `optuna.journal` in it.
        name: Name of the run, the first half of a new study's name.
        seed: Trial number n draws from the stream (seed, "suggest", n), so that a resumed study suggests what an
            uninterrupted one would.
        settings: Searcher, scheduler and storage.

    Raises:
        UserError: The journal belongs to another space (names both digests), or the space's code fails.

    """

    def __init__(self, space: Space, run_dir: Path, name: str, seed: int = 0, settings: SearchSettings | None = None) -> None:
        single = len(space.objectives) == 1
        metrics, modes = list(space.objectives), list(space.objectives.values())
        super().__init__(metric="score" if single else metrics, mode=modes[0] if single else modes)  # type: ignore[arg-type]
        self.space, self.run_dir, self.name, self.seed = space, Path(run_dir), name, seed
        self.settings = settings or SearchSettings()
        check_searcher(self.settings.searcher, space)
        self._open()
        self.orphans = [trial.number for trial in self._stored((TrialState.RUNNING,))]
        """Trials that an earlier driver left open; they are handed out first."""
        self._numbers: dict[str, int] = {}
        self._suggestions: dict[str, dict[str, Any]] = {}
        self._live: dict[str, Trial] = {}
        self._folders: dict[str, str] = {}
        self._interrupted = False
        self.requeued: list[int] = []
        """Trials that Tune gave up with tries left, one entry per time: each used up one of the trials that Tune runs."""
        self.has_tries_left: dict[str, bool] = {}
        self.refusal = ""
        """The storage error that failed a trial: not the trial's fault, so the trial stays open and the study ends."""
        self.before_end: Callable[[Mapping[str, Any], str], None] = lambda suggestion, state: None
        """Called with what `suggest` returned and the state, before the study records the state."""

    def remaining(self, num_trials: int) -> int:
        """How many trials Tune must still run so that `num_trials` have ended.

        Duplicates and results of an older study cost nothing and do not count.
        """
        run = [trial for trial in self._stored() if not {"same_as", FROM} & trial.user_attrs.keys()]
        return max(num_trials - sum(trial.state.is_finished() for trial in run), 0)

    def interrupt(self) -> None:
        """From now on a trial that ends before its last round stays open, and runs first when the study resumes.

        For a study that runs out of time: Tune then stops every trial just as a scheduler would.
        """
        self._interrupted = True

    def watch(self, trial_id: str, folder: str) -> None:
        """Record where Tune keeps a trial's files, so that its error message can be found (see `Watch`)."""
        self._folders[trial_id] = folder

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        """The next trial: one that an earlier driver left open, else a new one.

        Returns:
            `overrides` (for the config), `params` (Optuna's) and `number` (Optuna's); or `Searcher.FINISHED`, when a grid is
            used up.

        """
        suggestion = self._asker.adopt(self.orphans.pop(0)) if self.orphans else self._asker.ask()
        if suggestion is None:
            return Searcher.FINISHED
        trial, overrides = suggestion
        self._numbers[trial_id], self._live[trial_id] = trial.number, trial
        self._suggestions[trial_id] = {"overrides": overrides, "params": dict(trial.params), "number": trial.number}
        return self._suggestions[trial_id]

    def report(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Report a result's `steps` to the study; True if the study's rule prunes the trial at one of them.

        Steps count rounds of phase 2 (or seeds, see `TrialRun`), each with its own score. Steps that an earlier driver reported
        are already judged, except the last, since that driver may have been killed before it judged. Optuna has no intermediate
        values for several objectives: then nothing is reported.
        """
        trial = self._trial(trial_id)
        if trial is None or len(self.space.objectives) > 1:
            return False
        judged = max(self._frozen(trial.number).intermediate_values, default=0)
        for step, score in _steps(result):
            if step > judged:
                trial.report(score, step=step)
            if step >= judged and self._gives_up(trial):
                return True
        return False

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Report the result, for a Tune without `StudyScheduler`."""
        self.report(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool | str = False) -> None:
        """Tell the study how a trial ended; a trial whose end is already stored is left as it is.

        Args:
            trial_id: Tune's.
            result: The last result, as Tune flattens it: `score`, `finished` (it reached its own last round), `steps`, the
                objectives and the constraints' metrics by name.
            error: True, or the reason, if the trial failed.

        """
        trial, result = self._trial(trial_id), result or {}
        if trial is None:
            return
        _note(trial, result)
        self.on_trial_result(trial_id, result)
        if error:
            self._take_error(trial, trial_id, error if isinstance(error, str) else self._reason(trial_id))
        elif result.get("finished"):
            self._complete(trial_id, trial, result)
        elif not self._interrupted:
            self._tell(trial_id, trial, TrialState.PRUNED)
        self._live.pop(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal holds all state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal holds all state."""

    def __getstate__(self) -> dict[str, Any]:
        return {
            key: value for key, value in self.__dict__.items() if key not in ("study", "space", "_live", "_asker", "before_end")
        } | {"space_source": self.space.source}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.space = load_space(state.pop("space_source"))
        self.__dict__.update(state, _live={}, before_end=lambda suggestion, state: None)
        self._open()

    def _open(self) -> None:
        settings = self.settings
        self.study = open_study(self.space, self.run_dir, self.name, settings.storage, settings.experiment)
        self._pruner = make_pruner(settings.scheduler)
        self._asker = Suggester(self.study, self.space, self.seed, settings.searcher)

    def _gives_up(self, trial: Trial) -> bool:
        return self._pruner is not None and self._pruner.prune(self.study, self._frozen(trial.number))

    def _complete(self, trial_id: str, trial: Trial, result: Mapping[str, Any]) -> None:
        values = [result.get(name) for name in ([self.metric] if isinstance(self.metric, str) else self.metric)]
        for name, least in self.space.at_least.items():
            if _is_number(result.get(name)):
                trial.set_constraint(name, least - result[name])
        if all(map(_is_number, values)):
            self._tell(trial_id, trial, TrialState.COMPLETE, values)
        else:
            self._fail(trial_id, trial, f"it ended with {self.metric} = {values}")

    def _take_error(self, trial: Trial, trial_id: str, reason: str) -> None:
        _, is_storage, said = reason.partition(STORAGE_ERROR)
        if is_storage:
            self.refusal = said
        elif self.has_tries_left.get(trial_id) and self.requeued.count(trial.number) < MAX_GIVEN_BACK:
            # Tune gives a trial up at once if its process is lost before it began: it is suggested once more.
            self.requeued.append(trial.number)
            self.orphans.append(trial.number)
        else:
            self._fail(trial_id, trial, reason)

    def _fail(self, trial_id: str, trial: Trial, reason: str) -> None:
        trial.set_user_attr("error", reason)
        self._tell(trial_id, trial, TrialState.FAIL)

    def _tell(self, trial_id: str, trial: Trial, state: TrialState, values: Any = None) -> None:
        self.before_end(self._suggestions[trial_id], state.name)
        ended = sum(other.state.is_finished() for other in self._stored())
        trial.set_user_attr(ENDED_AFTER, ended)
        self.study.tell(trial, values, state)

    def _reason(self, trial_id: str) -> str:
        path = Path(self._folders.get(trial_id, "")) / "error.txt"
        lines = path.read_text().strip().splitlines() if path.is_file() else []
        return lines[-1] if lines else "the trial's process failed"

    def _trial(self, trial_id: str) -> Trial | None:
        if trial_id not in self._live and trial_id in self._numbers:
            frozen = self._frozen(self._numbers[trial_id])
            if not frozen.state.is_finished():
                self._live[trial_id] = reattach(self.study, frozen)
        return self._live.get(trial_id)

    def _frozen(self, number: int) -> FrozenTrial:
        return self._stored()[number]

    def _stored(self, states: tuple[TrialState, ...] | None = None) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)


class TrialDirCallback(Callback):
    """Tune callback that gives the searcher each trial's folder, where Tune writes the error of a failed trial."""

    def __init__(self, search: StudySearch) -> None:
        self.search = search

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tell the searcher the folder of a trial that starts."""
        self.search.watch(trial.trial_id, trial.local_path)


def _note(trial: Trial, result: Mapping[str, Any]) -> None:
    notes = {key: result[key] for key in NOTES if key in result} | dict(result.get("summary") or {})
    notes |= {key.removeprefix("summary/"): value for key, value in result.items() if key.startswith("summary/")}
    for key, value in notes.items():
        trial.set_user_attr(key, value)


def _steps(result: Mapping[str, Any]) -> list[tuple[int, float]]:
    steps = result.get("steps", [(result["round"], result.get("score"))] if "round" in result else [])
    return [(int(step), float(score)) for step, score in steps if _is_number(score)]


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value)
