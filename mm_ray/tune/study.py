"""A study's trials under Tune."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search.searcher import Searcher

from mm_ray.config import ClientsConfig, ExperimentConfig, with_overrides
from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import StorageError
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import plan_experiment
from mm_ray.fed.method import find_method
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.runtime.cluster import Cluster
from mm_ray.runtime.executor import RayExecutor
from mm_ray.runtime.placement import most_trials, place_trial
from mm_ray.runtime.tracking import DEFAULT
from mm_ray.tune.estimate import estimate, measure
from mm_ray.tune.hparams import write_experiment
from mm_ray.tune.live_table import JobProgress, LiveTable
from mm_ray.tune.samplers import check_searcher
from mm_ray.tune.schedulers import StudyScheduler, check_scheduler
from mm_ray.tune.searcher import SearchSettings, StudySearch, TrialDirCallback
from mm_ray.tune.space import Space
from mm_ray.tune.stopping import Budget, Interrupted, StopConditions, stops_on_signals
from mm_ray.tune.study_log import StudyLog, mend_rows
from mm_ray.tune.study_storage import check_storage
from mm_ray.tune.trainable import FixedListSearcher, TrialRunner, hosts_clients
from mm_ray.tune.trial import TrialSettings, begin_trial


@dataclass(frozen=True)
class Study:
    """A study: what is searched, from which base config, where its files are."""

    base: ExperimentConfig
    space: Space
    folder: Path
    phases: str
    trials: int
    host: str = "actor"
    search: SearchSettings = field(default_factory=SearchSettings)
    limits: StopConditions = field(default_factory=StopConditions)
    num_seeds: int = 1
    num_test_seeds: int = 0
    trackers: Sequence[str] = (DEFAULT,)
    vector_figures: bool = False
    sized_clients: ClientsConfig | None = None
    """The base's clients with a number in place of `num_gpus auto`, which depends on the cluster; None: the base's."""

    @property
    def clients(self) -> ClientsConfig:
        """The client actors of a trial."""
        return self.sized_clients or self.base.clients

    @property
    def device(self) -> str:
        """What client actors train on."""
        return "cuda" if self.clients.num_gpus else "cpu"

    @property
    def seeds(self) -> range:
        """The seeds of each trial."""
        return range(self.base.seed, self.base.seed + self.num_seeds)

    @property
    def test_seeds(self) -> range:
        """The seeds of the test at the end: fresh ones, which neither trials nor finals saw; or those of the trials."""
        first = self.base.seed + 2 * self.num_seeds
        return range(first, first + self.num_test_seeds) if self.num_test_seeds else self.seeds

    @property
    def trial_settings(self) -> TrialSettings:
        """What the study's trials share."""
        judged = self.num_seeds == 1 and self.search.scheduler != "none"
        return TrialSettings(self.base, self.phases, next(iter(self.space.objectives)), self.num_seeds, judged)

    def rounds_of(self, overrides: Mapping[str, Any]) -> dict[str, int]:
        """The rounds of each phase of a trial, by name."""
        return {phase.name: phase.rounds for phase in find_method(with_overrides(self.base, overrides)).phases}

    def open_search(self) -> StudySearch:
        """The searcher, with all that is stored."""
        return StudySearch(self.space, self.folder, self.folder.name, self.base.seed, self.search)


def check_study(space: Space, search: SearchSettings, num_seeds: int) -> None:
    """Refuse settings that contradict each other, before anything starts.

    Raises:
        UserError: See `check_searcher`, `check_scheduler` and `check_storage`.

    """
    check_searcher(search.searcher, space)
    check_scheduler(search.scheduler, space, num_seeds)
    check_storage(search.storage)


@dataclass(frozen=True)
class Runner:
    """Runs trials on a cluster.

    Args:
        study: The study.
        table: The features.
        cluster: The cluster.

    """

    study: Study
    table: FeatureTable
    cluster: Cluster

    def run(self) -> tuple[StudySearch, Budget]:
        """Run the trials that are still missing, within the budget; returns the study, and whether the budget was spent.

        Raises:
            Interrupted: By ^C or TERM.
            StorageError: Failing storage ended it; its trials stay open.

        """
        study = self.study
        search = study.open_search()
        self.rows(search)
        remaining, budget = search.remaining(study.trials), Budget(search, study.limits)
        if remaining and not budget.stop_all():
            self._tell_estimate()
            if DEFAULT in study.trackers:
                write_experiment(study.folder / "tensorboard", study.space.distributions, study.space.objectives)
            table = LiveTable(remaining, lambda: budget.remaining_s, study.num_seeds, study.rounds_of)
            with table as live, stops_on_signals(budget):
                log = StudyLog(study.folder, live, study.base, study.trackers)
                search.before_end = log.end
                while remaining and not budget.stop_all():
                    before = len(search.requeued)
                    self.fit(search, remaining, budget, [TrialDirCallback(search), log], StudyScheduler(search))
                    remaining = search.remaining(study.trials) if len(search.requeued) > before else 0
        if search.refusal:
            raise StorageError(search.refusal)
        if budget.interrupted:
            raise Interrupted
        return search, budget

    def rows(self, search: StudySearch) -> list[dict[str, Any]]:
        """The rows of `trials.jsonl`, which is repaired first."""
        return mend_rows(search, self.study.trial_settings, self.table, self.study.device)

    def _tell_estimate(self) -> None:
        study, placement = self.study, place_trial(self.study.clients, self.cluster, self.study.host)
        plan, store = plan_experiment(study.base, self.table), PhaseStore(study.phases)
        at_once = most_trials(placement, study.clients, self.cluster)
        alone = hosts_clients(placement, study.clients, study.host)
        start = SerialExecutor if alone else partial(RayExecutor, ray.put(self.table), placement)
        measured = measure(plan, store, study.device, start)
        seeds, processes = (study.num_seeds, study.num_test_seeds), 1 if alone else 1 + placement.num_actors
        guess = estimate(plan, study.space, measured, study.trials, seeds, at_once, processes)
        print(guess.line(at_once), flush=True)

    def compute(self, search: StudySearch, what: str, jobs: Sequence[dict[str, Any]]) -> tune.ResultGrid:
        """Run a list of configurations, beside the search.

        Args:
            search: The study's search.
            what: Their purpose, shown with their progress.
            jobs: Each with a `number`, the `overrides` of the base config and its `seeds`.

        Raises:
            Interrupted: By ^C or TERM.

        """
        budget = Budget(search, StopConditions())
        with JobProgress(what, len(jobs)) as progress, stops_on_signals(budget):
            grid = self.fit(FixedListSearcher(jobs), len(jobs), budget, [progress])
        if budget.interrupted:
            raise Interrupted
        return grid

    def fit(
        self, searcher: Searcher, count: int, budget: Budget, callbacks: Sequence[Any] = (), scheduler: Any = None
    ) -> tune.ResultGrid:
        """Run trials that a searcher suggests, until the budget ends them."""
        study = self.study
        begin = partial(begin_trial, study.trial_settings)
        runner = TrialRunner(self.table, study.clients, self.cluster, study.folder / "ray", study.host)
        return runner.run(begin, searcher, count, callbacks, scheduler, stop=budget)
