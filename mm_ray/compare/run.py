"""Run the cells that have no result yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from mm_ray.compare.cells import ComparisonRun
from mm_ray.compare.results import CellResults
from mm_ray.config import ExperimentConfig
from mm_ray.console import PlainConsole, text_column
from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import UserError
from mm_ray.runtime.cluster import Cluster
from mm_ray.tune.cell_host import ComparisonJob, run_jobs


@dataclass(frozen=True)
class Comparison:
    """What all parts of a comparison share."""

    base: ExperimentConfig
    folder: Path
    phases: str
    tables: Mapping[int, FeatureTable]
    cluster: Cluster


def run_cells(comparison: Comparison, cells: Sequence[ComparisonRun], title: str) -> list[dict[str, Any]]:
    """The results of the cells, computed where they are not there yet.

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
    jobs = [ComparisonJob(cell.config(comparison.base), cell.on_test) for cell in missing]
    with Progress(*columns, text_column("{task.fields[now]}"), console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task(title, total=total, completed=total - len(missing), now="")

        def done(position: int, result: dict[str, Any]) -> None:
            results.write(missing[position], result)
            bars.advance(task)
            if not console.is_terminal:
                console.print(f"{title}: {_describe(missing[position])} {_scores(result)}", soft_wrap=True)

        def moved(position: int, num_rounds: int) -> None:
            bars.update(task, now=f"{_describe(missing[position])}: {num_rounds} rounds")

        folder = comparison.folder / "ray"
        return run_jobs(jobs, comparison.tables, comparison.phases, folder, comparison.cluster, done, moved)


def _describe(cell: ComparisonRun) -> str:
    setting = cell.setting
    return f"{cell.method} q={setting.video_missing:g} alpha={setting.alpha:g} seed={cell.seed} fold={cell.fold}"


def _scores(result: dict[str, Any]) -> str:
    where = "test" if "test" in result else "dev"
    return ", ".join(f"{role} {scores['top1']:.3f}" for role, scores in result[where].items())
