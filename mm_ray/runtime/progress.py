"""What a person sees while a run goes on: one line per phase, with accuracy, rounds per second and time left."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mm_ray.fed.experiment import CONTROL_PHASE, Plan
from mm_ray.types import RoundReport


class RunProgress:
    """Progress bars on a terminal; on anything else one line at the end of each phase.

    Args:
        plan: What is run.
        control: Whether its control is run too.
        only_computed: Do not show stored rounds.

    """

    def __init__(self, plan: Plan, control: bool, only_computed: bool = False) -> None:
        self._only_computed = only_computed
        self._console = Console()
        self._rounds = {phase.name: phase.rounds for phase in plan.method.phases}
        if control:
            self._rounds[CONTROL_PHASE] = plan.method.phases[-1].rounds
        columns = [TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        self._bars = Progress(*columns, TextColumn("{task.fields[note]}"), console=self._console)
        self._tasks: dict[str, TaskID] = {}

    def add(self, report: RoundReport) -> None:
        """Show a round."""
        if report.reused and self._only_computed:
            return
        note = _note(report)
        if report.phase not in self._tasks:
            total = self._rounds[report.phase]
            self._tasks[report.phase] = self._bars.add_task(report.phase, total=total, note=note)
        self._bars.update(self._tasks[report.phase], completed=report.round, note=note)
        if report.round == self._rounds[report.phase] and not self._console.is_terminal:
            self._console.print(f"{report.phase}: {report.round} rounds, {note}")

    def __enter__(self) -> "RunProgress":
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()


def _note(report: RoundReport) -> str:
    scores = [f"{name.removeprefix('dev/')} {value:.3f}" for name, value in report.metrics.items() if name.endswith("_top1")]
    return "dev " + ", ".join(scores) + (" (stored)" if report.reused else "") if scores else ""
