"""A trial: the generators of its experiments' rounds, one per seed, cut into the steps that Tune sees, and its metrics."""

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.data.feature_table import FeatureTable
from mm_ray.fed.executor import Executor
from mm_ray.fed.experiment import RunResult, plan_experiment, run_rounds
from mm_ray.fed.method import Method
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import dev_top1
from mm_ray.fed.virtual_time import SIM_SECONDS
from mm_ray.types import RoundReport

REPORT_EVERY_S = 2.0
"""How long a step is before phase 2, so that the table shows progress; stored rounds pass in one step."""


class TrialMetrics:
    """One experiment's figures, updated round by round: the score so far, the other metrics, and what it cost.

    Args:
        method: The method whose rounds come.
        objective: The metric that is the score: `dev/audio_top1` or a similar one. Like all metrics it is read at the round
            with the network's best top-1, since the phase passes on that round.

    """

    def __init__(self, method: Method, objective: str) -> None:
        self._main, self._last = method.main, method.phases[-1]
        self._phase1, self._objective = method.phase1_audio, objective
        self._top1: dict[str, float] = {}
        self._costs = {"bytes": 0, "compute_s": 0.0, "rounds": 0, "flops": 0.0}
        self.score = 0.0
        """Of phase 1's audio network until the last phase begins."""
        self.metrics: dict[str, float] = {}
        self.position = {"round": 0, "phase2_round": 0, "best_round": 0, "rounds_computed": 0, "rounds_reused": 0}
        self.steps: list[tuple[int, float]] = []
        """The last phase's rounds, each with the objective in it."""

    def add(self, report: RoundReport) -> None:
        """Note a round."""
        self.position["round"] += 1
        self.position["rounds_reused" if report.reused else "rounds_computed"] += 1
        self._costs["bytes"] += report.bytes_up + report.bytes_down
        self._costs["compute_s"] += report.seconds
        self._costs["rounds"] += 1
        self._costs["flops"] += report.flops
        if SIM_SECONDS in report.metrics:
            self._costs[SIM_SECONDS] = self._costs.get(SIM_SECONDS, 0.0) + report.metrics[SIM_SECONDS]
        top1 = report.metrics.get(dev_top1(str(self._main.network)))
        if top1 is not None and top1 > self._top1.get(report.phase, -1.0):
            self._top1[report.phase] = top1
            self.metrics = {name: value for name, value in report.metrics.items() if name.startswith("dev/")}
            self.score = self.metrics.get(self._objective, top1)
            self.position["best_round"] = report.round
        if report.phase == self._last.name:
            self.position["phase2_round"] = report.round
            self.steps.append((report.round, report.metrics.get(self._objective, self.score if top1 is None else top1)))

    def values(self) -> dict[str, Any]:
        """All metrics that a space may name (`mm_ray.tune.space.METRICS`), as far as they exist."""
        gain = {}
        if self._phase1 and {self._phase1.phase, self._last.name} <= set(self._top1):
            gain = {"dev/gain_top1": self._top1[self._last.name] - self._top1[self._phase1.phase]}
        return {**self.metrics, **gain, **self._costs}


@dataclass(frozen=True)
class TrialSettings:
    """What all trials of a study share."""

    base: ExperimentConfig
    phases: str
    objective: str = "dev/audio_top1"
    num_seeds: int = 1
    """Every configuration runs with the seeds `base.seed`, `base.seed` + 1, ...: the same partitions and cohorts for all."""
    judged: bool = False
    """Whether a scheduler may prune a trial at a round of phase 2. Then a result has at most one such round, even if more are
    stored: the row of a pruned trial must not include later rounds."""


class TrialRun:
    """One trial's rounds, seed after seed. `step` returns at each new round of phase 2, or after a while.

    Each result has `score` (the objective so far; of phase 1's audio network until phase 2 begins; with several seeds the mean
    over those that are done), `seed_scores`, `steps` (what the study's scheduler judges: the step and its own score; rounds of
    phase 2, or with several seeds the seeds, counted from 1), `round` (over all phases), `phase2_round`, `best_round`,
    `finished`, `rounds_computed`, `rounds_reused`, `seconds`, the metrics of `mm_ray.tune.space.METRICS` by name, and
    `reports`, the reports since the result before, each with its `seed`.

    Args:
        settings: The study's.
        overrides: The trial's overrides.
        table: The features.
        executor: Simulates the clients.
        seeds: Other seeds than the study's.

    """

    def __init__(
        self,
        settings: TrialSettings,
        overrides: Mapping[str, Any],
        table: FeatureTable,
        executor: Executor,
        seeds: Sequence[int] = (),
    ) -> None:
        config = with_overrides(settings.base, overrides)
        self._seeds = [*(seeds or range(config.seed, config.seed + settings.num_seeds))]
        self._config, self._table, self._executor = config, table, executor
        self._settings, self._store = settings, PhaseStore(settings.phases)
        self._done: list[TrialMetrics] = []
        self._seconds = 0.0
        self._begin()

    def step(self) -> dict[str, Any]:
        """Run to the next result; `finished` marks the last."""
        started, reports, fresh = time.perf_counter(), list[dict[str, Any]](), len(self._figures.steps)
        while time.perf_counter() - started < REPORT_EVERY_S:
            report = next(self._rounds, None)
            if report is not None:
                reports.append(report.to_json() | {"seed": self._seeds[len(self._done)]})
                self._figures.add(report)
            if report is None or self._is_last(report):
                self._rounds.close()
                self._done.append(self._figures)
                break
            if report.phase == self._last.name and (self._settings.judged or not report.reused):
                break
        self._seconds += time.perf_counter() - started
        result = self._result(self._figures.steps[fresh:]) | {"reports": reports}
        if len(self._done) < len(self._seeds) and self._figures in self._done:
            self._begin()
        return result

    def close(self) -> None:
        """End the trial where it stands; its last round is kept, and the next trial that needs it continues from there."""
        self._rounds.close()

    def _begin(self) -> None:
        config = replace(self._config, seed=self._seeds[len(self._done)])
        plan = plan_experiment(config, self._table)
        self._last = plan.method.phases[-1]
        self._figures = TrialMetrics(plan.method, self._settings.objective)
        self._rounds: Generator[RoundReport, None, RunResult] = run_rounds(plan, self._store, self._executor)

    def _is_last(self, report: RoundReport) -> bool:
        return report.phase == self._last.name and report.round == self._last.rounds

    def _result(self, steps: list[tuple[int, float]]) -> dict[str, Any]:
        runs = self._done if self._figures in self._done else [*self._done, self._figures]
        judged = self._done or runs
        several, scores = len(self._seeds) > 1, [run.score for run in self._done]
        names = set.intersection(*(set(run.values()) for run in judged))
        counts = ("rounds_computed", "rounds_reused")
        return {
            **{name: fmean(run.values()[name] for run in judged) for name in sorted(names)},
            **self._figures.position,
            **{name: sum(run.position[name] for run in runs) for name in counts},
            "score": fmean(run.score for run in judged),
            "seed_scores": scores,
            "steps": [*enumerate(scores, 1)] if several else steps,
            "finished": len(self._done) == len(self._seeds),
            "seconds": self._seconds,
        }


def begin_trial(settings: TrialSettings, config: Mapping[str, Any], table: FeatureTable, executor: Executor) -> TrialRun:
    """A trial as suggested: the `overrides` of the base config and, outside the search, its own `seeds`."""
    return TrialRun(settings, config["overrides"], table, executor, config.get("seeds", ()))
