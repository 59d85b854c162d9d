"""A trial: the generator of an experiment's rounds, cut into the steps that Tune sees."""

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.data.table import FeatureTable
from mm_ray.fed.executor import Executor
from mm_ray.fed.experiment import Finished, plan_experiment, run_rounds
from mm_ray.fed.loop import dev_top1
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.types import RoundReport

REPORT_EVERY_S = 2.0
"""Before phase 2 a step is so long, so that the table shows life; stored rounds pass in one step."""


@dataclass(frozen=True)
class TrialSettings:
    """What all trials of a study share."""

    base: ExperimentConfig
    phases: str


class TrialRun:
    """One trial's rounds. `step` returns at each round of phase 2, or after a while in the phases before it.

    Each result has `score` (the best dev top-1 so far, of phase 1's audio network until phase 2 begins), `round` (over all
    phases), `phase2_round`, `best_round`, `finished`, `rounds_computed`, `rounds_reused`, `seconds` and `reports`, the
    reports since the result before.
    """

    def __init__(self, settings: TrialSettings, overrides: Mapping[str, Any], table: FeatureTable, executor: Executor) -> None:
        plan = plan_experiment(with_overrides(settings.base, overrides), table)
        self._main, self._last = plan.method.main, plan.method.phases[-1]
        self._rounds: Generator[RoundReport, None, Finished] = run_rounds(plan, PhaseStore(settings.phases), executor)
        self._best: dict[str, float] = {}
        self._state: dict[str, Any] = {
            "score": 0.0, "round": 0, "phase2_round": 0, "best_round": 0, "rounds_computed": 0, "rounds_reused": 0,
            "finished": False, "seconds": 0.0,
        }  # fmt: skip

    def step(self) -> dict[str, Any]:
        """Run to the next result; `finished` tells that it is the last."""
        started, reports = time.perf_counter(), []
        while time.perf_counter() - started < REPORT_EVERY_S:
            report = next(self._rounds, None)
            if report is None:
                self._state["finished"] = True
                break
            reports.append(report.to_json())
            self._note(report)
            if report.phase == self._last.name and not report.reused:
                self._state["finished"] = report.round == self._last.rounds
                break
        self._state["seconds"] += time.perf_counter() - started
        return self._state | {"reports": reports}

    def close(self) -> None:
        """End the trial where it stands; its last round is kept, and the next trial that needs it goes on from there."""
        self._rounds.close()

    def _note(self, report: RoundReport) -> None:
        state = self._state
        state["round"] += 1
        state["rounds_reused" if report.reused else "rounds_computed"] += 1
        score = report.metrics.get(dev_top1(str(self._main.network)))
        if report.phase == self._last.name:
            state["phase2_round"] = report.round
        if score is not None and score > self._best.get(report.phase, -1.0):
            self._best[report.phase] = score
            state |= {"score": score, "best_round": report.round}
