"""Run the cells that have no result yet, each as a trial under Tune."""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from mm_ray.compare.cells import ComparisonRun
from mm_ray.compare.results import CellResults
from mm_ray.config import ClientsConfig, ExperimentConfig
from mm_ray.console import PlainConsole, text_column
from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import UserError
from mm_ray.evaluate.metrics import recall
from mm_ray.fed.executor import Executor, SerialExecutor
from mm_ray.fed.experiment import plan_experiment, run_experiment, run_rounds
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.plugins import plain
from mm_ray.runtime.tracking import RunInfo, TrackedRun, flat_config, metrics_of
from mm_ray.types import RoundReport

if TYPE_CHECKING:
    from mm_ray.runtime.cluster import Cluster

REPORT_EVERY_S = 2.0


@dataclass(frozen=True)
class Comparison:
    """What all parts of a comparison share."""

    base: ExperimentConfig
    folder: Path
    phases: str
    tables: Mapping[int, FeatureTable]
    cluster: "Cluster | None"
    """None: the cells run one by one in this process."""
    clients: ClientsConfig
    """The client actors of a cell: the base's, with a number in place of `num_gpus auto`."""
    trackers: Sequence[str] = ()


def run_cells(comparison: Comparison, cells: Sequence[ComparisonRun], title: str) -> list[dict[str, Any]]:
    """The results of the cells; missing ones are computed.

    Raises:
        UserError: A cell failed; the others are kept, and the same command tries it again.
        KeyboardInterrupt: ^C while Tune was running.

    """
    results = CellResults(comparison.folder, comparison.base)
    missing = results.missing(cells)
    failed = _run(comparison, results, missing, title, len(cells)) if missing else {}
    if failed:
        first = min(failed)
        what = f"{len(failed)} of {len(cells)} cells failed, the first is {_describe(missing[first])}: {failed[first]}"
        raise UserError(f"{what}; the same command tries them again")
    if results.missing(cells):  # at ^C Tune ends its runs and returns
        raise KeyboardInterrupt
    return [results.read(cell) for cell in cells]


def _run(comparison: Comparison, results: CellResults, missing: list[ComparisonRun], title: str, total: int) -> dict[int, str]:
    console = PlainConsole()
    columns = [text_column("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, text_column("{task.fields[now]}"), console=console, disable=not console.is_live) as bars:
        task = bars.add_task(title, total=total, completed=total - len(missing), now="")

        tracked: dict[int, TrackedRun] = {}

        def moved(trial: dict[str, Any], step: dict[str, Any]) -> None:
            position = trial["position"]
            if position not in tracked:
                tracked[position] = _tracked(comparison, missing[position])
            for report in step["reports"]:
                tracked[position].add_round(report)
            bars.update(task, now=f"{_describe(missing[position])}: {step['rounds']} rounds")
            if "result" in step:
                tracked[position].finish("SUCCESS", metrics_of(step["result"]))
                results.write(missing[position], step["result"])
                bars.advance(task)
                if not console.is_live:
                    console.print(f"{title}: {_describe(missing[position])} {_scores(step['result'])}", soft_wrap=True)

        folds = {fold: (table.splits_N, table.fingerprint) for fold, table in comparison.tables.items()}
        begin = partial(CellSteps, [(cell.config(comparison.base), cell.on_test) for cell in missing], folds, comparison.phases)
        table = next(iter(comparison.tables.values()))
        if comparison.cluster is None:
            for position in range(len(missing)):
                trial = {"position": position}
                for step in _steps_here(begin(trial, table, SerialExecutor())):
                    moved(trial, step)
            return {}
        from mm_ray.tune.trainable import (  # imports ray, which a serial run does not need
            FixedListSearcher,
            OnResult,
            TrialRunner,
            failures,
        )

        runner = TrialRunner(table, comparison.clients, comparison.cluster, comparison.folder / "ray")
        searcher = FixedListSearcher([{"position": position} for position in range(len(missing))])
        return {trial["position"]: why for trial, why in failures(runner.run(begin, searcher, len(missing), [OnResult(moved)]))}


def _tracked(comparison: Comparison, cell: ComparisonRun) -> TrackedRun:
    """The cell's run in trackers; tuning trials have none."""
    setting, config = cell.setting, cell.config(comparison.base)
    group = f"{plain(cell.method)}-q{setting.video_missing:g}-alpha{setting.alpha:g}"
    name = f"{group}-seed{cell.seed}-fold{cell.fold}"
    params = {key: value for key, value in cell.to_json().items() if key not in ("tuned", "on_test")}
    info = RunInfo(comparison.folder, name, flat_config(config), group, params, name)
    return TrackedRun(comparison.trackers if cell.on_test else (), info)


def _steps_here(cell: "CellSteps") -> Iterator[dict[str, Any]]:
    """All steps of a cell, in this process."""
    step = {"finished": False}
    while not step["finished"]:
        step = cell.step()
        yield step


class CellSteps:
    """A cell's rounds and test, in the steps that Tune sees; each has `rounds` and new `reports`, the last the `result`.

    Args:
        cells: Of all cells, the config, and whether the test set is used.
        folds: Splits (N,) and fingerprint by fold: folds differ only in these, so one table serves them all.
        phases: The phase store.
        trial: The `position` of the cell.
        table: The features, with the splits of any fold.
        executor: Simulates the clients.

    """

    def __init__(
        self,
        cells: Sequence[tuple[ExperimentConfig, bool]],
        folds: Mapping[int, tuple[np.ndarray, str]],
        phases: str,
        trial: Mapping[str, Any],
        table: FeatureTable,
        executor: Executor,
    ) -> None:
        config, on_test = cells[trial["position"]]
        splits_N, fingerprint = folds[config.data.fold]
        table = replace(table, splits_N=splits_N, fingerprint=fingerprint)
        self._rounds = _result_of(config, on_test, table, PhaseStore(phases), executor)
        self._num_rounds = 0

    def step(self) -> dict[str, Any]:
        """Run the next rounds."""
        started, reports = time.monotonic(), list[dict[str, Any]]()
        while time.monotonic() - started < REPORT_EVERY_S:
            try:
                reports.append(next(self._rounds).to_json())
                self._num_rounds += 1
            except StopIteration as stop:
                return {"rounds": self._num_rounds, "reports": reports, "result": stop.value, "finished": True}
        return {"rounds": self._num_rounds, "reports": reports, "finished": False}

    def close(self) -> None:
        """Keep the last round."""
        self._rounds.close()


def _result_of(
    config: ExperimentConfig, on_test: bool, table: FeatureTable, store: PhaseStore, executor: Executor
) -> Generator[RoundReport, None, dict[str, Any]]:
    plan = plan_experiment(config, table)
    if not on_test:
        finished = yield from run_rounds(plan, store, executor)
        return {"dev": {name: {"top1": finished.best_dev(role)} for name, role in plan.method.roles.items()}}
    tested = yield from run_experiment(plan, store, executor, control=False)
    recalls = {name: recall(confusion_CC) for name, confusion_CC in tested.confusions.items()}
    student = tested.result.get("clients", {}).get("student")  # its spread over clients
    return tested.result | {"per_class": recalls, "clients": student}


def _describe(cell: ComparisonRun) -> str:
    setting = cell.setting
    return f"{cell.method} q={setting.video_missing:g} alpha={setting.alpha:g} seed={cell.seed} fold={cell.fold}"


def _scores(result: dict[str, Any]) -> str:
    where = "test" if "test" in result else "dev"
    return ", ".join(f"{role} {scores['top1']:.3f}" for role, scores in result[where].items())
